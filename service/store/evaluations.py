"""Evaluations by what decides them: recipe, architecture key, fidelity and seed; the first value stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from .database import db_now
from .tables import evaluation

__all__ = ["keep", "known"]


def known(conn: Connection, recipe: str, keys: Sequence[str], *, fidelity: float, seed: int) -> dict[str, float]:
    """The values stored for these architecture keys; keys never evaluated are left out."""
    columns = evaluation.c
    query = select(columns.arch_key, columns.value).where(
        columns.recipe == recipe, columns.seed == seed, columns.fidelity == fidelity, columns.arch_key.in_(list(keys))
    )
    return {row.arch_key: row.value for row in conn.execute(query)}


def keep(conn: Connection, recipe: str, values: Mapping[str, float], *, fidelity: float, seed: int) -> None:
    """Store values by architecture key; one that is stored already stays."""
    if not values:
        return
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    rows = [
        {"recipe": recipe, "arch_key": key, "fidelity": fidelity, "seed": seed, "value": value}
        for key, value in values.items()
    ]
    statement = dialect.insert(evaluation).values(created=db_now()).on_conflict_do_nothing()
    conn.execute(statement, rows)
