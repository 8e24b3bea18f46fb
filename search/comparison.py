"""Strategies side by side: the same problem, the same budget, several seeds, and what the differences are worth.

Every contender searches with each seed. What is compared is the hypervolume after each number of evaluations (for one
objective that is the distance of the best value to the reference), its improvement over random sampling, and how much
of it hangs on the contender's own settings. Differences are paired by seed, and one within noise is called so.

Notation: S seeds, T evaluations, K contenders, M objectives.

Source: Yang et al., "NAS evaluation is frustratingly hard", ICLR 2020, https://arxiv.org/abs/1912.12522 (improvement
over random sampling); Lindauer and Hutter, "Best practices for scientific research on NAS", JMLR 2020 (paired seeds,
equal budgets, sensitivity to settings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, StrategyError
from .budget import Budget
from .evaluators import Evaluator
from .pareto import hypervolume, reference_point
from .problem import Problem
from .strategies import catalog
from .strategy import Results
from .study import MemoryRecorder, Study

__all__ = ["BASELINE", "Comparison", "Contender", "Curve", "Difference", "compare", "variants"]

BASELINE: Final = "random"
"""The contender that every other one is measured against; always among them."""

CHECKPOINTS: Final = 25
"""Points of a curve."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """A strategy with settings of its own."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, and the options that are not the defaults.

        >>> Contender("nsga2", {"population": 20}).label
        'nsga2 (population 20)'
        """
        if not self.options:
            return self.strategy
        return f"{self.strategy} ({', '.join(f'{name} {value}' for name, value in self.options.items())})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a contender did.

    Attributes:
        contender: which.
        hypervolume: [S, C] at each of the comparison's checkpoints.
        proposing_s: [S] seconds spent on asking and telling.
    """

    contender: Contender
    hypervolume: NDArray[np.float64]
    proposing_s: NDArray[np.float64]

    def band(self, confidence: float = 0.95, *, replicates: int = 2000, seed: int = 0) -> NDArray[np.float64]:
        """[3, C] lower bound, mean and upper bound of the mean over seeds, by bootstrap."""
        rng = np.random.default_rng(seed)
        count = len(self.hypervolume)
        draws = rng.multinomial(count, np.full(count, 1 / count), size=replicates) / count  # [R, S] weights
        tail = (1 - confidence) / 2
        low, high = np.quantile(draws @ self.hypervolume, [tail, 1 - tail], axis=0)
        return np.stack([low, self.hypervolume.mean(axis=0), high])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The final hypervolume of one contender relative to another's, paired by seed.

    Attributes:
        percent: 100 (mean / other's mean - 1).
        low, high: its 95 % bootstrap interval over seeds.
        verdict: ``better``, ``worse``, or ``within noise`` where the interval includes 0.
    """

    percent: float
    low: float
    high: float
    verdict: Literal["better", "worse", "within noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All contenders on one problem.

    Attributes:
        objectives: labels.
        evaluations: [C] numbers of evaluations at the checkpoints.
        reference: [M] minimised reference point, the same for all.
        curves: one per contender, the baseline first.
        sensitivity: by contender, its own curve and those of its settings varied one at a time.
    """

    objectives: tuple[str, ...]
    evaluations: NDArray[np.int64]
    reference: NDArray[np.float64]
    curves: tuple[Curve, ...]
    sensitivity: Mapping[str, tuple[Curve, ...]]

    def against(self, curve: Curve, other: Curve | None = None, *, seed: int = 0) -> Difference:
        """A curve's final hypervolume against another's; None = the baseline's."""
        ours, theirs = curve.hypervolume[:, -1], (other or self.curves[0]).hypervolume[:, -1]
        rng = np.random.default_rng(seed)
        draws = rng.integers(0, len(ours), (4000, len(ours)))
        base = theirs[draws].mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = 100 * (ours[draws].mean(axis=1) / base - 1)
            percent = float(100 * (ours.mean() / theirs.mean() - 1))
        low, high = (float(bound) for bound in np.quantile(ratios, [0.025, 0.975], method="nearest"))
        one_seed = len(ours) < 2  # has no spread to judge by
        verdict: Literal["better", "worse", "within noise"] = (
            "within noise" if one_seed or low <= 0 <= high or np.isnan(percent) else "better" if low > 0 else "worse"
        )
        return Difference(percent=percent, low=low, high=high, verdict=verdict)

    def best(self) -> Curve:
        """The contender with the largest mean hypervolume at the end."""
        return max(self.curves, key=lambda curve: curve.hypervolume[:, -1].mean())

    def to_markdown(self) -> str:
        """A table with one row per contender, and one of sensitivities where they were asked for."""
        best = self.best()
        seeds = len(best.hypervolume)
        lines = [
            f"{', '.join(self.objectives)}; {self.evaluations[-1]} evaluations, {seeds} seeds; "
            "hypervolume relative to random sampling with its 95 % interval.",
            "",
            "| strategy | against random | against the best | proposing |",
            "|---|---|---|---|",
        ]
        for curve in sorted(self.curves, key=lambda item: -item.hypervolume[:, -1].mean()):
            random = self.against(curve)
            first = "–" if curve is best else _written(self.against(curve, best))
            seconds = f"{curve.proposing_s.mean():.2f} s"
            versus = "–" if curve is self.curves[0] else _written(random)
            lines.append(f"| {curve.contender.label} | {versus} | {first} | {seconds} |")
        if self.sensitivity:
            lines += [
                "",
                "| strategy | settings tried | spread of the final hypervolume | worst setting |",
                "|---|---|---|---|",
            ]
            for name, curves in self.sensitivity.items():
                final = np.array([curve.hypervolume[:, -1].mean() for curve in curves])
                spread = 100 * (final.max() / final.min() - 1) if final.min() > 0 else float("inf")
                worst = curves[int(final.argmin())].contender.label
                lines.append(f"| {name} | {len(curves)} | {spread:.1f} % | {worst} |")
        return "\n".join(lines) + "\n"


def _written(difference: Difference) -> str:
    return f"{difference.percent:+.1f} % [{difference.low:+.1f}, {difference.high:+.1f}], {difference.verdict}"


def compare(
    problem: Problem,
    evaluator: Evaluator,
    contenders: Sequence[Contender],
    *,
    seeds: Sequence[int],
    trials: int,
    batch: int = 10,
    sensitivity: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Run every contender with every seed.

    Args:
        problem: what is searched.
        evaluator: a table or a live one; equal proposals must give equal results.
        contenders: the baseline is added where it is missing.
        seeds: S different ones.
        trials: evaluations per run; a run that exhausts the space stays where it is.
        batch: proposals per ask.
        sensitivity: whether each contender's numeric settings are also halved and doubled, one at a time.
        progress: called after every run with how many are done, how many there are, and what ran.

    Raises:
        ConfigError: an unknown strategy or option, or no seeds.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError("seeds", list(seeds), "at least one, each once")
    entered = [item for item in contenders if item.strategy != BASELINE]
    everyone = [Contender(BASELINE), *entered]
    for item in everyone:
        catalog.check(item.strategy, item.options)
    varied = {item.label: _allowed(problem, variants(item)) for item in entered} if sensitivity else {}
    runs = [*everyone, *(variant for group in varied.values() for variant in group)]
    recorded = list[list[tuple[Results, float]]]()
    for item in runs:
        recorded.append([])
        for seed in seeds:
            recorded[-1].append(_run(problem, evaluator, item, seed=seed, trials=trials, batch=batch))
            if progress is not None:
                done = (len(recorded) - 1) * len(seeds) + len(recorded[-1])
                progress(done, len(runs) * len(seeds), f"{item.label}, seed {seed}")
    evaluations = np.unique(np.linspace(batch, trials, CHECKPOINTS).round().astype(np.int64).clip(1, trials))
    reference = _reference([results for group in recorded[: len(everyone)] for results, _ in group])
    curves = [_curve(item, group, evaluations, reference) for item, group in zip(runs, recorded, strict=True)]
    rest = iter(curves[len(everyone) :])
    first = {curve.contender.label: curve for curve in curves[: len(everyone)]}
    return Comparison(
        objectives=tuple(objective.label for objective in problem.objectives),
        evaluations=evaluations,
        reference=reference,
        curves=tuple(curves[: len(everyone)]),
        sensitivity={label: (first[label], *(next(rest) for _ in group)) for label, group in varied.items()},
    )


def _curve(
    contender: Contender,
    runs: list[tuple[Results, float]],
    evaluations: NDArray[np.int64],
    reference: NDArray[np.float64],
) -> Curve:
    return Curve(
        contender=contender,
        hypervolume=np.array([_trace(results, evaluations, reference) for results, _ in runs]),
        proposing_s=np.array([seconds for _, seconds in runs]),
    )


def variants(contender: Contender) -> list[Contender]:
    """The contender with each of its numeric settings halved and doubled, one at a time, where the value is allowed."""
    defaults = {**catalog.options(contender.strategy), **contender.options}
    out = []
    for name, value in defaults.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
            continue
        for factor in (0.5, 2.0):
            changed = type(value)(value * factor)
            if changed != value and changed != 0:
                out.append(Contender(contender.strategy, {**contender.options, name: changed}))
    return out


def _allowed(problem: Problem, contenders: list[Contender]) -> list[Contender]:
    """Those whose strategy accepts its settings."""
    out = []
    for item in contenders:
        try:
            catalog.get(item.strategy, problem, 0, **item.options)
        except StrategyError:
            continue
        out.append(item)
    return out


def _run(
    problem: Problem, evaluator: Evaluator, contender: Contender, *, seed: int, trials: int, batch: int
) -> tuple[Results, float]:
    strategy = _Timed(catalog.get(contender.strategy, problem, seed, **contender.options))
    recorder = MemoryRecorder()
    Study(
        problem=problem,
        strategy=strategy,
        evaluator=evaluator,
        budget=Budget(trials=trials),
        recorder=recorder,
        batch=batch,
    ).run()
    return recorder.all, strategy.seconds


def _reference(runs: list[Results]) -> NDArray[np.float64]:
    """One point for all, from everything that any contender found."""
    values = np.concatenate([results.values[results.eligible] for results in runs])
    if not len(values):
        raise ConfigError("constraints", "no feasible trial in any run", "constraints that some architecture satisfies")
    return reference_point(values)


def _trace(results: Results, evaluations: NDArray[np.int64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """[C] hypervolume of the eligible results among the first so many."""
    out = np.zeros(len(evaluations))
    for index, count in enumerate(evaluations):  # checkpoints, not trials
        rows = results.eligible[:count]
        out[index] = hypervolume(results.values[:count][rows], reference)
    return out


class _Timed:
    """A strategy that adds up the seconds spent in it."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self.seconds = 0.0

    def ask(self, n: int, pending: NDArray[np.int16] | None = None) -> Any:
        """As the strategy's."""
        started = perf_counter()
        try:
            return self._strategy.ask(n, pending)
        finally:
            self.seconds += perf_counter() - started

    def tell(self, results: Results) -> None:
        """As the strategy's."""
        started = perf_counter()
        self._strategy.tell(results)
        self.seconds += perf_counter() - started

    def state(self) -> Any:
        """As the strategy's."""
        return self._strategy.state()

    def restore(self, state: Any) -> None:
        """As the strategy's."""
        self._strategy.restore(state)
