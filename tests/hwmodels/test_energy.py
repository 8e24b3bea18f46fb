from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from archsmith.errors import DeviceError, PredictorError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.cost import CostModel, Prediction
from archsmith.hwmodels.device import load_device
from archsmith.hwmodels.energy import EnergyModel, bytes_moved, fused
from archsmith.spaces.op import Tensor, make_op, total_macs

DEVICE = load_device(
    """
name: toy
title: A toy
kind: cpu
energy_per_mac_pj: {float32: {value: 10, source: test}}
energy_per_byte_pj: {value: 100, source: test}
idle_power_w: {value: 2, source: test}
energy_relative_std: {value: 0.3, source: test}
"""
)


class ConstantLatency:
    quantity = "latency_ms"
    device = "toy"

    def predict(self, space, genomes):
        n = len(genomes)
        return Prediction(
            quantity="latency_ms", mean=np.full(n, 5.0), std=np.full(n, 0.5), source="predicted:test",
            in_range=np.arange(n) > 0,
        )  # fmt: skip

    def report(self):
        return {}


def _conv_norm_act():
    conv = make_op("conv", "conv2d", Tensor("x", (2, 4, 4)), out_channels=3, kernel=1)
    norm = make_op("norm", "batch_norm", conv.output)
    return (conv, norm, make_op("act", "activation", norm.output, function="relu"))


def test_fused_ops_move_weights_only():
    ops = _conv_norm_act()
    assert fused(ops) == (False, True, True)
    # input 2*16, output 3*16, weights 6, norm 6 floats
    assert bytes_moved(ops) == 4 * (32 + 48 + 6 + 6)
    assert fused(ops[2:]) == (False,)


def test_energy_is_work_plus_traffic_plus_waiting(tiny):
    model = EnergyModel(DEVICE, ConstantLatency())
    genomes = tiny.sample(30, np.random.default_rng(0))
    found = model.predict(tiny, genomes)
    for row, genome in enumerate(genomes):
        ops = tiny.ops(tiny.decode(genome))
        millijoules = 1e-9 * (10 * total_macs(ops) + 100 * bytes_moved(ops)) + 2 * 5.0
        assert found.mean[row] == pytest.approx(millijoules, rel=1e-12)
    assert found.std == pytest.approx(np.hypot(0.3 * found.mean, 2 * 0.5))
    assert found.source == "predicted:energy-model"
    assert found.in_range.tolist() == [False] + [True] * 29
    assert isinstance(model, CostModel)
    assert model.report() == {}


def test_missing_term_or_foreign_latency_is_an_error():
    with pytest.raises(DeviceError, match="'toy' has no idle_power_w"):
        EnergyModel(dataclasses.replace(DEVICE, idle_power_w=None), ConstantLatency())
    with pytest.raises(PredictorError, match="needs latency_ms on host; got latency_ms on toy"):
        EnergyModel(catalog.get("host"), ConstantLatency())
