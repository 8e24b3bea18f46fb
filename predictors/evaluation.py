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

_TOKENS = 4096
"""Positions of sequences per forward pass at most: their logits are as wide as the vocabulary."""


@torch.inference_mode()
def measure_accuracy(network: Callable[..., Tensor], samples: Samples) -> float:
    """Share of `samples`, or of the labelled tokens of sequences, whose largest logit is the label.

    Args:
        network: takes the inputs of some samples; in evaluation mode already.
        samples: what is told.
    """
    positions = samples.labels[0].numel()
    chunks = math.ceil(len(samples) / (_CHUNK if positions == 1 else max(1, _TOKENS // positions)))
    correct = told = 0
    for rows in torch.arange(len(samples)).tensor_split(chunks):
        chunk = samples.take(slice(int(rows[0]), int(rows[-1]) + 1))
        logits, labels = chunk.labelled(network(*chunk.tensors))
        correct += int((logits.argmax(dim=1) == labels).sum())
        told += len(labels)
    return correct / told
