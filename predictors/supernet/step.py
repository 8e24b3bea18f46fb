"""One training step: the paths that a sampler drew, each with its loss, their gradients added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...spaces.architecture import Architecture
from ...spaces.elastic.supernet import Supernet
from ..optimization import channels_last
from ..tasks.task import Samples
from .losses import DISTILLATIONS, label_loss
from .path import Path, Target

if TYPE_CHECKING:
    from .settings import SupernetSettings

__all__ = ["backward"]


def backward(
    supernet: Supernet, paths: tuple[Path, ...], batch: Samples, settings: SupernetSettings
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the paths one after the other and add up their gradients; the caller steps the optimiser.

    One path's activations live at a time, so memory is that of the largest path. The first path's logits teach those
    that learn from a teacher.

    Returns:
        Detached loss and logits, [N, K] or [N, T, K], of every path, in order.
    """
    distil = DISTILLATIONS[settings.distillation]
    inputs = batch.map_inputs(channels_last).tensors
    losses: list[Tensor] = []
    outputs: list[Tensor] = []
    for path in paths:
        logits = supernet(*inputs, _picked(supernet, path, batch))
        told, labels = batch.labelled(logits)
        if path.target is Target.TEACHER:
            assert outputs, "the first path of a step learns from labels"
            loss = distil(told, batch.labelled(outputs[0])[0], settings.temperature)
        else:
            loss = label_loss(told, labels, settings.label_smoothing)
        loss.backward()
        losses.append(loss.detach())
        outputs.append(logits.detach())
    return losses, outputs


@torch.no_grad()
def _picked(supernet: Supernet, path: Path, batch: Samples) -> Architecture:
    """The path's architecture, or the one among its rivals that the sampler prefers on these samples."""
    if not path.rivals:
        return path.architecture
    candidates = (path.architecture, *path.rivals)
    inputs = batch.map_inputs(channels_last).tensors
    losses = torch.stack([label_loss(*batch.labelled(supernet(*inputs, item))) for item in candidates])
    return candidates[int(losses.argmin() if path.prefer == "best" else losses.argmax())]
