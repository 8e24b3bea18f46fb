from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import PredictorError, SpaceError
from archsmith.hwmodels.cost import CostModel
from archsmith.predictors.cost.features import TOTALS, NetworkFeatures, op_totals
from archsmith.predictors.cost.network import NetworkCostModel
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ofa_latency.npz"


@pytest.fixture(scope="module")
def space():
    return spaces.get("mobilenet", "tiny")


def latencies(space, genomes):
    """A device that computes, waits for memory and launches; a little noise."""
    noise = np.random.default_rng(3).normal(size=len(genomes))
    return (0.2 + 1e-6 * space.macs(genomes) + 2e-6 * space.params(genomes)) * np.exp(0.01 * noise)


@pytest.fixture(scope="module")
def genomes(space):
    return space.canonical(space.sample(160, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def fitted(space, genomes):
    return NetworkCostModel.fit(space, genomes[:100], latencies(space, genomes)[:100], device="toy")


def test_model_predicts_unseen_networks_within_its_stated_range(space, genomes, fitted):
    assert isinstance(fitted, CostModel)
    prediction = fitted.predict(space, genomes[100:])
    assert (prediction.quantity, prediction.source) == ("latency_ms", "predicted:network")
    relative = prediction.mean / latencies(space, genomes)[100:] - 1.0
    assert np.mean(np.abs(relative) <= 0.1) > 0.9
    assert (prediction.std > 0).all()
    assert fitted.predict(space, genomes[:100]).in_range.all()


def test_report_is_of_networks_kept_out_of_the_fit(fitted):
    report = fitted.report()
    assert report["n"] == 20
    assert set(report) >= {
        "within_5_percent", "within_10_percent", "rmse", "mape", "kendall_tau", "spearman", "coverage_1sd",
    }  # fmt: skip
    assert report["within_10_percent"] > 0.8


def test_nothing_held_out_makes_no_report(space, genomes):
    values = latencies(space, genomes)[:40]
    assert NetworkCostModel.fit(space, genomes[:40], values, device="toy", held_out=0.0).report() == {}


def test_choices_that_were_never_measured_are_out_of_range(space, genomes):
    gene = int(np.argmax([len(gene.values) for gene in space.genes]))
    without = genomes[genomes[:, gene] != 1]
    model = NetworkCostModel.fit(space, without[:60], latencies(space, without)[:60], device="toy", held_out=0.0)
    with_it = genomes[genomes[:, gene] == 1]
    assert len(with_it) > 5
    assert not model.predict(space, with_it).in_range.any()


def test_stored_model_predicts_and_reports_the_same(space, genomes, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = NetworkCostModel.load(tmp_path / "model")
    assert loaded.report() == fitted.report()
    assert (loaded.device, loaded.quantity, loaded.weights) == ("toy", "latency_ms", fitted.weights)
    before, after = fitted.predict(space, genomes), loaded.predict(space, genomes)
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-12)
    np.testing.assert_allclose(after.std, before.std, rtol=1e-12)
    assert np.array_equal(after.in_range, before.in_range)


def test_broken_or_foreign_folders_are_refused(fitted, tmp_path):
    with pytest.raises(PredictorError, match="no readable"):
        NetworkCostModel.load(tmp_path)
    fitted.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(PredictorError, match="another version"):
        NetworkCostModel.load(tmp_path)
    (tmp_path / "model.json").write_text(text)
    (tmp_path / "arrays.npz").write_bytes(b"not an archive")
    with pytest.raises(PredictorError, match="no readable"):
        NetworkCostModel.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[:-1], "genomes and latency_ms of shape"),
        (lambda values: np.where(np.arange(40) == 7, np.nan, values), "nan in row 7"),
        (lambda values: np.where(np.arange(40) == 7, 0.0, values), "0 in row 7"),
    ],
)
def test_bad_measurements_are_refused(space, genomes, change, message):
    with pytest.raises(PredictorError, match=message):
        NetworkCostModel.fit(space, genomes[:40], change(latencies(space, genomes)[:40]), device="toy")


def test_too_few_networks_and_other_spaces_are_refused(space, genomes, fitted):
    values = latencies(space, genomes)
    with pytest.raises(PredictorError, match="at least 30"):
        NetworkCostModel.fit(space, genomes[:12], values[:12], device="toy")
    with pytest.raises(PredictorError, match=r"held_out is 0\.9"):
        NetworkCostModel.fit(space, genomes[:40], values[:40], device="toy", held_out=0.9)
    with pytest.raises(SpaceError):
        NetworkCostModel.fit(space, genomes[:40] + np.int16(50), values[:40], device="toy")
    other = spaces.get("fbnet", "tiny")
    with pytest.raises(PredictorError, match="fitted on space"):
        fitted.predict(other, other.sample(2, np.random.default_rng(0)))
    with pytest.raises(PredictorError, match="not fitted"):
        NetworkCostModel(device="toy").predict(space, genomes)


def test_totals_by_sites_are_those_of_the_ops(space, genomes):
    features = NetworkFeatures(space)
    table = features.matrix(genomes[:5])
    assert table.shape == (5, len(features.names))
    for row, genome in zip(table, genomes[:5], strict=True):
        ops = space.ops(space.decode(genome))
        np.testing.assert_allclose(row[-len(TOTALS) :], np.log1p(op_totals(ops)), rtol=1e-9)
        assert row[features.names.index("macs")] == pytest.approx(np.log1p(sum(op.macs for op in ops)))


def test_spaces_without_sites_are_asked_for_their_ops():
    cells = spaces.get("nas_bench_101", "tiny")
    genomes = cells.canonical(cells.sample(6, np.random.default_rng(0)))
    features = NetworkFeatures(cells)
    macs = features.matrix(genomes)[:, features.names.index("macs")]
    np.testing.assert_allclose(macs, np.log1p(cells.macs(genomes).astype(float)), rtol=1e-9)


def test_inactive_genes_make_no_difference_and_a_space_of_genes_alone_has_features():
    toy = GeneSpace(
        [Gene("depth", (1, 2)), Gene("kernel", (3, 5), when=(When("depth", (2,)),)), Gene("act", ("relu", "silu"))],
        name="toy",
    )
    features = NetworkFeatures(toy)
    rows = features.matrix(np.array([[0, 0, 1], [1, 0, 1]], dtype=np.int16))
    assert features.names[:6] == ("depth=1", "depth=2", "kernel=3", "kernel=5", "act=relu", "act=silu")
    assert rows[0].tolist() == [1, 0, 0, 0, 0, 1, 1, 0, 1]
    assert rows[1].tolist() == [0, 1, 1, 0, 0, 1, 2, 3, 1]


@pytest.mark.data
def test_half_a_thousand_measured_networks_beat_least_squares_on_a_disturbed_device():
    if not DATA.exists():
        pytest.skip(f"needs {DATA}")
    with np.load(DATA, allow_pickle=False) as data:
        rows, latency_ms = data["arch"], data["latency_ms"][:, 3].astype(np.float64)
    ofa = spaces.get("ofa_mobilenetv3", "w1.0")
    columns = [[gene.index(int(value)) for value in column] for gene, column in zip(ofa.genes, rows.T, strict=True)]
    genomes = ofa.canonical(np.array(columns, dtype=np.int16).T)
    model = NetworkCostModel.fit(ofa, genomes[:500], latency_ms[:500], device="titan_xp_1", held_out=0.0)
    prediction = model.predict(ofa, genomes[500:])
    table = NetworkFeatures(ofa).matrix(genomes)
    table = np.concatenate([(table - table.mean(0)), np.ones((len(table), 1))], axis=1)
    plain = np.linalg.solve(table[:500].T @ table[:500] + np.eye(table.shape[1]), table[:500].T @ latency_ms[:500])
    ours, theirs = (
        np.mean(np.abs(mean / latency_ms[500:] - 1.0) <= 0.1) for mean in (prediction.mean, table[500:] @ plain)
    )
    assert ours > 0.72
    assert ours > theirs + 0.04
