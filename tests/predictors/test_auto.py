from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.auto import LEAD, AutoPredictor, auto
from archsmith.predictors.contracts import Predictor, Regressor
from archsmith.predictors.cross_validation import HeldOut, folds, held_out
from archsmith.predictors.features import Features
from archsmith.predictors.ranking import kendall_tau
from archsmith.predictors.regressors.catalog import REGRESSORS, build
from archsmith.predictors.regressors.ridge import RidgeRegressor
from archsmith.predictors.surrogate import Surrogate
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def problem():
    """A space, 90 genomes, and a quantity with an interaction and a ceiling."""
    space = spaces.get("nas_bench_macro", "tiny")
    genomes = space.sample(90, np.random.default_rng(0))
    depth = (genomes > 0).sum(axis=1)
    return space, genomes, 95.0 - 40.0 * np.exp(-0.5 * depth - 0.3 * (genomes[:, 0] == 2) * depth)


def test_choice_is_told_and_left_out_architectures_are_ranked(problem):
    space, genomes, targets = problem
    predictor = auto(space, genomes[:60], targets[:60], seed=0)
    assert isinstance(predictor, Predictor)
    prediction = predictor.predict(space, genomes[60:])
    assert kendall_tau(prediction.mean, targets[60:]) > 0.8
    assert prediction.source == "predicted:auto"
    assert (prediction.std >= 0).all()
    report = predictor.report()
    assert sum(predictor.chosen.values()) == pytest.approx(1.0)
    assert set(predictor.chosen) <= set(predictor.candidates)
    assert {f"tau.{name}" for name in predictor.candidates} <= set(report)
    assert {"kendall_tau", "spearman", "rmse", "within_10_percent", "n"} <= set(report)
    # On the held-out rows, the blend is at least as good as the best candidate alone, but for what is within noise.
    assert report["kendall_tau"] >= max(report[f"tau.{name}"] for name in predictor.candidates) - LEAD


def test_best_candidate_leads_the_choice():
    """Nothing but noise around one gene's effect in steps: the forest of four candidates is no match for the rest."""
    space = GeneSpace([Gene(f"g{i}", tuple(range(8)), kind="ordered") for i in range(6)], name="linear")
    genomes = space.sample(60, np.random.default_rng(0))
    targets = genomes @ np.array([1.0, -2.0, 3.0, 0.5, -1.0, 2.0])
    predictor = auto(space, genomes, targets, candidates=["forest", "ridge"])
    assert next(iter(predictor.chosen)) == "ridge"


def test_equal_seeds_choose_and_predict_alike(problem):
    space, genomes, targets = problem
    first, second = (auto(space, genomes[:40], targets[:40], seed=3) for _ in range(2))
    assert dict(first.chosen) == dict(second.chosen)
    np.testing.assert_array_equal(first.predict(space, genomes).mean, second.predict(space, genomes).mean)


def test_update_keeps_the_choice_and_learns_more(problem):
    space, genomes, targets = problem
    predictor = auto(space, genomes[:20], targets[:20], candidates=["gp", "ridge"])
    chosen = dict(predictor.chosen)
    before = abs(predictor.predict(space, genomes[60:]).mean - targets[60:]).mean()
    predictor.update(genomes[:60], targets[:60])
    assert dict(predictor.chosen) == chosen
    assert abs(predictor.predict(space, genomes[60:]).mean - targets[60:]).mean() < before


@pytest.mark.parametrize("n", [2, 5, 12])
def test_few_rows_and_constant_targets_are_no_obstacle(problem, n):
    space, genomes, targets = problem
    assert np.isfinite(auto(space, genomes[:n], targets[:n]).predict(space, genomes).mean).all()
    constant = auto(space, genomes[:n], np.full(n, 7.0))
    np.testing.assert_allclose(constant.predict(space, genomes).mean, 7.0)
    assert constant.report()["weight.gp"] == 1.0


def test_surrogate_predicts_and_reports_with_any_regressor(problem):
    space, genomes, targets = problem
    for name in ("forest", "gp", "gp_genes", "ridge"):
        assert name in REGRESSORS
        surrogate = Surrogate(lambda features, name=name: build(name, features), quantity="accuracy", method=name)
        surrogate.fit(space, genomes[:40], targets[:40])
        prediction = surrogate.predict(space, genomes[40:])
        assert prediction.source == f"predicted:{name}"
        assert kendall_tau(prediction.mean, targets[40:]) > 0.3, name
        assert surrogate.report()["n"] == 40
        assert surrogate.report()["kendall_tau"] > 0.3, name


@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_every_regressor_of_the_catalog_says_how_many_rows_it_needs(problem, name):
    space, genomes, _ = problem
    features = Features(space, ["adjacency"] if name == "gcn" else None)
    regressor = build(name, features)
    assert isinstance(regressor, Regressor)
    columns = features(genomes[: regressor.least])
    with pytest.raises(PredictorError, match=str(regressor.least)):
        regressor.fit(columns[1:], np.arange(regressor.least - 1.0))


def test_in_range_is_about_choices_never_fitted_on():
    space = GeneSpace([Gene("width", (8, 16, 32), kind="ordered"), Gene("op", ("a", "b"))], name="toy")
    genomes = np.array([[0, 0], [1, 1], [0, 1]], dtype=np.int16)
    surrogate = Surrogate()
    surrogate.fit(space, genomes, np.array([1.0, 2.0, 3.0]))
    assert surrogate.predict(space, np.array([[1, 0], [2, 0]], dtype=np.int16)).in_range.tolist() == [True, False]
    assert surrogate.report() == {}


def test_folds_hold_every_row_once_and_held_out_rows_are_not_fitted_on():
    parts = folds(23, 5, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert {len(part) for part in parts} == {4, 5}
    assert len(folds(3, 5, np.random.default_rng(0))) == 3

    class Memory:
        """Knows the rows it has seen by heart, and nothing else."""

        def fit(self, features, targets):
            self.seen = dict(zip(features[:, 0], targets, strict=True))

        def predict(self, features):
            return np.array([self.seen.get(value, -1.0) for value in features[:, 0]]), np.ones(len(features))

    found = held_out(Memory, np.arange(23.0)[:, None], np.arange(23.0), parts=parts)
    np.testing.assert_array_equal(found.mean, -1.0)
    assert found.tau == 0.0


def test_std_scale_makes_two_thirds_of_the_errors_lie_within():
    rng = np.random.default_rng(0)
    error = rng.normal(size=2000)
    found = HeldOut(targets=error, mean=np.zeros(2000), std=np.full(2000, 0.5))
    assert found.std_scale == pytest.approx(2.0, rel=0.06)
    assert found.report()["coverage_1sd"] == pytest.approx(np.mean(abs(error) < 0.5))


def test_errors_say_what_is_wrong(problem):
    space, genomes, targets = problem
    with pytest.raises(PredictorError, match="at least one of"):
        AutoPredictor(candidates=["gp", "oracle"])
    with pytest.raises(PredictorError, match="before it was fitted"):
        AutoPredictor().predict(space, genomes)
    with pytest.raises(PredictorError, match="not finite"):
        auto(space, genomes, np.where(np.arange(90) == 1, np.nan, targets))
    predictor = auto(space, genomes[:12], targets[:12], candidates=["gp"])
    with pytest.raises(PredictorError, match="fitted on space"):
        predictor.predict(spaces.get("nas_bench_macro"), genomes)
    with pytest.raises(PredictorError, match="at least 2 parts"):
        held_out(RidgeRegressor, np.zeros((3, 1)), np.zeros(3), parts=[np.arange(3)])


@pytest.mark.data
def test_default_reaches_the_published_tables_ranking():
    """NAS-Bench-201 after 12 epochs and NAS-Bench-Macro, from 100 architectures each, two draws."""
    if not (DATA / "nb201.npz").exists():
        pytest.skip(f"needs {DATA / 'nb201.npz'}")
    with np.load(DATA / "nb201.npz") as table:
        cells = spaces.get("nas_bench_201"), table["ops"].astype(np.int16), table["acc12"][:, 0].astype(np.float64)
    with np.load(DATA / "nas_bench_macro.npz") as table:
        accuracy = table["test_acc"].mean(axis=1, dtype=np.float64)
        macro = spaces.get("nas_bench_macro"), table["arch"].astype(np.int16), accuracy
    for (space, genomes, targets), least in ((cells, 0.65), (macro, 0.88)):
        taus = []
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(len(targets))
            predictor = auto(space, genomes[order[:100]], targets[order[:100]], candidates=["gp"])
            asked = order[100:3000]
            taus.append(kendall_tau(predictor.predict(space, genomes[asked]).mean, targets[asked]))
        assert np.mean(taus) > least
