"""The kernel suite: which kernels are measured on a device so that the kernels of any space can be predicted.

Kernels are drawn from what networks are really made of: the suite's spaces, and further ones that a user names, are
sampled, their networks split into kernels, and kernels drawn from every group, those that many networks hold first.
Where the model errs, more is measured nearby: kernels of the same prior with similar features, and copies with other
channel numbers.

Source: Zhang et al., nn-Meter, MobiSys 2021, https://doi.org/10.1145/3458864.3467882, section 4.3 (prior from a model
zoo; channels times U[0.5, 1.2] around large errors).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...hwmodels.fusion import FusionRules
from ...hwmodels.kernels import KernelPool
from ...spaces import catalog
from ...spaces.op import Op, Tensor, make_op
from ...spaces.space import SearchSpace
from .kernel_features import group_of, kernel_rows, leader

__all__ = ["SUITE", "KernelPrior", "network_kernels", "parts_of", "suite_spaces", "variant"]

SUITE: Final = (
    ("mobilenet", "edge64"), ("ofa_mobilenetv3", "w1.0"), ("resnet", "edge64"), ("regnet", "edge64"),
    ("shufflenetv2", "edge64"), ("hybrid", "edge64"),
    ("vit", "autoformer_t"), ("mobilenet", "digits"),
)  # fmt: skip
"""Families and presets: convolutions and attention, large and small."""

CHANNEL_RANGE: Final = (0.5, 1.2)
LEAST_PER_GROUP: Final = 12


def suite_spaces() -> tuple[SearchSpace, ...]:
    """The spaces of `SUITE`."""
    return tuple(catalog.get(family, preset) for family, preset in SUITE)


def parts_of(space: SearchSpace, genome: NDArray[np.int16]) -> list[tuple[Op, ...]]:
    """The Ops of every site of one network, or of the whole network where the space has no sites."""
    if space.sites() is None:
        return [space.ops(space.decode(genome))]
    index = space.site_index
    rows = index.index(genome[None])[0] - index.offsets
    return [ops for site, row in enumerate(rows) if (ops := index.ops(site, int(row)))]


def network_kernels(space: SearchSpace, genome: NDArray[np.int16], rules: FusionRules) -> list[tuple[Op, ...]]:
    """The kernels of one network, site by site, as a compiled model sees them."""
    return [kernel for ops in parts_of(space, genome) for kernel in rules.kernels(ops)]


class KernelPrior:
    """The kernels that sampled networks are made of, and how often.

    Args:
        spaces: where networks come from.
        rules: what the device fuses.
        networks: sampled per space.
        rng: of the sample.

    Attributes:
        kernels: [K] distinct kernels.
        groups: [K] the group of each.
        rows: [K, F] their features.
    """

    def __init__(
        self, spaces: Sequence[SearchSpace], rules: FusionRules, *, networks: int, rng: np.random.Generator
    ) -> None:
        pool = KernelPool()
        uses: dict[int, float] = defaultdict(float)
        for space in spaces:
            # The smallest and the largest network span what the others are made of.
            for genome in [space.smallest(), space.largest(), *space.sample(networks, rng)]:
                for kernel in network_kernels(space, genome, rules):
                    uses[pool.add(kernel)] += 1.0
        if not pool.ops:
            raise PredictorError("kernel suite: its spaces hold no Ops at all; name a space whose networks have some.")
        self.kernels = list(pool.ops)
        self.groups = np.array([group_of(kernel) for kernel in self.kernels])
        self.rows = kernel_rows(self.kernels)
        self._uses = np.array([uses[number] for number in range(len(self.kernels))])

    def choose(self, count: int, rng: np.random.Generator) -> list[int]:
        """Numbers of about `count` kernels: every group gets a share, by the root of its size and at least a dozen.

        Half of a share goes to the kernels that most networks hold, half to those farthest from all chosen before, so
        that little is ever extrapolated.
        """
        names, sizes = np.unique(self.groups, return_counts=True)
        shares = np.maximum(count * np.sqrt(sizes) / np.sqrt(sizes).sum(), LEAST_PER_GROUP)
        chosen: list[int] = []
        for name, share in zip(names, shares, strict=True):
            members = np.flatnonzero(self.groups == name)
            # Efraimidis and Spirakis 2006: a draw without repetition in proportion to weights.
            order = np.argsort(-np.log(rng.random(len(members))) / self._uses[members])
            first = order[: math.ceil(share / 2)].tolist()
            chosen += members[_farthest(self._scaled(members), first, int(share))].tolist()
        return chosen

    def _scaled(self, members: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = self.rows[members]
        return (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)

    def nearest(self, row: NDArray[np.float64], group: str, taken: set[int], count: int) -> list[int]:
        """Numbers of the kernels of a group nearest to features [F] that are not taken yet."""
        free = np.array([n for n in np.flatnonzero(self.groups == group) if int(n) not in taken], dtype=np.int64)
        spread = np.maximum(self.rows.std(axis=0), 1e-9)
        away = (((self.rows[free] - row) / spread) ** 2).sum(axis=1)
        return free[np.argsort(away, kind="stable")[:count]].tolist()


def _farthest(rows: NDArray[np.float64], chosen: list[int], count: int) -> list[int]:
    """`chosen` and further rows, `count` in all, each the farthest from those before it.

    Source: Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, Theoretical Computer Science 38, 1985.
    """
    chosen = list(chosen)
    away = np.full(len(rows), np.inf)
    for number in chosen:
        away = np.minimum(away, ((rows - rows[number]) ** 2).sum(axis=1))
    while len(chosen) < min(count, len(rows)) and away.max() > 0:
        chosen.append(int(away.argmax()))
        away = np.minimum(away, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def variant(kernel: tuple[Op, ...], rng: np.random.Generator) -> tuple[Op, ...] | None:
    """The kernel with other channel numbers, each times U[0.5, 1.2]; None where its structure fixes them.

    Convolutions that are dense or depthwise, and linear layers, followed by anything that keeps the shape, can be
    varied.
    """
    op = leader(kernel)
    chained = all(
        len(later.inputs) == 1 and later.inputs[0].name == earlier.output.name and later.kind != "reshape"
        for earlier, later in itertools.pairwise(kernel)
    )
    same = all(later.output.shape == op.output.shape for later in kernel[1:])
    if op is not kernel[0] or not chained or not same or op.kind not in ("conv1d", "conv2d", "linear"):
        return None

    def draw(size: int) -> int:
        return max(1, round(size * rng.uniform(*CHANNEL_RANGE)))

    source, attributes = op.inputs[0], dict(op.attributes)
    if op.kind == "linear":
        if attributes["tied"]:
            return None
        source = Tensor(source.name, (*source.shape[:-1], draw(source.shape[-1])))
        attributes["out_features"] = draw(op.output.shape[-1])
    else:
        channels, out = draw(source.shape[0]), draw(op.output.shape[0])
        if attributes["groups"] != 1:
            if not attributes["groups"] == source.shape[0] == op.output.shape[0]:
                return None
            out = attributes["groups"] = channels
        source = Tensor(source.name, (channels, *source.shape[1:]))
        attributes["out_channels"] = out
    built = [make_op(op.name, op.kind, source, **attributes)]
    for later in kernel[1:]:
        built.append(make_op(later.name, later.kind, built[-1].output, **later.attributes))
    return tuple(built)
