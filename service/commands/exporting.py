"""`archsmith export-optuna`: the trials of a search as an Optuna study, for optuna-dashboard and Optuna's own plots."""

from __future__ import annotations

import datetime
import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ... import spaces
from ...errors import ConfigError
from ...spaces.architecture import Value
from ..client.searches import SearchHandle
from ..schemas.resources import Trial

if TYPE_CHECKING:
    import optuna

__all__ = ["distribution_of", "write_study"]

CONSTRAINTS = "constraints"
"""System attribute under which Optuna looks for a trial's constraint values, satisfied up to 0."""


def write_study(search: SearchHandle, storage: str, name: str | None = None) -> tuple[str, int]:
    """Write every trial of a search into an Optuna storage.

    A trial carries the values of its active genes, its objectives in their own direction, the sum of its constraint
    violations, and as user attributes its architecture key, where its values come from, and what else is known of it.
    A trial below full fidelity becomes a pruned one, so that only full evaluations compete.

    Args:
        search: which one; it may still be running.
        storage: Optuna's storage URL, e.g. ``sqlite:///study.db``.
        name: of the study; default ``<search's name>-<number>``.

    Returns:
        The study's name and how many trials it has.

    Raises:
        ConfigError: the storage already has a study of that name, or cannot be opened.
    """
    import optuna
    from sqlalchemy.exc import ArgumentError, OperationalError

    resource = search.resource
    name = name or f"{resource.name}-{resource.number}"
    maximise, minimise = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    directions = [maximise if item.direction == "max" else minimise for item in resource.objectives]
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ConfigError("--study", name, f"a name that {storage} does not have yet") from error
    except (ArgumentError, OperationalError) as error:
        raise ConfigError("--storage", storage, "a database URL that can be opened, e.g. sqlite:///study.db") from error
    finally:
        optuna.logging.set_verbosity(level)
    labels = [item.label for item in resource.objectives]
    told = resource.job["space"]
    space = spaces.get(told["name"], told.get("preset"), **told.get("options", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the dashboard's labels, no more
        study.set_metric_names(labels)
    study.set_user_attr("search", {"id": resource.id, "number": resource.number, "space": resource.space.get("name")})
    distributions = {gene.name: distribution_of(gene.kind, gene.values) for gene in space.genes}
    count = 0
    for trial in search.trials():
        study.add_trial(_frozen(trial, labels, distributions))
        count += 1
    return name, count


def distribution_of(kind: str, values: Sequence[Value]) -> optuna.distributions.BaseDistribution:
    """The distribution of a gene: integers where its values are ordered and evenly spaced, else categories.

    >>> distribution_of("ordered", [2, 4, 6])
    IntDistribution(high=6, log=False, low=2, step=2)
    """
    import optuna

    numbers = [value for value in values if type(value) is int]
    if kind != "categorical" and len(numbers) == len(values) > 1:
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        if len(steps) == 1:
            return optuna.distributions.IntDistribution(numbers[0], numbers[-1], step=steps.pop())
    return optuna.distributions.CategoricalDistribution([_plain(value) for value in values])


def _plain(value: object) -> bool | int | float | str:
    """A value as Optuna stores it: what is not one number or text is written out."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _frozen(
    trial: Trial, labels: list[str], distributions: Mapping[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial:
    import optuna

    states = optuna.trial.TrialState
    choices = trial.choices or {}
    complete = trial.state in ("succeeded", "infeasible") and trial.fidelity >= 1.0
    failed = trial.state == "failed"
    more = {
        "number": trial.number, "fidelity": trial.fidelity, "params": trial.params, "macs": trial.macs,
        "error": trial.error, "values": None if complete or failed else trial.values,
        "measured": {item.quantity + (f"@{item.device}" if item.device else ""): item.value for item in trial.metrics},
    }  # fmt: skip
    found = optuna.trial.create_trial(
        state=states.COMPLETE if complete else states.FAIL if failed else states.PRUNED,
        values=[float(trial.values[label] or 0.0) for label in labels] if complete else None,
        params={name: _plain(value) for name, value in choices.items()},
        distributions={name: distributions[name] for name in choices},
        user_attrs={"key": trial.arch_key, "sources": dict(trial.sources)}
        | {key: value for key, value in more.items() if value not in (None, {})},
        system_attrs={CONSTRAINTS: [trial.violation]} if trial.violation is not None else {},
    )
    found.datetime_complete = trial.created
    found.datetime_start = trial.created - datetime.timedelta(seconds=trial.cost_s)
    return found
