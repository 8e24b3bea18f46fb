"""Sparse networks of one backbone: how dense the weights of each part are.

Any space gives the backbone, its largest architecture; a gene per part (a stage, the stem, the head) chooses among
densities. All of them share the backbone's weights, each keeping the largest entries of every row, so that a sparser
network's weights are part of a denser one's.

What a network stores shrinks with its density, and that is what `params` counts. Its Ops are the backbone's: most
hardware computes with the zeros, so MACs and times stay.

Source: Gao et al., DRESS: Dynamic REal-time Sparse Subnets, 2022, https://arxiv.org/abs/2207.00670. There one density
holds for the whole network, and masks are refreshed now and then; here they follow the weights at every step.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import SpaceError
from ..architecture import Architecture
from ..elastic.choice import share_norms
from ..elastic.layers import ElasticBatchNorm2d
from ..elastic.supernet import Supernet
from ..gene import Gene, Population
from ..layers.row_sparse import kept_entries, row_mask, row_ranks
from ..op import Op
from ..site import Site
from ..space import SearchSpace

__all__ = ["SparseSpace", "SparseSupernet", "read_densities"]

_SPARSE_KINDS = frozenset({"conv1d", "conv2d", "linear"})
_PART = re.compile(r"[^.]+(?:\.\d+(?=\.))?")
"""The first name of a module path, with the number after it: ``stages.2`` of ``stages.2.0.expand.conv``."""


def read_densities(text: str) -> tuple[float, ...]:
    """Densities from an option of a space, ascending.

    Raises:
        SpaceError: it is no list of numbers above 0 up to 1.

    >>> read_densities("1, 0.5, 0.2")
    (0.2, 0.5, 1.0)
    """
    allowed = "numbers above 0 up to 1 with commas between them, such as 0.2,0.5,1"
    try:
        densities = tuple(sorted({float(item) for item in text.split(",")}))
    except ValueError as error:
        raise SpaceError(f"densities: got {text!r}; allowed: {allowed}.") from error
    if not all(0 < density <= 1 for density in densities):
        raise SpaceError(f"densities: got {text!r}; allowed: {allowed}.")
    return densities


class SparseSpace(SearchSpace):
    """All sparse networks of the largest architecture of `base`.

    Args:
        base: gives the backbone.
        densities: shares of every row that a part may keep, in (0, 1].

    >>> from ..catalog import get
    >>> space = SparseSpace(get("mobilenet", "tiny"), (0.25, 0.5, 1.0))
    >>> [gene.name for gene in space.genes]
    ['stem.density', 'stages.0.density', 'stages.1.density', 'head.density']
    """

    def __init__(self, base: SearchSpace, densities: Sequence[float]) -> None:
        self.base, self.densities = base, tuple(sorted(densities))
        if not self.densities or self.densities[0] <= 0 or self.densities[-1] > 1:
            raise SpaceError(f"densities: got {list(densities)}; each must be above 0 and at most 1.")
        self.backbone = base.decode(base.largest())
        self.weights = dict(_sparse_weights(base.ops(self.backbone)))
        self.parts = tuple(dict.fromkeys(part for part, _ in self.weights.values()))
        last = len(self.densities) - 1
        genes = [Gene(f"{part}.density", self.densities, kind="ordered", default=last) for part in self.parts]
        options = base.options | {"densities": ",".join(f"{density:g}" for density in self.densities)}
        super().__init__(genes, name=base.name, preset=base.preset, options=options)

    def __reduce__(self) -> tuple[Callable[..., SparseSpace], tuple[SearchSpace, tuple[float, ...]]]:
        """Travel to other processes as the base and the densities: compiled tables are rebuilt there."""
        return SparseSpace, (self.base, self.densities)

    def description(self) -> dict[str, object]:
        """JSON-able description; the backbone and its space are part of the identity."""
        return super().description() | {"base": self.base.description(), "backbone": self.backbone.genome}

    def densities_of(self, architecture: Architecture) -> dict[str, float]:
        """Density by the name of every sparse weight."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        chosen = {part: architecture.choices[f"{part}.density"] for part in self.parts}
        return {name: float(chosen[part]) for name, (part, _) in self.weights.items()}  # type: ignore[arg-type]

    # --- what follows from the genes --------------------------------------------------------------------------------

    @functools.cached_property
    def _kept(self) -> NDArray[np.int64]:
        """[weights, densities] entries that each weight keeps of a row."""
        return np.array(
            [[kept_entries(shape[1], density) for density in self.densities] for _, shape in self.weights.values()]
        )

    @functools.cached_property
    def _tables(self) -> tuple[int, NDArray[np.int64], NDArray[np.int16]]:
        """Parameters that are never sparse; [parts, densities] those of each part; and the first density as sparse."""
        rows = np.array([shape[0] for _, shape in self.weights.values()])
        parts = np.array([self.parts.index(part) for part, _ in self.weights.values()])
        stored = np.zeros((len(self.parts), len(self.densities)), dtype=np.int64)
        np.add.at(stored, parts, rows[:, None] * self._kept)
        alike = np.zeros(stored.shape, dtype=np.int16)
        for part in range(len(self.parts)):
            columns = self._kept[parts == part].T
            alike[part] = [int((columns == column).all(axis=1).argmax()) for column in columns]
        dense = sum(op.params for op in self.base.ops(self.backbone))
        return dense - sum(count * entries for _, (count, entries) in self.weights.values()), stored, alike

    def key_form(self, genomes: Population) -> Population:
        """[B, G] densities that keep the same entries of every row are one."""
        return self._tables[2][np.arange(len(self.parts)), genomes]

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] entries that are stored: kept ones, biases and norms."""
        fixed, stored, _ = self._tables
        return fixed + stored[np.arange(len(self.parts)), genomes].sum(axis=1)

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """The Ops of the backbone: zeros are computed like other numbers."""
        self.densities_of(architecture)
        return self.base.ops(self.backbone)

    def sites(self) -> tuple[Site, ...]:
        """One site that nothing decides."""
        return (Site("backbone", (), lambda _: self.base.ops(self.backbone)),)

    # --- networks ---------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """The backbone, freshly initialised, with zeros where the architecture keeps nothing."""
        network = self.base.network(self.backbone, seed=seed)
        self.constrain(network, architecture)
        return network

    @torch.no_grad()
    def constrain(self, network: nn.Module, architecture: Architecture) -> None:
        """Keep the largest entries of every row and set the others to 0, from where they may come back."""
        for name, density in self.densities_of(architecture).items():
            weight = network.get_parameter(name)
            weight.mul_(row_mask(row_ranks(weight), density))

    def supernet(self, seed: int | None = None) -> SparseSupernet:
        """The backbone's weights, freshly initialised, that all densities share."""
        return SparseSupernet(self, self.base.network(self.backbone, seed=seed))

    def example_inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Those of the base."""
        return self.base.example_inputs(batch)


class SparseSupernet(Supernet):
    """One backbone, run with the largest entries of its rows; gradients reach the entries that are kept.

    Masks follow the weights: they are made anew once the weights have changed, for all paths of a step.

    Args:
        space: what the architectures belong to.
        backbone: the network with all weights, which becomes part of this.

    Raises:
        SpaceError: a norm of the backbone would store statistics of all densities mixed.
    """

    def __init__(self, space: SparseSpace, backbone: nn.Module) -> None:
        super().__init__()
        self.space, self.backbone = space, share_norms(backbone)
        for name, module in backbone.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, ElasticBatchNorm2d):
                raise SpaceError(
                    f"space {space.name!r}: {name} is a {type(module).__name__}, which densities cannot share; choose "
                    "a space whose norms are those of images or of single samples."
                )
        self._ranks: dict[str, tuple[tuple[int, int], Tensor]] = {}

    def forward(self, *inputs: Tensor | Architecture) -> Tensor:  # type: ignore[override]  # any number of tensors
        """The backbone's outputs with the weights that the architecture, the last argument, keeps."""
        *tensors, architecture = inputs
        assert isinstance(architecture, Architecture)
        output: Tensor = functional_call(self.backbone, self._kept(architecture), tuple(tensors))
        return output

    def blank_network(self, architecture: Architecture) -> nn.Module:
        """The backbone with weights of its own."""
        return self.space.network(architecture, seed=0)

    def slice_of(
        self, name: str, shared: Mapping[str, Tensor], shape: Sequence[int], architecture: Architecture
    ) -> Tensor:
        """The backbone's weight of that name, with zeros where the architecture keeps nothing."""
        del shape  # that of the backbone
        density = self.space.densities_of(architecture).get(name)
        return shared[f"backbone.{name}"] if density is None else self._masked(name, density).detach()

    @torch.no_grad()
    def absorb(self, architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of a sparse network; entries it does not keep become 0."""
        del architecture  # every network has all of the backbone's weights
        self.backbone.load_state_dict(dict(weights), strict=False)

    def _kept(self, architecture: Architecture) -> dict[str, Tensor]:
        return {name: self._masked(name, density) for name, density in self.space.densities_of(architecture).items()}

    def _masked(self, name: str, density: float) -> Tensor:
        weight = self.backbone.get_parameter(name)
        if density == 1:
            return weight
        state = (weight.data_ptr(), weight._version)  # torch counts changes in place nowhere else
        if self._ranks.get(name, ((), None))[0] != state:
            self._ranks[name] = (state, row_ranks(weight))
        return weight * row_mask(self._ranks[name][1], density)


def _sparse_weights(ops: Sequence[Op]) -> Iterator[tuple[str, tuple[str, tuple[int, int]]]]:
    """Name, part, and rows and entries per row of every weight that can be sparse."""
    for op in ops:
        for name, shape in op.weights:
            if op.kind in _SPARSE_KINDS and name == "weight":
                match = _PART.match(op.name)
                assert match is not None
                yield f"{op.name}.{name}", (match[0], (shape[0], int(np.prod(shape[1:]))))
