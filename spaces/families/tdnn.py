"""EfficientTDNN: time-delay networks that turn speech into speaker embeddings; depth, widths and kernels vary.

A convolution over time, SE-Res2 blocks with growing dilation, attentive statistics over time of all blocks' outputs put
together, and a linear embedding. Each block reads what the block before it wrote, and adds everything written so far:
this trunk has one width, and each block a width of its own inside.

Source: Wang et al., EfficientTDNN, IEEE/ACM TASLP 2022, https://arxiv.org/abs/2103.13581, in the form of its released
code, https://github.com/mechanicalsea/sugar (`DynamicTDNN`, `tdnn8m2g`); Desplanques et al., ECAPA-TDNN, Interspeech
2020, https://arxiv.org/abs/2005.07143.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..elastic.supernet import Supernet
from ..elastic.temporal import (
    ElasticAttentiveStatistics,
    ElasticBatchNorm1d,
    ElasticConv1d,
    ElasticPooledLinear,
    ElasticSERes2Block,
    ElasticTemporalConv,
    part_slice,
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
    res2_ops,
    temporal_conv_ops,
    temporal_squeeze_excite_ops,
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
        features: channels that the blocks' outputs are turned into before pooling, ascending.
        kernels: windows of the first convolution and of the blocks, ascending and odd.
        depths: numbers of blocks, ascending.
        scale: groups of a block's hidden channels.
        reduction: channels of the trunk per channel inside squeeze-excite.
        squeezed: channels inside the attention over time.
        transform: smaller kernels are not plain centre crops but learned transforms of them, in the supernet.
    """

    mels: int
    frames: int
    embedding: int
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    features: tuple[int, ...]
    kernels: tuple[int, ...] = (1, 3, 5)
    depths: tuple[int, ...] = (2, 3, 4)
    scale: int = 8
    reduction: int = 4
    squeezed: int = 128
    transform: bool = True

    def __post_init__(self) -> None:
        for name in ("mels", "frames", "embedding", "reduction", "squeezed"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"tdnn: {name} is {value!r}; it must be an integer of at least 1.")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise SpaceError(f"tdnn: kernel {even[0]} is even; windows over time are odd.")
        if min(self.depths) < 1:
            raise SpaceError(f"tdnn: depths are {self.depths}; there must be at least 1 block.")
        if bad := [hidden for hidden in self.hidden if hidden % self.scale]:
            raise SpaceError(f"tdnn: {bad[0]} hidden channels do not divide into {self.scale} groups (`scale`).")
        if narrow := [width for width in self.widths if width < self.reduction]:
            raise SpaceError(
                f"tdnn: width {narrow[0]} leaves no channel inside squeeze-excite, which has one per {self.reduction} "
                "(`reduction`); use wider ones, or a smaller reduction."
            )


PRESETS: Final[Mapping[str, TdnnSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": TdnnSpec(
        mels=10, frames=17, embedding=6, widths=(6, 8), hidden=(4, 8), features=(8, 12), depths=(1, 2), scale=4,
        squeezed=4, transform=False,
    ),
    # Three seconds of 80 mel bands. The fine-grained space that the paper states as about 1e13 networks.
    "published": TdnnSpec(
        mels=80, frames=300, embedding=192, widths=tuple(range(128, 513, 8)), hidden=tuple(range(128, 513, 8)),
        features=tuple(range(384, 1537, 8)),
    ),
    # The coarse-grained space, which the supernet is trained on: shares 0.25, 0.35, 0.5, 0.75 and 1 of the channels.
    "coarse": TdnnSpec(
        mels=80, frames=300, embedding=192, widths=(128, 176, 256, 384, 512), hidden=(128, 176, 256, 384, 512),
        features=(384, 536, 768, 1152, 1536),
    ),
})  # fmt: skip
"""The family's presets, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TdnnPlan:
    """One architecture as the specs of its layers."""

    stem: TemporalConvSpec
    blocks: tuple[SERes2Spec, ...]
    features: int

    @property
    def joined(self) -> int:
        """Channels of all blocks' outputs together."""
        return len(self.blocks) * self.stem.out_channels


def _joined(
    x: TorchTensor, blocks: Sequence[nn.Module], run: Callable[[int, nn.Module, TorchTensor], TorchTensor]
) -> TorchTensor:
    """[N, width, T] -> [N, blocks * width, T]: each block's output plus all that was written before, put together."""
    total, outputs = x, []
    for index, block in enumerate(blocks):
        total = total + x if index else x
        x = run(index, block, x) + total
        outputs.append(x)
    return torch.cat(outputs, dim=1)


class Tdnn(nn.Module):
    """The network of a plan: `stem`, `blocks.<i>`, `aggregate`, `pool`, `norm`, `embedding`, `embedding_norm`."""

    def __init__(self, spec: TdnnSpec, plan: TdnnPlan) -> None:
        super().__init__()
        self.stem = TemporalConv(plan.stem)
        self.blocks = nn.ModuleList(SERes2Block(block) for block in plan.blocks)
        self.aggregate = nn.Conv1d(plan.joined, plan.features, 1, bias=False)
        self.activation = nn.ReLU()
        self.pool = AttentiveStatistics(plan.features, spec.squeezed)
        self.norm = nn.BatchNorm1d(2 * plan.features)
        self.embedding = nn.Linear(2 * plan.features, spec.embedding)
        self.embedding_norm = nn.BatchNorm1d(spec.embedding)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, mels, T] -> [N, embedding]."""
        x = _joined(self.stem(x), list(self.blocks), lambda _, block, x: block(x))
        x = self.activation(self.aggregate(x))
        return self.embedding_norm(self.embedding(self.norm(self.pool(x))))


class ElasticAggregate(ElasticConv1d):
    """The 1x1 convolution over the joined outputs of all blocks; every block keeps its own columns of the weight."""

    def __init__(self, blocks: int, width: int, out_channels: int) -> None:
        super().__init__(blocks * width, out_channels)
        self.width = width

    def part(self, plan: TdnnPlan) -> TorchTensor:
        """[plan.features, plan.joined, 1]: the columns of the first blocks, and of each the first channels."""
        blocks = self.weight[: plan.features, : len(plan.blocks) * self.width]
        return part_slice(blocks, 1, len(plan.blocks), plan.joined)

    def forward(self, x: TorchTensor, plan: TdnnPlan) -> TorchTensor:  # type: ignore[override]  # takes the choice
        """[N, plan.joined, T] -> [N, plan.features, T]."""
        return F.conv1d(x, self.part(plan))


class TdnnSupernet(Supernet):
    """The family's supernet: same module paths as `Tdnn`, every layer as large as any choice needs."""

    def __init__(self, space: TdnnSpace) -> None:
        super().__init__()
        self.space = space
        spec, largest = space.spec, space.plan(space.largest_choices())
        transformed = spec.kernels if spec.transform else ()
        self.stem = ElasticTemporalConv(largest.stem, transformed)
        self.blocks = nn.ModuleList(ElasticSERes2Block(block, transformed) for block in largest.blocks)
        self.aggregate = ElasticAggregate(len(largest.blocks), largest.stem.out_channels, largest.features)
        self.activation = nn.ReLU()
        self.pool = ElasticAttentiveStatistics(largest.features, spec.squeezed)
        self.norm = ElasticBatchNorm1d(2 * largest.features, parts=2)
        self.embedding = ElasticPooledLinear(2 * largest.features, spec.embedding)
        self.embedding_norm = ElasticBatchNorm1d(spec.embedding)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, mels, T] -> [N, embedding]."""
        plan = self.space.plan(self.space.choices(architecture))
        blocks = list(self.blocks)[: len(plan.blocks)]  # depth: the first blocks run
        x = _joined(self.stem(x, plan.stem), blocks, lambda index, block, x: block(x, plan.blocks[index]))
        x = self.activation(self.aggregate(x, plan))
        return self.embedding_norm(self.embedding(self.norm(self.pool(x))))

    def slice_of(
        self, name: str, shared: Mapping[str, TorchTensor], shape: Sequence[int], architecture: Architecture
    ) -> TorchTensor:
        """As in every supernet, but for channels that lie in parts and for transformed kernels."""
        path, _, leaf = name.rpartition(".")
        owner = self.get_submodule(path)
        if leaf == "weight" and isinstance(owner, ElasticAggregate):
            return owner.part(self.space.plan(self.space.choices(architecture)))
        if leaf == "weight" and isinstance(owner, ElasticConv1d):
            return owner.kernel_weight(shape)
        if leaf == "weight" and isinstance(owner, ElasticPooledLinear):
            return owner.chosen(shared[name], shape[1]).flatten(1)
        if len(shape) == 1 and isinstance(owner, ElasticBatchNorm1d):
            return owner.chosen(shared[name], shape[0]).flatten()
        return super().slice_of(name, shared, shape, architecture)

    def blank_network(self, architecture: Architecture) -> Tdnn:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class TdnnSpace(StepSpace):
    """All networks of one `TdnnSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> f'{TdnnSpace(PRESETS["published"], preset="published").size:.3g}'
    '1e+13'
    """

    def __init__(self, spec: TdnnSpec, *, preset: str = "") -> None:
        self.spec = spec
        genes = [
            Gene("width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            Gene("depth", spec.depths, kind="ordered", default=len(spec.depths) - 1),
            Gene("kernel", spec.kernels, kind="ordered", default=len(spec.kernels) - 1),
            Gene("features", spec.features, kind="ordered", default=len(spec.features) - 1),
            *layer_genes("depth", spec.depths, "blocks", (("kernel", spec.kernels), ("hidden", spec.hidden))),
        ]
        super().__init__(spec, genes, name="tdnn", preset=preset, options=("mels", "frames", "embedding"))

    def plan(self, choices: Choices) -> TdnnPlan:
        """The specs of the layers of these choices."""
        return TdnnPlan(
            stem=self._stem(choices),
            blocks=tuple(self._block(choices, index) for index in range(integer(choices, "depth"))),
            features=integer(choices, "features"),
        )

    def _stem(self, choices: Choices) -> TemporalConvSpec:
        return TemporalConvSpec(
            in_channels=self.spec.mels, out_channels=integer(choices, "width"), kernel=integer(choices, "kernel")
        )

    def _block(self, choices: Choices, index: int) -> SERes2Spec:
        width, path, spec = integer(choices, "width"), f"blocks.{index}", self.spec
        return SERes2Spec(
            channels=width,
            hidden=integer(choices, f"{path}.hidden"),
            scale=spec.scale,
            kernel=integer(choices, f"{path}.kernel"),
            dilation=index + 2,
            squeezed=width // spec.reduction,
        )

    def steps(self) -> tuple[Step, ...]:
        """The first convolution, the pieces of every block that may exist, and everything from their outputs on.

        A block is several steps, because its pieces depend on different genes: as one it would need a table entry of
        some forty Ops for every pair of its widths and every kernel, more than a hundred thousand in all.
        """
        spec = self.spec
        mels = Tensor("mels", (spec.mels, spec.frames))

        def start(choices: Choices, read: Read) -> tuple[Op, ...]:
            del read
            return temporal_conv_ops("stem", mels, self._stem(choices))

        def aggregate(choices: Choices, read: Read) -> tuple[Op, ...]:
            shape = (integer(choices, "width"), spec.frames)
            outputs = tuple(read(shape, f"blocks.{index}") for index in range(integer(choices, "depth")))
            joined = make_op("joined", "concat", outputs)
            ops = (joined,) if len(outputs) > 1 else ()
            source = joined.output if ops else joined.inputs[0]
            conv = make_op("aggregate", "conv1d", source, out_channels=integer(choices, "features"), kernel=1)
            return (*ops, conv, make_op("activation", "activation", conv.output, function="relu"))

        def end(choices: Choices, read: Read) -> tuple[Op, ...]:
            ops = attentive_statistics_ops("pool", read((integer(choices, "features"), spec.frames)), spec.squeezed)
            norm = make_op("norm", "batch_norm", ops[-1].output)
            embedding = make_op("embedding", "linear", norm.output, out_features=spec.embedding)
            return (*ops, norm, embedding, make_op("embedding_norm", "batch_norm", embedding.output))

        return (
            Step(name="stem", genes=("width", "kernel"), build=start),
            *(step for index in range(max(spec.depths)) for step in self._block_steps(index)),
            Step(name="aggregate", genes=("width", "depth", "features"), build=aggregate),
            Step(name="embedding", genes=("features",), build=end),
        )

    def _block_steps(self, index: int) -> tuple[Step, ...]:
        """The sum of all that was written before, the block's pieces, and the addition of that sum."""
        path, frames, largest = f"blocks.{index}", self.spec.frames, self.largest_choices()

        def block(choices: Choices) -> SERes2Spec:
            """Its spec, with the largest value of what a piece does not depend on."""
            return self._block({**largest, **choices}, index)

        def total(choices: Choices, read: Read) -> tuple[Op, ...]:
            shape = (integer(choices, "width"), frames)
            before = read(shape, _total(index - 1)), read(shape, _output(index - 1))
            return (make_op(_total(index), "add", before),)

        def reduce(choices: Choices, read: Read) -> tuple[Op, ...]:
            spec = block(choices)
            return temporal_conv_ops(f"{path}.reduce", read((spec.channels, frames), _output(index - 1)), spec.reduce)

        def groups(choices: Choices, read: Read) -> tuple[Op, ...]:
            spec = block(choices)
            return res2_ops(path, read((spec.hidden, frames)), spec)

        def expand(choices: Choices, read: Read) -> tuple[Op, ...]:
            spec = block(choices)
            return temporal_conv_ops(f"{path}.expand", read((spec.hidden, frames)), spec.expand)

        def squeeze(choices: Choices, read: Read) -> tuple[Op, ...]:
            spec = block(choices)
            shape = (spec.channels, frames)
            ops = temporal_squeeze_excite_ops(f"{path}.squeeze", read(shape), spec.squeezed)
            return (*ops, make_op(f"{path}.total_add", "add", (ops[-1].output, read(shape, _total(index)))))

        steps = (
            *((Step(name=_total(index), genes=("width",), build=total),) if index else ()),
            Step(name=f"{path}.reduce", genes=("width", f"{path}.hidden"), build=reduce),
            Step(name=f"{path}.groups", genes=(f"{path}.kernel", f"{path}.hidden"), build=groups),
            Step(name=f"{path}.expand", genes=("width", f"{path}.hidden"), build=expand),
            Step(name=path, genes=("width",), build=squeeze),
        )
        always = index < min(self.spec.depths)
        return steps if always else tuple(_where_deep(step, index) for step in steps)

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


def _output(index: int) -> str:
    """The step that writes the output of a block; before the first stands the stem."""
    return f"blocks.{index}" if index >= 0 else "stem"


def _total(index: int) -> str:
    """The step that writes the sum of all that was written before a block."""
    return f"totals.{index}" if index else "stem"


def _where_deep(step: Step, index: int) -> Step:
    """`step`, left out of networks without block `index`."""

    def build(choices: Choices, read: Read) -> tuple[Op, ...]:
        return step.build(choices, read) if integer(choices, "depth") > index else ()

    return Step(name=step.name, genes=("depth", *step.genes), build=build)
