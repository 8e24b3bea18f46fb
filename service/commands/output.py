"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["console", "errors", "figure", "print_json", "print_table"]

UNBOUNDED = 10_000
"""Columns of an output that is no terminal: programs read it, so nothing is wrapped or cut."""

# Text is printed as it is: square brackets in it are no markup, and lines are the terminal's to wrap.
console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUNDED)
errors = Console(
    stderr=True, highlight=False, markup=False, soft_wrap=True, width=None if sys.stderr.isatty() else UNBOUNDED
)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under column titles; numbers align to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, title in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(title, justify="right" if numeric and rows else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(figure(value) for value in row))
    console.print(table, soft_wrap=False)


def figure(value: object) -> str:
    """A value as people read it: four significant digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_json(data: Any) -> None:
    """Print JSON, unadorned."""
    console.print(json.dumps(data, indent=2, default=str))
