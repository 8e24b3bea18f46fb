"""Losses of supernet training: labels for the teacher, in-place distillation for its students.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531 (soft
targets, scaled by the squared temperature); Yu and Huang, Universally Slimmable Networks, ICCV 2019,
https://arxiv.org/abs/1903.05134 (in place, detached).
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor

__all__ = ["distillation_loss", "label_loss", "soft_targets"]


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against `labels` [N]; always in float32."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def soft_targets(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """[N, K] the teacher's probabilities. Detached: a teacher must not be pulled towards its students."""
    return F.softmax(logits.detach().float() / temperature, dim=1)


def distillation_loss(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against soft `targets` [N, K]."""
    return F.cross_entropy(logits.float() / temperature, targets) * temperature**2
