"""HAT: heterogeneous encoder-decoder Transformers for translation, with arbitrary encoder-decoder attention.

Every layer chooses its heads and its feed-forward size, the decoder chooses its depth, and each decoder layer chooses
whether its cross-attention sees the outputs of the last one, two or three encoder layers, put one after the other.

Source: Wang et al., HAT, ACL 2020, https://arxiv.org/abs/2005.14187 (section 2), in the form of its released code: each
sublayer's sum is normalised, positions are sines cut from the table of the largest width, and the target's table of
embeddings gives the logits as well (one table serves both languages where their vocabulary is joined).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ..architecture import Architecture
from ..elastic.attention import ElasticEmbedding, ElasticTransformerLayer
from ..elastic.layers import shared_slice
from ..elastic.supernet import Supernet
from ..gene import Gene, Population
from ..layers.attention import AttentionSpec
from ..layers.feed_forward import FeedForwardSpec
from ..layers.materialise import allocate
from ..layers.tokens import ScaledEmbedding, SinusoidalPosition, TiedEmbedding, TiedLinear
from ..layers.transformer import (
    NormSpec,
    TransformerLayer,
    TransformerLayerSpec,
    attention_sublayer_ops,
    cross_sublayer_ops,
    feed_forward_sublayer_ops,
)
from ..op import Op, Tensor, make_op
from .hat_spec import PRESETS, HatSpec
from .steps import Choices, Read, Step, StepSpace, integer, layer_genes

__all__ = ["FEATURES", "PRESETS", "Hat", "HatPlan", "HatSpace", "HatSpec", "HatSupernet"]

NORM: Final = NormSpec(kind="layer_norm", first=False)

FEATURES: Final = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
"""Names of what `HatSpace.features` gives, as in HAT's latency tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HatPlan:
    """One architecture as the specs of its layers.

    Attributes:
        widths: features of a token in the encoder and in the decoder.
        encoder: its layers.
        decoder: its layers.
        attended: how many of the last encoder layers each decoder layer attends to.
    """

    widths: tuple[int, int]
    encoder: tuple[TransformerLayerSpec, ...]
    decoder: tuple[TransformerLayerSpec, ...]
    attended: tuple[int, ...]


class _Half(nn.Module):
    """Embedding, position and layers of the encoder or the decoder; `columns` of the table of positions."""

    def __init__(self, embedding: nn.Module, layers: list[nn.Module], columns: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.position = SinusoidalPosition(columns)
        self.layers = nn.ModuleList(layers)


def _target_embedding(encoder: _Half, decoder: _Half) -> nn.Embedding:
    """The embedding that owns the target's table: the decoder's, or the encoder's where both languages share one."""
    tied = isinstance(decoder.embedding, TiedEmbedding)
    return cast(nn.Embedding, encoder.embedding if tied else decoder.embedding)


def _encode(
    encoder: _Half, x: TorchTensor, run: Callable[[int, nn.Module, TorchTensor], TorchTensor]
) -> list[TorchTensor]:
    """Outputs of all encoder layers, each [N, S, width]."""
    outputs = []
    for index, layer in enumerate(encoder.layers):
        x = run(index, layer, x)
        outputs.append(x)
    return outputs


def _memory(
    outputs: list[TorchTensor], visible: TorchTensor | None, count: int
) -> tuple[TorchTensor, TorchTensor | None]:
    """The last `count` encoder outputs one after the other, and where they hold no padding."""
    if count == 1:
        return outputs[-1], visible
    return torch.cat(outputs[-count:], dim=1), None if visible is None else visible.repeat(1, count)


class Hat(nn.Module):
    """The standalone network of a plan: `encoder` and `decoder` (`embedding`, `layers.<i>`) and `head`."""

    def __init__(self, spec: HatSpec, plan: HatPlan) -> None:
        super().__init__()
        self.attended = plan.attended
        encoder: list[nn.Module] = [TransformerLayer(layer) for layer in plan.encoder]
        decoder: list[nn.Module] = [TransformerLayer(layer) for layer in plan.decoder]
        source, target = plan.widths
        owned = max(plan.widths) if spec.joined else source
        embedding = ScaledEmbedding(spec.source_vocabulary, source, source**0.5, columns=owned)
        self.encoder = _Half(embedding, encoder, max(spec.widths))
        if spec.joined:
            embedding = TiedEmbedding(target**0.5)
        else:
            embedding = ScaledEmbedding(spec.target_vocabulary, target, target**0.5)
        self.decoder = _Half(embedding, decoder, max(spec.widths))
        self.head = TiedLinear()
        self.width = target

    def forward(self, source: TorchTensor, target: TorchTensor, visible: TorchTensor | None = None) -> TorchTensor:
        """Logits of the next target token at every position.

        Args:
            source: [N, S] int64.
            target: [N, T] int64; a position sees itself and earlier ones.
            visible: [N, S] bool, False where the source is padding; None = nowhere.

        Returns:
            [N, T, target_vocabulary].
        """
        x = self.encoder.position(self.encoder.embedding(source))
        outputs = _encode(self.encoder, x, lambda _, layer, x: layer(x, None, visible))
        table = _target_embedding(self.encoder, self.decoder).weight[:, : self.width]
        tied = isinstance(self.decoder.embedding, TiedEmbedding)
        y = self.decoder.position(self.decoder.embedding(target, *((table,) if tied else ())))
        for layer, count in zip(self.decoder.layers, self.attended, strict=True):
            y = layer(y, *_memory(outputs, visible, count))
        return self.head(y, table)


class HatSupernet(Supernet):
    """The family's supernet (HAT's SuperTransformer): same module paths as `Hat`, every layer at its largest."""

    def __init__(self, space: HatSpace) -> None:
        super().__init__()
        self.space = space
        spec, largest = space.spec, space.plan(space.largest_choices())
        encoder: list[nn.Module] = [ElasticTransformerLayer(layer) for layer in largest.encoder]
        decoder: list[nn.Module] = [ElasticTransformerLayer(layer) for layer in largest.decoder]
        columns = max(spec.widths)
        self.encoder = _Half(ElasticEmbedding(spec.source_vocabulary, columns), encoder, columns)
        embedding = TiedEmbedding() if spec.joined else ElasticEmbedding(spec.target_vocabulary, columns)
        self.decoder = _Half(embedding, decoder, columns)
        self.head = TiedLinear()

    def forward(  # type: ignore[override]  # two inputs
        self,
        source: TorchTensor,
        target: TorchTensor,
        architecture: Architecture,
        visible: TorchTensor | None = None,
    ) -> TorchTensor:
        """[N, S] and [N, T] int64 -> [N, T, target_vocabulary] logits; arguments as in `Hat`."""
        plan, spec = self.space.plan(self.space.choices(architecture)), self.space.spec
        before, after = plan.widths
        x = self.encoder.position(self.encoder.embedding(source, before, before**0.5))
        outputs = _encode(self.encoder, x, lambda index, layer, x: layer(x, plan.encoder[index], None, visible))
        table = shared_slice(_target_embedding(self.encoder, self.decoder).weight, (spec.target_vocabulary, after))
        y = self.decoder.position(F.embedding(target, table) * after**0.5)
        for layer, part, count in zip(self.decoder.layers, plan.decoder, plan.attended, strict=False):  # depth
            y = layer(y, part, *_memory(outputs, visible, count))
        return self.head(y, table)

    def blank_network(self, architecture: Architecture) -> Hat:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class HatSpace(StepSpace):
    """All networks of one `HatSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> HatSpace(PRESETS["wmt"], preset="wmt").size > 10**14
    True
    """

    def __init__(self, spec: HatSpec, *, preset: str = "") -> None:
        self.spec = spec
        shape = (("heads", spec.heads), ("hidden", spec.hidden))
        cross = (("cross_heads", spec.heads), ("attended", spec.attended))
        decoder = layer_genes("decoder.depth", spec.decoder_depths, "decoder.layers", (*shape, *cross))
        genes = [
            Gene("encoder.width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            *layer_genes("", (spec.encoder_depth,), "encoder.layers", shape),
            Gene("decoder.width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            Gene("decoder.depth", spec.decoder_depths, kind="ordered", default=len(spec.decoder_depths) - 1),
            *decoder,
        ]
        options = ("source_vocabulary", "target_vocabulary", "source_length", "target_length")
        super().__init__(spec, genes, name="hat", preset=preset, options=options)

    def plan(self, choices: Choices) -> HatPlan:
        """The specs of the layers of these choices."""
        depth = range(integer(choices, "decoder.depth"))
        return HatPlan(
            widths=(integer(choices, "encoder.width"), integer(choices, "decoder.width")),
            encoder=tuple(self._encoder_layer(choices, index) for index in range(self.spec.encoder_depth)),
            decoder=tuple(
                TransformerLayerSpec(
                    attention=self._attention(choices, f"decoder.layers.{index}"),
                    cross=self._cross(choices, f"decoder.layers.{index}"),
                    feed_forward=self._feed_forward(choices, f"decoder.layers.{index}"),
                    norm=NORM,
                )
                for index in depth
            ),
            attended=tuple(integer(choices, f"decoder.layers.{index}.attended") for index in depth),
        )

    def _encoder_layer(self, choices: Choices, index: int) -> TransformerLayerSpec:
        path = f"encoder.layers.{index}"
        return TransformerLayerSpec(
            attention=self._attention(choices, path), feed_forward=self._feed_forward(choices, path), norm=NORM
        )

    def _attention(self, choices: Choices, path: str) -> AttentionSpec:
        half, heads = path.split(".")[0], integer(choices, f"{path}.heads")
        width = integer(choices, f"{half}.width")
        return AttentionSpec(width=width, heads=heads, head_dim=self.spec.inner // heads, causal=half == "decoder")

    def _cross(self, choices: Choices, path: str) -> AttentionSpec:
        heads = integer(choices, f"{path}.cross_heads")
        return AttentionSpec(
            width=integer(choices, "decoder.width"),
            heads=heads,
            head_dim=self.spec.inner // heads,
            memory_width=integer(choices, "encoder.width"),
        )

    def _feed_forward(self, choices: Choices, path: str) -> FeedForwardSpec:
        width = integer(choices, f"{path.split('.')[0]}.width")
        return FeedForwardSpec(width=width, hidden=integer(choices, f"{path}.hidden"), activation="relu")

    def steps(self) -> tuple[Step, ...]:
        """Both embeddings, the halves of the encoder layers, the thirds of the decoder layers, and the logits."""
        spec = self.spec
        source = Tensor("source", (spec.source_length,), "int64")
        target = Tensor("target", (spec.target_length,), "int64")

        def head(choices: Choices, read: Read) -> tuple[Op, ...]:
            x = read((spec.target_length, integer(choices, "decoder.width")))
            tied = "encoder.embedding" if spec.joined else "decoder.embedding"
            return (make_op("head", "linear", x, out_features=spec.target_vocabulary, bias=False, tied=tied),)

        return (
            self._embedding_step("encoder", source),
            *(step for index in range(spec.encoder_depth) for step in self._self_steps("encoder", index)),
            self._embedding_step("decoder", target),
            *(step for index in range(max(spec.decoder_depths)) for step in self._decoder_steps(index)),
            Step(name="head", genes=("decoder.width",), build=head),
        )

    def _embedding_step(self, half: str, tokens: Tensor) -> Step:
        """Embedding and position. A joined table is the encoder's, and as wide as the wider half."""
        spec, name = self.spec, f"{half}.embedding"
        owner = spec.joined and half == "encoder"
        tied = "encoder.embedding" if spec.joined and not owner else ""
        vocabulary = spec.source_vocabulary if half == "encoder" else spec.target_vocabulary

        def build(choices: Choices, read: Read) -> tuple[Op, ...]:
            del read
            width = integer(choices, f"{half}.width")
            columns = max(width, integer(choices, "decoder.width")) if owner else 0
            embedding = make_op(
                name, "embedding", tokens, vocabulary=vocabulary, features=width, columns=columns, scale=width**0.5,
                tied=tied,
            )  # fmt: skip
            sines = {"function": "sinusoidal", "columns": max(spec.widths)}
            return embedding, make_op(f"{half}.position", "position", embedding.output, **sines)

        genes = ("encoder.width", "decoder.width") if owner else (f"{half}.width",)
        return Step(name=name, genes=genes, build=build)

    def _decoder_steps(self, index: int) -> tuple[Step, ...]:
        attention, feed_forward = self._self_steps("decoder", index)
        return attention, self._cross_step(index), feed_forward

    def _self_steps(self, half: str, index: int) -> tuple[Step, Step]:
        """Self-attention and feed-forward layer."""
        path, spec = f"{half}.layers.{index}", self.spec
        length = spec.source_length if half == "encoder" else spec.target_length
        always = (f"{half}.width", *(("decoder.depth",) if half == "decoder" else ()))

        def attention(choices: Choices, read: Read) -> tuple[Op, ...]:
            if half == "decoder" and integer(choices, "decoder.depth") <= index:
                return ()
            part = self._attention(choices, path)
            return attention_sublayer_ops(path, read((length, part.width)), part, NORM)

        def feed_forward(choices: Choices, read: Read) -> tuple[Op, ...]:
            if half == "decoder" and integer(choices, "decoder.depth") <= index:
                return ()
            part = self._feed_forward(choices, path)
            return feed_forward_sublayer_ops(path, read((length, part.width)), part, NORM)

        return (
            Step(name=f"{path}.attention", genes=(*always, f"{path}.heads"), build=attention),
            Step(name=f"{path}.feed_forward", genes=(*always, f"{path}.hidden"), build=feed_forward),
        )

    def _cross_step(self, index: int) -> Step:
        path, spec = f"decoder.layers.{index}", self.spec

        def build(choices: Choices, read: Read) -> tuple[Op, ...]:
            if integer(choices, "decoder.depth") <= index:
                return ()
            part = self._cross(choices, path)
            last, count = spec.encoder_depth, integer(choices, f"{path}.attended")
            outputs = tuple(
                read((spec.source_length, part.memory_width), f"encoder.layers.{layer}.feed_forward")
                for layer in range(last - count, last)
            )
            joined = (make_op(f"{path}.memory", "concat", outputs),) if count > 1 else ()
            memory = joined[0].output if joined else outputs[0]
            x = read((spec.target_length, part.width))
            return joined + cross_sublayer_ops(path, (x, memory), part, NORM)

        genes = ("encoder.width", "decoder.width", "decoder.depth", f"{path}.cross_heads", f"{path}.attended")
        return Step(name=f"{path}.cross", genes=genes, build=build)

    def features(self, genomes: Population) -> NDArray[np.float64]:
        """The ten features of HAT's latency predictor, in the order of `FEATURES`.

        Args:
            genomes: [B, G] canonical.

        Returns:
            [B, 10] float64; means are over the layers that exist.
        """
        genomes = self.check(genomes)
        values = np.stack(
            [np.asarray(gene.values, dtype=np.float64)[genomes[:, index]] for index, gene in enumerate(self.genes)],
            axis=1,
        )
        active = self.table.active(genomes)

        def mean(half: str, name: str) -> NDArray[np.float64]:
            columns = [
                index
                for index, gene in enumerate(self.table.names)
                if gene.startswith(f"{half}.layers.") and gene.endswith(f".{name}")
            ]
            used = active[:, columns]
            return (values[:, columns] * used).sum(axis=1) / used.sum(axis=1)

        def single(name: str) -> NDArray[np.float64]:
            return values[:, self.table.find(name)]

        parts = (
            single("encoder.width"),
            np.full(len(genomes), float(self.spec.encoder_depth)),
            mean("encoder", "hidden"),
            mean("encoder", "heads"),
            single("decoder.width"),
            single("decoder.depth"),
            mean("decoder", "hidden"),
            mean("decoder", "heads"),
            mean("decoder", "cross_heads"),
            mean("decoder", "attended"),
        )
        return np.stack(parts, axis=1)

    def blank(self, choices: Choices) -> Hat:
        """The network of these choices, not yet filled."""
        return Hat(self.spec, self.plan(choices))

    def blank_supernet(self) -> HatSupernet:
        """The supernet, not yet filled."""
        return HatSupernet(self)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """Source [batch, source_length] and target [batch, target_length] tokens, int64, always the same."""
        generator, spec = torch.Generator().manual_seed(0), self.spec
        source = torch.randint(spec.source_vocabulary, (batch, spec.source_length), generator=generator)
        return source, torch.randint(spec.target_vocabulary, (batch, spec.target_length), generator=generator)
