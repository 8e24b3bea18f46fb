"""Accuracy of anything that maps inputs to logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .tasks.task import Samples

__all__ = ["measure_accuracy"]

_CHUNK = 512
"""Samples per forward pass at most: fewer, and calling the layers costs more than computing them; more, and
activations leave the cache."""


@torch.inference_mode()
def measure_accuracy(network: Callable[[Tensor], Tensor], samples: Samples) -> float:
    """Share of `samples` whose largest logit is the label; the network must be in evaluation mode already."""
    chunks = math.ceil(len(samples) / _CHUNK)
    correct = 0
    for inputs, labels in zip(samples.inputs.tensor_split(chunks), samples.labels.tensor_split(chunks), strict=True):
        correct += int((network(inputs).argmax(dim=1) == labels).sum())
    return correct / len(samples)
