"""The timer of a device elsewhere: batches, one scale, second measurements, and what it says while nobody measures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError, DeviceError
from archsmith.hwmodels.energy_probing import EnergySource
from archsmith.hwmodels.latency import LatencySettings, fit_latency
from archsmith.hwmodels.measure.packing import pack_ops
from archsmith.hwmodels.measure.timer import NetworkTimer, Timer, TimerSettings, reference_ops
from archsmith.hwmodels.probing import BatchTimer, ProbeSettings
from archsmith.search.pipeline.contracts import DeviceLab
from archsmith.service.agent import Bench
from archsmith.service.measuring import Lab, RemoteTimer, Waiting, check_device_name, describe
from archsmith.service.store.device_tasks import DeviceTask
from archsmith.service.store.store import Store
from archsmith.spaces.op import Op, Tensor, make_op

INFO = {"runtime": "onnxruntime 1", "cpu": "a board"}


def ops(width: int) -> tuple[Op, ...]:
    return (make_op("head", "linear", Tensor("x", (width,)), out_features=3),)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/archsmith.db", tmp_path / "artifacts") as opened:
        opened.tasks.hello("board", INFO)
        yield opened


def quiet(message: str) -> None:
    """Nobody listens."""


def lab(store: Store, patience_s: float | None = 30.0) -> Lab:
    return Lab(store, patience_s=patience_s, server="http://here:1")


def timer(store: Store, patience_s: float | None = 30.0, **changes: Any) -> RemoteTimer:
    made = lab(store, patience_s).timer("board", TimerSettings(**changes), quiet)
    assert made is not None
    return made


def answer(store: Store, latency: Any, limit: int = 10_000, **changes: Any) -> int:
    """Do what an agent does for all open tasks; `latency` tells the latency_ms of each."""
    done = 0
    while done < limit and (held := store.tasks.claim("board", "agent", 60.0)):
        lease, task = held
        result = {"latency_ms": latency(task), "iqr_ms": 0.1, "repeats": 96, "precision": 0.01, "noisy": False}
        result |= {"reference_ms": 0.5, "slowdown": 1.0, "conditions": {"threads": 1, **INFO}}
        store.tasks.finish(lease, result | changes)
        done += 1
    return done


def test_contracts_are_kept(sqlite: Store) -> None:
    made = timer(sqlite)
    assert isinstance(made, Timer)
    assert isinstance(made, BatchTimer)
    kept: DeviceLab = lab(sqlite)
    assert kept.device("nobody") is None
    assert kept.timer("nobody", TimerSettings(), quiet) is None


def test_lab_without_patience_asks_once_and_comes_again(sqlite: Store) -> None:
    for _ in range(2):
        with pytest.raises(Waiting, match="2 measurements left"):
            list(timer(sqlite, None).measure_many([ops(4), ops(5)]))
    assert len(sqlite.tasks.open("board")) == 2
    answer(sqlite, lambda task: 2.0)
    values = [item.value for item in timer(sqlite, None).measure_many([ops(5), ops(4)])]
    assert values == [2.0, 2.0]


def test_second_time_the_same_is_asked_for_it_is_measured_again(sqlite: Store) -> None:
    made = timer(sqlite, None)
    with pytest.raises(Waiting):
        made.measure(ops(4))
    answer(sqlite, lambda task: 1.0)
    again = timer(sqlite, None)
    assert again.measure(ops(4)).value == 1.0
    with pytest.raises(Waiting):
        again.measure(ops(4))
    assert answer(sqlite, lambda task: 3.0) == 1
    replayed = timer(sqlite, None)
    assert [replayed.measure(ops(4)).value for _ in range(2)] == [1.0, 3.0]


def test_other_conditions_are_measured_anew(sqlite: Store) -> None:
    with pytest.raises(Waiting):
        timer(sqlite, None).measure(ops(4))
    answer(sqlite, lambda task: 1.0)
    with pytest.raises(Waiting):
        timer(sqlite, None, threads=2).measure(ops(4))
    sqlite.tasks.hello("board", INFO | {"runtime": "onnxruntime 2"})
    with pytest.raises(Waiting):
        timer(sqlite, None).measure(ops(4))
    assert len(sqlite.tasks.open("board")) == 2


def test_every_agent_process_is_brought_to_one_scale(sqlite: Store) -> None:
    with pytest.raises(Waiting):
        list(timer(sqlite, None).measure_many([ops(4), ops(5)]))
    assert timer(sqlite).state() == {}
    answer(sqlite, lambda task: 1.0, limit=1, reference_ms=0.5)
    answer(sqlite, lambda task: 1.0, reference_ms=1.0)  # another process, whose reference seemed slower
    made = timer(sqlite)
    first, second = made.measure_many([ops(4), ops(5)])
    assert (first.value, second.value) == (1.0, 0.5)
    assert made.state() == {"reference_ms": 0.5}
    assert second.conditions["reference_ms"] == 0.5
    assert second.source == "measured:onnxruntime"
    restored = timer(sqlite)
    restored.restore({"reference_ms": 2.0})
    assert restored.measure(ops(4)).value == 4.0


def test_failed_task_ends_the_measurement_in_words(sqlite: Store) -> None:
    with pytest.raises(Waiting):
        timer(sqlite, None).measure(ops(4))
    held = sqlite.tasks.claim("board", "agent", 60.0)
    assert held is not None
    sqlite.fail(held[0], {"reason": "device", "message": "no kernel for Gemm"})
    with pytest.raises(DeviceError, match="no kernel for Gemm"):
        timer(sqlite, None).measure(ops(4))
    sqlite.tasks.forget_failed("board")
    with pytest.raises(Waiting):
        timer(sqlite, None).measure(ops(4))
    sqlite.tasks.cancel("board")
    with pytest.raises(DeviceError, match="cancelled"):
        timer(sqlite, None).measure(ops(4))


def test_silent_device_is_given_up_with_what_to_do(sqlite: Store) -> None:
    said: list[str] = []
    made = lab(sqlite, patience_s=0.5).timer("board", TimerSettings(), said.append)
    assert made is not None
    with pytest.raises(DeviceError, match=r"agent\.py --server http://here:1 --device board.*PATIENCE"):
        made.measure(ops(4))
    assert any("1 measurements left" in message for message in said)
    assert len(sqlite.tasks.open("board")) == 1  # whoever asks again need not ask for this


def test_waiting_ends_when_asked_to(sqlite: Store) -> None:
    class StoppedError(Exception):
        """Asked to stop."""

    def stop(message: str) -> None:
        raise StoppedError(message)

    made = lab(sqlite).timer("board", TimerSettings(), stop)
    assert made is not None
    with pytest.raises(StoppedError):
        made.measure(ops(4))


def test_fit_goes_through_a_device_elsewhere_unchanged(sqlite: Store) -> None:
    """`fit_latency` with a remote timer and an agent in a thread that knows the truth; then the same from the store."""
    space = spaces.get("mobilenet", "tiny")
    settings = LatencySettings(probes=ProbeSettings(kernels=56, calibration_networks=40, held_out_networks=20))
    stop = threading.Event()

    def truth(task: DeviceTask) -> float:
        assert task.model is not None
        return 0.01 + 1e-6 * sum(count for _, count, _, _ in task.model["fills"]) + 1e-6 * len(task.model["data"])

    def work() -> None:
        while not stop.wait(0.05):
            answer(sqlite, truth)

    worker = threading.Thread(target=work)
    worker.start()
    device = describe(sqlite.device("board"))
    try:
        model = fit_latency(space, device, settings, timer=timer(sqlite, 60.0))
    finally:
        stop.set()
        worker.join()
    assert model.device == "board"
    assert model.report()["n"] == 20
    assert model.details["conditions"]["runtime"] == "onnxruntime 1"
    again = fit_latency(space, device, settings, timer=timer(sqlite, None))
    assert again.identity == model.identity
    np.testing.assert_array_equal(again.table_ms, model.table_ms)


def test_data_type_that_an_agent_does_not_know_is_refused(sqlite: Store) -> None:
    """An agent of before there were others tells none; a present one lists its own."""
    with pytest.raises(DeviceError, match=r"its agent measures float32; got data type 'int8'.*fetch agent\.py again"):
        timer(sqlite, data_type="int8")
    sqlite.tasks.hello("board", INFO | Bench().abilities())
    with pytest.raises(DeviceError, match="its agent measures float32, float16, int8; got data type 'bfloat16'"):
        timer(sqlite, data_type="bfloat16")


@pytest.mark.parametrize("data_type", ["float16", "int8"])
def test_other_data_types_are_sent_as_they_are_to_run(sqlite: Store, data_type: str) -> None:
    """The server quantises; a real agent's bench runs what it sent."""
    sqlite.tasks.hello("board", INFO | Bench().abilities())
    settings = {"data_type": data_type, "min_repeats": 8, "max_repeats": 8}
    with pytest.raises(Waiting):
        timer(sqlite, None, **settings).measure(reference_ops())
    held = sqlite.tasks.claim("board", "agent", 60.0)
    assert held is not None
    packed = pack_ops(reference_ops()).to_json()
    result = Bench().measure({"model": held[1].model, "reference": packed, "timing": held[1].timing})
    sqlite.tasks.finish(held[0], result)
    found = timer(sqlite, None, **settings).measure(reference_ops())
    assert found.conditions["dtype"] == data_type
    with pytest.raises(Waiting):  # another data type is another measurement
        timer(sqlite, None, min_repeats=8, max_repeats=8).measure(reference_ops())


ENERGY = {"value_mj": 2.0, "iqr_mj": 0.1, "runs": 50, "idle_power_w": 3.0, "meter": "rapl"}


def test_energies_are_asked_for_at_once_and_only_of_who_has_a_meter(sqlite: Store) -> None:
    made = timer(sqlite, None)
    assert isinstance(made, EnergySource)
    assert isinstance(made, NetworkTimer)
    assert list(made.energies([ops(4), ops(5)])) == [None, None]
    assert sqlite.tasks.open("board") == []
    sqlite.tasks.hello("board", INFO | {"energy_meter": "rapl"})
    waiting = timer(sqlite, None).energies([ops(4), ops(5)])
    assert [task.timing["energy_s"] for task in sqlite.tasks.open("board")] == [1.0, 1.0]
    with pytest.raises(Waiting):
        list(waiting)
    answer(sqlite, lambda task: 1.0, limit=1, energy=ENERGY)
    answer(sqlite, lambda task: 1.0, no_energy="other work hid it")
    first, second = timer(sqlite, None).energies([ops(4), ops(5)])
    assert second is None
    assert first is not None
    assert (first.quantity, first.value, first.source) == ("energy_mj", 2.0, "measured:rapl")
    assert first.conditions["idle_power_subtracted"] is True


def test_network_is_measured_with_all_that_its_device_tells(sqlite: Store) -> None:
    sqlite.tasks.hello("board", INFO | {"energy_meter": "rapl"})
    with pytest.raises(Waiting):
        timer(sqlite, None).measure_network(ops(4))
    answer(sqlite, lambda task: 1.0, energy=ENERGY, resident_memory_bytes=3 << 20)
    found = timer(sqlite, None).measure_network(ops(4))
    assert {item.quantity: item.source for item in found} == {
        "latency_ms": "measured:onnxruntime",
        "energy_mj": "measured:rapl",
        "resident_memory_bytes": "measured:getrusage",
    }


@pytest.mark.parametrize("name", ["host", "", "-x", "a b", "a/b", "x" * 65, "ü"])
def test_bad_device_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        check_device_name(name)
    assert check_device_name("pi.5-a_b") == "pi.5-a_b"
