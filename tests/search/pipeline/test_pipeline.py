"""The pipeline as a script uses it: every stage, reuse, interruptions at every stage, and what verify makes of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from archsmith.errors import ConfigError, InfeasibleError
from archsmith.search.budget import Budget
from archsmith.search.pipeline.alone import standalone_identity
from archsmith.search.pipeline.contracts import Interrupted, ModuleSpec, Plan, PoolSpec, Stage, VerifiedMember
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.pipeline.select import random_feasible, spread_members
from archsmith.search.pipeline.train import supernet_identity
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.spaces.elastic.layers import shared_slice
from archsmith.spaces.export import FILES

LATENCY = Objective(name="latency_ms", direction="min", device="host")
PLAN = Plan(
    space=ModuleSpec(name="mobilenet", preset="tiny"),
    task=ModuleSpec(name="digits_shifted", options={"placements": 1}),
    devices=("host",),
    objectives=(Objective(name="accuracy", direction="max"), LATENCY),
    constraints=(Constraint(name="params", bound=10_000.0),),
    strategy=ModuleSpec(name="nsga2", options={"population": 16}),
    budget=Budget(trials=32),
    supernet={"steps": 6, "batch_size": 16, "calibration_batches": 1},
    standalone={"steps": 3, "batch_size": 16},
    cost_model={"kernels": 20, "calibration_networks": 12, "held_out_networks": 4},
    members=5,
    audit=2,
    pool=PoolSpec(kind="serial", workers=1),
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScriptRecorder]:
    """The folder of a finished run, and what it told."""
    folder = tmp_path_factory.mktemp("results")
    recorder = ScriptRecorder()
    run_pipeline(PLAN, recorder, FolderStore(folder))
    return folder, recorder


@pytest.fixture
def folder(first: tuple[Path, ScriptRecorder], tmp_path: Path) -> Path:
    """A copy of its stored results, without the remembered scores: the pool has to work again."""
    return Path(shutil.copytree(first[0], tmp_path / "results", ignore=shutil.ignore_patterns("evaluations")))


def without(folder: Path, *kinds: str) -> FolderStore:
    for kind in kinds:
        shutil.rmtree(folder / kind)
    return FolderStore(folder)


def test_first_run_goes_through_every_stage(first: tuple[Path, ScriptRecorder]) -> None:
    folder, told = first
    assert told.stages == [(stage, False) for stage in Stage]
    assert len(told) == 32
    assert len(told.members) == min(5, len(told.front)) >= 2
    for member in told.members:
        assert sorted(member.files) == sorted(FILES)
        sources = {item.quantity: item.source for item in member.observations}
        assert sources["accuracy"] == "measured:standalone"
        assert sources["latency_ms"] == "measured:onnxruntime"
    assert sorted(told.final) == [
        "cost_models", "energy", "members", "random", "ranking", "search", "seconds", "supernet", "training"
    ]  # fmt: skip
    energy = told.final["energy"]
    assert set(energy["expected"]) == {"alone", "supernet"}
    assert all(item["watt_hours"] > item["std"] > 0 for item in energy["expected"].values())
    assert set(energy["watt_hours"]) == set(told.final["seconds"])
    assert sum(energy["watt_hours"].values()) > 0
    assert not list((folder / "scratch").rglob("*.*"))  # finished work leaves no scratch behind


def test_second_run_reuses_what_is_stored(first: tuple[Path, ScriptRecorder], folder: Path) -> None:
    told, messages = ScriptRecorder(lambda stage, done, total, message: messages.append(message)), []
    run_pipeline(PLAN, told, FolderStore(folder))
    assert {stage for stage, reused in told.stages if reused} == {Stage.TRAIN, Stage.MODEL, Stage.EXPORT}
    # A member that the audit drew as well is trained once.
    trained = sum("trained alone" in message for message in messages)
    assert trained == 1
    assert any(message.endswith("of them reused") for message in messages)
    assert_same(told, first[1])


def test_architectures_scored_before_are_not_scored_again(first: tuple[Path, ScriptRecorder], tmp_path: Path) -> None:
    folder, told = Path(shutil.copytree(first[0], tmp_path / "results")), ScriptRecorder()
    run_pipeline(PLAN, told, FolderStore(folder))
    assert first[1].final["search"]["reused_evaluations"] == 0  # type: ignore[index]
    assert told.final["search"]["reused_evaluations"] == len(told) == 32  # type: ignore[index]
    assert (told.all.cost_s == 0).all()
    assert_same(told, first[1])


def test_members_fine_tuned_from_the_shared_weights_are_marked(
    first: tuple[Path, ScriptRecorder], folder: Path
) -> None:
    told = ScriptRecorder()
    plan = dataclasses.replace(
        PLAN,
        standalone={"steps": 1, "batch_size": 16, "learning_rate": 1e-6, "initial": "supernet"},
        audit=0,
        exported=1,
    )
    run_pipeline(plan, told, FolderStore(folder))
    assert told.final["training"] == {"initial": "supernet", "steps": 1, "source": "measured:fine_tuned"}
    sources = {item.source for member in told.members for item in member.observations if item.quantity == "accuracy"}
    assert sources == {"measured:fine_tuned"}
    assert first[1].final["training"]["initial"] == "scratch"  # type: ignore[index]
    # One step at no rate worth the name: what is exported is what was shared, but for the statistics.
    exported = load_file(told.members[0].files["weights.safetensors"])
    (shared,) = (folder / "supernet").rglob("weights.safetensors")
    torch.testing.assert_close(
        exported["head.classifier.weight"],
        shared_slice(load_file(shared)["head.classifier.weight"], exported["head.classifier.weight"].shape),
        atol=1e-4,
        rtol=1e-3,
    )


def test_another_device_reuses_the_supernet_and_what_was_trained_alone(folder: Path) -> None:
    """Without a second machine at hand, another objective on the same device stands for it."""
    told = ScriptRecorder()
    objectives = (PLAN.objectives[0], Objective(name="energy_mj", direction="min", device="host"))
    run_pipeline(dataclasses.replace(PLAN, objectives=objectives, audit=0, exported=1), told, FolderStore(folder))
    assert (Stage.TRAIN, True) in told.stages
    assert len(told.members) >= 2
    assert [bool(member.files) for member in told.members] == [index < 1 for index in range(len(told.members))]
    assert told.final["random"]["accuracy"] == {}  # type: ignore[index]
    assert told.final["ranking"]["verdict"] == "cannot tell"  # type: ignore[index]


class Stopping(ScriptRecorder):
    """Asks to stop as soon as a stage has told progress with this text; told everything else as usual."""

    def __init__(self, stage: Stage, text: str) -> None:
        super().__init__()
        self._when: tuple[Stage, str] | None = (stage, text)
        self._wish: str | None = None

    def progress(self, done: float, total: float, message: str) -> None:
        if self._when is not None and self.stages[-1][0] is self._when[0] and self._when[1] in message:
            self._wish = "pause"

    def should_stop(self) -> str | None:
        return self._wish

    def go_on(self) -> None:
        self._when = self._wish = None


@pytest.mark.parametrize(
    ("stage", "what", "again"),
    [
        (Stage.TRAIN, "loss", ("supernet",)),
        (Stage.SEARCH, "16 trials", ()),
        (Stage.VERIFY, "random architectures scored", ()),
        (Stage.VERIFY, "2 of", ("standalone", "export")),
        (Stage.VERIFY, "1 of", ()),
        (Stage.EXPORT, "1 of", ("export",)),
    ],
)
def test_interrupted_run_goes_on_where_it_stopped(
    first: tuple[Path, ScriptRecorder], folder: Path, stage: Stage, what: str, again: tuple[str, ...]
) -> None:
    store = without(folder, *again)
    told = Stopping(stage, what)
    with pytest.raises(Interrupted, match="pause"):
        run_pipeline(PLAN, told, store)
    assert told.stages[-1][0] is stage
    told.go_on()
    run_pipeline(PLAN, told, store)
    assert_same(told, first[1])
    assert all(sorted(member.files) == sorted(FILES) for member in told.members)


def test_interrupted_fit_keeps_its_measurements(folder: Path) -> None:
    store = without(folder, "cost_model")
    told = Stopping(Stage.MODEL, "")
    with pytest.raises(Interrupted):
        run_pipeline(PLAN, told, store)
    (log,) = (folder / "scratch" / "cost_model").rglob("*.jsonl")
    before = log.read_text().splitlines()
    assert before
    told.go_on()
    run_pipeline(PLAN, told, store)
    assert not log.exists()
    assert len(told) == 32


def assert_same(one: ScriptRecorder, other: ScriptRecorder) -> None:
    np.testing.assert_array_equal(one.all.genomes, other.all.genomes)
    np.testing.assert_array_equal(one.all.values, other.all.values)
    np.testing.assert_array_equal(one.front_numbers, other.front_numbers)
    assert one.reference_point is not None
    np.testing.assert_array_equal(one.reference_point, other.reference_point)
    assert [member.number for member in one.members] == [member.number for member in other.members]
    assert accuracies(one.members) == accuracies(other.members)


def accuracies(members: Sequence[VerifiedMember]) -> list[float]:
    return [item.value for member in members for item in member.observations if item.quantity == "accuracy"]


def test_infeasible_latency_is_reported_with_the_tightest_value(folder: Path) -> None:
    told = ScriptRecorder()
    bound = Constraint(name="latency_ms", bound=1e-6, device="host")
    with pytest.raises(InfeasibleError, match=r"latency_ms@host <= 1e-06.*tightest value reachable is 0\.\d+"):
        run_pipeline(dataclasses.replace(PLAN, constraints=(bound,)), told, FolderStore(folder))
    assert told.stages[-1] == (Stage.SEARCH, False)
    assert told.state is None


def test_infeasible_count_is_reported_before_anything_is_trained(tmp_path: Path) -> None:
    told = ScriptRecorder()
    plan = dataclasses.replace(PLAN, constraints=(Constraint(name="params", bound=10.0),))
    with pytest.raises(InfeasibleError, match=r"params <= 10.*tightest value reachable is \d+"):
        run_pipeline(plan, told, FolderStore(tmp_path))
    assert told.stages == [(Stage.PREPARE, False)]
    assert not list(tmp_path.iterdir())


def test_constraint_that_verification_breaks_is_reported(folder: Path) -> None:
    """Supernet accuracies are far above or below what a few steps of training give; the members then say so."""
    told = ScriptRecorder()
    bound = Constraint(name="accuracy", operator=">=", bound=0.05)
    run_pipeline(dataclasses.replace(PLAN, constraints=(*PLAN.constraints, bound)), told, FolderStore(folder))
    for member in told.members:
        (accuracy,) = accuracies([member])
        assert member.feasible == (accuracy >= 0.05)


def test_samples_that_do_not_fit_the_space_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task: got .*digits.*allowed: samples of shape"):
        build_setting(dataclasses.replace(PLAN, task=ModuleSpec(name="digits")))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"task": ModuleSpec(name="digits_shifted", options={"placements": 1, "noise": 0.2})},
        {"supernet": {"steps": 7}, "standalone": {"steps": 4}},
    ],
)
def test_identity_follows_what_decides_the_weights(change: Mapping[str, object]) -> None:
    before, after = build_setting(PLAN), build_setting(dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]
    architecture = before.space.decode(before.space.smallest())
    assert supernet_identity(before) != supernet_identity(after)
    assert standalone_identity(before, architecture) != standalone_identity(after, architecture)


def test_identity_ignores_what_decides_nothing_of_the_weights() -> None:
    before = build_setting(PLAN)
    after = build_setting(dataclasses.replace(PLAN, budget=Budget(trials=5), members=9, pool=PoolSpec(kind="local")))
    architecture = before.space.decode(before.space.smallest())
    assert supernet_identity(before) == supernet_identity(after)
    assert standalone_identity(before, architecture) == standalone_identity(after, architecture)


# --- which architectures verify looks at ---------------------------------------------------------------------------


def test_spread_members_keeps_the_extremes_and_repeats_none() -> None:
    rng = np.random.default_rng(0)
    across = np.sort(rng.random(40))
    values: NDArray[np.float64] = np.stack([across, 1.0 - across], axis=1)
    chosen = spread_members(values, 7)
    assert len(set(chosen.tolist())) == 7
    assert {0, 39} <= set(chosen.tolist())
    assert sorted(spread_members(values[:3], 7).tolist()) == [0, 1, 2]
    assert len(spread_members(np.repeat(values[:1], 4, axis=0), 3)) == 3
    assert len(spread_members(values[:0], 3)) == 0


def test_random_feasible_ends_where_feasible_architectures_are_rare() -> None:
    space = build_setting(PLAN).space
    least = float(space.params(space.smallest()[None])[0])
    known = {"params": lambda genomes: space.params(genomes).astype(np.float64)}
    tight = Problem(
        space=space, objectives=PLAN.objectives, constraints=(Constraint(name="params", bound=least),), known=known
    )
    few = random_feasible(tight, 50, np.random.default_rng(0), rounds=3)
    assert len(few) < 50
    assert (space.params(few) <= least).all()
    assert len(np.unique(random_feasible(tight, 50, np.random.default_rng(0), rounds=3), axis=0)) == len(few)
