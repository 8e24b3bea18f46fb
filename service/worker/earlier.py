"""Earlier searches of the store as what a new one may start from."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ConfigError
from ...search.pipeline.warm_start import EarlierSearch
from ...search.problem import Objective
from ..store.faults import NotFound
from ..store.store import Store
from .recorder import results_of

__all__ = ["earlier_search"]


def earlier_search(store: Store, name: int | str) -> EarlierSearch:
    """The trials of a search, by its number or id, and what evaluated them.

    Raises:
        ConfigError: no such search, or one that has not evaluated anything.
    """
    try:
        record = store.search(str(name))
    except NotFound as error:
        raise ConfigError("warm_start", name, "numbers or ids of searches in this store", str(error)) from error
    batch = store.trial_batch(record.id)
    if batch is None:
        raise ConfigError("warm_start", name, "searches that have evaluated something")
    section = (record.report or {}).get("search")
    evaluator = section.get("evaluator") if isinstance(section, Mapping) else None
    return EarlierSearch(
        name=f"search {record.number} ({record.name})",
        space=str(record.space.get("identity")),
        evaluator=str(evaluator) if evaluator else None,
        objectives=tuple(
            Objective(name=item["name"], direction=item["direction"], device=item.get("device"))
            for item in record.objectives
        ),
        results=results_of(batch),
    )
