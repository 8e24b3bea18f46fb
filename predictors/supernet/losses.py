"""Losses of supernet training: labels for the teacher, in-place distillation for its students.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531 (soft
targets, scaled by the squared temperature); Yu and Huang, Universally Slimmable Networks, ICCV 2019,
https://arxiv.org/abs/1903.05134 (in place, detached).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor

__all__ = ["DISTILLATIONS", "Distillation", "label_loss", "soft_target_loss"]

Distillation = Callable[[Tensor, Tensor, float], Tensor]
"""(student's logits [N, K], teacher's logits [N, K], temperature) -> mean loss; no gradient reaches the teacher."""


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against `labels` [N]; always in float32."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def soft_target_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against the probabilities of the `teacher`'s logits [N, K].

    The teacher is detached: it must not be pulled towards its students.
    """
    targets = F.softmax(teacher.detach().float() / temperature, dim=1)
    return F.cross_entropy(logits.float() / temperature, targets) * temperature**2


DISTILLATIONS: Final[Mapping[str, Distillation]] = MappingProxyType({"soft_targets": soft_target_loss})
"""Losses of paths that learn from a teacher, by name."""
