"""Zero-cost proxies: scores of a network at its initialisation, beside the baselines params and macs."""

from __future__ import annotations

from .catalog import BASELINES, PROXIES, names
from .scoring import ProxyQuantity, as_features, probe, score

__all__ = ["BASELINES", "PROXIES", "ProxyQuantity", "as_features", "names", "probe", "score"]
