"""Optimisers and learning-rate schedules that supernet and standalone training share."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = [
    "OPTIMIZERS",
    "accuracy",
    "channels_last",
    "learning_rate",
    "make_optimizer",
    "pick_device",
    "set_learning_rate",
]

OPTIMIZERS: Final = ("adamw", "rmsprop", "sgd")
"""`sgd` has Nesterov momentum 0.9, `rmsprop` momentum 0.9."""


def make_optimizer(module: nn.Module, name: str, *, weight_decay: float) -> torch.optim.Optimizer:
    """An optimiser over all parameters; decay is applied to weights only, not to biases and norms."""
    decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=0.0, alpha=0.9, eps=1e-3, momentum=0.9)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    raise ConfigError("optimizer", name, ", ".join(OPTIMIZERS))


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of all steps, then a half cosine down to 0 after the last.

    >>> [round(learning_rate(step, 4, 1.0, 0.25), 3) for step in range(4)]
    [1.0, 0.75, 0.25, 0.0]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising + 1) / max(1, steps - rising)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


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
