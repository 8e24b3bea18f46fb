"""Predictors: what an architecture will be, learnt from what was observed."""

from __future__ import annotations

from .cost.transfer import FewShotTransfer

__all__ = ["FewShotTransfer"]
