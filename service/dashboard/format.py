"""How quantities, times and counts read on a page: units, digits, plain labels.

Values keep their stored unit everywhere but here. A column gets one unit and one number of decimals for all of its
rows, so that digits line up and numbers compare at a glance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = [
    "QuantityFormat",
    "age",
    "choose_format",
    "compact_count",
    "duration",
    "gene_value",
    "label_of",
    "percent",
    "significant",
    "timestamp",
]

_LABELS: Final = {
    "accuracy": "Accuracy",
    "energy_mj": "Energy",
    "flash_bytes": "Flash",
    "latency_ms": "Latency",
    "macs": "MACs",
    "memory_bytes": "Memory",
    "params": "Parameters",
    "power_w": "Power",
    "sram_bytes": "SRAM",
}

_UNITS: Final = {"energy_mj": "mJ", "latency_ms": "ms", "power_w": "W"}
"""Units of quantities that are shown as stored."""

_BYTES: Final = ((1e9, 1e-9, "GB"), (1e6, 1e-6, "MB"), (1e3, 1e-3, "kB"), (0.0, 1.0, "B"))

_SCALES: Final = {
    "latency_ms": ((1e3, 1e-3, "s"),),
    "energy_mj": ((1e3, 1e-3, "J"),),
    "flash_bytes": _BYTES,
    "memory_bytes": _BYTES,
    "sram_bytes": _BYTES,
    "macs": ((1e9, 1e-9, "G"), (1e6, 1e-6, "M"), (1e3, 1e-3, "k")),
    "params": ((1e9, 1e-9, "G"), (1e6, 1e-6, "M"), (1e3, 1e-3, "k")),
}
"""Per quantity: (from this size on, factor, unit), largest first."""

_FRACTIONS: Final = frozenset({"accuracy", "top1", "top5"})
"""Quantities stored as a share of one and shown in percent."""

MISSING: Final = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityFormat:
    """One way to write a quantity, shared by all values of a column or axis.

    Attributes:
        label: plain words, e.g. ``Latency``.
        unit: shown after the number; empty where there is none.
        factor: stored value times factor is the shown value.
        decimals: digits after the point.
    """

    label: str
    unit: str
    factor: float
    decimals: int

    def number(self, value: float | None) -> str:
        """The value in this format without its unit; an en dash where it is missing."""
        if value is None or not math.isfinite(value):
            return MISSING
        return f"{value * self.factor:,.{self.decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")

    def text(self, value: float | None) -> str:
        """The value with its unit.

        >>> choose_format("latency_ms", [0.0213, 0.35]).text(0.0213)
        '0.021\N{NO-BREAK SPACE}ms'
        """
        number = self.number(value)
        return number if number == MISSING or not self.unit else f"{number}\N{NO-BREAK SPACE}{self.unit}"

    def to_json(self) -> dict[str, str | float | int]:
        """What the charts need to label an axis in the same way."""
        return {"label": self.label, "unit": self.unit, "factor": self.factor, "decimals": self.decimals}


def label_of(name: str) -> str:
    """Plain words for a quantity's name; an unknown name reads as it is written, without underscores.

    >>> label_of("latency_ms"), label_of("kendall_tau")
    ('Latency', 'Kendall tau')
    """
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def choose_format(name: str, values: Iterable[float | None]) -> QuantityFormat:
    """The unit and decimals that suit all of `values` of the quantity `name`.

    The largest value gets three digits, and more where all values lie so close together that three would hide the
    differences.
    """
    finite = [abs(value) for value in values if value is not None and math.isfinite(value)]
    largest = max(finite, default=0.0)
    if name in _FRACTIONS:
        factor, unit = 100.0, "%"
    else:
        scales = ((factor, unit) for least, factor, unit in _SCALES.get(name, ()) if largest >= least)
        factor, unit = next(scales, (1.0, _UNITS.get(name, "")))
    spread = largest - min(finite, default=0.0)
    reference = factor * (spread if 0 < spread < 0.1 * largest else largest)
    decimals = 0 if reference <= 0 else min(max(2 - math.floor(math.log10(reference)), 0), 6)
    if name in _FRACTIONS:
        decimals = min(decimals, 2)
    if unit in ("", "B") and name in _SCALES and name not in _UNITS:
        decimals = 0
    return QuantityFormat(label=label_of(name), unit=unit, factor=factor, decimals=decimals)


def significant(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, never in exponent form between 1e-4 and 1e6.

    >>> significant(0.84213), significant(1234.6), significant(None)
    ('0.842', '1235', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -5 < magnitude < 6:
        return f"{value:.{max(digits - 1 - magnitude, 0)}f}"
    return f"{value:.{digits - 1}e}"


def percent(share: float | None, decimals: int = 0) -> str:
    """A share of one in percent.

    >>> percent(0.9412, 1)
    '94.1\N{NO-BREAK SPACE}%'
    """
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def compact_count(count: float | None) -> str:
    """A whole number that fits a narrow column: exact below 100,000, then three digits and k, M or G.

    >>> compact_count(1797), compact_count(1_000_000), compact_count(123_456)
    ('1\N{NARROW NO-BREAK SPACE}797', '1 M', '123 k')
    """
    if count is None or not math.isfinite(count):
        return MISSING
    if abs(count) < 100_000:
        return f"{count:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    raise AssertionError(count)


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units.

    >>> duration(42), duration(192), duration(7380), duration(200_000)
    ('42 s', '3 min 12 s', '2 h 03 min', '2 d 7 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return "< 1 s"
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago `moment` was, in one unit.

    >>> age(datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, 0, 5, tzinfo=UTC))
    '5 min ago'
    """
    if moment is None:
        return MISSING
    seconds = max((now - as_utc(moment)).total_seconds(), 0.0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now" if seconds < 10 else f"{int(seconds)} s ago"


def timestamp(moment: datetime | None) -> str:
    """ISO 8601 in UTC with seconds, for ``<time datetime>``; empty where there is no moment."""
    return "" if moment is None else as_utc(moment).isoformat(timespec="seconds")


def as_utc(moment: datetime) -> datetime:
    """The moment with its time zone; SQLite hands back naive moments that are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def gene_value(value: object) -> str:
    """A gene's chosen value as an engineer writes it: yes and no, 3×3-free plain numbers, tuples joined by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(gene_value(item) for item in value)
    return str(value)
