"""Search spaces: what can be built, what it computes, and what that costs in MACs, parameters and bytes."""

from __future__ import annotations

from .catalog import get, names, presets
from .space import SearchSpace

__all__ = ["SearchSpace", "get", "names", "presets"]
