"""`devices add|show|probe|upload|report|cancel`: bring a device, measure on it, and see how well it is predicted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..client.client import Client
from ..measuring import SILENT_S
from ..schemas import devices, resources
from ..settings import Settings
from ..store.store import Store
from ..worker.runner import Worker
from .connection import serve_in_thread, store_or_server
from .output import console, errors, print_json, print_table

__all__ = ["ProbeOptions", "Reached", "add", "cancel", "probe", "reached", "report", "show", "upload"]

LOOK_S: Final = 0.5
ENDED: Final = ("succeeded", "failed", "cancelled")
SHARES: Final = {
    "within_5_percent": "within ±5 %",
    "within_10_percent": "within ±10 %",
    "coverage_1sd": "within one stated standard deviation (0.68 is right)",
    "coverage_2sd": "within two (0.95 is right)",
    "mape": "mean error",
}
TITLES: Final = {
    "rmse": "RMSE (ms)",
    "kendall_tau": "Kendall tau",
    "spearman": "Spearman",
    "n": "unseen networks",
    "kernels_measured": "kernels measured",
    "noisy_measurements": "noisy measurements",
    "kernel_within_10_percent": "kernels left out, share within ±10 %",
    "new_space_relative_rmse": "stated error where no network of a space was measured",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How much a probe measures (`sizes`; left out = the default), and in which data type."""

    sizes: dict[str, int] = field(default_factory=dict)
    data_type: str = "float32"


class Reached:
    """A client, and where no server owns the store, the worker's part done in this process.

    Args:
        client: of the server, or of one in this process.
        store: the store that this process owns, or None.
        settings: of this installation.
    """

    def __init__(self, client: Client, store: Store | None, settings: Settings) -> None:
        self.client = client
        self.embedded = store is not None
        self._store = store
        self._settings = settings

    def work(self) -> None:
        """Run the probes that can go on, where there is no server whose worker would."""
        while self._store is not None and (probe := self._store.tasks.ready_probe()):
            worker = Worker(self._store, self._settings, shutdown=threading.Event())
            lease = self._store.claim(worker.name, job_id=probe, ttl_s=self._settings.lease_ttl_s)
            if lease is None:
                return
            worker.execute(lease)


@contextlib.contextmanager
def reached(settings: Settings, server: str | None, api_key: str | None) -> Iterator[Reached]:
    """The server named, the one that owns the store, or the store itself for as long as the block runs."""
    with contextlib.ExitStack() as stack:
        found = store_or_server(settings, stack) if server is None else server
        store = found if isinstance(found, Store) else None
        url = stack.enter_context(serve_in_thread(settings, found)) if isinstance(found, Store) else found
        yield Reached(stack.enter_context(Client(url, api_key)), store, settings)


def add(client: Client, file: Path | None, name: str | None, title: str | None, kind: str) -> int:
    """Register a device by its file, or by the little that is needed."""
    described = {"name": name, "title": title or name, "kind": kind}
    device = client.devices.add(file if file is not None else described)
    key = client.devices.make_key(device.name)
    console.print(f"Device {device.name} is registered. On the device, run:")
    console.print(f"  curl -O {client.url}/agent.py\n  pip install numpy onnxruntime")
    console.print(f"  python agent.py --server {client.url} --device {device.name} --key {key}")
    console.print(f"The key lets an agent measure as {device.name}, and nothing else. It is not shown again.")
    return 0


def show(device: resources.Device, *, as_json: bool) -> int:
    """A device, its agent, and how far it has measured."""
    if as_json:
        print_json(device.model_dump(mode="json"))
        return 0
    console.print(f"{device.name}: {device.title} ({device.kind})")
    console.print(f"  agent: {_agent_text(device)}")
    if device.tasks:
        console.print("  tasks: " + ", ".join(f"{count} {state}" for state, count in sorted(device.tasks.items())))
    for key, value in device.description.items():
        if isinstance(value, dict):
            figures = value if "value" not in value else {"": value}
            shown = ", ".join(f"{name} {item['value']:g}".strip() for name, item in figures.items())
            console.print(f"  {key}: {shown}")
    return 0


def _agent_text(device: resources.Device) -> str:
    if device.silent_s is None:
        return "none was ever heard of"
    about = device.agent or {}
    state = "at work" if device.silent_s < SILENT_S else f"silent for {device.silent_s / 60:.0f} minutes"
    return f"{state} ({about.get('cpu', 'unknown processor')}, {about.get('runtime', 'unknown runtime')})"


def probe(
    found: Reached, name: str, space: str | None, preset: str | None, *, settings: ProbeOptions, offline: Path | None
) -> int:
    """Measure a device, and show the error of the model that was fitted to it.

    Args:
        found: the server or the store.
        name: of the device.
        space: a search space; None = the kernels of every space.
        preset: of the space.
        settings: how much is measured, and in which data type.
        offline: file for the tasks, where the device cannot reach the server.

    Returns:
        The exit code: 0 fitted, or tasks exported; 1 failed; 130 left to itself.
    """
    client = found.client
    job = client.devices.probe(name, space, preset, data_type=settings.data_type, **settings.sizes)
    try:
        while job.state not in ENDED:
            found.work()
            job, device = client.jobs.get(job.id), client.devices.get(name)
            # Those of an earlier probe count, too: this one cannot begin before they are done.
            waiting = _open(device) if job.state == "queued" else 0
            if waiting and offline is not None:
                return _export(client, name, offline)
            if waiting and found.embedded:
                errors.print(
                    f"{waiting} measurements of {name} wait in the store. Start `archsmith serve` and the device's "
                    "agent, or give --offline FILE."
                )
                return 1
            _progress(device, waiting)
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        errors.print(f"\nThe probe goes on at the server; look at it with: archsmith devices show {name}")
        return 130
    if job.state != "succeeded":
        message = (job.error or {}).get("message")
        errors.print(f"Probe of {name} {job.state}{f': {message}' if message else ''}", style="red")
        return 1
    return report(name, client.devices.models(name)[:1], as_json=False)


def _open(device: resources.Device) -> int:
    return device.tasks.get("queued", 0) + device.tasks.get("running", 0)


def _progress(device: resources.Device, waiting: int) -> None:
    if not errors.is_terminal:
        return
    done = device.tasks.get("succeeded", 0)
    state = f"{done} measured, {waiting} left; agent: {_agent_text(device)}" if waiting else "preparing, or fitting"
    errors.print(f"{device.name}: {state}\x1b[K", end="\r")


def _export(client: Client, name: str, target: Path) -> int:
    count = client.devices.export_tasks(name, target)
    results = target.with_name("results.jsonl").name
    console.print(
        f"{count} tasks in {target}. Copy it and agent.py ({client.url}/agent.py) to the device, and run there:"
    )
    console.print(f"  python agent.py --device {name} --tasks {target.name} --results {results}")
    console.print(f"Bring the results back: archsmith devices upload {name} {results}")
    return 0


def upload(found: Reached, name: str, results: Path) -> int:
    """Hand in a result file; 1 if nothing of it was new."""
    answer = found.client.devices.upload(name, results)
    console.print(f"{answer.accepted} results taken, {len(answer.refused)} refused")
    for refusal in answer.refused[:5]:
        errors.print(f"  {refusal.id}: {refusal.reason}")
    found.work()
    left = _open(found.client.devices.get(name))
    if left:
        console.print(
            f"{left} measurements are left: archsmith devices probe {name} … --offline tasks.zip exports them."
        )
    else:
        console.print(f"All is measured; the model follows in a moment: archsmith devices report {name}")
    return 0 if answer.accepted else 1


def report(name: str, models: list[devices.DeviceModel], *, as_json: bool) -> int:
    """The error of a device's models on networks that no fit has seen; 1 where there is none."""
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
        return 0
    if not models:
        errors.print(f"No model of {name} yet. Measure one: archsmith devices probe {name}")
        return 1
    for model in models:
        told = ", ".join(str(model.conditions[key]) for key in ("cpu", "runtime", "dtype") if key in model.conditions)
        subject = f"space {model.space}" if model.space else "kernels of every space"
        console.print(f"{name}, {subject}{f' ({told})' if told else ''}, {model.created:%F %H:%M}")
        rows = [
            [title, f"{100 * value:.1f} %"]
            for key, title in SHARES.items()
            if (value := model.report.get(key)) is not None
        ]
        rows += [[title, value] for key, title in TITLES.items() if (value := model.report.get(key)) is not None]
        print_table(["on unseen networks", "value"], rows)
        if model.spaces:
            print_table(["space", "unseen networks", "±5 %", "±10 %", "mean error"], _by_space(model))
    return 0


def _by_space(model: devices.DeviceModel) -> list[list[object]]:
    """The error of a kernel model in each space that networks were measured in."""
    shares = ("within_5_percent", "within_10_percent", "mape")
    return [
        [name, report.get("n"), *(f"{100 * (report.get(key) or 0.0):.1f} %" for key in shares)]
        for name, report in sorted(model.spaces.items())
    ]


def cancel(client: Client, name: str) -> int:
    """Cancel what a device still has to measure."""
    console.print(f"{client.devices.cancel(name)} tasks and probes of {name} cancelled; what is measured is kept.")
    return 0
