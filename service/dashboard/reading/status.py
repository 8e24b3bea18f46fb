"""A search's state in words and bars: for the list, and for the head of its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ...store.records import TERMINAL, CancelMode, JobState, SearchRecord
from ..format import as_utc, compact_count, duration, significant
from ..views import Action, Axis, Cell, FrontView, Kpi, SearchRow, SearchView, StageView
from .log import Tail
from .quantities import PARAMS, constraint_text, quantities_of, quantity_title
from .report import random_ratio

__all__ = ["EVENT_KINDS", "STAGES", "search_row", "search_view"]

STAGES: Final = {
    "prepare": "Prepare",
    "train": "Train",
    "model": "Model",
    "search": "Search",
    "verify": "Verify",
    "export": "Export",
}
"""Stages of the pipeline in order, with their titles."""

EVENT_KINDS: Final = "state stage progress trials front verified report reference evaluations_failed search_ended"
"""Named server-sent events that refresh the page; unnamed ones do too."""


def search_row(search: SearchRecord, href: str) -> SearchRow:
    """One line of the list of searches."""
    budget = _trial_budget(search)
    return SearchRow(
        name=search.name,
        href=href,
        subtitle=f"{_space_text(search)} · {', '.join(_objective_word(one.name) for one in quantities_of(search))}",
        state=search.state.value,
        stage=_stage_word(search),
        time_left=_stage_amount(_progress(search, search.stage)) if search.state is JobState.RUNNING else "",
        fraction=_overall(search),
        bar=_bar(search.state),
        devices=_devices(search),
        trials=compact_count(search.n_trials),
        trial_budget=compact_count(budget) if budget else "",
        front_size=compact_count(search.front_size) if search.front_size else "–",
        hypervolume=significant(search.hypervolume),
        created_at=search.created,
    )


def search_view(
    search: SearchRecord, front: FrontView, tail: Tail, *, now: datetime, acting: bool, href: str, api: str
) -> SearchView:
    """The head of a search's page."""
    notice, tone = _notice(search)
    return SearchView(
        id=search.id,
        name=search.name,
        href=href,
        events_href=f"{api}/searches/{search.id}/events?after={tail.last_id}",
        points_href=f"{api}/searches/{search.id}/points",
        event_kinds=EVENT_KINDS,
        state=search.state.value,
        facts=_facts(search),
        created_at=search.created,
        actions=_actions(search, api) if acting else (),
        notice=notice,
        notice_tone=tone,
        stages=tuple(_stage_view(search, name, tail, now) for name in STAGES),
        kpis=(*_counts(search, front), *_bests(front), _time(search, tail, now)),
        axes=front.axes,
        config=json.dumps(_plain(search.config), indent=2, ensure_ascii=False),
    )


# --- stages -----------------------------------------------------------------------------------------------------------


def _progress(search: SearchRecord, stage: str | None) -> Mapping[str, Any]:
    progress = search.progress.get(stage) if stage else None
    return progress if isinstance(progress, Mapping) else {}


def _fraction(progress: Mapping[str, Any]) -> float:
    done, total = float(progress.get("done") or 0), float(progress.get("total") or 0)
    return min(max(done / total, 0.0), 1.0) if total > 0 else 0.0


def _overall(search: SearchRecord) -> float:
    """Share of the stages passed, with the current one counted by its own progress."""
    if search.state is JobState.SUCCEEDED:
        return 1.0
    if search.stage not in STAGES:
        return 0.0
    return (list(STAGES).index(search.stage) + _fraction(_progress(search, search.stage))) / len(STAGES)


def _stage_amount(progress: Mapping[str, Any]) -> str:
    done, total = progress.get("done"), progress.get("total")
    if done is None or not total:
        return ""
    return f"{compact_count(float(done))} / {compact_count(float(total))}"


def _stage_word(search: SearchRecord) -> str:
    if search.state is JobState.SUCCEEDED:
        return "Done"
    return STAGES.get(search.stage or "", "Waiting" if search.state not in TERMINAL else "Not started")


def _bar(state: JobState) -> str:
    return {JobState.SUCCEEDED: "done", JobState.FAILED: "failed"}.get(state, "")


def _stage_view(search: SearchRecord, name: str, tail: Tail, now: datetime) -> StageView:
    order = list(STAGES)
    current = order.index(search.stage) if search.stage in STAGES else -1
    position = order.index(name)
    progress = _progress(search, name)
    if search.state is JobState.SUCCEEDED or position < current:
        reused = name in tail.stage_reused
        text = "reused" if reused else _stage_time(name, tail, search.finished or now)
        return StageView(title=STAGES[name], state="succeeded", text=text, fraction=1.0, bar="done")
    if position > current:
        return StageView(title=STAGES[name], state="waiting", text="", fraction=0.0, bar="")
    state = search.state.value if search.state is not JobState.QUEUED else "waiting"
    return StageView(
        title=STAGES[name],
        state=state,
        text=_stage_amount(progress),
        fraction=_fraction(progress),
        bar=_bar(search.state),
    )


def _stage_time(name: str, tail: Tail, until: datetime) -> str:
    began = tail.stage_began.get(name)
    ended = tail.stage_ended.get(name, until)
    return duration((as_utc(ended) - as_utc(began)).total_seconds()) if began else ""


def _time(search: SearchRecord, tail: Tail, now: datetime) -> Kpi:
    """Time left in the current stage, from its pace so far; time spent once the search has ended."""
    spent = (
        duration((as_utc(search.finished or now) - as_utc(search.started)).total_seconds()) if search.started else "–"
    )
    if search.state is not JobState.RUNNING:
        return Kpi(key="time", label="Time spent", value=spent, note="" if search.started else "not started")
    began = tail.stage_began.get(search.stage or "")
    fraction = _fraction(_progress(search, search.stage))
    if began is None or fraction <= 0.01:
        return Kpi(key="time", label="Time left in stage", value="–", note=f"{spent} spent")
    left = (as_utc(now) - as_utc(began)).total_seconds() * (1 - fraction) / fraction
    stage = STAGES.get(search.stage or "", "stage").lower()
    return Kpi(key="time", label=f"Left in {stage}", value=duration(left), note=f"{spent} spent")


# --- figures ----------------------------------------------------------------------------------------------------------


def _counts(search: SearchRecord, front: FrontView) -> tuple[Kpi, ...]:
    budget = _trial_budget(search)
    parts = [f"of {compact_count(budget)}"] if budget else []
    parts += [f"{compact_count(search.n_failed)} failed"] if search.n_failed else []
    verified = sum(1 for member in front.members if member.verified)
    ratio = random_ratio(search)
    return (
        Kpi(key="trials", label="Trials", value=compact_count(search.n_trials), note=", ".join(parts)),
        Kpi(key="front", label="Front members", value=compact_count(len(front.members)), note=f"{verified} verified"),
        Kpi(
            key="hypervolume",
            label="Hypervolume",
            value=significant(search.hypervolume),
            note=f"{significant(ratio)} × random sampling" if ratio else "believed front",
        ),
    )


def _bests(front: FrontView) -> tuple[Kpi, ...]:
    """The best value of the first two objectives: measured where a member was, else believed."""
    return tuple(kpi for axis in front.axes[:2] if axis.objective and (kpi := _best(front, axis)) is not None)


def _best(front: FrontView, axis: Axis) -> Kpi | None:
    sign = -1.0 if axis.direction == "max" else 1.0
    word = "Best" if axis.direction == "max" else "Lowest"

    def best(cells: Callable[[Any], Mapping[str, Cell]]) -> tuple[Cell, int] | None:
        found = [(cells(member)[axis.key], member.number) for member in front.members if axis.key in cells(member)]
        return min(found, key=lambda pair: sign * pair[0].value, default=None)

    measured, believed = best(lambda member: member.verified), best(lambda member: member.believed)
    chosen = measured or believed
    if chosen is None:
        return None
    cell, number = chosen
    note = f"trial {number}"
    if measured and believed:
        note = f"trial {number}; {axis.format.text(believed[0].value)} believed"
    title = axis.title[:1].lower() + axis.title[1:]
    return Kpi(
        key=f"best-{axis.key}",
        label=f"{word} {title}",
        value=axis.format.number(cell.value),
        unit=axis.format.unit,
        note=note,
        kind=cell.kind if cell.kind != "exact" else "",
    )


# --- words ------------------------------------------------------------------------------------------------------------


def _facts(search: SearchRecord) -> tuple[tuple[str, str], ...]:
    config = search.config
    facts = [("Space", _space_text(search)), ("Task", _named(config.get("task"))), ("Devices", _devices(search))]
    facts += [("Strategy", _named(config.get("strategy"))), ("Seed", str(search.seed))]
    facts += [("Limit", constraint_text(dict(one))) for one in search.constraints]
    return tuple((word, text) for word, text in facts if text)


def _objective_word(name: str) -> str:
    return name if name == PARAMS else quantity_title(name, None).lower()


def _space_text(search: SearchRecord) -> str:
    space = search.config.get("space") or search.space
    name, preset = _named(space), space.get("preset") if isinstance(space, Mapping) else None
    return f"{name} / {preset}" if preset else name


def _named(section: object) -> str:
    if isinstance(section, Mapping):
        return str(section.get("name") or "")
    return str(section or "")


def _devices(search: SearchRecord) -> str:
    listed: Sequence[str] = search.config.get("devices") or [
        str(quantity.device) for quantity in quantities_of(search) if quantity.device
    ]
    return ", ".join(dict.fromkeys(listed))


def _trial_budget(search: SearchRecord) -> int | None:
    budget = search.config.get("budget")
    return budget.get("trials") if isinstance(budget, Mapping) else None


def _actions(search: SearchRecord, api: str) -> tuple[Action, ...]:
    base = f"{api}/searches/{search.id}"
    cancel = Action(
        title="Cancel",
        href=f"{base}/cancel",
        done="Cancelling. Work in progress stops at its next safe point.",
        question="It stops at its next safe point and cannot be resumed. Finished trials and the front stay stored.",
    )
    pause = Action(title="Pause", href=f"{base}/pause", done="Pausing. The search stops at its next checkpoint.")
    resume = Action(
        title="Resume", href=f"{base}/resume", done="Queued again; a worker continues from the last checkpoint."
    )
    stop = Action(
        title="Stop now",
        href=f"{base}/cancel?mode=kill",
        done="Stopping. The batch in progress is discarded.",
        question="The batch in progress is discarded. Finished trials and the front stay stored.",
    )
    if search.state in TERMINAL:
        return ()
    if search.cancel_requested_at is not None:
        return () if search.cancel_mode is CancelMode.KILL else (stop,)
    if search.state is JobState.PAUSED or search.pause_requested_at is not None:
        return (resume, cancel)
    return (pause, cancel)


def _notice(search: SearchRecord) -> tuple[str, str]:
    """What a reader must know first, and its tone."""
    if search.state is JobState.FAILED:
        error = search.error or {}
        return str(
            error.get("message") or error.get("reason") or "The search failed; the events below say where."
        ), "bad"
    if search.state is JobState.RUNNING and search.cancel_requested_at is not None:
        now = search.cancel_mode is CancelMode.KILL
        return f"Cancelling: the worker stops {'now' if now else 'at its next safe point'}.", "warn"
    if search.state is JobState.RUNNING and search.pause_requested_at is not None:
        return "Pausing: the worker stops at its next checkpoint.", "warn"
    if search.state is JobState.QUEUED and search.attempts > 0:
        return (
            f"Workers lost: {search.attempts}. The next one continues from the last checkpoint.",
            "warn",
        )
    return "", ""


def _plain(value: object) -> object:
    """Mappings as dicts all the way down, so that they can be written as JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
