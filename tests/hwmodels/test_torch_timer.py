from __future__ import annotations

import numpy as np
import pytest
import torch

from archsmith.errors import ConfigError, DeviceError
from archsmith.hwmodels.measure.memory import measure_memory
from archsmith.hwmodels.measure.timer import Timer, TimerSettings, reference_ops
from archsmith.hwmodels.measure.torch_timer import TorchCpuTimer, TorchCudaTimer
from archsmith.hwmodels.memory import memory_use
from archsmith.spaces import get
from archsmith.spaces.op import Tensor, make_op

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_cpu_measurement_carries_value_and_conditions_and_leaves_threads_alone():
    before = torch.get_num_threads()
    timer = TorchCpuTimer(settings=TimerSettings(min_repeats=16, max_repeats=32, threads=before + 1))
    found = timer.measure(reference_ops())
    assert isinstance(timer, Timer)
    assert (found.quantity, found.device, found.source) == ("latency_ms", "host", "measured:torch-cpu")
    assert found.value > 0
    assert found.conditions["runtime"] == f"torch {torch.__version__}"
    assert found.conditions["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_bigger_batch_and_other_type_are_run():
    timer = TorchCpuTimer(settings=TimerSettings(min_repeats=8, max_repeats=16, data_type="bfloat16", batch=3))
    small = make_op("small", "conv2d", Tensor("x", (8, 8, 8)), out_channels=8, kernel=3, padding=1)
    large = make_op("large", "conv2d", Tensor("x", (64, 32, 32)), out_channels=128, kernel=3, padding=1)
    assert timer.measure((large,)).value > 2 * timer.measure((small,)).value
    assert (timer.conditions["dtype"], timer.conditions["batch"]) == ("bfloat16", 3)


def test_data_type_that_torch_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"data_type: got 'int8'; allowed: one of float32, float16, bfloat16"):
        TorchCpuTimer(settings=TimerSettings(data_type="int8"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_cuda_device_is_a_clear_error():
    with pytest.raises(
        DeviceError, match=r"CUDA device 0 is not here.*install a torch with CUDA, or measure on 'host'"
    ):
        TorchCudaTimer("gpu")
    with pytest.raises(ConfigError, match="graph or eager"):
        TorchCudaTimer("gpu", launch="lazy")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("family", ["mobilenet", "mobilenetv3", "resnet"])
def test_measured_memory_is_the_modelled_one(family):
    space = get(family, "tiny")
    for genome in space.sample(5, np.random.default_rng(0)):
        ops = space.ops(space.decode(genome))
        found = measure_memory(ops)
        assert (found.quantity, found.source) == ("memory_bytes", "measured:torch-storages")
        # Apart from the folded norms' parameters, what is modelled is what is held.
        assert found.value == pytest.approx(memory_use(ops).total_bytes, rel=0.05)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("launch", ["graph", "eager"])
def test_cuda_latency_repeats(launch):
    space = get("mobilenet", "digits")
    ops = space.ops(space.decode(space.largest()))
    timer = TorchCudaTimer("gpu", launch=launch)
    first, second = timer.measure(ops), timer.measure(ops)
    assert first.value > 0
    assert second.value == pytest.approx(first.value, rel=0.2)


@pytest.mark.gpu
@cuda
def test_cuda_memory_holds_at_least_the_weights():
    space = get("mobilenet", "digits")
    ops = space.ops(space.decode(space.largest()))
    assert measure_memory(ops, place="cuda").value >= memory_use(ops).weight_bytes
