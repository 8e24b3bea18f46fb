"""A finished search as an Optuna study: what Optuna reads is what the search found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import structlog
from running import Finished
from typer.testing import CliRunner

from archsmith.service.cli import app
from archsmith.service.commands.exporting import distribution_of


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("ARCHSMITH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


def test_study_has_the_trials_and_the_front_of_the_search(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    os.chdir(folder)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    done = CliRunner().invoke(app, ["export-optuna", "1", "--storage", storage])
    assert done.exit_code == 0, done.output
    study = optuna.load_study(study_name="small-1", storage=storage)
    assert study.metric_names == ["accuracy", "latency_ms@host"]
    assert [item.name for item in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(study.trials) == finished.found.record.n_trials
    assert sorted(trial.number for trial in study.best_trials) == sorted(finished.found.front)
    best = {trial.number: trial.values for trial in study.best_trials}
    for number, (accuracy, latency) in zip(finished.found.front, finished.found.front_values, strict=True):
        assert best[number] == [-accuracy, latency]
    for trial in study.trials:
        assert trial.user_attrs["sources"]["accuracy"] == "predicted:supernet"
        assert len(trial.user_attrs["key"]) == 32
        assert trial.system_attrs["constraints"] == [0.0]
        assert trial.params
        assert set(trial.params) == set(trial.distributions)
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None


def test_second_study_of_that_name_is_refused(finished: Finished, tmp_path: Path) -> None:
    from archsmith.errors import ConfigError

    os.chdir(finished.copy(tmp_path))
    arguments = ["export-optuna", "1", "--storage", f"sqlite:///{tmp_path / 'study.db'}", "--study", "mine"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, ConfigError)
    assert "--study: got 'mine'" in str(again.exception)


def test_genes_without_even_steps_are_categories() -> None:
    uneven = distribution_of("ordered", [8, 16, 64])
    assert uneven == optuna.distributions.CategoricalDistribution((8, 16, 64))
    pairs = distribution_of("categorical", [(1, 2), "none"])
    assert pairs == optuna.distributions.CategoricalDistribution(("[1, 2]", "none"))
