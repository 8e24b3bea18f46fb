"""Which quantities a search has, in the words and the direction a reader expects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from ....search.problem import label
from ...store.records import SearchRecord
from ..format import choose_format, label_of
from ..views import Axis, Member

__all__ = ["PARAMS", "SIZES", "Quantity", "axes_of", "constraint_text", "quantities_of", "quantity_title"]

PARAMS = "params"

SIZES = (PARAMS, "macs")
"""What is known of every architecture without evaluating it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One objective of a search; `sign` converts between stored (minimised) and natural values."""

    name: str
    device: str | None
    direction: Literal["min", "max"]

    @property
    def key(self) -> str:
        """As in the store, e.g. ``latency_ms@host``."""
        return label(self.name, self.device)

    @property
    def sign(self) -> float:
        """Natural value times sign is the minimised value, and back."""
        return -1.0 if self.direction == "max" else 1.0


def quantities_of(search: SearchRecord) -> tuple[Quantity, ...]:
    """The search's objectives, in the order of the columns of its values."""
    return tuple(
        Quantity(
            name=str(one["name"]),
            device=one.get("device"),
            direction=cast("Literal['min', 'max']", one.get("direction") or "min"),
        )
        for one in search.objectives
    )


def quantity_title(name: str, device: str | None) -> str:
    """Plain words, e.g. ``Latency on host``."""
    return f"{label_of(name)} on {device}" if device else label_of(name)


def axes_of(search: SearchRecord, members: Sequence[Member]) -> tuple[Axis, ...]:
    """What can be plotted: every objective, and the sizes; formats suit the front's values."""

    def values(key: str) -> Iterable[float]:
        for member in members:
            for cells in (member.believed, member.verified):
                if key in cells:
                    yield cells[key].value

    axes = [
        Axis(
            key=one.key,
            title=quantity_title(one.name, one.device),
            direction=one.direction,
            objective=True,
            format=choose_format(one.name, values(one.key)),
        )
        for one in quantities_of(search)
    ]
    taken = {axis.key for axis in axes}
    axes += [
        Axis(
            key=name,
            title=label_of(name),
            direction="min",
            objective=False,
            format=choose_format(name, values(name)),
        )
        for name in SIZES
        if name not in taken
    ]
    return tuple(axes)


def constraint_text(constraint: dict[str, object]) -> str:
    """A constraint with units, e.g. ``Latency on host ≤ 0.2 ms``."""
    name, device = str(constraint["name"]), cast("str | None", constraint.get("device"))
    bound = float(cast(float, constraint["bound"]))
    operator = "≥" if constraint.get("operator") == ">=" else "≤"
    form = choose_format(name, [bound])
    number = f"{bound * form.factor:g}"
    unit = f"\N{NO-BREAK SPACE}{form.unit}" if form.unit else ""
    return f"{quantity_title(name, device)} {operator} {number}{unit}"
