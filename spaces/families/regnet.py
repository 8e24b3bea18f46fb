"""The RegNet family: five numbers make all widths and depths of a network of grouped residual blocks.

What stands at a block depends on all genes, so that costs are no sum over sites; they are computed in closed form from
the widths of whole populations (`regnet_widths`).

Source: Radosavovic et al., Designing Network Design Spaces, CVPR 2020, https://arxiv.org/abs/2003.13678.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..candidate import Candidate
from ..elastic.residual import CLASSIFIER, CONV_NORM, RESIDUAL
from ..gene import CHUNK, Gene, Population
from ..layers.chain import Layer, chain_ops
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.materialise import builder, initialise
from ..layers.residual import ResidualSpec
from ..op import Op, Tensor
from ..space import SearchSpace
from .chain import blank_chain, check_image, image_batch
from .regnet_widths import QUANTUM, RegNetWidths, body_costs, regnet_widths

__all__ = ["PRESETS", "REFERENCES", "RegNetSpace", "RegNetSpec"]


STAGES: Final = 4
"""Stages of every published network; the image must be large enough for as many strides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegNetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        depths: numbers of blocks, ascending.
        initial_widths: w0, multiples of 8, ascending.
        slopes: wa, ascending.
        ratios: wm, above 1, ascending.
        group_widths: channels per group, ascending.
        squeezes: whether blocks have squeeze-excite (RegNetY), of a quarter of the block's input channels.
        stem_channels: of the 3x3 stem.
        stem_stride: its stride.
    """

    in_channels: int
    resolution: int
    classes: int
    depths: tuple[int, ...]
    initial_widths: tuple[int, ...]
    slopes: tuple[float, ...]
    ratios: tuple[float, ...]
    group_widths: tuple[int, ...]
    squeezes: tuple[bool, ...] = (False, True)
    stem_channels: int = 32
    stem_stride: int = 2

    def __post_init__(self) -> None:
        check_image(self, "regnet", self.stem_stride * 2**STAGES)
        if min(self.depths, default=0) < 1 or min(self.group_widths, default=0) < 1:
            raise SpaceError(
                f"regnet: depths {self.depths} and group widths {self.group_widths} must each be at least 1."
            )
        if wrong := [width for width in self.initial_widths if width < QUANTUM or width % QUANTUM]:
            raise SpaceError(f"regnet: initial widths {wrong} are not allowed; use multiples of {QUANTUM}.")
        if min(self.slopes, default=-1.0) < 0 or min(self.ratios, default=0.0) <= 1:
            raise SpaceError(
                f"regnet: slopes {self.slopes} must be at least 0 and ratios {self.ratios} above 1 (a ratio of 1 would "
                "leave every width the initial one)."
            )

    def genes(self) -> tuple[Gene, ...]:
        """Depth, w0, wa, wm, group width and squeeze-excite."""
        return (
            Gene("depth", self.depths, kind="ordered"),
            Gene("initial_width", self.initial_widths, kind="ordered"),
            Gene("slope", self.slopes, kind="ordered"),
            Gene("ratio", self.ratios, kind="ordered"),
            Gene("group_width", self.group_widths, kind="ordered"),
            Gene("squeeze", self.squeezes),
        )


class RegNetSpace(SearchSpace):
    """All networks of one `RegNetSpec`.

    Args:
        spec: the values that the parameters may take.
        preset: the name `spec` goes by, "" if none.

    >>> RegNetSpace(PRESETS["tiny"], preset="tiny").size
    192
    """

    def __init__(self, spec: RegNetSpec, *, preset: str = "") -> None:
        self.spec = spec
        options = {"in_channels": spec.in_channels, "resolution": spec.resolution, "classes": spec.classes}
        super().__init__(spec.genes(), name="regnet", preset=preset, options=options)
        self._values = [np.array(gene.values) for gene in self.genes]

    def __reduce__(self) -> tuple[Callable[..., RegNetSpace], tuple[RegNetSpec, str]]:
        """Travel to other processes as the specification alone."""
        return _restore, (self.spec, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; the whole specification is part of the identity."""
        return super().description() | {"spec": dataclasses.asdict(self.spec)}

    # --- from genomes to blocks -----------------------------------------------------------------------------------

    def widths(self, genomes: Population) -> tuple[RegNetWidths, NDArray[np.bool_]]:
        """The blocks of every genome [B, G], and [B] whether they have squeeze-excite."""
        depth, w0, wa, wm, group, squeeze = (values[genomes[:, at]] for at, values in enumerate(self._values))
        blocks = regnet_widths(
            depth,
            w0,
            wa.astype(np.float64),
            wm=wm.astype(np.float64),
            group_width=group,
            max_depth=self.spec.depths[-1],
        )
        return blocks, squeeze

    def plan(self, architecture: Architecture) -> tuple[Layer, ...]:
        """The layers of `architecture`, in execution order."""
        blocks, (squeeze,) = self.widths(self.encode(architecture)[None])
        width, entry = blocks.width[0], blocks.entries(self.spec.stem_channels)[0]
        depth, inside = int((width > 0).sum()), -1
        layers = [Layer("stem", CONV_NORM, self._stem())]
        for block in range(depth):
            inside = 0 if blocks.first[0, block] else inside + 1
            spec = ResidualSpec(
                in_channels=int(entry[block]),
                hidden=int(width[block]),
                out_channels=int(width[block]),
                stride=int(blocks.stride[0, block]),
                group_width=int(blocks.group_width[0, block]),
                squeezed=round(int(entry[block]) / 4) if squeeze else 0,
            )
            layers.append(Layer(f"stages.{int(blocks.stage[0, block])}.{inside}", RESIDUAL, spec))
        return (*layers, Layer("head", CLASSIFIER, self._head(int(width[depth - 1]))))

    def _stem(self) -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=self.spec.in_channels,
            out_channels=self.spec.stem_channels,
            kernel=3,
            stride=self.spec.stem_stride,
            activation="relu",
        )

    def _head(self, channels: int) -> ClassifierSpec:
        return ClassifierSpec(in_channels=channels, classes=self.spec.classes)

    def key_form(self, genomes: Population) -> NDArray[np.integer]:
        """[B, 2 D + 1] per block the width, negative where it strides, and the group width; then squeeze-excite."""
        blocks, squeeze = self.widths(genomes)
        signed = np.where(blocks.stride == 2, -blocks.width, blocks.width)
        return np.concatenate([signed, blocks.group_width, squeeze[:, None].astype(np.int64)], axis=1)

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        side = self.spec.resolution
        return chain_ops(self.plan(architecture), Tensor("image", (self.spec.in_channels, side, side)))

    def macs(self, genomes: Population) -> NDArray[np.int64]:
        """[B] multiply-accumulates per sample."""
        return self._costs(genomes)[0]

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] learned parameters."""
        return self._costs(genomes)[1]

    def _costs(self, genomes: Population) -> NDArray[np.int64]:
        """[2, B] MACs and parameters."""
        out = np.empty((2, len(genomes)), dtype=np.int64)
        spec = self.spec
        side = -(-spec.resolution // spec.stem_stride)
        stem = 9 * spec.in_channels * spec.stem_channels
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            blocks, squeeze = self.widths(genomes[rows])
            macs, params = body_costs(blocks, squeeze, stem=spec.stem_channels, side=side)
            last = blocks.last()
            out[0, rows] = macs + side**2 * stem + last * spec.classes
            out[1, rows] = params + stem + 2 * spec.stem_channels + (last + 1) * spec.classes
        return out

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """A freshly initialised network of this architecture."""
        network = blank_chain(self.plan(architecture))
        initialise(network, seed)
        return network

    def candidates(self) -> tuple[Candidate, ...]:
        """The layers of the default network, with and without squeeze-excite."""
        found = []
        for squeeze in self.spec.squeezes:
            chosen = {"squeeze": squeeze} if len(self.spec.squeezes) > 1 else {}
            x = Tensor("image", (self.spec.in_channels, self.spec.resolution, self.spec.resolution))
            for layer in self.plan(self.architecture(chosen)):
                found.append(
                    Candidate(
                        place=layer.path,
                        label=f"squeeze={squeeze}",
                        choice=False,
                        shape=x.shape,
                        build=builder(functools.partial(layer.brick.module, layer.spec)),
                        means="work",
                        key=(layer.brick, layer.spec, x.shape),
                    )
                )
                x = layer.ops(x)[-1].output
        return tuple(found)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        return (image_batch(self.spec, batch),)


def _restore(spec: RegNetSpec, preset: str) -> RegNetSpace:
    return RegNetSpace(spec, preset=preset)


# (depth, w0, wa, wm, group width); regnetx_004 is the paper's 400 MF network.
_X: Final[Mapping[str, tuple[int, int, float, float, int]]] = MappingProxyType({
    "regnetx_002": (13, 24, 36.44, 2.49, 8),
    "regnetx_004": (22, 24, 24.48, 2.54, 16),
    "regnetx_006": (16, 48, 36.97, 2.24, 24),
    "regnetx_008": (16, 56, 35.73, 2.28, 16),
    "regnetx_016": (18, 80, 34.01, 2.25, 24),
    "regnetx_032": (25, 88, 26.31, 2.25, 48),
    "regnetx_040": (23, 96, 38.65, 2.43, 40),
    "regnetx_064": (17, 184, 60.83, 2.07, 56),
    "regnetx_080": (23, 80, 49.56, 2.88, 120),
    "regnetx_120": (19, 168, 73.36, 2.37, 112),
    "regnetx_160": (22, 216, 55.59, 2.1, 128),
    "regnetx_320": (23, 320, 69.86, 2.0, 168),
})  # fmt: skip
_Y: Final[Mapping[str, tuple[int, int, float, float, int]]] = MappingProxyType({
    "regnety_002": (13, 24, 36.44, 2.49, 8),
    "regnety_004": (16, 48, 27.89, 2.09, 8),
    "regnety_006": (15, 48, 32.54, 2.32, 16),
    "regnety_008": (14, 56, 38.84, 2.4, 16),
    "regnety_016": (27, 48, 20.71, 2.65, 24),
    "regnety_032": (21, 80, 42.63, 2.66, 24),
    "regnety_040": (22, 96, 31.41, 2.24, 64),
    "regnety_064": (25, 112, 33.22, 2.27, 72),
})  # fmt: skip


def _grid(at: int, grid: tuple[float, ...]) -> tuple[float, ...]:
    """A regular grid and the published networks' values of parameter number `at`, ascending."""
    return tuple(sorted({*grid, *(row[at] for rows in (_X, _Y) for row in rows.values())}))


PRESETS: Final[Mapping[str, RegNetSpec]] = MappingProxyType({
    # The published ranges: depth 12 to 28, w0 to 320, wa to 256, wm 1.5 to 3, with every published network in it.
    "published": RegNetSpec(
        in_channels=3, resolution=224, classes=1000, depths=tuple(range(12, 29)),
        initial_widths=tuple(range(8, 321, 8)), slopes=_grid(2, tuple(range(8, 257, 8))),
        ratios=_grid(3, tuple(value / 20 for value in range(30, 61))), group_widths=tuple(range(8, 249, 8)),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": RegNetSpec(
        in_channels=3, resolution=64, classes=10, depths=tuple(range(6, 17)), initial_widths=(24, 32, 40, 48, 56, 64),
        slopes=tuple(range(8, 41, 4)), ratios=(1.75, 2.0, 2.25, 2.5, 2.75, 3.0), group_widths=(8, 16, 24, 32),
        stem_stride=1,
    ),
    # For tests: a few hundred networks of a few thousand weights.
    "tiny": RegNetSpec(
        in_channels=1, resolution=16, classes=10, depths=(2, 3, 4, 5), initial_widths=(8, 16), slopes=(4.0, 8.0),
        ratios=(1.5, 2.0, 2.5), group_widths=(4, 8), stem_channels=8, stem_stride=1,
    ),
})  # fmt: skip
"""The family's presets, by name."""


@functools.lru_cache(maxsize=32)
def _resized(resolution: int | None) -> RegNetSpace:
    """The published space at a resolution; asked again, the same space."""
    spec = PRESETS["published"]
    if resolution is not None:
        spec = dataclasses.replace(spec, resolution=resolution)
    return RegNetSpace(spec, preset="published")


def _published(name: str, resolution: int | None) -> tuple[SearchSpace, Architecture]:
    """RegNetX and RegNetY networks of the paper as points of `published`."""
    space = _resized(resolution)
    depth, w0, wa, wm, group_width = _X[name] if name in _X else _Y[name]
    choices = {"depth": depth, "initial_width": w0, "slope": wa, "ratio": wm, "group_width": group_width}
    return space, space.architecture({**choices, "squeeze": name in _Y})


def _reference(name: str) -> Callable[[int | None], tuple[SearchSpace, Architecture]]:
    return lambda resolution: _published(name, resolution)


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType(
    {name: _reference(name) for name in (*_X, *_Y)}
)
"""Published networks: (resolution, None = 224) -> (space, architecture)."""
