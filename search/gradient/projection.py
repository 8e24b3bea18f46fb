"""Projection: the nearest parameters whose most likely network keeps the limit.

Making a choice the most likely one of a place moves its logit up, and those above it down, to a common level; the
squared distance of that is known for every choice of every place, and additive. So the nearest feasible parameters are
a knapsack over squared distances, solved exactly, where the published method descends on a penalty whose temperature
goes to 0. Parameters that keep the limit are left untouched.

Source: inspired by Jin et al., RC-DARTS, 2019, https://arxiv.org/abs/1912.12814, of which we have read the abstract and
the introduction.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InfeasibleError
from .cost_table import CostTable
from .knapsack import best_within
from .parameters import ArchitectureParameters

__all__ = ["lift", "project"]

MARGIN = 1e-3
"""By how much a lifted choice leads, so that it is the most likely one whatever the rounding."""

Array = NDArray[np.float64]


def lift(logits: Array, choice: int) -> Array:
    """[choices] the nearest logits of which `choice` is the largest.

    >>> lift(np.array([0.0, 2.0, -5.0]), 0).tolist()
    [1.0, 1.0, -5.0]
    """
    above = np.sort(logits[logits > logits[choice]])[::-1]
    level = float(logits[choice])
    for count in range(1, len(above) + 1):
        level = float(logits[choice] + above[:count].sum()) / (count + 1)
        if count == len(above) or above[count] <= level:
            break
    out = np.minimum(logits, level)
    out[choice] = level
    return out


@torch.no_grad()
def project(parameters: ArchitectureParameters, table: CostTable, limit: float) -> bool:
    """Move the logits, in place, to the nearest ones whose most likely choices keep the limit.

    An edge that a node may leave out counts with the share of its edges that the node keeps.

    Returns:
        Whether anything was moved.

    Raises:
        InfeasibleError: no network keeps the limit.
    """
    logits = {name: value.detach().cpu().double().numpy() for name, value in parameters.logits.items()}
    shares = _shares(parameters)
    costs = [table.costs[place.name] * shares[place.name] for place in parameters.places]
    now = [int(logits[place.name].argmax()) for place in parameters.places]
    if table.constant + sum(cost[choice] for cost, choice in zip(costs, now, strict=True)) <= limit:
        return False
    moved = [[lift(logits[place.name], choice) for choice in range(len(place.choices))] for place in parameters.places]
    scores = [
        np.array([-np.square(option - logits[place.name]).sum() for option in options])
        for place, options in zip(parameters.places, moved, strict=True)
    ]
    selection = best_within(costs, scores, limit - table.constant)
    if selection is None:
        raise InfeasibleError(
            f"projection: no network keeps {table.quantity} <= {limit:g}; the cheapest costs {table.least:g}. "
            "Loosen the limit."
        )
    for place, options, choice, before in zip(parameters.places, moved, selection, now, strict=True):
        if choice != before:
            target = options[choice].copy()
            target[choice] += MARGIN
            parameters.logits[place.name].copy_(torch.as_tensor(target))
    return True


def _shares(parameters: ArchitectureParameters) -> dict[str, float]:
    """By place, the share of its node's edges that a network keeps; 1 where every place has its choice."""
    counts: dict[str, int] = {}
    for place in parameters.places:
        counts[place.node] = counts.get(place.node, 0) + 1
    return {place.name: place.kept / counts[place.node] if place.kept else 1.0 for place in parameters.places}
