"""Few-shot transfer: recovers devices it can, says what it cannot, and refuses what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import PredictorError, SpaceError
from archsmith.hwmodels.cost import CostModel
from archsmith.predictors import FewShotTransfer
from archsmith.predictors.cost.transfer_features import Design, Encoding, codes_of, forms_of
from archsmith.predictors.cost.transfer_model import TransferModel
from archsmith.predictors.cost.transfer_physics import hypothetical_latencies, work_by_kind
from archsmith.predictors.cost.transfer_posterior import condition
from archsmith.predictors.cost.transfer_prior import PARTS, _evidence
from archsmith.predictors.ranking import spearman
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nb201.npz"
HELP_SOURCES = ["1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3",
                "essential_ph_1", "samsung_s7"]  # fmt: skip


@pytest.fixture(scope="module")
def space():
    return spaces.get("nas_bench_201", "tiny")


@pytest.fixture(scope="module")
def genomes(space):
    return np.unique(space.sample(900, np.random.default_rng(0)), axis=0)


def device(genomes, costs, base=2.0):
    """Latency of a device that spends `costs` [5] on the choices; a little more on later edges."""
    return base + (np.asarray(costs)[genomes] * np.linspace(1.0, 1.3, genomes.shape[1])).sum(axis=1)


SOURCES = [(0.0, 0.1, 0.5, 1.0, 0.6), (0.0, 0.3, 0.5, 0.6, 0.5), (0.0, 0.05, 0.4, 3.0, 0.3)]


@pytest.fixture(scope="module")
def table(genomes):
    rng = np.random.default_rng(1)
    clean = np.stack([device(genomes, costs) for costs in SOURCES], axis=1)
    return clean * np.exp(0.03 * rng.standard_normal(clean.shape))


@pytest.fixture(scope="module")
def transfer(space, genomes, table):
    return FewShotTransfer(seed=0).fit(space, genomes, table, names=["gpu", "server", "board"])


@pytest.fixture(scope="module")
def model(transfer, genomes):
    chosen = transfer.suggest(10)
    return transfer.adapt(chosen, device(chosen, (0.0, 0.2, 0.9, 2.5, 0.4)), device="mine")


def test_device_between_the_known_ones_is_ranked_from_ten_measurements(model, space, genomes):
    prediction = model.predict(space, genomes)
    assert isinstance(model, CostModel)
    assert (prediction.quantity, prediction.source, model.device) == ("latency_ms", "predicted:transfer", "mine")
    truth = device(genomes, (0.0, 0.2, 0.9, 2.5, 0.4))
    assert spearman(prediction.mean, truth) > 0.99
    assert np.mean(np.abs(prediction.mean / truth - 1)) < 0.05


@pytest.mark.parametrize("count", [5, 10, 20, 50])
def test_random_measurements_of_any_number_do(transfer, space, genomes, count):
    rows = np.random.default_rng(count).permutation(len(genomes))[:count]
    truth = device(genomes, (0.0, 0.2, 0.9, 2.5, 0.4))
    assert spearman(transfer.adapt(genomes[rows], truth[rows]).predict(space, genomes).mean, truth) > 0.97


def test_monotone_image_of_a_source_is_ranked_like_it(transfer, space, genomes, table):
    chosen = transfer.suggest_rows(10)
    truth = table[:, 1] ** 1.5
    assert spearman(transfer.adapt(genomes[chosen], truth[chosen]).predict(space, genomes).mean, truth) > 0.95


def test_device_unlike_all_sources_is_ranked_from_twenty_measurements(transfer, space, genomes):
    odd = device(genomes, (0.0, 2.0, 0.1, 0.2, 3.0))
    chosen = transfer.suggest_rows(20)
    assert spearman(transfer.adapt(genomes[chosen], odd[chosen]).predict(space, genomes).mean, odd) > 0.95


def test_one_source_is_enough(space, genomes, table):
    transfer = FewShotTransfer().fit(space, genomes, table[:, 0])
    chosen = transfer.suggest_rows(10)
    truth = device(genomes, (0.0, 0.2, 0.9, 2.5, 0.4))
    model = transfer.adapt(genomes[chosen], truth[chosen])
    assert spearman(model.predict(space, genomes).mean, truth) > 0.97
    assert not any(name.startswith("sources_") for name in model.report())


def test_runtime_that_removes_unread_parts_is_recognised(transfer, space, genomes):
    seen = space.exported_form(genomes)
    assert (seen != genomes).any()
    truth = device(seen, (0.0, 0.1, 0.9, 2.0, 0.5))
    rows = np.random.default_rng(0).permutation(len(genomes))[:20]
    model = transfer.adapt(genomes[rows], truth[rows])
    assert model.details["probability_exported"] > 0.9
    assert spearman(model.predict(space, genomes).mean, truth) > 0.98


def test_outlier_among_the_measurements_costs_little(transfer, space, genomes):
    truth = device(genomes, (0.0, 0.2, 0.9, 2.5, 0.4))
    rows = transfer.suggest_rows(12)
    measured = truth[rows].copy()
    measured[4] *= 5
    assert spearman(transfer.adapt(genomes[rows], measured).predict(space, genomes).mean, truth) > 0.95


def test_stated_uncertainty_covers_the_errors(transfer, space, genomes):
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(5):
        costs = np.r_[0.0, np.sort(rng.uniform(0.05, 2.0, 4))]
        truth = device(genomes, costs) * np.exp(0.05 * rng.standard_normal(len(genomes)))
        rows = rng.permutation(len(genomes))[:10]
        prediction = transfer.adapt(genomes[rows], truth[rows]).predict(space, genomes)
        inside.append(np.abs(prediction.mean - truth) <= 2 * prediction.std)
    assert np.mean(inside) >= 0.85


def test_report_speaks_of_measurements_and_of_rehearsed_sources(model):
    report = model.report()
    assert report["n"] == 10
    assert {"kendall_tau", "within_10_percent", "rmse", "coverage_1sd", "sources_spearman"} <= set(report)
    assert report["sources_spearman"] > 0.9


def test_suggestions_are_distinct_rows_and_depend_on_the_seed_alone(transfer, genomes):
    rows = transfer.suggest_rows(30)
    assert len(set(rows.tolist())) == 30
    assert (transfer.suggest(30) == genomes[rows]).all()
    assert (transfer.suggest_rows(30) == rows).all()
    assert (transfer.suggest_rows(30, seed=7) != rows).any()


def test_equal_seeds_give_equal_models(space, genomes, table):
    twice = []
    for _ in range(2):
        transfer = FewShotTransfer(seed=4).fit(space, genomes, table)
        rows = transfer.suggest_rows(8)
        twice.append(transfer.adapt(genomes[rows], table[rows, 0]).predict(space, genomes))
    assert (twice[0].mean == twice[1].mean).all()
    assert (twice[0].std == twice[1].std).all()


def test_choice_that_no_source_saw_is_out_of_range(space, genomes, table):
    known = (genomes != 4).all(axis=1)
    transfer = FewShotTransfer().fit(space, genomes[known], table[known])
    rows = transfer.suggest_rows(8)
    model = transfer.adapt(genomes[known][rows], table[known][rows, 0])
    in_range = model.predict(space, genomes).in_range
    assert in_range[known].mean() > 0.99
    assert not in_range[~known].any()


def test_latencies_are_positive_and_order_is_kept_near_zero(transfer, space, genomes):
    truth = np.maximum(device(genomes, (0.0, 0.2, 0.9, 2.5, 0.4), base=-0.5), 0.001)
    rows = transfer.suggest_rows(10)
    mean = transfer.adapt(genomes[rows], truth[rows]).predict(space, genomes).mean
    assert (mean > 0).all()


def test_saved_model_predicts_the_same(model, space, genomes, tmp_path):
    model.save(tmp_path / "model")
    loaded = TransferModel.load(tmp_path / "model")
    before, after = model.predict(space, genomes), loaded.predict(space, genomes)
    assert (before.mean == after.mean).all()
    assert (before.std == after.std).all()
    assert (before.in_range == after.in_range).all()
    assert (loaded.report(), loaded.details) == (model.report(), model.details)


def test_load_refuses_what_is_no_model(model, tmp_path):
    with pytest.raises(PredictorError, match="no readable transfer model"):
        TransferModel.load(tmp_path)
    model.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(PredictorError, match="another version"):
        TransferModel.load(tmp_path)


@pytest.mark.parametrize(
    ("genes", "options"),
    [
        ("fbnet", {}),
        ("ofa_mobilenetv3", {}),
        ("mobilenet", {}),
    ],
)
def test_other_families_work_with_inactive_genes_and_sites(genes, options):
    space = spaces.get(genes, spaces.presets(genes)[-1], **options)
    genomes = np.unique(space.sample(300, np.random.default_rng(0)), axis=0)
    macs = space.macs(genomes).astype(float)
    params = space.params(genomes).astype(float)
    table = np.stack([macs / macs.mean() + 0.1, macs / macs.mean() + params / params.mean()], axis=1)
    transfer = FewShotTransfer().fit(space, genomes, table)
    rows = transfer.suggest_rows(10)
    truth = 2 * macs / macs.mean() + 0.5 * params / params.mean()
    prediction = transfer.adapt(genomes[rows], truth[rows]).predict(space, genomes)
    assert spearman(prediction.mean, truth) > 0.85


def test_space_of_genes_alone_works_without_physics():
    space = GeneSpace([Gene(f"g{i}", (1, 2, 4)) for i in range(5)], name="toy")
    genomes = np.unique(space.sample(200, np.random.default_rng(0)), axis=0)
    assert work_by_kind(space, genomes) is None
    table = np.stack([1.0 + genomes.sum(axis=1), 1.0 + genomes @ np.arange(5)], axis=1)
    transfer = FewShotTransfer().fit(space, genomes, table)
    rows = transfer.suggest_rows(8)
    truth = 3.0 + genomes @ np.array([1.0, 1.5, 2.0, 2.0, 2.5])
    assert spearman(transfer.adapt(genomes[rows], truth[rows]).predict(space, genomes).mean, truth) > 0.95


# --- bad input --------------------------------------------------------------------------------------------------------


def test_unfitted_transfer_says_so(genomes):
    with pytest.raises(PredictorError, match="call fit"):
        FewShotTransfer().suggest(10)
    with pytest.raises(PredictorError, match="call fit"):
        FewShotTransfer().adapt(genomes[:10], np.ones(10))


def test_too_few_measurements_are_refused(transfer, genomes):
    with pytest.raises(PredictorError, match=r"4 different architectures; at least 5"):
        transfer.adapt(genomes[:4], np.arange(1.0, 5.0))
    with pytest.raises(PredictorError, match=r"1 different architectures"):
        transfer.adapt(np.repeat(genomes[:1], 10, axis=0), np.arange(1.0, 11.0))


@pytest.mark.parametrize("wrong", [np.nan, 0.0, -1.0, np.inf])
def test_wrong_measurements_are_refused(transfer, space, genomes, table, wrong):
    measured = np.arange(1.0, 11.0)
    measured[3] = wrong
    with pytest.raises(PredictorError, match="measurement 3 is"):
        transfer.adapt(genomes[:10], measured)
    spoilt = table.copy()
    spoilt[7, 1] = wrong
    with pytest.raises(PredictorError, match="latency of genome 7 on server"):
        FewShotTransfer().fit(space, genomes, spoilt, names=["gpu", "server", "board"])


def test_shapes_that_do_not_fit_are_refused(transfer, space, genomes, table):
    with pytest.raises(PredictorError, match="one latency per genome"):
        transfer.adapt(genomes[:10], np.ones(9))
    with pytest.raises(PredictorError, match="one name per device"):
        FewShotTransfer().fit(space, genomes, table, names=["gpu"])
    with pytest.raises(PredictorError, match="one name per device"):
        FewShotTransfer().fit(space, genomes[:100], table)
    with pytest.raises(PredictorError, match="at least 20"):
        FewShotTransfer().fit(space, genomes[:10], table[:10])
    with pytest.raises(PredictorError, match="all latencies on device 0 are equal"):
        FewShotTransfer().fit(space, genomes, np.ones((len(genomes), 1)))


def test_suggesting_more_than_there_are_is_refused(transfer, genomes):
    for count in (0, len(genomes) + 1):
        with pytest.raises(PredictorError, match="suggest: asked for"):
            transfer.suggest(count)


def test_another_space_is_refused(transfer, model, genomes):
    other = spaces.get("nas_bench_201", "digits")
    with pytest.raises(PredictorError, match="was fitted on space nas_bench_201"):
        model.predict(other, genomes)
    with pytest.raises(SpaceError):
        transfer.adapt(genomes[:10] + 5, np.arange(1.0, 11.0))


def test_equal_measurements_still_give_a_model(transfer, space, genomes):
    prediction = transfer.adapt(genomes[:10], np.full(10, 3.0)).predict(space, genomes)
    assert np.isfinite(prediction.mean).all()
    assert (prediction.std > 0).all()


# --- the parts --------------------------------------------------------------------------------------------------------


def test_similarities_are_the_inner_products_of_centred_one_hot_codes(space, genomes):
    codes = codes_of(space, genomes[:300], "as_is")
    encoding = Encoding.of(space, codes)
    hot = np.eye(6)[codes] - np.stack(encoding.frequencies)
    each = np.einsum("agv,bgv->gab", hot, hot)
    pairs = sum(each[i] * each[j] for i in range(6) for j in range(i))
    single, double = encoding.similarity(codes, codes)
    np.testing.assert_allclose(single / single[0, 0], each.sum(axis=0) / each.sum(axis=0)[0, 0], atol=1e-9)
    np.testing.assert_allclose(double / double[0, 0], pairs / pairs[0, 0], atol=1e-9)
    np.testing.assert_allclose(encoding.own(codes), [np.diag(single), np.diag(double)], atol=1e-9)
    assert np.diag(single).mean() == pytest.approx(1.0)


def test_design_multiplies_plain_columns(space, genomes):
    codes = codes_of(space, genomes, "as_is")
    design = Design.of(codes, [(0, 1)])
    matrix = design.matrix(codes)
    assert matrix.shape == (len(codes), 6 * 4 + 16)
    left, right = design.products[5]
    np.testing.assert_array_equal(matrix[:, 24 + 5], matrix[:, left] * matrix[:, right])


def test_evidence_gradient_is_its_slope():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((len(PARTS), 12, 4))
    parts = factors @ factors.transpose(0, 2, 1)
    target, at = rng.standard_normal(12), np.log(np.linspace(0.1, 1.0, len(PARTS)))
    _, gradient = _evidence(at, parts, target)
    for part in range(len(PARTS)):
        step = np.eye(len(PARTS))[part] * 1e-5
        slope = (_evidence(at + step, parts, target)[0] - _evidence(at - step, parts, target)[0]) / 2e-5
        assert gradient[part] == pytest.approx(slope, rel=1e-4)


def test_hypothetical_devices_cost_more_for_more_work(space, genomes):
    work = work_by_kind(space, genomes[:50])
    assert work is not None
    np.testing.assert_array_equal(work[:, :, 1].sum(axis=1), space.macs(genomes[:50]))
    rng = np.random.default_rng(0)
    doubled = hypothetical_latencies(np.concatenate([work, 2 * work]), 8, rng)
    np.testing.assert_allclose(doubled[50:], 2 * doubled[:50])


def test_left_out_predictions_match_a_mixture_without_that_measurement(transfer, genomes):
    """With the heavy tail and the weights refitted they are close, not equal."""
    fitted = transfer._fitted()
    rows = transfer.suggest_rows(15)
    truth = device(genomes[rows], (0.0, 0.2, 0.9, 2.5, 0.4))
    everything = condition(fitted.kernel, {form: codes[rows] for form, codes in fitted.codes.items()}, truth)
    without = condition(fitted.kernel, {form: codes[rows[1:]] for form, codes in fitted.codes.items()}, truth[1:])
    mean, _ = without.predict(
        fitted.kernel,
        {form: codes[rows[1:]] for form, codes in fitted.codes.items()},
        {form: codes[rows[:1]] for form, codes in fitted.codes.items()},
    )
    assert everything.left_out[0, 0] == pytest.approx(mean[0], rel=0.2)


def test_only_spaces_with_dead_parts_have_several_forms(space, genomes):
    assert forms_of(space, genomes) == ("as_is", "exported", "pruned")
    fbnet = spaces.get("fbnet", "tiny")
    assert forms_of(fbnet, fbnet.sample(50, np.random.default_rng(0))) == ("as_is",)


# --- real data --------------------------------------------------------------------------------------------------------


def test_removing_unread_parts_changes_no_computation(space, genomes):
    exported = space.exported_form(genomes)
    assert (space.keys(exported) == space.keys(genomes)).all()
    assert (space.exported_form(exported) == exported).all()
    unread = space.encode(space.architecture(dict.fromkeys(("edges.0-3", "edges.1-3", "edges.2-3"), "none")))
    assert not space.exported_form(unread[None]).any()


@pytest.mark.data
@pytest.mark.slow
def test_unseen_devices_of_nas_bench_201_reach_the_published_figure():
    if not TABLE.exists():
        pytest.skip(f"needs {TABLE}")
    with np.load(TABLE, allow_pickle=False) as data:
        genomes, latency = data["ops"].astype(np.int16), data["latency_ms"].astype(np.float64)
        names = list(data["latency_names"])
    space = spaces.get("nas_bench_201")
    transfer = FewShotTransfer().fit(space, genomes, latency[:, [names.index(name) for name in HELP_SOURCES]])
    rows = transfer.suggest_rows(10)
    rest = np.setdiff1d(np.arange(len(genomes)), rows)
    ranks = []
    for name in sorted(set(names) - set(HELP_SOURCES)):
        truth = latency[:, names.index(name)]
        model = transfer.adapt(genomes[rows], truth[rows], device=name)
        ranks.append(spearman(model.predict(space, genomes[rest]).mean, truth[rest]))
    assert np.mean(ranks) > 0.978
