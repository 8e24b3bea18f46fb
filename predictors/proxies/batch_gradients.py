"""Proxies read from the gradient of the batch's loss: grad_norm, snip, grasp and fisher.

Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, https://arxiv.org/abs/2101.08134, and
https://github.com/SamsungLabs/zero-cost-nas; Lee et al., SNIP, ICLR 2019, https://arxiv.org/abs/1810.02340; Wang et
al., GraSP, ICLR 2020, https://arxiv.org/abs/2002.07376; Turner et al., BlockSwap, ICLR 2020,
https://arxiv.org/abs/1906.04113 (fisher).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, relu6

from .contract import LAYERS, batch_mode, defined, hooked, weight_names

__all__ = ["fisher", "grad_norm", "grasp", "snip"]


def grad_norm(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum over layers of the Euclidean norm of the loss's gradient with respect to the layer's weights."""
    with batch_mode(network):
        gradients = _gradients(_loss(network, inputs, labels), _weights(network))
    return defined(sum(float(gradient.norm()) for gradient in gradients))


def snip(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum of abs(w · ∂L/∂w) over weights w: how much the loss notices each weight's removal, to first order."""
    with batch_mode(network):
        weights = _weights(network)
        gradients = _gradients(_loss(network, inputs, labels), weights)
    return defined(sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True)))


def grasp(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum of -w · (H g) over weights w, for gradient g and Hessian H: what the weights add to the gradient flow.

    Logits are not divided by a temperature, as in the proxies' published code; the sign matters.
    """
    with batch_mode(network), _twice_differentiable(network):
        weights = _weights(network)
        gradients = _gradients(_loss(network, inputs, labels), weights, create_graph=True)
        flow = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
        curved = _gradients(flow, weights)  # H g
    return defined(sum(-float((w.detach() * h).sum()) for w, h in zip(weights, curved, strict=True)))


def fisher(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum over channels c of mean over samples n of ½ · (Σ over positions of a · ∂L/∂a)², a the layers' outputs."""
    with batch_mode(network), _outputs(network) as outputs:
        gradients = _gradients(_loss(network, inputs, labels), [output for _, output in outputs])
    saliencies = [
        (_by_channel(layer, output.detach() * gradient) ** 2).mean(dim=0).sum() / 2
        for (layer, output), gradient in zip(outputs, gradients, strict=True)
    ]
    return defined(sum(float(saliency) for saliency in saliencies))


def _loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(inputs), labels)


def _weights(network: nn.Module) -> list[nn.Parameter]:
    return [network.get_parameter(name) for name in weight_names(network)]


def _gradients(of: Tensor, by: list[nn.Parameter] | list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """The gradients of `of`; zeros for what does not reach it."""
    if not of.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in by)
    return torch.autograd.grad(of, by, create_graph=create_graph, allow_unused=True, materialize_grads=True)


@contextmanager
def _outputs(network: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """The outputs of convolutions and linear layers inside, in the order they run."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append((layer, output))
        return output.clone()  # what follows may write in place

    with hooked(module.register_forward_hook(note) for module in network.modules() if isinstance(module, LAYERS)):
        yield seen


@contextmanager
def _twice_differentiable(network: nn.Module) -> Iterator[None]:
    """Inside, layers that torch differentiates only once are computed by their definition."""

    def by_definition(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> Tensor:
        return relu6(given[0] + 3) / 6

    gates = [module for module in network.modules() if isinstance(module, nn.Hardsigmoid)]
    with hooked(gate.register_forward_hook(by_definition) for gate in gates), sdpa_kernel(SDPBackend.MATH):
        yield


def _by_channel(layer: nn.Module, values: Tensor) -> Tensor:
    """[N, C] sums over positions of [N, C, ...] after a convolution and of [N, ..., C] after a linear layer."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return values.movedim(axis, 1).reshape(len(values), values.shape[axis], -1).sum(dim=2)
