"""Elastic attention, feed-forward, norms and the Transformer layer: module paths of `layers/`, choices as its specs.

Fewer heads are the first heads, because heads lie one after the other in the linear layers' outputs; every smaller
width is a prefix. All weights are used as views.

Source: Wang et al., HAT, ACL 2020, https://arxiv.org/abs/2005.14187; Chen et al., AutoFormer, ICCV 2021,
https://arxiv.org/abs/2107.00651 (weight entanglement).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor, nn

from ..layers.activation import make_activation
from ..layers.attention import AttentionSpec, attend
from ..layers.feed_forward import FeedForwardSpec
from ..layers.relative import RelativePositions
from ..layers.transformer import TransformerLayerSpec
from ..onnx_graph import EPSILON
from .layers import ElasticLinear, shared_slice

__all__ = [
    "ElasticAttention",
    "ElasticEmbedding",
    "ElasticFeedForward",
    "ElasticLayerNorm",
    "ElasticPatches",
    "ElasticRMSNorm",
    "ElasticTransformerLayer",
    "make_elastic_norm",
]


class ElasticLayerNorm(nn.LayerNorm):
    """Layer normalisation over as many features as the input has, with the first weights."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """[..., C] -> the same shape."""
        width = input.shape[-1]
        weight, bias = shared_slice(self.weight, (width,)), shared_slice(self.bias, (width,))
        return F.layer_norm(input, (width,), weight, bias, self.eps)


class ElasticRMSNorm(nn.RMSNorm):
    """Root-mean-square normalisation over as many features as the input has, with the first weights."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> the same shape."""
        width = x.shape[-1]
        return F.rms_norm(x, (width,), shared_slice(self.weight, (width,)), self.eps)


def make_elastic_norm(kind: str, width: int) -> nn.Module:
    """An elastic `layer_norm` or `rms_norm`."""
    norm = ElasticLayerNorm if kind == "layer_norm" else ElasticRMSNorm
    return norm(width, eps=EPSILON[kind])


class ElasticEmbedding(nn.Embedding):
    """A table of token features of which the first are used."""

    def forward(  # type: ignore[override]  # takes the choice
        self,
        input: Tensor,  # noqa: A002  # torch's own name
        features: int,
        scale: float = 1.0,
    ) -> Tensor:
        """[N, T] int64 -> [N, T, features], times `scale`."""
        y = F.embedding(input, self.table(features))
        return y if scale == 1.0 else y * scale

    def table(self, features: int) -> Tensor:
        """[vocabulary, features], a view."""
        return shared_slice(self.weight, (self.num_embeddings, features))


class ElasticPatches(nn.Conv2d):
    """A convolution of non-overlapping patches whose output channels are chosen per call."""

    def forward(self, x: Tensor, out_channels: int) -> Tensor:  # type: ignore[override]  # takes the choice
        """[N, C, H, W] -> [N, out_channels, H / patch, W / patch]."""
        assert self.bias is not None
        return F.conv2d(x, self.weight[:out_channels], self.bias[:out_channels], self.stride)


class ElasticAttention(nn.Module):
    """`Attention` with shared weights; `largest` holds the largest value of every size."""

    def __init__(self, largest: AttentionSpec) -> None:
        super().__init__()
        memory = largest.memory_width or largest.width
        self.q = ElasticLinear(largest.width, largest.inner, bias=largest.bias)
        self.k = ElasticLinear(memory, largest.kv_inner, bias=largest.bias)
        self.v = ElasticLinear(memory, largest.kv_inner, bias=largest.bias)
        self.out = ElasticLinear(largest.inner, largest.width, bias=largest.bias)
        self.relative = RelativePositions(largest.head_dim, largest.relative) if largest.relative else None

    def forward(
        self, x: Tensor, spec: AttentionSpec, memory: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """[N, T, spec.width] asks [N, S, spec.memory_width] (None = itself), of which `visible` [N, S] may be seen."""
        asked = x if memory is None else memory
        projected = self.q(x, spec.inner), self.k(asked, spec.kv_inner), self.v(asked, spec.kv_inner)
        return self.out(attend(projected, spec, visible, self.relative), spec.width)


class ElasticFeedForward(nn.Module):
    """`FeedForward` with shared weights; it has a gate if any choice has one."""

    def __init__(self, largest: FeedForwardSpec) -> None:
        super().__init__()
        self.up = ElasticLinear(largest.width, largest.hidden, bias=largest.bias)
        self.gate = ElasticLinear(largest.width, largest.hidden, bias=largest.bias) if largest.gated else None
        self.down = ElasticLinear(largest.hidden, largest.width, bias=largest.bias)

    def forward(self, x: Tensor, spec: FeedForwardSpec) -> Tensor:
        """[..., spec.width] -> the same shape."""
        activation = make_activation(spec.activation)
        y = self.up(x, spec.hidden)
        if spec.gated:
            assert self.gate is not None
            y = activation(self.gate(x, spec.hidden)) * y
        else:
            y = activation(y)
        return self.down(y, spec.width)


class ElasticTransformerLayer(nn.Module):
    """`TransformerLayer` with shared weights."""

    def __init__(self, largest: TransformerLayerSpec) -> None:
        super().__init__()
        kind, width = largest.norm.kind, largest.width
        self.attention_norm = make_elastic_norm(kind, width)
        self.attention = ElasticAttention(largest.attention)
        self.cross_norm = make_elastic_norm(kind, width) if largest.cross else None
        self.cross = ElasticAttention(largest.cross) if largest.cross else None
        self.feed_forward_norm = make_elastic_norm(kind, width)
        self.feed_forward = ElasticFeedForward(largest.feed_forward)

    def forward(
        self, x: Tensor, spec: TransformerLayerSpec, memory: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """[N, T, spec.width] -> the same shape; arguments as in `TransformerLayer`."""
        asked = visible if spec.cross is None else None

        def residual(x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
            return x + sublayer(norm(x)) if spec.norm.first else norm(x + sublayer(x))

        x = residual(x, self.attention_norm, lambda y: self.attention(y, spec.attention, None, asked))
        if self.cross is not None and self.cross_norm is not None:
            cross = self.cross
            x = residual(x, self.cross_norm, lambda y: cross(y, spec.cross, memory, visible))
        return residual(x, self.feed_forward_norm, lambda y: self.feed_forward(y, spec.feed_forward))
