"""synflow: how much the weights would pass on if every one of them were positive; needs no data.

Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow, NeurIPS 2020,
https://arxiv.org/abs/2006.05467 (section 6).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from .contract import BATCH_NORMS, defined, hooked, restoring, split_weights

__all__ = ["synflow"]

_NORMS: Final = (*BATCH_NORMS, nn.LayerNorm, nn.RMSNorm)


def synflow(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Σ abs(w · ∂R/∂w) over weights w, R the sum of the outputs for an image of ones with abs(w) for w.

    Norms pass on what they read, and all is float64, for R grows with every layer. Only the shape of `inputs` counts.
    """
    state = {
        name: value.detach().abs().double() if value.is_floating_point() else value.detach().clone()
        for name, value in network.state_dict().items()
    }
    weights, fixed = split_weights(network, state)
    ones = torch.ones(1, *inputs.shape[1:], dtype=torch.float64, device=inputs.device)

    def flow(own: dict[str, Tensor]) -> Tensor:
        return functional_call(network, {**fixed, **own}, (ones,)).sum()

    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    with restoring(network), hooked(norm.register_forward_hook(lambda _, given, __: given[0]) for norm in norms):
        network.eval()
        gradients = grad(flow)(weights)
    return defined(sum(float((weights[name] * gradients[name]).abs().sum()) for name in weights))
