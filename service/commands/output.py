"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["console", "errors", "figure", "print_json", "print_table"]

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under column titles; numbers align to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, title in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(title, justify="right" if numeric and rows else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(figure(value) for value in row))
    console.print(table)


def figure(value: object) -> str:
    """A value as people read it: four significant digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_json(data: Any) -> None:
    """Print JSON, unadorned."""
    console.print(json.dumps(data, indent=2, default=str), soft_wrap=True)
