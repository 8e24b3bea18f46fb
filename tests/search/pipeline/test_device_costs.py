"""A search for a microcontroller: bounded by its memory, in the data type that the job names, by the device's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from archsmith.errors import ConfigError
from archsmith.hwmodels.device import Device
from archsmith.hwmodels.measure.timer import Timer, TimerSettings
from archsmith.hwmodels.memory import memory_use
from archsmith.search.budget import Budget
from archsmith.search.pipeline.contracts import ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.model import fit_cost_models
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.problem import Constraint, Objective
from archsmith.spaces.space import SearchSpace

DEVICE = "stm32f746"
PLAN = Plan(
    space=ModuleSpec(name="mobilenet", preset="tiny"),
    task=ModuleSpec(name="digits_shifted", options={"placements": 1}),
    devices=(DEVICE,),
    objectives=(
        Objective(name="accuracy", direction="max"),
        Objective(name="latency_ms", direction="min", device=DEVICE),
        Objective(name="memory_bytes", direction="min", device=DEVICE),
    ),
    constraints=(
        Constraint(name="sram_bytes", bound=2200.0, device=DEVICE),
        Constraint(name="flash_bytes", bound=9000.0, device=DEVICE),
    ),
    strategy=ModuleSpec(name="nsga2", options={"population": 16}),
    budget=Budget(trials=32),
    supernet={"steps": 4, "batch_size": 16, "calibration_batches": 1},
    standalone={"steps": 3, "batch_size": 16},
    cost_model={"data_type": "int8"},
    members=5,
    audit=2,
    pool=PoolSpec(kind="serial", workers=1),
)


def test_front_fits_the_microcontroller(tmp_path: Path) -> None:
    told = ScriptRecorder()
    run_pipeline(PLAN, told, FolderStore(tmp_path))
    space = build_setting(PLAN).space
    assert told.members
    for member in told.members:
        assert member.feasible
        use = memory_use(space.ops(space.decode(told.all.genomes[member.number])), "int8")
        assert use.activation_bytes <= 2200
        assert use.weight_bytes <= 9000
        assert member.values[2] == use.total_bytes
        sources = {item.quantity: item.source for item in member.observations}
        assert sources["latency_ms"] == "predicted:roofline"


def test_quantities_are_counted_in_the_data_type_of_the_job(tmp_path: Path) -> None:
    setting = build_setting(PLAN)
    models = fit_cost_models(setting, ScriptRecorder(), FolderStore(tmp_path))
    genomes = setting.space.sample(20, np.random.default_rng(0))
    use = [memory_use(setting.space.ops(setting.space.decode(genome)), "int8") for genome in genomes]
    assert models.known[f"sram_bytes@{DEVICE}"](genomes).tolist() == [item.activation_bytes for item in use]
    assert models.known[f"flash_bytes@{DEVICE}"](genomes).tolist() == [item.weight_bytes for item in use]
    assert models.known[f"memory_bytes@{DEVICE}"](genomes).tolist() == [item.total_bytes for item in use]
    assert models.source(f"sram_bytes@{DEVICE}") == "predicted:liveness"
    wide = build_setting(dataclasses.replace(PLAN, cost_model={"data_type": "float32"}))
    slow = fit_cost_models(wide, ScriptRecorder(), FolderStore(tmp_path)).known[f"latency_ms@{DEVICE}"](genomes)
    assert (slow > models.known[f"latency_ms@{DEVICE}"](genomes)).all()


class Lab:
    """Knows a device whose model was fitted before."""

    def device(self, name: str) -> Device | None:
        return Device(name=name, title="a board", kind="cpu") if name == "board" else None

    def fitted(self, name: str, space: SearchSpace) -> str | None:
        return "lookup-of-the-board" if name == "board" else None

    def timer(self, name: str, settings: TimerSettings, waiting: Callable[[str], None]) -> Timer | None:
        return None


def test_device_with_an_agent_is_measured_in_float32_only() -> None:
    objectives = (PLAN.objectives[0], Objective(name="latency_ms", direction="min", device="board"))
    plan = dataclasses.replace(PLAN, devices=("board",), objectives=objectives, constraints=())
    with pytest.raises(ConfigError, match="got 'int8'; allowed: float32, which agents measure; board has one"):
        build_setting(plan, Lab())
    assert build_setting(dataclasses.replace(plan, cost_model={}), Lab()).devices["board"].kind == "cpu"


@pytest.mark.parametrize(
    ("device", "data_type", "message"),
    [
        ("raspberry_pi_4", "float16", r"no peak_gmacs_per_s\.float16 \(it has float32, int8\)"),
        ("host", "float16", r"cost_model\.data_type: got 'float16'; allowed: one of float32, int8"),
        (DEVICE, "int4", r"cost_model\.data_type: got 'int4'; allowed: one of float32, float16"),
    ],
)
def test_data_type_that_a_device_lacks_is_refused_before_anything_runs(
    device: str, data_type: str, message: str
) -> None:
    objectives = (PLAN.objectives[0], Objective(name="latency_ms", direction="min", device=device))
    plan = dataclasses.replace(
        PLAN, devices=(device,), objectives=objectives, constraints=(), cost_model={"data_type": data_type}
    )
    with pytest.raises(ConfigError, match=message):
        build_setting(plan)
