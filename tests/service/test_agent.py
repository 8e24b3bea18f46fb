"""The device agent as a file: it stands alone, runs on old Pythons, and times as the host's timer does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from archsmith import spaces
from archsmith.hwmodels.measure import timer as host_timer
from archsmith.hwmodels.measure.energy import idle_power_w, measure_run_energy
from archsmith.hwmodels.measure.packing import pack, pack_ops
from archsmith.hwmodels.measure.timer import reference_ops
from archsmith.service import agent
from archsmith.service.measuring import FORMAT
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import Tensor, make_op

SOURCE = Path(agent.__file__)
TIMING: dict[str, Any] = {
    "threads": 1,
    "warmup_runs": 2,
    "batch_runs": 4,
    "min_repeats": 8,
    "max_repeats": 16,
    "max_seconds": 0.2,
    "precision": 0.01,
    "noisy_above": 0.05,
}


def a_task(name: str = "t1", **changes: Any) -> dict[str, Any]:
    packed = pack_ops(reference_ops()).to_json()
    return {"id": name, "epoch": 1, "ttl_s": 60.0, "model": packed, "reference": packed, "timing": TIMING} | changes


def test_file_is_python_39_and_imports_nothing_but_numpy_and_onnxruntime() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(str(node.module).partition(".")[0])
    assert modules - sys.stdlib_module_names == {"numpy", "onnxruntime"}


def test_file_runs_alone(tmp_path: Path) -> None:
    """Copied somewhere else, with every other package of ours out of reach."""
    (tmp_path / "agent.py").write_bytes(SOURCE.read_bytes())
    (tmp_path / "tasks.json").write_text(json.dumps({"format": FORMAT, "device": "board", "tasks": [a_task()]}))
    command = [sys.executable, "agent.py", "--tasks", "tasks.json", "--results", "out.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, line = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert head == {"format": FORMAT, "device": "board"}
    assert line["result"]["latency_ms"] > 0
    assert line["result"]["conditions"]["runtime"].startswith("onnxruntime ")


def test_versions_agree() -> None:
    assert agent.VERSION == FORMAT


class Replayed:
    """Recorded durations: 1.0 ms with a spread, twice as slow in the middle; the reference kernel sees the same."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.runs = 0
        self.last_cost_s = 0.001

    def load(self) -> float:
        return 2.0 if 20 <= self.runs < 60 else 1.0

    def run(self, n: int) -> Any:
        self.runs += n
        return self.load() * (1.0 + 0.02 * self.rng.random(n))

    def slowdown(self) -> float:
        return self.load()


def test_timing_is_that_of_the_host() -> None:
    settings = host_timer.TimerSettings(**TIMING)
    one, other = Replayed(), Replayed()
    theirs = agent.repeat(one.run, one, TIMING)
    ours = host_timer.repeat(other.run, other, settings)  # type: ignore[arg-type]  # what is used of a Reference
    assert (theirs.median_ms, theirs.iqr_ms, theirs.half_width, theirs.runs, theirs.drift) == (
        ours.median_ms,
        ours.iqr_ms,
        ours.half_width,
        ours.count,
        ours.drift,
    )
    values = np.random.default_rng(0).random(57)
    assert agent.median_interval(values) == host_timer.median_interval(values)


def test_packed_model_is_put_together_again() -> None:
    model = onnx_model(reference_ops())
    packed = pack(model)
    whole = agent.unpack(packed.to_json())
    assert len(packed.data) < len(whole) / 3
    again = onnx.load_from_string(whole)
    onnx.checker.check_model(again)
    assert len(whole) == len(model.SerializeToString())
    for ours, theirs in zip(model.graph.initializer, again.graph.initializer, strict=True):
        assert (ours.name, ours.dims, ours.data_type) == (theirs.name, theirs.dims, theirs.data_type)
        before, after = (onnx.numpy_helper.to_array(tensor) for tensor in (ours, theirs))
        assert np.isfinite(after).all()
        if before.nbytes >= 512:
            assert after.std() == pytest.approx(before.std(), rel=0.2)
    assert agent.unpack(packed.to_json()) == whole


def test_small_tensors_travel_as_they_are() -> None:
    linear = make_op("head", "linear", Tensor("x", (4,)), out_features=3)
    model = onnx_model((linear,))
    packed = pack(model)
    assert packed.fills == ()
    assert packed.data == model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fills": [[10**9, 4, 0.0, 1.0]]}, "inconsistent"),
        ({"fills": [[0, 10**9, 0.0, 1.0]]}, "max-mib"),
        ({"data": "bm90IGEgbW9kZWw=", "fills": []}, "InvalidProtobuf|Fail|InvalidArgument"),
        ({"data": 3, "fills": []}, "TypeError"),
    ],
)
def test_broken_model_is_refused_in_words(change: dict[str, Any], message: str) -> None:
    task = a_task()
    task["model"] = {**task["model"], **change}
    with pytest.raises(agent.CannotRun, match=message):
        agent.Bench().measure(task)


def test_file_is_measured_once_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    tasks, results = tmp_path / "tasks.zip", tmp_path / "results.jsonl"
    broken = a_task("t3", model={"data": "AA==", "fills": []})
    content = {"format": FORMAT, "device": "board", "tasks": [a_task("t1"), a_task("t2"), broken]}
    with zipfile.ZipFile(tasks, "w") as archive:
        archive.writestr("tasks.json", json.dumps(content))
    said: list[str] = []
    results.write_text(
        json.dumps({"format": 1, "device": "board"})
        + "\n"
        + json.dumps({"id": "t1", "result": {}})
        + '\n{"id": "t2", "re'
    )
    assert agent.measure_file(tasks, results, agent.Bench(), said.append) == 2
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line.get("id") for line in lines] == [None, "t1", "t2", "t3"]
    assert lines[2]["result"]["repeats"] >= 8
    assert lines[3]["message"]
    assert len(said) == 2
    assert agent.measure_file(tasks, results, agent.Bench(), said.append) == 0


def test_wrong_files_and_arguments_are_answered_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.json").write_text("{}")
    arguments = ["--tasks", str(tmp_path / "no.json"), "--results", str(tmp_path / "r")]
    assert agent.main(arguments) == 2
    assert "not a file of `archsmith devices probe --offline`" in capsys.readouterr().err
    (tmp_path / "no.json").write_text(json.dumps({"format": 1, "device": "board", "tasks": []}))
    assert agent.main([*arguments, "--device", "phone"]) == 2
    assert "'board', not 'phone'" in capsys.readouterr().err
    (tmp_path / "no.json").write_text(json.dumps({"format": 99, "device": "board", "tasks": []}))
    assert agent.main(arguments) == 2
    assert "Fetch agent.py again" in capsys.readouterr().err
    assert agent.main(["--server", "ftp://x", "--device", "board", "--state", str(tmp_path / "s")]) == 2
    assert "http" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        agent.main(["--server", "http://x"])
    capsys.readouterr()


@pytest.mark.parametrize("data_type", ["float16", "int8"])
def test_other_data_types_travel_without_their_weights_and_run(data_type: str) -> None:
    packed = pack_ops(reference_ops(64, 8), data_type=data_type)
    assert {fill.data_type for fill in packed.fills} >= {data_type}
    whole = agent.unpack(packed.to_json())
    assert len(packed.data) < len(whole) / 2
    onnx.checker.check_model(onnx.load_from_string(whole))
    task = a_task(model=packed.to_json(), timing=TIMING | {"data_type": data_type})
    result = agent.Bench().measure(task)
    assert result["conditions"]["dtype"] == data_type
    assert result["latency_ms"] > 0


def test_infinite_masks_and_scales_are_not_made_up() -> None:
    space = spaces.get("decoder", "tiny")
    model = onnx_model(space.ops(space.decode(space.largest())))
    for packed in (pack(model), pack_ops(space.ops(space.decode(space.largest())), data_type="int8")):
        assert np.isfinite([(fill.mean, fill.std) for fill in packed.fills]).all()
        whole = onnx.load_from_string(agent.unpack(packed.to_json()))
        scales = {name for node in whole.graph.node if "Linear" in node.op_type for name in node.input[1:2]}
        for tensor in whole.graph.initializer:
            if tensor.name in scales:
                assert (onnx.numpy_helper.to_array(tensor) > 0).all()


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """A powercap tree as Linux lays it out, whose counter follows the processor time of this process."""
    folder = tmp_path / "powercap" / "intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    (folder / "energy_uj").write_text("0\n")
    return tmp_path / "powercap"


class Counting(agent.Rapl):
    """A counter of 20 W per busy core on top of 5 W."""

    @staticmethod
    def _read(folder: Path, name: str) -> int:
        if name == "energy_uj":
            return int(1e6 * (20.0 * time.process_time() + 5.0 * time.perf_counter()))
        return agent.Rapl._read(folder, name)


def test_energy_is_measured_where_it_is_asked_for_and_there_is_a_meter(powercap: Path) -> None:
    bench = agent.Bench(powercap=powercap)
    assert bench.abilities()["energy_meter"] == "rapl"
    bench._meter = Counting(powercap)
    asked = a_task(timing=TIMING | {"energy_s": 0.3})
    found = bench.measure(asked)["energy"]
    assert found["meter"] == "rapl"
    assert found["value_mj"] > 0
    assert 4.0 < found["idle_power_w"] < 12.0
    assert "energy" not in bench.measure(a_task())
    nowhere = agent.Bench(powercap=powercap / "none")
    assert nowhere.abilities()["energy_meter"] == ""
    assert "no RAPL" in nowhere.measure(asked)["no_energy"]


def test_counter_survives_its_wrap_and_says_what_it_lacks(powercap: Path) -> None:
    counter = powercap / "intel-rapl:0" / "energy_uj"
    counter.write_text("262143328000\n")
    meter = agent.Rapl(powercap)
    counter.write_text("150\n")
    assert meter.read_mj() == pytest.approx(1.0)
    counter.unlink()
    with pytest.raises(agent.NoMeter, match="cannot be read"):
        meter.read_mj()


def test_energy_is_that_of_the_host() -> None:
    """The same virtual device through both."""
    one, other = Virtual(), Virtual()
    sleeping, clock = agent.time.sleep, agent.time.perf_counter
    try:
        agent.time.sleep, agent.time.perf_counter = one.pass_time, one.clock
        theirs = agent.run_energy(one.run, one, 1.0)
    finally:
        agent.time.sleep, agent.time.perf_counter = sleeping, clock
    idle_w = idle_power_w(other, seconds=0.5, clock=other.clock, sleep=other.pass_time)
    ours = measure_run_energy(other.run, other, device="board", idle_w=idle_w, clock=other.clock)
    assert theirs["value_mj"] == pytest.approx(ours.value)
    assert theirs["runs"] == ours.repeats
    assert theirs["idle_power_w"] == pytest.approx(idle_w)


class Virtual:
    """Virtual time: 40 W always, and 6 mJ per run of 2 ms on top."""

    instrument = "virtual"

    def __init__(self) -> None:
        self.now_s = self.energy_mj = 0.0

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.energy_mj += 4e4 * seconds

    def run(self, n: int) -> Any:
        self.pass_time(n * 2e-3)
        self.energy_mj += 6.0 * n
        return np.full(n, 2.0)

    def read_mj(self) -> float:
        return self.energy_mj

    def clock(self) -> float:
        return self.now_s


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone lets a peak begin anew")
def test_memory_of_a_run_is_seen() -> None:
    """A network of 128 MiB of weights and activations takes that much more than a process without it."""
    wide = make_op("wide", "linear", Tensor("x", (4096,)), out_features=8192)
    result = agent.Bench().measure(a_task(model=pack_ops((wide,)).to_json()))
    assert result["resident_memory_bytes"] > 100 << 20
