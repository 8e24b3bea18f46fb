"""Multi-head attention (self or cross, grouped key/value heads, causal, rotary or relative positions) and its Ops.

Sources: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762; Ainslie et al., GQA, 2023,
https://arxiv.org/abs/2305.13245 (several query heads share one key/value head).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..op import Op, Tensor, make_op
from .relative import RelativePositions

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
        relative: rows and columns up to which distances of patches are told apart (`relative`), 0 for no distances;
            then the sequence is a class token and a square of patches that attend to themselves.
        bias: whether the linear layers have one.
    """

    width: int
    heads: int
    head_dim: int
    memory_width: int = 0
    queries_per_kv: int = 1
    causal: bool = False
    rotary: float = 0.0
    relative: int = 0
    bias: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.queries_per_kv:
            raise SpaceError(
                f"attention: {self.heads} query heads do not divide into groups of {self.queries_per_kv}; "
                "the number of heads must be a multiple of queries_per_kv."
            )
        if self.relative and (self.memory_width or self.causal or self.rotary or self.queries_per_kv > 1):
            raise SpaceError(
                "attention: relative positions are for patches that attend to themselves; leave out memory_width, "
                "causal, rotary and queries_per_kv, or set relative to 0."
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
        self.relative = RelativePositions(spec.head_dim, spec.relative) if spec.relative else None

    def forward(
        self, x: TorchTensor, memory: TorchTensor | None = None, visible: TorchTensor | None = None
    ) -> TorchTensor:
        """[N, T, width] asks [N, S, memory_width] (None = itself), of which `visible` [N, S] may be seen."""
        asked = x if memory is None else memory
        projected = self.q(x), self.k(asked), self.v(asked)
        return self.out(attend(projected, self.spec, visible, self.relative))


def attend(
    projected: tuple[TorchTensor, TorchTensor, TorchTensor],
    spec: AttentionSpec,
    visible: TorchTensor | None = None,
    relative: RelativePositions | None = None,
) -> TorchTensor:
    """The attention itself, between the linear layers.

    Args:
        projected: queries [N, T, inner], keys and values [N, S, kv_inner].
        spec: heads, order and positions.
        visible: [N, S] bool, positions that may be seen; None = all. Not together with `spec.causal`.
        relative: features of distances, None where `spec` has none; with them, all positions are seen.

    Returns:
        [N, T, inner].
    """
    q, k, v = (part.unflatten(-1, (-1, spec.head_dim)).transpose(1, 2) for part in projected)
    if relative is not None:
        scores = q @ k.transpose(-2, -1) * spec.head_dim**-0.5 + relative.scores(q)
        weights = scores.softmax(dim=-1)
        return (weights @ v + relative.values(weights)).transpose(1, 2).flatten(2)
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
    if spec.relative:
        _check_square(name, x)
        reach = {"features": spec.head_dim, "reach": spec.relative}
        distances = then("relative.scores", "relative_scores", q, scale=spec.head_dim**-0.5, **reach)
        weights = then("softmax", "softmax", then("scores_add", "add", scores, distances))
        distances = then("relative.values", "relative_values", weights, **reach)
        y = then("mixed_add", "add", then("mixed", "matmul", weights, v), distances)
    else:
        y = then("mixed", "matmul", then("softmax", "softmax", scores, causal=spec.causal), v)
    if grouped:
        y = then("ungrouped", "reshape", y, shape=(spec.heads, x.shape[0], spec.head_dim))
    y = then("heads_last", "transpose", y, order=(1, 0, 2))
    y = then("joined", "reshape", y, shape=(x.shape[0], spec.inner))
    then("out", "linear", y, out_features=spec.width, bias=spec.bias)
    return tuple(ops)


def _check_square(name: str, x: Tensor) -> None:
    patches = x.shape[0] - 1
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise SpaceError(
            f"attention {name!r}: relative positions need a class token and a square of patches; got {x.shape[0]} "
            "tokens: use a square image, or set relative to 0."
        )
