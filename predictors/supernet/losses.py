"""Losses of supernet training: labels for the teacher, in-place distillation for its students.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531 (soft
targets, scaled by the squared temperature); Yu and Huang, Universally Slimmable Networks, ICCV 2019,
https://arxiv.org/abs/1903.05134 (in place, detached).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor

__all__ = ["DISTILLATIONS", "Distillation", "alpha_divergence_loss", "label_loss", "soft_target_loss"]

Distillation = Callable[[Tensor, Tensor, float], Tensor]
"""(student's logits [N, K], teacher's logits [N, K], temperature) -> mean loss; no gradient reaches the teacher."""


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against `labels` [N]; in float32 or better."""
    return F.cross_entropy(_precise(logits), labels, label_smoothing=smoothing)


def soft_target_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of `logits` [N, K] against the probabilities of the `teacher`'s logits [N, K].

    The teacher is detached: it must not be pulled towards its students.
    """
    targets = F.softmax(_precise(teacher.detach()) / temperature, dim=1)
    return F.cross_entropy(_precise(logits) / temperature, targets) * temperature**2


def alpha_divergence_loss(
    logits: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    alphas: tuple[float, float] = (-1.0, 1.0),
    clip: float = 5.0,
) -> Tensor:
    """Adaptive alpha-divergence of `logits` [N, K] to the `teacher`'s [N, K]: per sample the larger of two divergences.

    A negative alpha punishes a student that is sure where the teacher is not, a positive one the opposite. The weights
    q rho_f of the published gradient are constants of the step, clipped.

    Source: Wang et al., AlphaNet, ICML 2021, https://arxiv.org/abs/2102.07954, equations 7 to 9; as in
    https://github.com/facebookresearch/AlphaNet, loss_ops.py.
    """
    p = F.softmax(_precise(teacher.detach()) / temperature, dim=1)
    log_q = F.log_softmax(_precise(logits) / temperature, dim=1)
    losses = []
    divergences = []
    for alpha in alphas:
        divergence, weights = _alpha_terms(p, log_q.detach(), alpha, clip)
        divergences.append(divergence)
        losses.append(-(weights * log_q).sum(dim=1))
    larger = divergences[0] > divergences[1]
    return torch.where(larger, losses[0], losses[1]).mean() * temperature**2


def _precise(logits: Tensor) -> Tensor:
    """In float32 where they came in half precision."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _alpha_terms(p: Tensor, log_q: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """Divergence [N] and the weights q rho_f [N, K] of its gradient; the limits at alpha 0 and 1 are the two KL's."""
    q = log_q.exp()
    log_ratio = p.clamp_min(1e-12).log() - log_q
    if abs(alpha) < 1e-3:
        f, rho = -log_ratio, 1.0 - log_ratio
    elif abs(alpha - 1.0) < 1e-3:
        f, rho = log_ratio.exp() * log_ratio, log_ratio.exp()
    else:
        power = (alpha * log_ratio).exp().clamp(max=clip)
        f, rho = power / (alpha * (alpha - 1.0)), power / alpha
    return (q * f).sum(dim=1), (q * rho).clamp(-clip, clip)


DISTILLATIONS: Final[Mapping[str, Distillation]] = MappingProxyType(
    {"alpha_divergence": alpha_divergence_loss, "soft_targets": soft_target_loss}
)
"""Losses of paths that learn from a teacher, by name."""
