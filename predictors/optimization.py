"""Optimisers and learning-rate schedules that supernet and standalone training share.

Source: Loshchilov and Hutter, SGDR, ICLR 2017, https://arxiv.org/abs/1608.03983 (cosine); Hundt et al., sharpDARTS,
2019, https://arxiv.org/abs/1903.09900 (cosine power annealing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "accuracy",
    "channels_last",
    "learning_rate",
    "make_optimizer",
    "pick_device",
    "set_learning_rate",
]

OPTIMIZERS: Final = ("adamw", "rmsprop", "sgd")
"""`sgd` has Nesterov momentum 0.9, `rmsprop` momentum 0.9."""


def make_optimizer(
    module: nn.Module, name: str, *, weight_decay: float, decay_norms: bool = False
) -> torch.optim.Optimizer:
    """An optimiser over all parameters that are learned.

    Args:
        module: has the parameters.
        name: one of `OPTIMIZERS`.
        weight_decay: of weights; of biases and norms too where `decay_norms`.
        decay_norms: whether biases and norms decay.
    """
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in learned if decay_norms or parameter.ndim > 1]
    plain = [parameter for parameter in learned if not decay_norms and parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=0.0, alpha=0.9, eps=1e-3, momentum=0.9)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    raise ConfigError("optimizer", name, ", ".join(OPTIMIZERS))


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_power(progress: float) -> float:
    """Between an exponential and a cosine: the powers of 10 of a cosine, scaled to run from 1 to 0."""
    return (10.0 ** _cosine(progress) - 1.0) / 9.0


def _steps(progress: float) -> float:
    return 0.1 ** ((progress > 0.5) + (progress > 0.75))


SCHEDULES: Final[Mapping[str, Callable[[float], float]]] = MappingProxyType(
    {
        "constant": lambda _: 1.0,
        "cosine": _cosine,
        "cosine_power": _cosine_power,
        "linear": lambda progress: 1.0 - progress,
        "step": _steps,
    }
)
"""Share of the peak learning rate by the progress in (0, 1] since the warm-up; `step` takes a tenth after a half and
after three quarters."""


def learning_rate(step: int, steps: int, peak: float, warmup: float, *, schedule: str = "cosine") -> float:
    """Linear warm-up over the share `warmup` of all steps, then one of `SCHEDULES` until the last.

    >>> [round(learning_rate(step, 4, 1.0, 0.25), 3) for step in range(4)]
    [1.0, 0.75, 0.25, 0.0]
    >>> [round(learning_rate(step, 4, 1.0, 0.0, schedule="linear"), 3) for step in range(4)]
    [1.0, 0.667, 0.333, 0.0]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising + 1) / max(1, steps - rising)
    return peak * SCHEDULES[schedule](progress)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value


def pick_device(device: torch.device | str | None = None) -> torch.device:
    """The device asked for, or CUDA where there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of `logits` [N, K] whose largest entry is the label [N]."""
    return float((logits.argmax(dim=1) == labels).sum()) / len(labels)


def channels_last(inputs: Tensor) -> Tensor:
    """Images [N, C, H, W] with channels as the fastest axis in memory, which convolutions like; others unchanged."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
