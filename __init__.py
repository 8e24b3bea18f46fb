"""archsmith: hardware-aware neural architecture search, from your space, data and devices to a verified Pareto front."""

from __future__ import annotations

__version__ = "0.1.0"
