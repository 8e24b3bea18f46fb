"""Proxies read from activations: naswot, from which units are on; and zen, from how far an input's noise is carried.

Source: Mellor et al., Neural Architecture Search without Training, ICML 2021, https://arxiv.org/abs/2006.04647
(section 3); Lin et al., Zen-NAS, ICCV 2021, https://arxiv.org/abs/2102.01063 (algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...spaces.layers.pool import GlobalAvgPool
from .contract import BATCH_NORMS, UNDEFINED, batch_mode, defined, frozen_state, hooked, restoring, weight_names

__all__ = ["activation_kernel", "naswot", "zen"]

_UNITS: Final = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)
"""Activations that are near zero on one side; a unit is on where its input is positive."""

ZEN_REPEATS: Final = 4
"""Draws of weights and inputs."""

ZEN_SAMPLES: Final = 16
"""Samples per draw, at most."""

ZEN_NOISE: Final = 0.01
"""Share of a second random image that is mixed into the first."""


def naswot(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Score ln det K, K[i, j] the number of units alike for samples i and j; undefined where K is singular."""
    sign, logarithm = torch.linalg.slogdet(activation_kernel(network, inputs))
    return defined(logarithm) if sign > 0 else UNDEFINED


@torch.no_grad()
def activation_kernel(network: nn.Module, inputs: Tensor) -> Tensor:
    """[N, N] float64 number of units that are on for both samples or off for both."""
    kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        code = (given[0].flatten(1) > 0).float()
        # float32 counts exactly up to 2^24 units per layer.
        kernel.add_((code @ code.T + (1 - code) @ (1 - code).T).double().to(kernel.device))

    state = frozen_state(network, inputs)
    with restoring(network), hooked([m.register_forward_pre_hook(count) for m in _of(network, _UNITS)]):
        network.eval()
        functional_call(network, state, (inputs,))
    return kernel


@torch.no_grad()
def zen(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Score ln E‖f(x) - f(x + 0.01 x')‖₁ + Σ over norms of ln √(mean variance), f the features, x and x' random.

    Only the shape of `inputs` counts; weights are drawn from N(0, 1), repeatably. The features are what the last
    `GlobalAvgPool` reads, or the logits where there is none. Residual links, which the published code removes from its
    own networks, stay: they are part of ours.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (min(len(inputs), ZEN_SAMPLES), *inputs.shape[1:])
    drawn = set(weight_names(network))
    scores = []
    for _ in range(ZEN_REPEATS):
        state = {
            name: _normal(value.shape, generator).to(value) if name in drawn else value.clone()
            for name, value in network.state_dict().items()
        }
        x = _normal(shape, generator).to(inputs)
        noisy = x + ZEN_NOISE * _normal(shape, generator).to(inputs)
        with batch_mode(network):
            clean, variances = _features(network, state, x)
            moved, _unused = _features(network, state, noisy)
        distance = float((clean - moved).abs().flatten(1).sum(dim=1).mean())
        scores.append(sum(map(_log, [distance, *(math.sqrt(variance) for variance in variances)])))
    return defined(sum(scores) / len(scores))


def _features(network: nn.Module, state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, list[float]]:
    """What the last pooling reads, and for every batch norm the mean over channels of the variance it removes."""
    read: list[Tensor] = []
    variances: list[float] = []

    def variance(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        axes = [axis for axis in range(given[0].ndim) if axis != 1]
        variances.append(float(given[0].var(dim=axes).mean()))

    hooks = [module.register_forward_pre_hook(variance) for module in _of(network, BATCH_NORMS)]
    hooks += [m.register_forward_pre_hook(lambda _, given: read.append(given[0])) for m in _of(network, GlobalAvgPool)]
    with hooked(hooks):
        logits = functional_call(network, state, (x,))
    return (read[-1] if read else logits), variances


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _of(network: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kinds)]
