"""The second-order gradient: how choices change the loss through the weights that they lead to.

Notation: w, weights; a, choices; L_t, training loss; L_v, loss on the samples of the choices; r, learning rate;
w' = w - r (momentum * buffer + dL_t/dw + decay * w), the weights one step ahead. Then

    dL_v(w', a)/da = grad_a L_v(w', a) - r grad_a (d_w L_t(w, a) . v),    v = grad_w' L_v(w', a),

where the second term is a central difference of grad_a L_t along v.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055, equations 7 and 8, and
https://github.com/quark0/darts, cnn/architect.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["Ahead", "unrolled_gradient"]

REACH: Final = 0.01
"""Length of the central difference's half step, all weights together."""

Loss = Callable[[], Tensor]
"""A scalar loss at the present values of weights and choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The step that weights are about to take.

    Attributes:
        rate: learning rate; 0 gives the first-order gradient.
        momentum: factor of the buffers.
        decay: weight decay, of each weight.
        buffers: momentum of each weight; None where there is none yet.
    """

    rate: float
    momentum: float = 0.0
    decay: Sequence[float] = ()
    buffers: Sequence[Tensor | None] = ()


def unrolled_gradient(
    train: Loss, valid: Loss, *, weights: Sequence[Tensor], choices: Sequence[Tensor], ahead: Ahead
) -> tuple[Tensor, list[Tensor]]:
    """The loss on the choices' samples one step ahead, and its gradient with respect to the choices.

    Weights are changed on the way and restored to the bit.

    Args:
        train: L_t.
        valid: L_v.
        weights: leaves that require gradients.
        choices: leaves that require gradients.
        ahead: the step.
    """
    kept = [weight.detach().clone() for weight in weights]
    try:
        if ahead.rate:
            _step(weights, _gradients(train(), weights), ahead)
        loss = valid()
        both = _gradients(loss, [*weights, *choices])
        direction, gradient = both[: len(weights)], both[len(weights) :]
        length = float(torch.sqrt(torch.stack([part.square().sum() for part in direction]).sum()))
        if ahead.rate and length > 0:
            reach = REACH / length
            plus = _gradients_at(train, choices, _moved(kept, direction, reach), weights)
            minus = _gradients_at(train, choices, _moved(kept, direction, -reach), weights)
            gradient = [
                part - ahead.rate * (up - down) / (2 * reach)
                for part, up, down in zip(gradient, plus, minus, strict=True)
            ]
    finally:
        _set(weights, kept)
    return loss.detach(), gradient


def _gradients(loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients, 0 where a leaf has no part in the loss."""
    found = torch.autograd.grad(loss, list(leaves), allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, found, strict=True)]


def _gradients_at(
    loss: Loss, leaves: Sequence[Tensor], values: list[Tensor], weights: Sequence[Tensor]
) -> list[Tensor]:
    _set(weights, values)
    return _gradients(loss(), leaves)


@torch.no_grad()
def _step(weights: Sequence[Tensor], gradients: Sequence[Tensor], ahead: Ahead) -> None:
    decay = ahead.decay or [0.0] * len(weights)
    buffers = ahead.buffers or [None] * len(weights)
    for weight, gradient, share, buffer in zip(weights, gradients, decay, buffers, strict=True):
        move = gradient + share * weight
        if buffer is not None:
            move = move + ahead.momentum * buffer
        weight.sub_(ahead.rate * move)


def _moved(values: Sequence[Tensor], direction: Sequence[Tensor], reach: float) -> list[Tensor]:
    return [value + reach * part for value, part in zip(values, direction, strict=True)]


@torch.no_grad()
def _set(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
