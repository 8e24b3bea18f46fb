"""Decoder-only language models: depth, width, heads, grouped key/value heads, feed-forward ratio, activation, gate.

Models of one size can be shaped in many ways (deep or wide, many heads or few, a large or a small feed-forward layer),
and run at very different speeds; this space asks which shape a device likes. Layers normalise first (RMS), positions
are rotary, linear layers have no bias.

Source: Yi et al., PhoneLM, 2024, https://arxiv.org/abs/2411.05046 (search the shape for speed before pre-training);
Touvron et al., LLaMA, 2023, https://arxiv.org/abs/2302.13971 (the form of the layers).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..candidate import Candidate, variations
from ..elastic.attention import ElasticEmbedding, ElasticTransformerLayer, make_elastic_norm
from ..elastic.layers import ElasticLinear
from ..elastic.supernet import Supernet
from ..gene import Gene
from ..layers.attention import AttentionSpec
from ..layers.feed_forward import FeedForwardSpec
from ..layers.materialise import allocate, builder
from ..layers.tokens import TiedLinear
from ..layers.transformer import (
    NormSpec,
    TransformerLayer,
    TransformerLayerSpec,
    attention_sublayer_ops,
    feed_forward_sublayer_ops,
    make_norm,
    norm_op,
)
from ..op import ACTIVATIONS, Op, Tensor, make_op
from .steps import Choices, Read, Step, StepSpace, integer, layer_genes

__all__ = ["PRESETS", "Decoder", "DecoderPlan", "DecoderSpace", "DecoderSpec", "DecoderSupernet"]

NORM: Final = NormSpec(kind="rms_norm", first=True)

SHORT: Final = 16
"""Positions of the sequences that single layers are tried on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """A member of the family.

    Attributes:
        vocabulary: tokens that exist.
        length: positions of a sequence.
        head_dim: features of an attention head, even.
        widths: features of a token, ascending.
        depths: numbers of layers, ascending.
        heads: query heads of a layer, ascending.
        groups: query heads that share a key/value head, ascending; each divides every number of heads.
        ratios: hidden features of a feed-forward layer as multiples of the width, ascending.
        activations: of the feed-forward layers.
        gates: whether these are gated, ascending.
        uniform: all layers make the same choices.
        tied: the embedding's table gives the logits as well.
        rotary: base of the position code.
    """

    vocabulary: int
    length: int
    head_dim: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    groups: tuple[int, ...] = (1, 2, 4)
    ratios: tuple[int | float, ...]
    activations: tuple[str, ...] = ("relu", "gelu", "silu")
    gates: tuple[bool, ...] = (False, True)
    uniform: bool = False
    tied: bool = True
    rotary: float = 10000.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "length", "head_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"decoder: {name} is {value!r}; it must be an integer of at least 1.")
        if self.head_dim % 2:
            raise SpaceError(f"decoder: head_dim is {self.head_dim}; rotary positions need an even number.")
        if bad := [(heads, group) for heads in self.heads for group in self.groups if heads % group]:
            raise SpaceError(f"decoder: heads {bad[0][0]} do not divide into groups of {bad[0][1]}; each group must.")
        if unknown := sorted(set(self.activations) - ACTIVATIONS):
            raise SpaceError(f"decoder: activations {unknown} are unknown; allowed: {', '.join(sorted(ACTIVATIONS))}.")


PRESETS: Final[Mapping[str, DecoderSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": DecoderSpec(
        vocabulary=50, length=12, head_dim=4, widths=(8, 16), depths=(1, 2), heads=(2, 4), groups=(1, 2),
        ratios=(1.5, 3), activations=("relu", "silu"),
    ),
    # Ten to ninety million parameters: trained in hours on one GPU.
    "small": DecoderSpec(
        vocabulary=32000, length=512, head_dim=64, widths=(256, 384, 512, 640), depths=(4, 6, 8, 10, 12),
        heads=(4, 8, 12), ratios=(2, 3, 4),
    ),
    # A tenth of a billion to 1.3 billion parameters, one shape for all layers: the question that PhoneLM asks.
    "phone": DecoderSpec(
        vocabulary=49152, length=256, head_dim=64, widths=(768, 896, 1024, 1152, 1280, 1536),
        depths=(12, 16, 20, 24, 28, 32), heads=(8, 12, 16, 20), groups=(1, 2, 4), ratios=(2, 2.5, 3, 4, 4.75),
        activations=("relu", "silu"), uniform=True,
    ),
})  # fmt: skip
"""The family's presets, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderPlan:
    """One architecture as the specs of its layers."""

    width: int
    layers: tuple[TransformerLayerSpec, ...]


class Decoder(nn.Module):
    """The standalone network of a plan: `embedding`, `layers.<i>`, `norm`, `head`."""

    def __init__(self, spec: DecoderSpec, plan: DecoderPlan) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocabulary, plan.width)
        self.layers = nn.ModuleList(TransformerLayer(layer) for layer in plan.layers)
        self.norm = make_norm(NORM.kind, plan.width)
        self.head = TiedLinear() if spec.tied else nn.Linear(plan.width, spec.vocabulary, bias=False)

    def forward(self, tokens: TorchTensor) -> TorchTensor:
        """[N, T] int64 -> [N, T, vocabulary] logits of the next token; a position sees itself and earlier ones."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.head(x, self.embedding.weight) if isinstance(self.head, TiedLinear) else self.head(x)


class DecoderSupernet(Supernet):
    """The family's supernet: same module paths as `Decoder`, every layer as large as any choice needs."""

    def __init__(self, space: DecoderSpace) -> None:
        super().__init__()
        self.space = space
        spec, largest = space.spec, space.largest_plan()
        self.embedding = ElasticEmbedding(spec.vocabulary, largest.width)
        self.layers = nn.ModuleList(ElasticTransformerLayer(layer) for layer in largest.layers)
        self.norm = make_elastic_norm(NORM.kind, largest.width)
        self.head = TiedLinear() if spec.tied else ElasticLinear(largest.width, spec.vocabulary, bias=False)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, T] int64 -> [N, T, vocabulary] logits of the next token."""
        plan = self.space.plan(self.space.choices(architecture))
        x = self.embedding(x, plan.width)
        for layer, spec in zip(self.layers, plan.layers, strict=False):  # depth: the first layers run
            x = layer(x, spec)
        x = self.norm(x)
        return self.head(x, self.embedding.table(plan.width)) if isinstance(self.head, TiedLinear) else self.head(x)

    def blank_network(self, architecture: Architecture) -> Decoder:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class DecoderSpace(StepSpace):
    """All networks of one `DecoderSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> DecoderSpace(PRESETS["tiny"], preset="tiny").size
    576
    """

    def __init__(self, spec: DecoderSpec, *, preset: str = "") -> None:
        self.spec = spec
        shape = (("heads", spec.heads), ("queries_per_kv", spec.groups), ("ratio", spec.ratios))
        if spec.uniform:
            layers = [Gene(name, values, kind="ordered", default=len(values) - 1) for name, values in shape]
        else:
            layers = layer_genes("depth", spec.depths, "layers", shape)
        genes = [
            Gene("width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            Gene("depth", spec.depths, kind="ordered", default=len(spec.depths) - 1),
            Gene("activation", spec.activations),
            Gene("gated", spec.gates, kind="ordered", default=len(spec.gates) - 1),
            *layers,
        ]
        super().__init__(spec, genes, name="decoder", preset=preset, options=("vocabulary", "length"))

    def plan(self, choices: Choices) -> DecoderPlan:
        """The specs of the layers of these choices."""
        layers = tuple(
            TransformerLayerSpec(
                attention=self._attention(choices, index), feed_forward=self._feed_forward(choices, index), norm=NORM
            )
            for index in range(integer(choices, "depth"))
        )
        return DecoderPlan(width=integer(choices, "width"), layers=layers)

    def largest_plan(self) -> DecoderPlan:
        """The specs of the largest layers; every choice fits into them."""
        shared = {gene.name: gene.values[0] for gene in self.genes if gene.name.endswith("queries_per_kv")}
        return self.plan({**self.largest_choices(), **shared})  # few queries per key/value head: many such heads

    def _gene(self, index: int, name: str) -> str:
        """The name of a gene of layer `index`."""
        return name if self.spec.uniform else f"layers.{index}.{name}"

    def _attention(self, choices: Choices, index: int) -> AttentionSpec:
        return AttentionSpec(
            width=integer(choices, "width"),
            heads=integer(choices, self._gene(index, "heads")),
            head_dim=self.spec.head_dim,
            queries_per_kv=integer(choices, self._gene(index, "queries_per_kv")),
            causal=True,
            rotary=self.spec.rotary,
            bias=False,
        )

    def _feed_forward(self, choices: Choices, index: int) -> FeedForwardSpec:
        width = integer(choices, "width")
        return FeedForwardSpec(
            width=width,
            hidden=int(width * cast(float, choices[self._gene(index, "ratio")])),
            activation=str(choices["activation"]),
            gated=bool(choices["gated"]),
            bias=False,
        )

    def steps(self) -> tuple[Step, ...]:
        """The embedding, both halves of every layer that may exist, and the logits."""
        spec = self.spec
        tokens = Tensor("tokens", (spec.length,), "int64")

        def start(choices: Choices, read: Read) -> tuple[Op, ...]:
            del read
            width = integer(choices, "width")
            return (make_op("embedding", "embedding", tokens, vocabulary=spec.vocabulary, features=width),)

        def end(choices: Choices, read: Read) -> tuple[Op, ...]:
            norm = norm_op("norm", read((spec.length, integer(choices, "width"))), NORM.kind)
            tied = "embedding" if spec.tied else ""
            head = make_op("head", "linear", norm.output, out_features=spec.vocabulary, bias=False, tied=tied)
            return norm, head

        layers = (step for index in range(max(spec.depths)) for step in self._layer_steps(index))
        return (
            Step(name="embedding", genes=("width",), build=start),
            *layers,
            Step(name="head", genes=("width",), build=end),
        )

    def _layer_steps(self, index: int) -> tuple[Step, Step]:
        path = f"layers.{index}"
        always = ("width", "depth")

        def attention(choices: Choices, read: Read) -> tuple[Op, ...]:
            if integer(choices, "depth") <= index:
                return ()
            half = self._attention(choices, index)
            return attention_sublayer_ops(path, read((self.spec.length, half.width)), half, NORM)

        def feed_forward(choices: Choices, read: Read) -> tuple[Op, ...]:
            if integer(choices, "depth") <= index:
                return ()
            half = self._feed_forward(choices, index)
            return feed_forward_sublayer_ops(path, read((self.spec.length, half.width)), half, NORM)

        heads = (self._gene(index, "heads"), self._gene(index, "queries_per_kv"))
        hidden = ("activation", "gated", self._gene(index, "ratio"))
        return (
            Step(name=f"{path}.attention", genes=(*always, *heads), build=attention),
            Step(name=f"{path}.feed_forward", genes=(*always, *hidden), build=feed_forward),
        )

    def blank(self, choices: Choices) -> Decoder:
        """The network of these choices, not yet filled."""
        return Decoder(self.spec, self.plan(choices))

    def blank_supernet(self) -> DecoderSupernet:
        """The supernet, not yet filled."""
        return DecoderSupernet(self)

    def candidates(self) -> tuple[Candidate, ...]:
        """Every layer that a single gene's value makes, at the smallest width and on a short sequence."""
        found = []
        names = [self._gene(0, name) for name in ("heads", "queries_per_kv", "ratio")]
        for gene, value, choices in variations(self.table, ["activation", "gated", *names]):
            (layer, *_) = self.plan({**choices, "width": self.spec.widths[0]}).layers
            choice = gene.kind == "categorical"
            found.append(
                Candidate(
                    place=gene.name,
                    label=str(value) if choice else f"{gene.name.rpartition('.')[2]}={value}",
                    choice=choice,
                    shape=(min(self.spec.length, SHORT), layer.attention.width),
                    build=builder(functools.partial(TransformerLayer, layer)),
                    means="work",
                    key=layer,
                )
            )
        return tuple(found)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One batch of token sequences [batch, length] int64, uniform, always the same."""
        generator = torch.Generator().manual_seed(0)
        return (torch.randint(self.spec.vocabulary, (batch, self.spec.length), generator=generator),)
