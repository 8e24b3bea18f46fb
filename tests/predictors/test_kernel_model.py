from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError, DeviceError, PredictorError, SpaceError
from archsmith.hwmodels.cost import CostModel
from archsmith.hwmodels.fusion import FusionRules, label
from archsmith.hwmodels.measure.onnx_runtime import OnnxRuntimeTimer
from archsmith.hwmodels.measure.timer import TimerSettings
from archsmith.hwmodels.measurement import Measurement
from archsmith.predictors.contracts import Regressor
from archsmith.predictors.cost.kernel_features import FEATURES, group_of, kernel_rows
from archsmith.predictors.cost.kernel_fitting import KernelSettings, fit_kernels
from archsmith.predictors.cost.kernel_regression import LogProcess
from archsmith.predictors.cost.kernel_suite import SUITE, KernelPrior, network_kernels, suite_spaces, variant
from archsmith.predictors.cost.kernel_times import KernelRegression
from archsmith.predictors.cost.kernels import KernelModel, MeasuredNetworks
from archsmith.spaces.op import Tensor, make_op

TRUE_RULES = FusionRules(
    chains=frozenset({
        ("conv2d", "batch_norm"), ("conv2d", "batch_norm", "activation:relu"),
        ("conv2d:depthwise", "batch_norm"), ("linear", "activation:gelu"),
    })
)  # fmt: skip
FEW = KernelSettings(kernels=60, rounds=1, kernels_per_round=12, networks=12, held_out_networks=6, prior_networks=30)


class FusingDevice:
    """Times a network as the sum of its fused kernels, each a roofline with tiles of eight channels, plus a start."""

    device = "fusing"
    start_ms, entry_ms = 0.004, 0.002

    def __init__(self, fails_after=None):
        self.conditions = {"runtime": "simulated"}
        self.measured = 0
        self.fails_after = fails_after

    def cost_ms(self, ops):
        total = self.start_ms
        for kernel in TRUE_RULES.kernels(ops):
            macs = sum(op.macs for op in kernel)
            moved = kernel[0].input_bytes + kernel[-1].output_bytes + sum(op.weight_bytes for op in kernel)
            channels = kernel[0].output.shape[0]
            total += self.entry_ms + max(macs * (-(-channels // 8) * 8 / channels) / 2e6, moved / 4e5)
        return total

    def measure(self, ops):
        if self.fails_after is not None and self.measured >= self.fails_after:
            raise DeviceError("fusing: the device went away; connect it again.")
        self.measured += 1
        return Measurement(
            quantity="latency_ms", value=self.cost_ms(ops), iqr=0.0, repeats=1, device=self.device,
            source="measured:simulated",
        )  # fmt: skip

    def state(self):
        return {}

    def restore(self, state):
        assert state == {}


class BatchDevice(FusingDevice):
    """Takes many subjects at once."""

    calls = 0

    def measure_many(self, subjects):
        self.calls += 1
        for ops in subjects:
            yield self.measure(ops)


@pytest.fixture(scope="module")
def tiny_spaces():
    return [spaces.get("mobilenet", "tiny"), spaces.get("vit", "tiny")]


@pytest.fixture(scope="module")
def model(tiny_spaces):
    return fit_kernels(FusingDevice(), FEW, spaces=tiny_spaces)


def truth(space, genomes):
    device = FusingDevice()
    return np.array([device.cost_ms(space.ops(space.decode(genome))) for genome in genomes])


def test_probing_finds_the_chains_that_the_device_fuses(model):
    assert TRUE_RULES.chains <= model.rules.chains
    heavy = [chain for chain in model.rules.chains if chain[0] in ("conv2d", "conv2d:depthwise")]
    assert ("conv2d:depthwise", "batch_norm", "activation:relu") not in heavy


def test_unmeasured_networks_are_predicted_with_a_stated_error(model, tiny_spaces):
    assert isinstance(model, CostModel)
    for space in tiny_spaces:
        genomes = space.sample(100, np.random.default_rng(9))
        found = model.predict(space, genomes)
        error = found.mean / truth(space, genomes) - 1
        assert np.mean(np.abs(error) <= 0.1) >= 0.95
        assert (found.std > 0).all()
        assert found.source == "predicted:kernels"
    report = model.report()
    assert report["n"] == 12
    assert report["within_10_percent"] >= 0.9
    assert {"kendall_tau", "spearman", "rmse", "coverage_1sd", "coverage_2sd", "kernel_within_10_percent"} <= set(
        report
    )


def test_compiled_model_sums_exactly_what_the_kernels_cost(model, tiny_spaces):
    for space in tiny_spaces:
        genomes = space.sample(20, np.random.default_rng(1))
        compiled = model.compile(space).predict(space, genomes)
        for genome, mean in zip(genomes, compiled.mean, strict=True):
            kernels = network_kernels(space, genome, model.rules)
            times = model.regression.predict(kernels)
            inside = model.context.inside_ms(kernels, times.mean_ms)
            assert model.context.empty_ms + inside.sum() == pytest.approx(mean, rel=1e-9)


def test_space_without_sites_is_predicted_network_by_network(model):
    space = spaces.get("regnet", "tiny")
    assert space.sites() is None
    genomes = space.sample(5, np.random.default_rng(0))
    found = model.predict(space, genomes)
    assert found.mean.shape == (5,)
    # No network of that space was measured: the stated error is that of spaces left out.
    assert (found.std >= model.relative_std[""] * found.mean - 1e-12).all()


def test_kernels_far_from_all_measured_ones_are_out_of_range(model):
    large = spaces.get("mobilenet", "edge64")
    found = model.predict(large, large.sample(10, np.random.default_rng(0)))
    assert not found.in_range.any()
    small = spaces.get("mobilenet", "tiny")
    assert model.predict(small, small.sample(50, np.random.default_rng(0))).in_range.mean() > 0.5


def test_saved_model_predicts_the_same(model, tiny_spaces, tmp_path):
    model.save(tmp_path)
    loaded = KernelModel.load(tmp_path)
    assert loaded.report() == model.report()
    assert loaded.identity == model.identity
    for space in tiny_spaces:
        genomes = space.sample(20, np.random.default_rng(0))
        first, second = model.predict(space, genomes), loaded.predict(space, genomes)
        assert np.array_equal(first.mean, second.mean)
        assert np.array_equal(first.std, second.std)
        assert np.array_equal(first.in_range, second.in_range)


def test_missing_or_foreign_folder_is_a_clear_error(model, tmp_path):
    with pytest.raises(PredictorError, match="no readable kernel model"):
        KernelModel.load(tmp_path)
    model.save(tmp_path)
    content = json.loads((tmp_path / "kernels.json").read_text())
    (tmp_path / "kernels.json").write_text(json.dumps(content | {"format": 0}))
    with pytest.raises(PredictorError, match="another version"):
        KernelModel.load(tmp_path)


def test_device_that_went_away_keeps_what_was_measured(tiny_spaces, tmp_path, model):
    with pytest.raises(DeviceError, match="went away"):
        fit_kernels(FusingDevice(fails_after=50), FEW, spaces=tiny_spaces, directory=tmp_path)
    device = FusingDevice()
    resumed = fit_kernels(device, FEW, spaces=tiny_spaces, directory=tmp_path)
    assert device.measured == resumed.details["measurements"] - 50
    assert resumed.report() == model.report()


def test_batches_give_the_same_model(tiny_spaces, model):
    device = BatchDevice()
    assert fit_kernels(device, FEW, spaces=tiny_spaces).report() == model.report()
    assert device.calls < 20 < device.measured


def test_networks_measured_before_are_not_measured_again(tiny_spaces, model):
    measured = []
    for space in tiny_spaces:
        genomes = space.sample(16, np.random.default_rng(3))
        measured.append(MeasuredNetworks(space=space, genomes=genomes, latency_ms=truth(space, genomes), held_out=4))
    given = fit_kernels(FusingDevice(), FEW, spaces=tiny_spaces, networks=measured)
    assert given.details["measurements"] < model.details["measurements"]
    assert given.report()["n"] == 8


@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0])
def test_measurement_that_is_no_time_is_refused(tiny_spaces, value):
    space = tiny_spaces[0]
    genomes = space.sample(3, np.random.default_rng(0))
    with pytest.raises(PredictorError, match=r"1 latencies are not finite and positive.*leave them out"):
        MeasuredNetworks(space=space, genomes=genomes, latency_ms=np.array([1.0, value, 2.0]))
    kernels = network_kernels(space, genomes[0], TRUE_RULES)
    times = np.ones(len(kernels))
    times[0] = value
    with pytest.raises(PredictorError, match=r"1 kernel times are not finite and positive"):
        KernelRegression(kernels, times, rng=np.random.default_rng(0))


def test_too_little_is_refused(tiny_spaces):
    space = tiny_spaces[0]
    genomes = space.sample(4, np.random.default_rng(0))
    with pytest.raises(PredictorError, match="give one latency per genome"):
        MeasuredNetworks(space=space, genomes=genomes, latency_ms=np.ones(3))
    with pytest.raises(SpaceError, match="genomes: got shape"):
        MeasuredNetworks(space=tiny_spaces[1], genomes=genomes, latency_ms=np.ones(4))
    with pytest.raises(PredictorError, match="one time each of at least 8"):
        KernelRegression([], np.zeros(0), rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"kernels\.kernels.*at least 20"):
        dataclasses.replace(FEW, kernels=3)


def test_variants_differ_in_channels_alone():
    rng = np.random.default_rng(0)
    image = Tensor("x", (24, 8, 8))
    dense = make_op("c", "conv2d", image, out_channels=48, kernel=3, padding=1)
    depthwise = make_op("d", "conv2d", image, out_channels=24, kernel=3, padding=1, groups=24)
    linear = make_op("l", "linear", Tensor("t", (10, 32)), out_features=64)
    for op in (dense, depthwise, linear):
        act = make_op("a", "activation", op.output, function="relu")
        for _ in range(20):
            made = variant((op, act), rng)
            assert made is not None
            assert [label(item) for item in made] == [label(op), "activation:relu"]
            old, new = (k[0].output.shape[-1 if op is linear else 0] for k in ((op, act), made))
            assert 0.45 * old <= new <= 1.25 * old
            assert made[0].output.shape[1:] == op.output.shape[1:] or op is linear
    pool = make_op("p", "max_pool2d", image, kernel=2, stride=2)
    assert variant((pool,), rng) is None


def test_prior_covers_every_group_and_starts_from_the_suite(tiny_spaces):
    prior = KernelPrior(tiny_spaces, TRUE_RULES, networks=10, rng=np.random.default_rng(0))
    chosen = prior.choose(40, np.random.default_rng(0))
    assert len(set(chosen)) == len(chosen)
    assert set(prior.groups[chosen]) == set(prior.groups)
    assert [space.preset for space in suite_spaces()] == [preset for _, preset in SUITE]


def test_features_are_finite_and_named(tiny_spaces):
    for space in [*tiny_spaces, spaces.get("hybrid", "tiny"), spaces.get("tdnn", "tiny"), spaces.get("hat", "tiny")]:
        kernels = network_kernels(space, space.sample(1, np.random.default_rng(0))[0], TRUE_RULES)
        rows = kernel_rows(kernels)
        assert rows.shape == (len(kernels), len(FEATURES))
        assert np.isfinite(rows).all()
        assert all(group_of(kernel) for kernel in kernels)


def test_process_leaves_one_out_as_refitting_does():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(25, 3))
    targets = np.sin(features).sum(axis=1) + 0.01 * rng.normal(size=25)
    process = LogProcess()
    assert isinstance(process, Regressor)
    process.fit(features, targets)
    errors, stds = process.leave_one_out()
    state = process.state()
    covariance = state["factor"] @ state["factor"].T
    keep = np.arange(25) != 7
    weights = np.linalg.solve(covariance[np.ix_(keep, keep)], (targets - state["offset"])[keep])
    assert errors[7] == pytest.approx(targets[7] - state["offset"][0] - covariance[7, keep] @ weights, abs=1e-8)
    inner = np.linalg.solve(covariance[np.ix_(keep, keep)], covariance[keep, 7])
    assert stds[7] ** 2 == pytest.approx(covariance[7, 7] - covariance[7, keep] @ inner, rel=1e-6)


def test_process_is_less_certain_away_from_data_and_refuses_bad_data():
    features = np.linspace(0, 1, 20)[:, None]
    process = LogProcess()
    with pytest.raises(PredictorError, match="predict before fit"):
        process.predict(features)
    process.fit(features, np.sin(6 * features[:, 0]))
    _, std = process.predict(np.array([[0.5], [3.0]]))
    assert std[1] > 5 * std[0]
    with pytest.raises(PredictorError, match="not finite"):
        process.fit(features, np.full(20, np.nan))
    with pytest.raises(PredictorError, match="at least 4"):
        process.fit(features[:2], np.ones(2))


def test_real_host_is_fitted_and_states_its_error():
    timer = OnnxRuntimeTimer(settings=TimerSettings(min_repeats=4, max_repeats=8, max_seconds=0.01))
    space = spaces.get("mobilenet", "tiny")
    settings = KernelSettings(
        kernels=40, rounds=1, kernels_per_round=4, networks=6, held_out_networks=3, prior_networks=5
    )  # fmt: skip
    model = fit_kernels(timer, settings, spaces=[space])
    assert ("conv2d", "batch_norm") in model.rules.chains  # ONNX Runtime folds it
    found = model.predict(space, space.sample(20, np.random.default_rng(0)))
    assert (found.mean > 0).all()
    assert (found.std > 0).all()
    assert model.report()["n"] == 3
    assert model.details["conditions"]["runtime"].startswith("onnxruntime")
