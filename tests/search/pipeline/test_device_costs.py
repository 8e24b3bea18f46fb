"""A search for a microcontroller: bounded by its memory, in the data type that the job names, by the device's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from archsmith.errors import ConfigError, DeviceError
from archsmith.hwmodels.device import Device, Figure
from archsmith.hwmodels.energy_probing import EnergyProbes
from archsmith.hwmodels.lookup import LookupModel
from archsmith.hwmodels.measure.timer import Timer, TimerSettings
from archsmith.hwmodels.memory import memory_use
from archsmith.search.budget import Budget
from archsmith.search.pipeline.contracts import ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.model import fit_cost_models, keep_model
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
    """Knows a device whose model was fitted before, and whose agent measures float32."""

    def __init__(self, *, fitted: str | None = "lookup-of-the-board", kernels: str | None = None) -> None:
        self._fitted = fitted
        self._kernels = kernels

    def device(self, name: str) -> Device | None:
        energy = {"energy_per_mac_pj": {"float32": GUESS}, "energy_per_byte_pj": GUESS, "idle_power_w": GUESS}
        board = Device(name=name, title="a board", kind="cpu", energy_relative_std=GUESS, **energy)
        return board if name == "board" else None

    def fitted(self, name: str, space: SearchSpace | None, data_type: str = "float32") -> str | None:
        known = self._kernels if space is None else self._fitted
        return known if name == "board" and data_type == "float32" else None

    def timer(self, name: str, settings: TimerSettings, waiting: Callable[[str], None]) -> Timer | None:
        if settings.data_type != "float32":
            raise DeviceError(f"device {name!r}: its agent measures float32; got {settings.data_type!r}.")
        return None


GUESS = Figure(1.0, "guess")
BOARD = dataclasses.replace(
    PLAN,
    devices=("board",),
    objectives=(PLAN.objectives[0], Objective(name="latency_ms", direction="min", device="board")),
    constraints=(),
    cost_model={},
)


def test_device_is_measured_only_in_what_its_agent_can() -> None:
    with pytest.raises(ConfigError, match="its agent measures float32; got 'int8'"):
        build_setting(dataclasses.replace(BOARD, cost_model={"data_type": "int8"}), Lab())
    assert build_setting(BOARD, Lab()).devices["board"].kind == "cpu"


def lookup(space: SearchSpace, **details: object) -> LookupModel:
    """A latency model of the board: as if measured."""
    size = space.site_index.size
    return LookupModel(
        device="board", space=space.identity, identity="lookup-of-the-board", overhead_ms=0.1,
        table_ms=np.full(size, 0.01), covered=np.ones(size, dtype=np.bool_), relative_std=0.05, errors={},
        details=dict(details),
    )  # fmt: skip


def test_measured_energies_calibrate_the_energy_model(tmp_path: Path) -> None:
    setting = build_setting(BOARD, Lab())
    space, store = setting.space, FolderStore(tmp_path)
    genomes = space.sample(12, np.random.default_rng(0))
    probes = EnergyProbes(genomes=genomes, energy_mj=1e-6 * space.macs(genomes), source="measured:rapl")
    keep_model(store, lookup(space, energy=probes.to_json()))
    models = fit_cost_models(setting, ScriptRecorder(), store)
    assert models.source("energy_mj@board") == "predicted:calibrated-energy"
    assert models.report()["energy_mj@board"]["n"] == 12
    others = space.sample(30, np.random.default_rng(1))
    assert models.known["energy_mj@board"](others) == pytest.approx(1e-6 * space.macs(others), rel=0.05)


def test_energy_is_that_of_the_file_where_none_was_measured(tmp_path: Path) -> None:
    setting = build_setting(BOARD, Lab())
    store = FolderStore(tmp_path)
    keep_model(store, lookup(setting.space))
    models = fit_cost_models(setting, ScriptRecorder(), store)
    assert models.source("energy_mj@board") == "predicted:energy-model"
    assert models.report()["energy_mj@board"] == {}


@pytest.mark.parametrize(
    ("device", "data_type", "message"),
    [
        ("raspberry_pi_4", "float16", r"no peak_gmacs_per_s\.float16 \(it has float32, int8\)"),
        ("host", "bfloat16", r"cost_model\.data_type: got 'bfloat16'; allowed: one of float32, float16, int8"),
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
