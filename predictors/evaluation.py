"""Accuracy of anything that maps inputs to logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .tasks.task import Samples

__all__ = ["measure_accuracy"]

_CHUNK = 512
"""Images per forward pass: small enough that activations stay in a core's cache."""


@torch.inference_mode()
def measure_accuracy(network: Callable[[Tensor], Tensor], samples: Samples) -> float:
    """Share of `samples` whose largest logit is the label; the network must be in evaluation mode already."""
    correct = 0
    for inputs, labels in zip(samples.inputs.split(_CHUNK), samples.labels.split(_CHUNK), strict=True):
        correct += int((network(inputs).argmax(dim=1) == labels).sum())
    return correct / len(samples)
