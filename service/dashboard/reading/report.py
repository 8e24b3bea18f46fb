"""The verification report in plain words: each figure, its interval, its verdict, and what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ...store.records import Json, SearchRecord
from ..format import label_of, percent, significant
from ..views import Tone, Verdict

__all__ = ["StatedError", "random_ratio", "stated_errors", "verdicts_of"]

_TONES: Mapping[str, Tone] = {
    "agrees": "good",
    "better": "good",
    "cannot tell": "warn",
    "disagrees": "bad",
    "not better": "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedError:
    """One standard deviation of the error of believed values: an absolute part, or one relative to the value."""

    absolute: float = 0.0
    relative: float = 0.0

    def of(self, value: float) -> float:
        """The error of this value, in its unit."""
        return self.absolute + self.relative * abs(value)


def stated_errors(search: SearchRecord) -> dict[str, StatedError]:
    """The error of believed values by quantity, where the report knows one.

    For a fitted cost model it is the root mean square error on held-out networks; for what has none (accuracy by the
    supernet) it is that between believed and measured values of the verified members.
    """
    errors = _errors_at_verification(search.report)
    for key, model in _cost_models(search.report).items():
        if isinstance(model, Mapping) and model.get("relative_rmse") is not None:
            errors[key] = StatedError(relative=float(model["relative_rmse"]))
        elif isinstance(model, Mapping) and model.get("rmse") is not None:
            errors[key] = StatedError(absolute=float(model["rmse"]))
    return errors


def _errors_at_verification(report: Json | None) -> dict[str, StatedError]:
    squares: dict[str, list[float]] = {}
    for member in (report or {}).get("members") or ():
        for key, observed in member.get("verified", {}).items():
            believed = member.get("believed", {}).get(key)
            if believed is not None and str(observed.get("source", "")).startswith("measured:"):
                squares.setdefault(key, []).append((float(observed["value"]) - float(believed)) ** 2)
    return {key: StatedError(absolute=math.sqrt(sum(all_) / len(all_))) for key, all_ in squares.items()}


def random_ratio(search: SearchRecord) -> float | None:
    """Hypervolume as a multiple of random sampling's, where it was compared."""
    ratio = _of_shape(search.report, "ratio").get("ratio")
    return None if ratio is None else float(ratio)


def verdicts_of(search: SearchRecord) -> tuple[Verdict, ...]:
    """Everything the report says, in the order a reader should weigh it; empty until there is a report."""
    report = search.report
    found = [_ranking(_section(report, "ranking"))]
    found += [_cost_model(key, cast("Mapping[str, Any]", model)) for key, model in _cost_models(report).items()]
    found += [_comparison(_of_shape(report, "ratio")), _improvement(_of_shape(report, "percent"))]
    return tuple(verdict for verdict in found if verdict is not None)


def _of_shape(report: Json | None, field: str) -> Mapping[str, Any]:
    """The comparison with random sampling that holds `field`: ``ratio`` of hypervolumes or ``percent`` of accuracy."""
    section = _section(report, "random")
    candidates = [section, *(part for part in section.values() if isinstance(part, Mapping))]
    return next((part for part in candidates if part.get(field) is not None), {})


def _section(report: Json | None, name: str) -> Mapping[str, Any]:
    section = (report or {}).get(name)
    return section if isinstance(section, Mapping) else {}


def _cost_models(report: Json | None) -> Mapping[str, Any]:
    return _section(report, "cost_models")


def _interval(section: Mapping[str, Any], digits: int = 2) -> str:
    low, high = section.get("low"), section.get("high")
    if low is None or high is None:
        return ""
    return f"{float(low):.{digits}f} to {float(high):.{digits}f}"


def _ranking(section: Mapping[str, Any]) -> Verdict | None:
    tau = section.get("tau")
    if tau is None:
        return None
    verdict = str(section.get("verdict") or "stated")
    count = section.get("n")
    return Verdict(
        figure=f"{float(tau):.2f}",
        caption=_interval(section),
        title="Supernet ranking",
        verdict=verdict,
        tone=_TONES.get(verdict, ""),
        text=(
            f"Kendall tau between what the supernet believed of {count or 'the audited'} random architectures and "
            "their accuracy when trained alone: 1 is the same order, 0 no relation, and the small figures are its 95 % "
            "bootstrap interval. An interval around 0 cannot tell whether the supernet ranks at all."
        ),
    )


def _cost_model(key: str, model: Mapping[str, Any]) -> Verdict | None:
    share, tau = model.get("within_10_percent"), model.get("kendall_tau")
    if share is None or tau is None:
        return None
    name, _, device = key.partition("@")
    good = float(share) >= 0.9 and float(tau) >= 0.9
    fair = float(share) >= 0.7
    count = model.get("n")
    return Verdict(
        figure=percent(float(share)),
        caption=f"tau {float(tau):.2f}",
        title=f"{label_of(name)} model{f', {device}' if device else ''}",
        verdict="accurate" if good else "usable" if fair else "rough",
        tone="good" if good else "warn" if fair else "bad",
        text=(
            f"Share of {int(count) if count else 'the'} held-out networks, measured end to end, whose prediction was "
            f"within ±10 % of the measurement. Tau {float(tau):.2f} says how well the model orders them."
        ),
    )


def _comparison(section: Mapping[str, Any]) -> Verdict | None:
    if "ratio" not in section:
        return None
    verdict = str(section.get("verdict", ""))
    return Verdict(
        figure=f"{significant(float(section['ratio']))} ×",
        caption=_interval(section),
        title="Hypervolume against random",
        verdict=verdict or "stated",
        tone=_TONES.get(verdict, ""),
        text=(
            "How much of the objective space the search's results dominate, as a multiple of what random sampling "
            f"dominates after {section.get('evaluations') or 'as many'} evaluations. The small figures are its 95 % "
            "interval; above 1 the search was worth its effort."
        ),
    )


def _improvement(section: Mapping[str, Any]) -> Verdict | None:
    if "percent" not in section:
        return None
    verdict = str(section.get("verdict", ""))
    interval = _interval(section)
    return Verdict(
        figure=f"{float(section['percent']):+.2f}\N{NO-BREAK SPACE}%",
        caption=interval and f"{interval}\N{NO-BREAK SPACE}%",
        title="Accuracy against random",
        verdict=verdict or "stated",
        tone=_TONES.get(verdict, ""),
        text=(
            "Mean test accuracy of the verified members relative to that of random architectures trained by the same "
            "recipe. The small figures are its 95 % interval; one that includes 0 cannot tell a difference."
        ),
    )
