"""Multi-head attention (self or cross, grouped key/value heads, causal, rotary positions), and its cost twin.

Sources: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762; Ainslie et al., GQA, 2023,
https://arxiv.org/abs/2305.13245 (several query heads share one key/value head).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..op import Op, Tensor, make_op

__all__ = ["Attention", "AttentionSpec", "attend", "attention_ops", "rotate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """What an attention layer computes; it alone drives the layer, its Ops and its elastic form.

    Attributes:
        width: features of the sequence that asks, and of the result.
        heads: query heads.
        head_dim: features of a head; heads * head_dim need not equal `width`.
        memory_width: features of the sequence that is asked, 0 for the asking sequence itself.
        queries_per_kv: query heads that share a key/value head; divides `heads`.
        causal: a position sees only itself and earlier ones.
        rotary: base of the rotary position code, 0 for none.
        bias: whether the linear layers have one.
    """

    width: int
    heads: int
    head_dim: int
    memory_width: int = 0
    queries_per_kv: int = 1
    causal: bool = False
    rotary: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.queries_per_kv:
            raise SpaceError(
                f"attention: {self.heads} query heads do not divide into groups of {self.queries_per_kv}; "
                "the number of heads must be a multiple of queries_per_kv."
            )

    @property
    def inner(self) -> int:
        """Features of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_heads(self) -> int:
        """Key/value heads."""
        return self.heads // self.queries_per_kv

    @property
    def kv_inner(self) -> int:
        """Features of all key (or value) heads."""
        return self.kv_heads * self.head_dim


class Attention(nn.Module):
    """Attention with the sizes of `spec`: linear layers `q`, `k`, `v` and `out`, heads one after the other."""

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__()
        self.spec = spec
        memory = spec.memory_width or spec.width
        self.q = nn.Linear(spec.width, spec.inner, bias=spec.bias)
        self.k = nn.Linear(memory, spec.kv_inner, bias=spec.bias)
        self.v = nn.Linear(memory, spec.kv_inner, bias=spec.bias)
        self.out = nn.Linear(spec.inner, spec.width, bias=spec.bias)

    def forward(
        self, x: TorchTensor, memory: TorchTensor | None = None, visible: TorchTensor | None = None
    ) -> TorchTensor:
        """[N, T, width] asks [N, S, memory_width] (None = itself), of which `visible` [N, S] may be seen."""
        asked = x if memory is None else memory
        return self.out(attend((self.q(x), self.k(asked), self.v(asked)), self.spec, visible))


def attend(
    projected: tuple[TorchTensor, TorchTensor, TorchTensor], spec: AttentionSpec, visible: TorchTensor | None = None
) -> TorchTensor:
    """The attention itself, between the linear layers.

    Args:
        projected: queries [N, T, inner], keys and values [N, S, kv_inner].
        spec: heads, order and positions.
        visible: [N, S] bool, positions that may be seen; None = all. Not together with `spec.causal`.

    Returns:
        [N, T, inner].
    """
    q, k, v = (part.unflatten(-1, (-1, spec.head_dim)).transpose(1, 2) for part in projected)
    if spec.rotary:
        q, k = rotate(q, spec.rotary), rotate(k, spec.rotary)
    mask = None if visible is None else visible[:, None, None]
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=spec.causal, enable_gqa=spec.queries_per_kv > 1
    )
    return y.transpose(1, 2).flatten(2)


def rotate(x: TorchTensor, base: float) -> TorchTensor:
    """Turn the feature pairs of [..., T, head_dim] by angles that grow with the position."""
    length, features = x.shape[-2:]
    exponents = torch.arange(features // 2, device=x.device, dtype=torch.float32) * (-2.0 / features)
    angles = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * base**exponents
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cosine - right * sine, right * cosine + left * sine), dim=-1)


def attention_ops(name: str, x: Tensor, spec: AttentionSpec, memory: Tensor | None = None) -> tuple[Op, ...]:
    """The Ops of an `Attention` at module path `name` that reads `x` (T, width), and `memory` (S, memory_width)."""
    asked = x if memory is None else memory
    ops: list[Op] = []

    def then(part: str, kind: str, *inputs: Tensor, **attributes: int | float | bool | tuple[int, ...]) -> Tensor:
        ops.append(make_op(f"{name}.{part}", kind, inputs, **attributes))
        return ops[-1].output

    def split(part: str, source: Tensor, heads: int) -> Tensor:
        """(S, heads * head_dim) -> (heads, S, head_dim), turned to its positions."""
        y = then(part, "linear", source, out_features=heads * spec.head_dim, bias=spec.bias)
        y = then(f"{part}_heads", "reshape", y, shape=(source.shape[0], heads, spec.head_dim))
        y = then(f"{part}_first", "transpose", y, order=(1, 0, 2))
        return then(f"{part}_rotary", "rotary", y, base=spec.rotary) if spec.rotary and part != "v" else y

    q, k, v = split("q", x, spec.heads), split("k", asked, spec.kv_heads), split("v", asked, spec.kv_heads)
    if grouped := spec.queries_per_kv > 1:
        # One key/value head broadcasts over its group of query heads.
        q = then("q_groups", "reshape", q, shape=(spec.kv_heads, spec.queries_per_kv, *q.shape[1:]))
        k, v = (
            then(f"{part}_groups", "reshape", y, shape=(spec.kv_heads, 1, *y.shape[1:]))
            for part, y in zip("kv", (k, v), strict=True)
        )
    scores = then("scores", "matmul", q, k, transpose_b=True, scale=spec.head_dim**-0.5)
    y = then("mixed", "matmul", then("softmax", "softmax", scores, causal=spec.causal), v)
    if grouped:
        y = then("ungrouped", "reshape", y, shape=(spec.heads, x.shape[0], spec.head_dim))
    y = then("heads_last", "transpose", y, order=(1, 0, 2))
    y = then("joined", "reshape", y, shape=(x.shape[0], spec.inner))
    then("out", "linear", y, out_features=spec.width, bias=spec.bias)
    return tuple(ops)
