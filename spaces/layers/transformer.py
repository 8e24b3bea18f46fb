"""One Transformer layer (self-attention, optional cross-attention, feed-forward, each with norm and residual).

Vision, language and translation families all use this layer; `TransformerLayerSpec` says which form.
Each sublayer has its own cost twin, because the sublayers depend on different genes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..onnx_graph import EPSILON
from ..op import Op, Tensor, make_op
from .attention import Attention, AttentionSpec, attention_ops
from .feed_forward import FeedForward, FeedForwardSpec, feed_forward_ops

__all__ = [
    "NormSpec",
    "TransformerLayer",
    "TransformerLayerSpec",
    "attention_sublayer_ops",
    "cross_sublayer_ops",
    "feed_forward_sublayer_ops",
    "make_norm",
    "norm_op",
    "transformer_layer_ops",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormSpec:
    """How a Transformer normalises.

    Attributes:
        kind: `layer_norm` or `rms_norm`, as the kinds of Ops.
        first: normalise what a sublayer reads (pre-norm), instead of the sum it leaves (post-norm).
    """

    kind: str = "layer_norm"
    first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerLayerSpec:
    """What a Transformer layer computes; `cross` is None where it reads one sequence only."""

    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    cross: AttentionSpec | None = None
    norm: NormSpec = NormSpec()

    @property
    def width(self) -> int:
        """Features of the sequence."""
        return self.attention.width


def make_norm(kind: str, width: int) -> nn.Module:
    """A `layer_norm` or `rms_norm` over the last axis."""
    norm = nn.LayerNorm if kind == "layer_norm" else nn.RMSNorm
    return norm(width, eps=EPSILON[kind])


class TransformerLayer(nn.Module):
    """A layer of the form that `spec` says."""

    def __init__(self, spec: TransformerLayerSpec) -> None:
        super().__init__()
        self.norm_first = spec.norm.first
        self.attention_norm = make_norm(spec.norm.kind, spec.width)
        self.attention = Attention(spec.attention)
        self.cross_norm = make_norm(spec.norm.kind, spec.width) if spec.cross else None
        self.cross = Attention(spec.cross) if spec.cross else None
        self.feed_forward_norm = make_norm(spec.norm.kind, spec.width)
        self.feed_forward = FeedForward(spec.feed_forward)

    def forward(
        self, x: TorchTensor, memory: TorchTensor | None = None, visible: TorchTensor | None = None
    ) -> TorchTensor:
        """[N, T, width] -> the same shape.

        Args:
            x: the sequence.
            memory: [N, S, cross.memory_width], what cross-attention asks; None without cross-attention.
            visible: [N, S] bool, where `memory` (or `x` without it) holds no padding; None = everywhere.
        """
        asked = visible if self.cross is None else None
        x = self._residual(x, self.attention_norm, lambda y: self.attention(y, None, asked))
        if self.cross is not None and self.cross_norm is not None:
            cross = self.cross
            x = self._residual(x, self.cross_norm, lambda y: cross(y, memory, visible))
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x: TorchTensor, norm: nn.Module, sublayer: Callable[[TorchTensor], TorchTensor]) -> TorchTensor:
        return x + sublayer(norm(x)) if self.norm_first else norm(x + sublayer(x))


def norm_op(name: str, x: Tensor, kind: str) -> Op:
    """The Op of a norm at module path `name`."""
    return make_op(name, kind, x)


def attention_sublayer_ops(name: str, x: Tensor, spec: AttentionSpec, norm: NormSpec) -> tuple[Op, ...]:
    """Self-attention with norm and residual, in the layer at module path `name`; reads `x` (T, width)."""
    return _sublayer(f"{name}.attention", x, norm, lambda path, y: attention_ops(path, y, spec))


def cross_sublayer_ops(
    name: str, sequences: tuple[Tensor, Tensor], spec: AttentionSpec, norm: NormSpec
) -> tuple[Op, ...]:
    """Cross-attention with norm and residual; reads `sequences`: (T, width) and memory (S, memory_width)."""
    x, memory = sequences
    return _sublayer(f"{name}.cross", x, norm, lambda path, y: attention_ops(path, y, spec, memory))


def feed_forward_sublayer_ops(name: str, x: Tensor, spec: FeedForwardSpec, norm: NormSpec) -> tuple[Op, ...]:
    """The feed-forward layer with norm and residual; reads `x` (T, width)."""
    return _sublayer(f"{name}.feed_forward", x, norm, lambda path, y: feed_forward_ops(path, y, spec))


def transformer_layer_ops(name: str, x: Tensor, spec: TransformerLayerSpec) -> tuple[Op, ...]:
    """The Ops of a `TransformerLayer` without cross-attention at module path `name` that reads `x` (T, width)."""
    ops = attention_sublayer_ops(name, x, spec.attention, spec.norm)
    return ops + feed_forward_sublayer_ops(name, ops[-1].output, spec.feed_forward, spec.norm)


def _sublayer(path: str, x: Tensor, norm: NormSpec, body: Callable[[str, Tensor], tuple[Op, ...]]) -> tuple[Op, ...]:
    if norm.first:
        before = norm_op(f"{path}_norm", x, norm.kind)
        ops = (before, *body(path, before.output))
        return (*ops, make_op(f"{path}_add", "add", (x, ops[-1].output)))
    ops = body(path, x)
    total = make_op(f"{path}_add", "add", (x, ops[-1].output))
    return (*ops, total, norm_op(f"{path}_norm", total.output, norm.kind))
