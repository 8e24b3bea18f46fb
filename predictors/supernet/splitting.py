"""Which values of which gene should not share weights: those that pull the shared weights in different directions.

Source: Hu et al., Generalizing Few-Shot NAS with Gradient Matching, ICLR 2022, https://arxiv.org/abs/2203.15207;
Zhao et al., Few-shot Neural Architecture Search, ICML 2021, https://arxiv.org/abs/2006.06863 (exhaustive). In the
former the other edges of a cell are mixtures; here, where one path runs at a time, they are drawn at random, the same
for every value of the gene. The latter draws the gene that it splits by lot; here the gradients choose it, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import PredictorError
from ...spaces.architecture import Architecture, Value
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from ..optimization import channels_last
from ..tasks.task import Task
from .losses import label_loss

__all__ = ["Split", "choose_split", "gradient_distances", "pair_distances", "two_groups"]

BATCHES: Final = 16
"""Training batches that gradients are compared on, each with another random architecture around the gene."""

MOST_VALUES: Final = 16
"""Values of a gene that are split in two at most: every partition is looked at."""

_STREAM: Final = 31
_SEED: Final = 20_220_414
"""Batches that no training run sees at the same step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A gene, and which of its values go on sharing weights.

    Attributes:
        gene: its name.
        groups: the values of each part.
        distance: mean gradient distance between values of different parts, 0 to 2.
    """

    gene: str
    groups: tuple[tuple[Value, ...], ...]
    distance: float


def choose_split(space: SearchSpace, distances: Mapping[str, NDArray[np.float64]], *, exhaustive: bool) -> Split:
    """The gene whose parts' gradients are furthest apart, and the parts.

    Args:
        space: has the genes.
        distances: [V, V] by gene name, as `gradient_distances` tells them.
        exhaustive: whether every value gets a part; otherwise there are two, of values that agree.

    Raises:
        PredictorError: no gene is left that could be split.
    """
    splits = []
    for name, matrix in distances.items():
        values = space.genes[space.table.find(name)].values
        of_value = np.arange(len(values)) if exhaustive else two_groups(matrix)
        apart = of_value[:, None] != of_value
        groups = tuple(
            tuple(value for value, number in zip(values, of_value, strict=True) if number == group)
            for group in range(of_value.max() + 1)
        )
        splits.append(Split(gene=name, groups=groups, distance=float(matrix[apart].mean())))
    if not splits:
        raise PredictorError(
            f"supernet.splits: space {space.identity} has no gene left that is always active and has several values; "
            "split fewer times."
        )
    return max(splits, key=lambda split: split.distance)


def two_groups(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """[V] group 0 or 1 of every value, the first's being 0, with the least sum of distances [V, V] within the groups.

    >>> two_groups(np.array([[0.0, 2.0, 0.1], [2.0, 0.0, 2.0], [0.1, 2.0, 0.0]]))
    array([0, 1, 0])
    """
    count = len(distances)
    if count > MOST_VALUES:
        raise PredictorError(
            f"gradient matching: a gene has {count} values; at most {MOST_VALUES} can be split in two. Limit the gene."
        )
    rest = itertools.product((0, 1), repeat=count - 1)
    partitions = np.array([(0, *others) for others in rest if any(others)], dtype=np.int64)
    together = partitions[:, :, None] == partitions[:, None, :]
    return partitions[int((distances * together).sum(axis=(1, 2)).argmin())]


def gradient_distances(
    supernet: Supernet, space: SearchSpace, task: Task, *, batch_size: int, seed: int, batches: int = BATCHES
) -> dict[str, NDArray[np.float64]]:
    """How differently the values of each gene pull at the weights that they share.

    Args:
        supernet: trained for a while; its gradients are left empty, its weights as they are.
        space: which genes and values; of conditional genes nothing is told, as they do not part the space.
        task: gives training batches.
        batch_size: samples in each.
        seed: of the random architectures.
        batches: how many are averaged over.

    Returns:
        By gene name, for every gene with several values that is always active: [V, V] mean of 1 - cosine, 0 to 2.
    """
    table, device = space.table, next(supernet.parameters()).device
    positions = [index for index, gene in enumerate(space.genes) if not gene.when and gene.cardinality > 1]
    sums = {index: np.zeros((table.cardinalities[index],) * 2) for index in positions}
    training = supernet.training
    supernet.train()
    for number in range(batches):
        batch = task.batch(number, batch_size, _SEED, device).map_inputs(channels_last)
        around = table.uniform(1, np.random.default_rng([seed, number, _STREAM]))[0]

        def gradient(architecture: Architecture) -> list[Tensor | None]:
            supernet.zero_grad(set_to_none=True)
            label_loss(*batch.labelled(supernet(*batch.tensors, architecture))).backward()  # noqa: B023  # called at once
            return [parameter.grad for parameter in supernet.parameters()]

        for index in positions:
            sums[index] += pair_distances(space, index, around, gradient)
    supernet.zero_grad(set_to_none=True)
    supernet.train(training)
    return {space.genes[index].name: total / batches for index, total in sums.items()}


def pair_distances(
    space: SearchSpace,
    index: int,
    around: NDArray[np.int16],
    gradient: Callable[[Architecture], list[Tensor | None]],
) -> NDArray[np.float64]:
    """[V, V] 1 - cosine between the gradients of the values of gene number `index`, other genes as in `around` [G].

    Only weights that both values use are compared: those that one does not touch are not shared.

    Args:
        space: has the gene.
        index: the gene's position.
        around: [G] choices, not necessarily canonical.
        gradient: of every parameter for an architecture; None where it does not use one.
    """
    count = space.genes[index].cardinality
    genomes = np.repeat(around[None], count, axis=0)
    genomes[:, index] = np.arange(count)
    gradients = [
        [None if part is None else part.flatten().double() for part in gradient(space.decode(genome))]
        for genome in space.canonical(genomes)
    ]
    distances = np.zeros((count, count))
    for a, b in itertools.combinations(range(count), 2):
        distances[a, b] = distances[b, a] = 1.0 - _cosine(gradients[a], gradients[b])
    return distances


def _cosine(left: list[Tensor | None], right: list[Tensor | None]) -> float:
    """Over entries that neither gradient leaves at 0; 1 where there are none: who shares nothing does not disagree."""
    shared = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if not shared:
        return 1.0
    a, b = (torch.cat(side) for side in zip(*shared, strict=True))
    both = (a != 0) & (b != 0)
    a, b = a[both], b[both]
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length else 1.0
