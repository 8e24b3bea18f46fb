"""The roofline model: closed form on single Ops, exact sums over a population, honest about what it lacks."""

from __future__ import annotations

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import DeviceError
from archsmith.hwmodels.catalog import get
from archsmith.hwmodels.device import load_device
from archsmith.hwmodels.energy import EnergyModel, EnergyTerms
from archsmith.hwmodels.roofline import RELATIVE_STD, RooflineModel
from archsmith.hwmodels.traffic import traffic
from archsmith.spaces.op import Tensor, make_op, total_macs

TOY = """
name: toy
title: A toy
kind: cpu
peak_gmacs_per_s: {float32: {value: 10, source: test}}
memory_bandwidth_gb_per_s: {value: 2, source: test}
launch_overhead_us: {value: 3, source: test}
"""


def test_compute_bound_op_costs_macs_over_peak_plus_launch() -> None:
    model = RooflineModel(load_device(TOY))
    conv = make_op("conv", "conv2d", Tensor("x", (64, 32, 32)), out_channels=64, kernel=3, padding=1)
    assert conv.macs / 10e9 > (conv.input_bytes + conv.output_bytes + conv.weight_bytes) / 2e9
    assert model.latency_ms((conv,)) == pytest.approx(1e3 * conv.macs / 10e9 + 3e-3, rel=1e-12)


def test_memory_bound_op_costs_bytes_over_bandwidth_and_fused_ops_launch_nothing() -> None:
    model = RooflineModel(load_device(TOY))
    pointwise = make_op("conv", "conv2d", Tensor("x", (2, 32, 32)), out_channels=2, kernel=1)
    norm = make_op("norm", "batch_norm", pointwise.output)
    moved = pointwise.input_bytes + pointwise.output_bytes + pointwise.weight_bytes + norm.weight_bytes
    assert model.latency_ms((pointwise, norm)) == pytest.approx(1e3 * moved / 2e9 + 3e-3, rel=1e-12)


def test_population_equals_the_ops_of_each_architecture() -> None:
    space = spaces.get("mobilenet", "tiny")
    model = RooflineModel(get("raspberry_pi_4"))
    genomes = space.sample(20, np.random.default_rng(0))
    predicted = model.predict(space, genomes)
    expected = [model.latency_ms(space.ops(space.decode(genome))) for genome in genomes]
    assert predicted.mean == pytest.approx(expected, rel=1e-12)
    assert predicted.std == pytest.approx(RELATIVE_STD * np.array(expected))
    assert predicted.source == "predicted:roofline"


def test_device_without_a_rate_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"'bare' has no peak_gmacs_per_s\.float32"):
        RooflineModel(load_device("name: bare\ntitle: A bare one\nkind: cpu"))


def test_data_type_sets_rate_and_bytes() -> None:
    text = TOY.replace("{float32: {value: 10, source: test}}", "{int8: {value: 40, source: test}}")
    model = RooflineModel(load_device(text))
    assert model.data_type == "int8"
    pointwise = make_op("conv", "conv2d", Tensor("x", (2, 32, 32)), out_channels=2, kernel=1)
    moved = pointwise.input_bytes + pointwise.output_bytes + pointwise.weight_bytes
    assert model.latency_ms((pointwise,)) == pytest.approx(1e3 * moved / 4 / 2e9 + 3e-3, rel=1e-12)
    conv = make_op("conv", "conv2d", Tensor("x", (64, 32, 32)), out_channels=64, kernel=3, padding=1)
    assert model.latency_ms((conv,)) == pytest.approx(1e3 * conv.macs / 40e9 + 3e-3, rel=1e-12)
    with pytest.raises(DeviceError, match=r"no peak_gmacs_per_s\.float32 \(it has int8\)"):
        RooflineModel(load_device(text), "float32")


@pytest.mark.parametrize("family", ["regnet", "nas_bench_101", "hierarchical"])
def test_space_without_sites_is_looked_through(family) -> None:
    space = spaces.get(family, "tiny")
    assert space.sites() is None
    device = get("raspberry_pi_5")
    latency = RooflineModel(device)
    genomes = space.sample(6, np.random.default_rng(0))
    ops = [space.ops(space.decode(genome)) for genome in genomes]
    found = latency.predict(space, genomes).mean
    assert found.tolist() == [latency.latency_ms(item) for item in ops]
    energy = EnergyModel(device, latency).predict(space, genomes).mean
    terms = EnergyTerms.of(device, "float32")
    for row, item in enumerate(ops):
        work = np.array([total_macs(item), traffic(item).weight_bytes, traffic(item).activation_bytes, found[row]])
        assert energy[row] == pytest.approx(work @ terms.coefficients, rel=1e-12)
