"""One training step: the paths that a sampler drew, each with its loss, their gradients added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...spaces.architecture import Architecture
from ...spaces.elastic.supernet import Supernet
from ..optimization import channels_last
from ..tasks.task import IGNORED, Samples
from .distributed import ALONE, Group
from .losses import DISTILLATIONS, label_loss
from .path import Path, Target

if TYPE_CHECKING:
    from .settings import SupernetSettings

__all__ = ["Teacher", "backward"]

Teacher = Callable[..., Tensor]
"""A network that teaches: the inputs of some samples -> detached logits, [N, K] or [N, T, K]."""


def backward(
    supernet: Supernet,
    paths: tuple[Path, ...],
    batch: Samples,
    settings: SupernetSettings,
    *,
    group: Group = ALONE,
    parts: int = 1,
    teacher: Teacher | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the paths one after the other and add up their gradients; the caller steps the optimiser.

    One path's activations live at a time, so memory is that of the largest path on one part of the batch. The first
    path's logits teach those that learn from a teacher; a teacher of its own, where there is one, teaches all paths.
    Where a group shares the batch, `batch` is this process's rows, and the gradients of all processes add up to those
    of the mean loss over the batch.

    Returns:
        Detached loss over the whole batch and logits of these rows, [N, K] or [N, T, K], of every path, in order.
    """
    chosen = [_picked(supernet, path, batch, group=group, parts=parts) for path in paths]
    share = group.share(batch)
    losses: list[list[Tensor]] = [[] for _ in paths]
    outputs: list[list[Tensor]] = [[] for _ in paths]
    for part, weight in _split(batch, parts):
        inputs = part.map_inputs(channels_last).tensors
        lesson = None if teacher is None else teacher(*inputs)
        for number, (path, architecture) in enumerate(zip(paths, chosen, strict=True)):
            logits = supernet(*inputs, architecture)
            taught = teacher is not None or path.target is Target.TEACHER
            assert not (taught and lesson is None), "the first path of a step learns from labels"
            loss = _loss(logits, lesson if taught else None, part, settings) * (share * weight)
            (loss * path.weight).backward()
            losses[number].append(loss.detach())
            outputs[number].append(logits.detach())
            lesson = outputs[0][-1] if lesson is None else lesson
    totals = [group.total(torch.stack(each).sum(dim=0)) for each in losses]
    return totals, [torch.cat(each) for each in outputs]


def _loss(logits: Tensor, lesson: Tensor | None, part: Samples, settings: SupernetSettings) -> Tensor:
    """Of the labels, or where there is a lesson of that, and of the labels as far as the settings ask for it."""
    told, labels = part.labelled(logits)
    if lesson is None:
        return label_loss(told, labels, settings.label_smoothing)
    loss = DISTILLATIONS[settings.distillation](told, part.labelled(lesson)[0], settings.temperature)
    if settings.label_weight:
        loss = loss + settings.label_weight * label_loss(told, labels, settings.label_smoothing)
    return loss


def _split(batch: Samples, parts: int) -> Iterator[tuple[Samples, float]]:
    """The parts of a batch, each with its share of all labels."""
    if parts == 1:
        yield batch, 1.0
        return
    labels = int((batch.labels != IGNORED).sum())
    for rows in torch.arange(len(batch)).tensor_split(parts):
        part = batch.take(slice(int(rows[0]), int(rows[-1]) + 1))
        yield part, int((part.labels != IGNORED).sum()) / max(labels, 1)


@torch.no_grad()
def _picked(supernet: Supernet, path: Path, batch: Samples, *, group: Group, parts: int) -> Architecture:
    """The path's architecture, or the one among its rivals that the sampler prefers on these samples."""
    if not path.rivals:
        return path.architecture
    candidates = (path.architecture, *path.rivals)
    losses = torch.zeros(len(candidates), device=batch.labels.device)
    for part, weight in _split(batch, parts):
        inputs = part.map_inputs(channels_last).tensors
        told = [label_loss(*part.labelled(supernet(*inputs, item))) for item in candidates]
        losses = losses + torch.stack(told) * (group.share(batch) * weight)
    losses = group.total(losses)
    return candidates[int(losses.argmin() if path.prefer == "best" else losses.argmax())]
