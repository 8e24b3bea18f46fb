"""The device agent: measures on a device what an archsmith server asks for, and posts the results.

One self-contained file for Python 3.9 or newer with numpy and onnxruntime; copy it to the device and run it there::

    curl -O http://SERVER:8765/agent.py
    python agent.py --server http://SERVER:8765 --device NAME --key KEY

It asks the server for one task at a time. A task is an ONNX model, in float32, float16 or int8, and how to time it;
nothing else is ever executed. Where the task asks for it, and the processor has a meter that may be read (RAPL), the
energy of a run is measured as well; the memory that a run took is told with every result.
The task's lease is renewed while it is measured. A finished result is kept on disk until the server has it, so that
neither a restart of the server nor one of the agent loses it; a result whose lease was lost meanwhile is refused by the
server and dropped here. A device without a line to the server measures from a file::

    python agent.py --device NAME --tasks tasks.zip --results results.jsonl

The timing (`repeat`, `median_interval`, `Reference`) is that of `hwmodels/measure/timer.py`, and the metering (`Rapl`,
`run_energy`) that of `hwmodels/measure/energy.py`, written again because this file stands alone; tests hold them
together. For the same reason the module is long.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import os
import platform
import random
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple  # noqa: UP035  # the file must run on Python 3.9 as it is

import numpy as np

__all__ = [
    "VERSION",
    "Agent",
    "Bench",
    "Rapl",
    "ServerAway",
    "main",
    "measure_file",
    "median_interval",
    "repeat",
    "run_energy",
    "unpack",
]

VERSION = 1
"""Of the protocol: the `format` of tasks and results."""
CLAIM_WAIT_S = 20.0
LONGEST_PAUSE_S = 60.0
MAX_ANSWER_BYTES = 64 << 20
POWERCAP = Path("/sys/class/powercap")
ENERGY_WINDOWS = 5
STORED = {"float32": "<f4", "float16": "<f2", "int8": "i1"}
"""How values of a data type stand in a model."""
LEASE_LOST = (404, 409)
"""Answers to a write that say that the task is someone else's by now, or gone."""

Runner = Callable[[int], Any]
"""Runs a prepared network n times and returns the n durations in milliseconds, [n] float64."""


class ServerAway(Exception):  # noqa: N818  # a state of the world, not a mistake
    """The server cannot be reached now, or cannot answer; trying again later may help."""


class Refused(Exception):  # noqa: N818
    """The server answered with this HTTP status that it will not do; 0 where we refuse on our own."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class CannotRun(Exception):  # noqa: N818
    """The model cannot be run on this device."""


class LeaseLost(Exception):  # noqa: N818
    """Someone else has the task by now."""


class NoMeter(Exception):  # noqa: N818
    """There is no energy meter here, or it did not tell the network's share."""


class Repeats(NamedTuple):
    """What repeating gave; `half_width` is that of the median's interval, relative."""

    median_ms: float
    iqr_ms: float
    half_width: float
    runs: int
    drift: float


class Reference:
    """The reference kernel: a fixed piece of work that tells how slow the device is right now."""

    def __init__(self, run: Runner, runs: int = 5) -> None:
        self._run = run
        self._runs = runs
        self.last_cost_s = 0.0
        run(20)
        # The lower quartile of many looks: interruptions only ever lengthen a run.
        self.nominal_ms = float(np.percentile([np.median(run(runs)) for _ in range(40)], 25))

    def slowdown(self) -> float:
        """Current time over nominal time."""
        times = self._run(self._runs)
        self.last_cost_s = float(times.sum()) / 1e3
        return float(np.median(times)) / self.nominal_ms


def median_interval(values: Any) -> tuple[float, float, float]:
    """Median of [n] values with its distribution-free 95 % confidence interval (lower, median, upper)."""
    ordered = np.sort(values)
    half = 0.98 * math.sqrt(len(ordered))
    low = max(math.floor((len(ordered) - 1) / 2 - half), 0)
    high = min(math.ceil((len(ordered) - 1) / 2 + half), len(ordered) - 1)
    return float(ordered[low]), float(np.median(ordered)), float(ordered[high])


def repeat(run: Runner, reference: Any, timing: dict[str, Any], check: Callable[[], None] = lambda: None) -> Repeats:
    """Run until the median is known precisely enough, interleaved with the reference kernel.

    `timing` has the fields of the server's `TimerSettings`; what `check`, called between batches, raises ends it.
    """
    if timing["warmup_runs"]:
        run(timing["warmup_runs"])
    batches, factors, spent_s, count = [], [], 0.0, 0
    before = reference.slowdown()
    while True:
        check()
        raw = run(timing["batch_runs"])
        after = reference.slowdown()
        factors.append((before + after) / 2)
        batches.append(raw / factors[-1])
        before = after
        count += len(raw)
        spent_s += raw.sum() / 1e3 + reference.last_cost_s
        if count < timing["min_repeats"] and spent_s < timing["max_seconds"]:
            continue
        values = np.concatenate(batches)
        low, median, high = median_interval(values)
        half_width = (high - low) / (2 * median)
        if half_width <= timing["precision"] or count >= timing["max_repeats"] or spent_s >= timing["max_seconds"]:
            lower, upper = np.percentile(values, [25, 75])
            return Repeats(median, float(upper - lower), half_width, count, float(np.median(factors)))


class Rapl:
    """The processors' energy counters, from the Linux powercap interface; raises NoMeter where none may be read."""

    def __init__(self, root: Path = POWERCAP) -> None:
        # Packages are intel-rapl:0; their subdomains intel-rapl:0:1 would be counted twice.
        self._folders = [path for path in sorted(root.glob("*rapl:*")) if path.name.count(":") == 1]
        if not self._folders:
            raise NoMeter(f"no RAPL in {root}")
        self._last_uj = [self._read(folder, "energy_uj") for folder in self._folders]
        self._ranges_uj = [self._read(folder, "max_energy_range_uj") for folder in self._folders]
        self._total_uj = 0

    @staticmethod
    def _read(folder: Path, name: str) -> int:
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError) as error:
            raise NoMeter(f"{folder / name} cannot be read ({error}); grant read access to it") from error

    def read_mj(self) -> float:
        """Energy of all packages since opening, in millijoules."""
        for index, folder in enumerate(self._folders):
            now = self._read(folder, "energy_uj")
            grown = now - self._last_uj[index]
            self._total_uj += grown if grown >= 0 else grown + self._ranges_uj[index]  # the counter wraps
            self._last_uj[index] = now
        return self._total_uj / 1e3


def run_energy(run: Runner, meter: Any, seconds: float, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Energy of one run above idle, the median of some windows; raises NoMeter where other work hides it."""
    start_mj, start_s = meter.read_mj(), time.perf_counter()
    time.sleep(seconds / 2)
    idle_w = (meter.read_mj() - start_mj) / (time.perf_counter() - start_s) / 1e3
    step, values = max(int(1e3 * seconds / ENERGY_WINDOWS / max(float(run(5).mean()), 1e-6)), 1), []
    for _ in range(ENERGY_WINDOWS):
        check()
        start_mj, start_s = meter.read_mj(), time.perf_counter()
        run(step)
        grown_mj, spent_s = meter.read_mj() - start_mj, time.perf_counter() - start_s
        values.append((grown_mj - 1e3 * idle_w * spent_s) / step)  # W x s = J
    lower, value, upper = (float(number) for number in np.percentile(values, [25, 50, 75]))
    if value <= 0:
        raise NoMeter(f"the runs drew no more than the idle power of {idle_w:.3g} W")
    return {"value_mj": value, "iqr_mj": upper - lower, "runs": step * ENERGY_WINDOWS, "idle_power_w": max(idle_w, 0.0)}


class Resident:
    """How much the resident memory of this process grew, at its peak, since this was made.

    The peak is that of `resource.getrusage`, which only ever rises: Linux lets a process begin it anew.
    """

    def __init__(self) -> None:
        pages = _text("/proc/self/statm").split()
        self._before = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None

    def restart(self) -> None:
        """Forget the peak so far."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._before = None

    def peak_bytes(self) -> int | None:
        """None where the system does not tell, or the growth is too small to see."""
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on Linux
        return peak - self._before if self._before is not None and peak > self._before else None


def unpack(packed: dict[str, Any], most_bytes: int = 1 << 30) -> bytes:
    """The whole ONNX model of a packed one, whose weights are drawn here, always the same ones.

    `packed` has `data` in base 64 and `fills`: lists of offset in bytes, count of values, mean, std and, but for
    float32, data type.
    """
    data, rng = base64.b64decode(packed["data"]), np.random.default_rng(0)
    fills = [(fill[:4], np.dtype(STORED[fill[4] if len(fill) > 4 else "float32"])) for fill in packed["fills"]]
    if len(data) + sum(stored.itemsize * int(count) for (_, count, _, _), stored in fills) > most_bytes:
        raise CannotRun(f"the model is larger than {most_bytes >> 20} MiB; raise --max-mib")
    out, taken, written = [], 0, 0
    for (offset, count, mean, std), stored in fills:
        if offset < written or taken + offset - written > len(data):
            raise CannotRun("the packed model is inconsistent: a fill lies outside of it")
        out.append(data[taken : taken + offset - written])
        taken += offset - written
        values = mean + std * rng.standard_normal(count, dtype=np.float32)
        whole = np.clip(np.rint(values), -127, 127) if stored.kind == "i" else values
        out.append(whole.astype(stored).tobytes())
        written = offset + stored.itemsize * count
    return b"".join(out) + data[taken:]


class Bench:
    """ONNX Runtime's CPU provider on this device; models above `most_bytes` are refused.

    `powercap` is where the system shows its energy counters.
    """

    def __init__(self, most_bytes: int = 1 << 30, powercap: Path = POWERCAP) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[attr-defined]  # built in C++

        self._runtime = onnxruntime
        self._most_bytes = most_bytes
        self._references: dict[tuple[int, str], Reference] = {}
        names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
        found = [getattr(state, name) for name in names if hasattr(state, name)]
        self._errors = (*found, RuntimeError, ValueError, MemoryError, TypeError, KeyError)
        self._meter: Any = None
        try:
            self._meter, self._no_meter = Rapl(powercap), ""
        except NoMeter as error:
            self._no_meter = str(error)

    def abilities(self) -> dict[str, Any]:
        """What this device can measure beside the latency of float32 networks."""
        meter = (
            {"energy_meter": "rapl"} if self._meter else {"energy_meter": "", "no_energy_meter": self._no_meter[:300]}
        )
        return {"data_types": " ".join(STORED), **meter}

    def conditions(self) -> dict[str, Any]:
        """What every result is measured under."""
        return {"runtime": "onnxruntime " + self._runtime.__version__, "cpu": cpu_name()}

    def measure(self, task: dict[str, Any], check: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Time a task's model; the result as the server takes it. Raises CannotRun where that is not possible here."""
        try:
            timing = task["timing"]
            reference = self._reference(task["reference"], timing["threads"])
            model, memory = unpack(task["model"], self._most_bytes), Resident()
            run = self.prepare(model, timing["threads"])
            check()
            memory.restart()
            found = repeat(run, reference, timing, check)
            peak = memory.peak_bytes()
            energy = self._energy(run, float(timing.get("energy_s", 0.0)), check)
        except self._errors as error:
            raise CannotRun(f"{type(error).__name__}: {str(error)[:500]}") from error
        shared = {name: timing[name] for name in ("threads", "batch") if name in timing}
        return {
            "format": VERSION,
            "latency_ms": found.median_ms,
            "iqr_ms": found.iqr_ms,
            "repeats": found.runs,
            "precision": found.half_width,
            "noisy": bool(found.half_width > timing["noisy_above"]),
            "reference_ms": reference.nominal_ms,
            "slowdown": found.drift,
            "conditions": {**self.conditions(), "dtype": timing.get("data_type", "float32"), **shared, **clocks()},
            **({} if peak is None else {"resident_memory_bytes": peak}),
            **energy,
        }

    def _energy(self, run: Runner, seconds: float, check: Callable[[], None]) -> dict[str, Any]:
        """The energy of a run where it was asked for, and why there is none where it cannot be told."""
        if not seconds:
            return {}
        if self._meter is None:
            return {"no_energy": self._no_meter[:300]}
        try:
            return {"energy": {**run_energy(run, self._meter, seconds, check), "meter": "rapl"}}
        except NoMeter as error:
            return {"no_energy": str(error)[:300]}

    def _reference(self, packed: dict[str, Any], threads: int) -> Reference:
        key = (threads, packed["data"])
        if key not in self._references:
            self._references[key] = Reference(self.prepare(unpack(packed), threads))
        return self._references[key]

    def prepare(self, model: bytes, threads: int) -> Runner:
        """A session with buffers bound once; the runner times each call alone."""
        runtime = self._runtime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding, rng = session.io_binding(), np.random.default_rng(0)
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
        alive = []  # the binding owns neither inputs nor outputs
        for item in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in item.shape]
            value = rng.standard_normal(shape).astype(types[item.type])
            alive.append(runtime.OrtValue.ortvalue_from_numpy(value))
            binding.bind_ortvalue_input(item.name, alive[-1])
        names = [item.name for item in session.get_outputs()]
        for name in names:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        values = binding.copy_outputs_to_cpu()  # the first run tells their shapes; from now on the buffers stay
        binding.clear_binding_outputs()
        for index, name in enumerate(names):
            alive.append(runtime.OrtValue.ortvalue_from_numpy(values[index]))
            binding.bind_ortvalue_output(name, alive[-1])

        def run(n: int, _alive: Any = alive) -> Any:
            nanoseconds = np.empty(n)
            for index in range(n):
                start = time.perf_counter_ns()
                session.run_with_iobinding(binding)
                nanoseconds[index] = time.perf_counter_ns() - start
            return nanoseconds / 1e6

        return run


def cpu_name() -> str:
    """The board's or processor's name, as the system calls it."""
    board = _text("/proc/device-tree/model").strip("\0 \n")
    found = re.search(r"^(?:model name|Hardware|Model)\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return (board or (found.group(1).strip() if found else "") or platform.processor() or platform.machine())[:200]


def clocks() -> dict[str, Any]:
    """Clock, governor and temperature, where they can be read."""
    folder, out = "/sys/devices/system/cpu/cpu0/cpufreq/", dict[str, Any]()
    clock, governor = _text(folder + "scaling_cur_freq").strip(), _text(folder + "scaling_governor").strip()
    heat = _text("/sys/class/thermal/thermal_zone0/temp").strip()
    if clock.isdigit():
        out["clock_mhz"] = int(clock) // 1000
    if governor:
        out["governor"] = governor[:40]
    if heat.lstrip("-").isdigit():
        out["temperature_c"] = int(heat) / 1000
    return out


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# --- the server ---


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the server that was named, not for whom it points to."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """No other request instead: the answer is an error like others."""


class Server:
    """Requests about one device to one server."""

    def __init__(self, url: str, device: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise Refused(0, f"--server {url}: it must begin with http:// or https://")
        self._base = f"{url.rstrip('/')}/api/v1/devices/{urllib.parse.quote(device, safe='')}/"
        self._headers = {"Content-Type": "application/json", "User-Agent": f"archsmith-agent/{VERSION}"}
        if key:
            self._headers["Authorization"] = "Bearer " + key
        self._opener = urllib.request.build_opener(_NoRedirect)

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any] | None:
        """The answer, or None for an empty one; raises ServerAway where trying later may help, else Refused."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, headers=self._headers)  # noqa: S310  # http only
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                content = answer.read(MAX_ANSWER_BYTES + 1)
                if len(content) > MAX_ANSWER_BYTES:
                    raise Refused(0, f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
                return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            with error:
                detail = _detail(error)
            if error.code == 429 or error.code >= 500:
                raise ServerAway(detail) from error
            raise Refused(error.code, detail) from error
        except (OSError, ValueError) as error:  # URLError and time-outs are OSErrors; ValueError: a broken answer
            raise ServerAway(str(error)) from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(1 << 16))["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


class Agent:
    """Claims, measures and posts until told to stop.

    Args:
        server: where tasks come from.
        bench: what measures.
        state: folder for finished results that the server does not have yet.
        say: told in one line what happens.
    """

    def __init__(self, server: Server, bench: Bench, state: Path, say: Callable[[str], None]) -> None:
        self.server = server
        self.bench = bench
        self.outbox = state / "outbox"
        self.outbox.mkdir(parents=True, exist_ok=True)
        self.say = say
        self.stopping = threading.Event()
        self._busy = False
        self.name = f"agent {platform.node()[:60]}:{os.getpid()}"

    def stop(self) -> None:
        """End: between two batches of the task in hand, which goes back to the queue, else at once."""
        self.stopping.set()
        if not self._busy:
            raise KeyboardInterrupt

    def run(self, *, once: bool = False) -> int:
        """Work; with `once` only until the server has nothing more. Returns how many tasks were measured."""
        done, failures, known = 0, 0, False
        while not self.stopping.is_set():
            try:
                if not known:
                    self.server.post("agent", {"worker": self.name, "info": self._info()})
                    self.say("connected")
                    known = True
                self.deliver()
                task = self.server.post(
                    "tasks/claim", {"worker": self.name, "wait_s": 0 if once else CLAIM_WAIT_S}, CLAIM_WAIT_S + 30
                )
                failures = 0
            except ServerAway as error:
                failures, known = failures + 1, False
                pause = min(0.5 * 2 ** min(failures, 8), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
                self.say(f"server away ({error}); next try in {pause:.0f} s")
                self.stopping.wait(pause)
                continue
            if task is not None:
                done += self.work(task)
            elif once:
                break
        with contextlib.suppress(ServerAway):
            self.deliver()
        return done

    def _info(self) -> dict[str, Any]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        machine = {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}
        return {**self.bench.conditions(), **self.bench.abilities(), **machine, "cores": cores, "agent": VERSION}

    def work(self, task: dict[str, Any]) -> int:
        """Measure one task under its lease; 1 where it led to a result."""
        about = {"worker": self.name, "epoch": task["epoch"]}
        place = f"tasks/{urllib.parse.quote(str(task['id']), safe='')}/"
        began, self._busy = time.monotonic(), True
        try:
            with _renewed(self.server, place, about, float(task["ttl_s"])) as lost:
                result = self.bench.measure(task, lambda: self._check(lost))
        except LeaseLost:
            self.say(f"task {task['id']}: lease lost, dropped")
            return 0
        except CannotRun as error:
            self.say(f"task {task['id']}: {error}")
            self._keep(task, place + "fail", {**about, "message": str(error)})
        except KeyboardInterrupt:
            self.stopping.set()
            with contextlib.suppress(ServerAway, Refused):
                self.server.post(place + "release", about, 5.0)
            return 0
        else:
            self._keep(task, place + "result", {**about, "result": result})
            self.say(f"{result['latency_ms']:.4g} ms ({time.monotonic() - began:.1f} s)")
        finally:
            self._busy = False
        with contextlib.suppress(ServerAway):  # it stays in the outbox
            self.deliver()
        return 1

    def _check(self, lost: threading.Event) -> None:
        if lost.is_set():
            raise LeaseLost
        if self.stopping.is_set():
            raise KeyboardInterrupt

    def _keep(self, task: dict[str, Any], path: str, body: dict[str, Any]) -> None:
        """On disk before it is sent: all of it or nothing."""
        target = self.outbox / (re.sub(r"[^\w-]", "_", str(task["id"])) + ".json")
        draft = target.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"path": path, "body": body}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)

    def deliver(self) -> None:
        """Post every kept result; one that the server refuses is dropped, since nothing will change its mind."""
        for path in sorted(self.outbox.glob("*.json")):
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                self.server.post(kept["path"], kept["body"])
            except Refused as error:
                if error.status in (401, 403):
                    raise
                reason = "lease lost" if error.status in LEASE_LOST else str(error)
                self.say(f"result of task {path.stem} not taken ({reason})")
            except (ValueError, KeyError):
                self.say(f"{path} is damaged; dropped")
            path.unlink()


@contextlib.contextmanager
def _renewed(server: Server, place: str, about: dict[str, Any], ttl_s: float) -> Iterator[threading.Event]:
    """Renew a lease from a thread of its own while the block runs; yields what is set once the lease is lost.

    While the server is away the measurement goes on: it decides later whether the result still counts.
    """
    lost, done = threading.Event(), threading.Event()

    def run() -> None:
        while not done.wait(ttl_s / 3):
            try:
                server.post(place + "renew", about, ttl_s / 3)
            except ServerAway:
                continue
            except Refused:
                lost.set()
                return

    threading.Thread(target=run, daemon=True).start()
    try:
        yield lost
    finally:
        done.set()


# --- without a server ---


def read_tasks(path: Path) -> dict[str, Any]:
    """The content of a task file: a zip with ``tasks.json``, or that JSON itself."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = json.loads(archive.read("tasks.json"))
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != VERSION:
            raise Refused(0, f"{path}: format {content['format']}; this agent reads {VERSION}. Fetch agent.py again.")
        return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(0, f"{path}: not a file of `archsmith devices probe --offline` ({error})") from error


def measure_file(
    tasks: Path, results: Path, bench: Bench, say: Callable[[str], None], device: str | None = None
) -> int:
    """Measure what is open of a file's tasks, one line per result, as it is found; returns how many that were."""
    content = read_tasks(tasks)
    if device is not None and content["device"] != device:
        raise Refused(0, f"{tasks}: its tasks are for device {content['device']!r}, not {device!r}")
    done = {line["id"] for line in _lines(results)}
    open_tasks = [task for task in content["tasks"] if task["id"] not in done]
    with results.open("a", encoding="utf-8") as file:
        if not done:
            file.write(json.dumps({"format": VERSION, "device": content["device"]}) + "\n")
        for number, task in enumerate(open_tasks, start=1):
            try:
                line = {"id": task["id"], "result": bench.measure(task)}
                shown = f"{line['result']['latency_ms']:.4g} ms"
            except CannotRun as error:
                line, shown = {"id": task["id"], "message": str(error)}, str(error)
            file.write(json.dumps(line) + "\n")
            file.flush()
            say(f"{number} of {len(open_tasks)}: {shown}")
    return len(open_tasks)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The results in a file; a last line torn by a kill is cut off."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    for line in whole.splitlines():
        entry = json.loads(line)
        if "id" in entry:
            yield entry


# --- the command ---


def main(arguments: list[str] | None = None) -> int:
    """Run the agent; the exit code."""
    parser = argparse.ArgumentParser(prog="agent.py", description="Measures on this device for an archsmith server.")
    add, key = parser.add_argument, os.environ.get("ARCHSMITH_API_KEY")
    add("--server", help="address of the server, e.g. http://192.168.1.5:8765")
    add("--device", help="name of this device")
    add("--key", default=key, help="API key; default $ARCHSMITH_API_KEY")
    add("--tasks", "--from", dest="tasks", type=Path, help="measure this task file, without a server")
    add("--results", type=Path, help="file for the results of --tasks")
    add("--state", type=Path, help="folder for unsent results; default ~/.archsmith-agent/DEVICE")
    add("--once", action="store_true", help="end when the server has no more tasks")
    add("--max-mib", type=int, default=1024, help="largest model, MiB (default %(default)s)")
    given = parser.parse_args(arguments)
    if given.tasks and not given.results:
        parser.error("--tasks needs --results")
    if not given.tasks and not (given.server and given.device):
        parser.error("either --server and --device, or --tasks and --results")
    try:
        return _run(given)
    except ImportError as error:
        return _complain(f"{error}. Install it: pip install numpy onnxruntime")
    except Refused as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace) -> int:
    bench = Bench(given.max_mib << 20)
    if given.tasks:
        count = measure_file(given.tasks, given.results, bench, _say, given.device)
        _say(f"{count} measured; upload them: archsmith devices upload NAME {given.results}")
        return 0
    state = given.state or Path.home() / ".archsmith-agent" / re.sub(r"[^\w.-]", "_", given.device)
    state.mkdir(parents=True, exist_ok=True)
    with _alone(state):
        agent = Agent(Server(given.server, given.device, given.key), bench, state, _say)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: agent.stop())
        count = agent.run(once=given.once)
    _say(f"{count} tasks measured")
    return 0


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two agents on one device would slow each other down: the second one is refused, where the system can tell."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(0, f"another agent of this device runs already (state folder {state})") from error
        yield


def _say(line: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ") + line + "\n")
    sys.stdout.flush()


def _complain(line: str) -> int:
    sys.stderr.write(f"error: {line}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
