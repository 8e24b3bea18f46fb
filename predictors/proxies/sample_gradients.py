"""Proxies read from the gradients of single samples: gradsign, jacov and ntk.

Samples are independent, once norms are frozen or use one sample alone: `torch.func.vmap` then computes their gradients
together, as many at a time as `GRADIENT_ELEMENTS` allows.

Notation: N samples, P weights, D numbers per input.

Source: Zhang and Jia, GradSign, ICLR 2022, https://arxiv.org/abs/2110.08616 (equation 11); Mellor et al., Neural
Architecture Search without Training, version 1 of https://arxiv.org/abs/2006.04647 (jacov); Chen et al., TE-NAS, ICLR
2021, https://arxiv.org/abs/2102.11535 (section 3.1.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import batch_norm, cross_entropy

from .contract import BATCH_NORMS, UNDEFINED, defined, frozen_state, hooked, restoring, split_weights

__all__ = ["gradsign", "jacov", "ntk", "sample_gradients"]

GRADIENT_ELEMENTS: Final = 1 << 25
"""Gradient elements held at a time: 128 MiB of float32."""

JACOBIAN_OFFSET: Final = 1e-5
"""k of jacov, which keeps a zero eigenvalue from being infinitely bad."""

_Readout = Callable[[Tensor, Tensor], Tensor]
"""(logits [1, classes], label [1]) -> the scalar whose gradient is asked for."""


def sample_gradients(
    network: nn.Module, inputs: Tensor, labels: Tensor, readout: _Readout = cross_entropy, *, alone: bool = False
) -> Iterator[Tensor]:
    """The gradients of every sample's `readout` with respect to the weights, in pieces of consecutive samples.

    Args:
        network: freshly initialised.
        inputs: [N, ...].
        labels: [N] int64.
        readout: of one sample's logits and label.
        alone: whether batch norms use the sample's own statistics, where it has several positions to take them from;
            otherwise those of all of `inputs`.

    Yields:
        [n, P] float32, together [N, P] in the order of `weight_names`.
    """
    weights, fixed = split_weights(network, frozen_state(network, inputs))

    def scalar(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return readout(functional_call(network, {**fixed, **own}, (x[None],)), y[None])

    together = vmap(grad(scalar), in_dims=(None, 0, 0))
    count = sum(weight.numel() for weight in weights.values())
    size = max(1, GRADIENT_ELEMENTS // max(count, 1))
    norms = [module for module in network.modules() if alone and isinstance(module, BATCH_NORMS)]
    with (
        restoring(network),
        sdpa_kernel(SDPBackend.MATH),  # the form of attention that vectorises
        hooked(norm.register_forward_hook(_by_own_statistics) for norm in norms),
    ):
        network.eval()
        for x, y in zip(inputs.split(size), labels.split(size), strict=True):
            gradients = together(weights, x, y)
            yield torch.cat([gradient.flatten(1) for gradient in gradients.values()], dim=1)


def _by_own_statistics(norm: nn.Module, given: tuple[Tensor, ...], frozen: Tensor) -> Tensor:
    """What a batch norm makes of one sample [1, C, ...] in training; `frozen` where each channel is a single number."""
    assert isinstance(norm, BATCH_NORMS)
    if math.prod(given[0].shape[2:]) < 2:
        return frozen
    return batch_norm(given[0], None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def gradsign(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Σ over weights of abs(Σ over samples of sign(∂L_i/∂w)): how far the samples agree where to go.

    Every sample goes through alone, so that L_i does not depend on the others.
    """
    total: Tensor | float = 0.0
    for gradients in sample_gradients(network, inputs, labels, alone=True):
        total = total + gradients.nan_to_num(0.0).sign().sum(dim=0)
    return defined(torch.as_tensor(total).abs().sum())


def jacov(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """-Σ (ln(v + k) + 1 / (v + k)), v the eigenvalues of the correlations of the samples' input Jacobians.

    A Jacobian is that of the sum of the logits. Undefined where one is constant, as in a cell without a path.
    """
    state = frozen_state(network, inputs)
    x = inputs.detach().clone().requires_grad_()
    with restoring(network):
        network.eval()
        jacobians = torch.autograd.grad(functional_call(network, state, (x,)).sum(), x)[0]
    rows = jacobians.flatten(1).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    if not torch.isfinite(norms).all() or (norms == 0).any():
        return UNDEFINED
    rows = rows / norms
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0.0) + JACOBIAN_OFFSET
    return defined(-(eigenvalues.log() + 1 / eigenvalues).sum())


def ntk(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """-ln κ, κ the condition number of the neural tangent kernel of the samples; undefined where it is singular."""
    kernel = tangent_kernel(network, inputs, labels)
    if not torch.isfinite(kernel).all():
        return UNDEFINED
    eigenvalues = torch.linalg.eigvalsh(kernel)
    # Gradients are float32: what lies below their rounding is zero.
    if eigenvalues[0] <= eigenvalues[-1] * len(inputs) * torch.finfo(torch.float32).eps:
        return UNDEFINED
    return defined((eigenvalues[0] / eigenvalues[-1]).log())


def tangent_kernel(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """[N, N] float64 inner products of the gradients of the samples' summed logits with respect to the weights."""
    pieces = list(sample_gradients(network, inputs, labels, lambda logits, _: logits.sum()))
    return torch.cat([torch.cat([(a.double() @ b.double().T) for b in pieces], dim=1) for a in pieces])
