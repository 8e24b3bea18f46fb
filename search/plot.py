"""A chart of curves with confidence bands, as SVG: for reports, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Line", "draw_chart", "ticks"]

# Okabe and Ito's palette: told apart by colour-blind readers as well.
COLOURS: Final = ("#555555", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b6d00", "#7a4fbf")
DASHES: Final = ("", "6 3", "2 3")
"""Taken in turn when the colours are used up."""

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 34, 44


@dataclass(frozen=True, slots=True)
class Line:
    """A labelled curve: [3, C] lower bound, value and upper bound at the chart's C places."""

    label: str
    band: NDArray[np.float64]


def draw_chart(lines: Sequence[Line], x: NDArray[np.generic], *, title: str, x_label: str, y_label: str) -> str:
    """Draw curves over common places, each with its band, and a legend in the order of their final values.

    Args:
        lines: at least one.
        x: [C] ascending places.
        title: above the chart.
        x_label: below it.
        y_label: beside it.

    Returns:
        An SVG document that adapts to light and dark pages.
    """
    places = np.asarray(x, dtype=np.float64)
    stacked = np.stack([line.band for line in lines])
    y_ticks = ticks(float(np.nanmin(stacked)), float(np.nanmax(stacked)))
    x_ticks = ticks(float(places[0]), float(places[-1]))
    frame = _Frame(x_ticks[0], max(x_ticks[-1], float(places[-1])), y_ticks[0], y_ticks[-1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor" color="#333">',
        "<style>@media (prefers-color-scheme: dark) { svg { color: #ddd } }</style>",
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
        *_axes(frame, x_ticks, y_ticks, x_label, y_label),
    ]
    order = sorted(range(len(lines)), key=lambda index: -lines[index].band[1, -1])
    for index, line in enumerate(lines):
        parts += _curve(frame, places, line, index)
    for row, index in enumerate(order):
        parts += _entry(lines[index].label, index, TOP + 8 + 18 * row)
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span [low, high], about `count` of them.

    >>> ticks(0.0, 97.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    span = high - low or abs(high) or 1.0
    raw = span / count
    scale = 10.0 ** math.floor(math.log10(raw))
    step = scale * min((1, 2, 2.5, 5, 10), key=lambda nice: abs(nice - raw / scale))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values lie on the page."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def _axes(frame: _Frame, x_ticks: list[float], y_ticks: list[float], x_label: str, y_label: str) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    out = []
    for tick in y_ticks:
        y = frame.y(tick)
        out.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.15"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        if tick <= frame.x_high:
            out.append(f'<text x="{frame.x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    middle = (TOP + bottom) / 2
    out.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    out.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    )
    return out


def _style(index: int) -> tuple[str, str]:
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def _curve(frame: _Frame, places: NDArray[np.float64], line: Line, index: int) -> list[str]:
    colour, dash = _style(index)
    low, value, high = line.band
    up = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(places, high, strict=True)]
    down = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(places[::-1], low[::-1], strict=True)]
    path = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(places, value, strict=True)]
    return [
        f'<path d="M{"L".join(up + down)}Z" fill="{colour}" fill-opacity="0.15"/>',
        f'<path d="M{"L".join(path)}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>',
    ]


def _entry(label: str, index: int, y: float) -> list[str]:
    colour, dash = _style(index)
    x = WIDTH - RIGHT + 12
    return [
        f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>',
        f'<text x="{x + 28}" y="{y + 4}">{escape(label)}</text>',
    ]
