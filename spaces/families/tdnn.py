"""EfficientTDNN: time-delay networks that turn speech into speaker embeddings; depth, widths and kernels vary.

A convolution over time, SE-Res2 blocks with growing dilation whose outputs are all put together, attentive statistics
over time, and a linear embedding.

Source: Wang et al., EfficientTDNN, 2021, https://arxiv.org/abs/2103.13581; Desplanques et al., ECAPA-TDNN, Interspeech
2020, https://arxiv.org/abs/2005.07143. Where we deviate: the trunk that the blocks add to has one width for all of
them, and each block a width of its own inside, so that every block can add its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..elastic.layers import ElasticLinear
from ..elastic.supernet import Supernet
from ..elastic.temporal import (
    ElasticAttentiveStatistics,
    ElasticBatchNorm1d,
    ElasticConv1d,
    ElasticSERes2Block,
    ElasticTemporalConv,
)
from ..gene import Gene
from ..layers.materialise import allocate
from ..layers.temporal import (
    AttentiveStatistics,
    SERes2Block,
    SERes2Spec,
    TemporalConv,
    TemporalConvSpec,
    attentive_statistics_ops,
    se_res2_ops,
    temporal_conv_ops,
)
from ..op import Op, Tensor, make_op
from .steps import Choices, Read, Step, StepSpace, integer, layer_genes

__all__ = ["PRESETS", "Tdnn", "TdnnPlan", "TdnnSpace", "TdnnSpec", "TdnnSupernet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TdnnSpec:
    """A member of the family.

    Attributes:
        mels: channels of the spectrogram.
        frames: its length, for costs and examples; networks take any.
        embedding: features of the speaker embedding.
        widths: channels of the trunk, ascending.
        hidden: channels inside a block, ascending multiples of `scale`.
        kernels: windows of the first convolution and of the blocks, ascending and odd.
        depths: numbers of blocks, ascending.
        scale: groups of a block's hidden channels.
        squeezed: channels inside squeeze-excite and inside the attention over time.
        features: channels that the blocks' outputs are turned into before pooling.
        transform: smaller kernels are not plain centre crops but learned transforms of them, in the supernet.
    """

    mels: int
    frames: int
    embedding: int
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    kernels: tuple[int, ...] = (1, 3, 5)
    depths: tuple[int, ...] = (2, 3, 4)
    scale: int = 8
    squeezed: int = 128
    features: int = 1536
    transform: bool = False

    def __post_init__(self) -> None:
        for name in ("mels", "frames", "embedding", "squeezed", "features"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"tdnn: {name} is {value!r}; it must be an integer of at least 1.")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise SpaceError(f"tdnn: kernel {even[0]} is even; windows over time are odd.")
        if min(self.depths) < 1:
            raise SpaceError(f"tdnn: depths are {self.depths}; there must be at least 1 block.")
        if bad := [hidden for hidden in self.hidden if hidden % self.scale]:
            raise SpaceError(f"tdnn: {bad[0]} hidden channels do not divide into {self.scale} groups (`scale`).")


PRESETS: Final[Mapping[str, TdnnSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": TdnnSpec(
        mels=10, frames=17, embedding=6, widths=(6, 8), hidden=(4, 8), depths=(1, 2), scale=4, squeezed=4, features=12,
    ),
    # Three seconds of 80 mel bands; 128 to 512 channels in steps of 8, the finest grid of EfficientTDNN.
    "published": TdnnSpec(
        mels=80, frames=300, embedding=192, widths=tuple(range(128, 513, 8)), hidden=tuple(range(128, 513, 8)),
    ),
    # The same range in steps of 64: what changes the latency of a device, and quickly tabled.
    "efficient": TdnnSpec(
        mels=80, frames=300, embedding=192, widths=tuple(range(128, 513, 64)), hidden=tuple(range(128, 513, 64)),
    ),
    "efficient_transform": TdnnSpec(
        mels=80, frames=300, embedding=192, widths=tuple(range(128, 513, 64)), hidden=tuple(range(128, 513, 64)),
        transform=True,
    ),
})  # fmt: skip
"""The family's presets, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TdnnPlan:
    """One architecture as the specs of its layers."""

    stem: TemporalConvSpec
    blocks: tuple[SERes2Spec, ...]

    @property
    def joined(self) -> int:
        """Channels of all blocks' outputs together."""
        return len(self.blocks) * self.stem.out_channels


class Tdnn(nn.Module):
    """The standalone network of a plan: `stem`, `blocks.<i>`, `aggregate`, `pool`, `norm`, `embedding`."""

    def __init__(self, spec: TdnnSpec, plan: TdnnPlan) -> None:
        super().__init__()
        self.stem = TemporalConv(plan.stem)
        self.blocks = nn.ModuleList(SERes2Block(block) for block in plan.blocks)
        self.aggregate = nn.Conv1d(plan.joined, spec.features, 1)
        self.activation = nn.ReLU()
        self.pool = AttentiveStatistics(spec.features, spec.squeezed)
        self.norm = nn.BatchNorm1d(2 * spec.features)
        self.embedding = nn.Linear(2 * spec.features, spec.embedding)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, mels, T] -> [N, embedding]."""
        x = self.stem(x)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        x = self.activation(self.aggregate(torch.cat(outputs, dim=1)))
        return self.embedding(self.norm(self.pool(x)))


class ElasticAggregate(nn.Conv1d):
    """The 1x1 convolution over the joined outputs of all blocks; every block keeps its own columns of the weight."""

    def __init__(self, blocks: int, width: int, out_channels: int) -> None:
        super().__init__(blocks * width, out_channels, 1)
        self.blocks = blocks

    def part(self, weight: TorchTensor, blocks: int, width: int) -> TorchTensor:
        """[out_channels, blocks * width, 1] of the first blocks and of the first channels of each."""
        columns = weight.view(self.out_channels, self.blocks, -1, 1)
        return columns[:, :blocks, :width].reshape(self.out_channels, blocks * width, 1)

    def forward(self, outputs: Sequence[TorchTensor]) -> TorchTensor:  # type: ignore[override]  # takes the parts
        """Outputs of the blocks, each [N, width, T] -> [N, out_channels, T]."""
        weight = self.part(self.weight, len(outputs), outputs[0].shape[1])
        return F.conv1d(torch.cat(list(outputs), dim=1), weight, self.bias)


class TdnnSupernet(Supernet):
    """The family's supernet: same module paths as `Tdnn`, every layer as large as any choice needs."""

    def __init__(self, space: TdnnSpace) -> None:
        super().__init__()
        self.space = space
        spec, largest = space.spec, space.plan(space.largest_choices())
        transformed = spec.kernels if spec.transform else ()
        self.stem = ElasticTemporalConv(largest.stem, transformed)
        self.blocks = nn.ModuleList(ElasticSERes2Block(block, transformed) for block in largest.blocks)
        self.aggregate = ElasticAggregate(len(largest.blocks), largest.stem.out_channels, spec.features)
        self.activation = nn.ReLU()
        self.pool = ElasticAttentiveStatistics(spec.features, spec.squeezed)
        self.norm = ElasticBatchNorm1d(2 * spec.features)
        self.embedding = ElasticLinear(2 * spec.features, spec.embedding)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, mels, T] -> [N, embedding]."""
        plan = self.space.plan(self.space.choices(architecture))
        x = self.stem(x, plan.stem)
        outputs = []
        for block, spec in zip(self.blocks, plan.blocks, strict=False):  # depth: the first blocks run
            x = block(x, spec)
            outputs.append(x)
        return self.embedding(self.norm(self.pool(self.activation(self.aggregate(outputs)))))

    def slice_of(
        self, name: str, shared: Mapping[str, TorchTensor], shape: Sequence[int], architecture: Architecture
    ) -> TorchTensor:
        """As in every supernet, but for the aggregating convolution and for transformed kernels."""
        if name == "aggregate.weight":
            plan = self.space.plan(self.space.choices(architecture))
            return self.aggregate.part(shared[name], len(plan.blocks), plan.stem.out_channels)
        path, _, leaf = name.rpartition(".")
        owner = self.get_submodule(path)
        if leaf == "weight" and isinstance(owner, ElasticConv1d):
            return owner.kernel_weight(shape)
        return super().slice_of(name, shared, shape, architecture)

    def blank_network(self, architecture: Architecture) -> Tdnn:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class TdnnSpace(StepSpace):
    """All networks of one `TdnnSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> TdnnSpace(PRESETS["tiny"], preset="tiny").size
    252
    """

    def __init__(self, spec: TdnnSpec, *, preset: str = "") -> None:
        self.spec = spec
        genes = [
            Gene("width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            Gene("depth", spec.depths, kind="ordered", default=len(spec.depths) - 1),
            Gene("kernel", spec.kernels, kind="ordered", default=len(spec.kernels) - 1),
            *layer_genes("depth", spec.depths, "blocks", (("kernel", spec.kernels), ("hidden", spec.hidden))),
        ]
        super().__init__(spec, genes, name="tdnn", preset=preset, options=("mels", "frames", "embedding"))

    def plan(self, choices: Choices) -> TdnnPlan:
        """The specs of the layers of these choices."""
        depth = integer(choices, "depth")
        return TdnnPlan(stem=self._stem(choices), blocks=tuple(self._block(choices, index) for index in range(depth)))

    def _stem(self, choices: Choices) -> TemporalConvSpec:
        return TemporalConvSpec(
            in_channels=self.spec.mels, out_channels=integer(choices, "width"), kernel=integer(choices, "kernel")
        )

    def _block(self, choices: Choices, index: int) -> SERes2Spec:
        return SERes2Spec(
            channels=integer(choices, "width"),
            hidden=integer(choices, f"blocks.{index}.hidden"),
            scale=self.spec.scale,
            kernel=integer(choices, f"blocks.{index}.kernel"),
            dilation=index + 2,
            squeezed=self.spec.squeezed,
        )

    def steps(self) -> tuple[Step, ...]:
        """The first convolution, every block that may exist, and everything from their joined outputs on."""
        spec = self.spec
        mels = Tensor("mels", (spec.mels, spec.frames))

        def start(choices: Choices, read: Read) -> tuple[Op, ...]:
            del read
            return temporal_conv_ops("stem", mels, self._stem(choices))

        def end(choices: Choices, read: Read) -> tuple[Op, ...]:
            shape = (integer(choices, "width"), spec.frames)
            outputs = tuple(read(shape, f"blocks.{index}") for index in range(integer(choices, "depth")))
            joined = make_op("joined", "concat", outputs)
            ops = (joined,) if len(outputs) > 1 else ()
            source = joined.output if ops else joined.inputs[0]
            aggregate = make_op("aggregate", "conv1d", source, out_channels=spec.features, kernel=1, bias=True)
            bent = make_op("activation", "activation", aggregate.output, function="relu")
            ops += (aggregate, bent, *attentive_statistics_ops("pool", bent.output, spec.squeezed))
            norm = make_op("norm", "batch_norm", ops[-1].output)
            return (*ops, norm, make_op("embedding", "linear", norm.output, out_features=spec.embedding))

        blocks = (self._block_step(index) for index in range(max(spec.depths)))
        return (
            Step(name="stem", genes=("width", "kernel"), build=start),
            *blocks,
            Step(name="embedding", genes=("width", "depth"), build=end),
        )

    def _block_step(self, index: int) -> Step:
        path = f"blocks.{index}"

        def build(choices: Choices, read: Read) -> tuple[Op, ...]:
            if integer(choices, "depth") <= index:
                return ()
            block = self._block(choices, index)
            return se_res2_ops(path, read((block.channels, self.spec.frames)), block)

        return Step(name=path, genes=("width", "depth", f"{path}.kernel", f"{path}.hidden"), build=build)

    def blank(self, choices: Choices) -> Tdnn:
        """The network of these choices, not yet filled."""
        return Tdnn(self.spec, self.plan(choices))

    def blank_supernet(self) -> TdnnSupernet:
        """The supernet, not yet filled."""
        return TdnnSupernet(self)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One batch of spectrograms [batch, mels, frames], standard normal, always the same."""
        shape = (batch, self.spec.mels, self.spec.frames)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)
