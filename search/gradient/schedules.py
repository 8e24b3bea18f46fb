"""Schedules: what is learned in a step, and from which samples.

`bilevel` alternates: the weights from one part of the training samples, the choices from the other, after a warm-up in
which choices stay as they are. `single_level` learns both from one backward pass over all training samples.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (bilevel); Stamoulis et al., Single-Path NAS,
ECML 2019, https://arxiv.org/abs/1904.02877 (single level).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ...predictors.tasks.task import Task
from .relaxation import Learns

if TYPE_CHECKING:
    from .settings import ScheduleSettings

__all__ = ["SCHEDULES", "Phase", "temperature", "warming"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One update within a step.

    Attributes:
        learns: what is updated.
        share: of the training samples, from where to where it sees.
    """

    learns: Learns
    share: tuple[float, float] = (0.0, 1.0)

    def samples(self, task: Task) -> Task:
        """The task with this phase's batches."""
        return task if self.share == (0.0, 1.0) else task.sharing(*self.share)


def warming(step: int, steps: int, warmup: float) -> bool:
    """Whether choices are still frozen.

    >>> [warming(step, 4, 0.5) for step in range(4)]
    [True, True, False, False]
    """
    return step < round(warmup * steps)


def bilevel(step: int, steps: int, settings: ScheduleSettings) -> tuple[Phase, ...]:
    """The choices every few steps once they are not frozen any more, then the weights."""
    weights = Phase(Learns.WEIGHTS, (0.0, settings.weights_share))
    if warming(step, steps, settings.warmup) or step % settings.every:
        return (weights,)
    return Phase(Learns.CHOICES, (settings.weights_share, 1.0)), weights


def single_level(step: int, steps: int, settings: ScheduleSettings) -> tuple[Phase, ...]:
    """Both at once; the weights alone while choices are frozen."""
    return (Phase(Learns.WEIGHTS if warming(step, steps, settings.warmup) else Learns.BOTH),)


SCHEDULES: Final[Mapping[str, Callable[[int, int, ScheduleSettings], tuple[Phase, ...]]]] = MappingProxyType({
    "bilevel": bilevel,
    "single_level": single_level,
})  # fmt: skip
"""By name, the updates of a step of so many."""


def temperature(progress: float, start: float, end: float, annealing: str) -> float:
    """From `start` to `end` as progress goes from 0 to 1.

    >>> [round(temperature(at, 5.0, 0.05, "exponential"), 3) for at in (0.0, 0.5, 1.0)]
    [5.0, 0.5, 0.05]
    """
    if annealing == "linear":
        return start + (end - start) * progress
    return start * (end / start) ** progress
