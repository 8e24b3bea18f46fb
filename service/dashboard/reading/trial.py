"""One trial's page: its architecture as picture and table, believed beside measured, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ....search.problem import label
from ...store.records import SearchRecord, TrialRecord, TrialState
from ..format import QuantityFormat, choose_format, duration
from ..genes import gene_tables
from ..views import Cell, TrialValue, TrialView
from .front import believed_cells, downloads, measured_cells
from .quantities import quantity_title

__all__ = ["trial_view"]

_FACTORLESS: Final = frozenset({"%"})
"""Units whose differences are shown in points instead of in percent."""


def trial_view(
    search: SearchRecord, trial: TrialRecord, *, on_front: bool, drawn: bool, href: str, api: str
) -> TrialView:
    """Everything on the page of `trial`, at the search's address `href`; `drawn` says whether a picture exists."""
    general, grids = gene_tables(trial.choices or {})
    measured = measured_cells(trial)
    space = (
        str(search.config.get("space", {}).get("name", "")) if isinstance(search.config.get("space"), Mapping) else ""
    )
    preset = search.config.get("space", {}).get("preset") if space else None
    return TrialView(
        number=trial.number,
        search_name=search.name,
        search_href=href,
        state=trial.state.value,
        on_front=on_front,
        verified=bool(measured),
        facts=(
            ("Evaluated in", f"{1e3 * trial.cost_s:.0f} ms" if trial.cost_s < 1 else duration(trial.cost_s)),
            ("Fidelity", "full" if trial.fidelity >= 1 else f"{trial.fidelity:.0%}"),
        ),
        arch_key=trial.arch_key,
        space=f"{space} / {preset}" if preset else space,
        picture_href=f"{href}/trials/{trial.number}/architecture.svg" if drawn else "",
        notice=_notice(trial),
        globals=general if trial.choices else (("Genome", " ".join(map(str, trial.genome))),),
        grids=grids,
        values=_values(search, trial, measured),
        values_note="± is one standard deviation for predictions and half the interquartile range for measurements.",
        files=downloads(trial, api),
    )


def _notice(trial: TrialRecord) -> str:
    if trial.state is TrialState.FAILED:
        return f"The evaluation of this architecture failed: {trial.error or 'its cause was not recorded'}."
    if trial.state is TrialState.INFEASIBLE:
        return f"This architecture violates a constraint, by {trial.violation:.1%} of its bound in sum."
    return ""


def _values(search: SearchRecord, trial: TrialRecord, measured: Mapping[str, Cell]) -> tuple[TrialValue, ...]:
    believed = believed_cells(search, trial)
    predicted_later = {
        label(metric.quantity, metric.device): Cell(value=metric.value, error=metric.spread, source=metric.source)
        for metric in trial.metrics
        if not metric.source.startswith("measured:")
    }
    believed |= {key: cell for key, cell in predicted_later.items() if key not in believed}
    return tuple(_value(key, believed.get(key), measured.get(key)) for key in dict.fromkeys([*believed, *measured]))


def _value(key: str, believed: Cell | None, measured: Cell | None) -> TrialValue:
    name, _, device = key.partition("@")
    form = choose_format(name, [cell.value for cell in (believed, measured) if cell is not None])
    return TrialValue(
        title=quantity_title(name, device or None),
        unit=form.unit,
        believed=form.number(believed.value if believed else None),
        believed_error=_error(believed, form),
        believed_source=believed.description if believed else "",
        measured=form.number(measured.value if measured else None),
        measured_error=_error(measured, form),
        measured_source=measured.description if measured else "not measured",
        difference=_difference(believed, measured, form),
    )


def _error(cell: Cell | None, form: QuantityFormat) -> str:
    return form.number(cell.error) if cell is not None and cell.error else ""


def _difference(believed: Cell | None, measured: Cell | None, form: QuantityFormat) -> str:
    if believed is None or measured is None:
        return ""
    if form.unit in _FACTORLESS:
        return f"{(measured.value - believed.value) * form.factor:+.2f} points"
    return f"{measured.value / believed.value - 1:+.1%}".replace("%", " %") if believed.value else ""
