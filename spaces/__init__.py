"""Search spaces: what can be built, what it computes, and what that costs in MACs, parameters and bytes."""

from __future__ import annotations

from .catalog import get, names, presets
from .definition import build, load
from .reference import reference, reference_names
from .space import SearchSpace

__all__ = ["SearchSpace", "build", "get", "load", "names", "presets", "reference", "reference_names"]
