"""Devices through the SDK: register, probe, exchange task and result files, and read how good their models are."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigError, DeviceError
from ...spaces.strict_yaml import load_yaml
from ..schemas import devices, resources
from .transport import Transport

__all__ = ["Devices"]

FORMAT: Final = 1
TOGETHER: Final = 200
"""Results per request, far below the server's limit of a body."""


class Devices:
    """The devices that jobs may name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[resources.Device]:
        """All of them, by name."""
        return list(self._transport.pages("devices", resources.Device))

    def get(self, name: str) -> resources.Device:
        """One of them."""
        return resources.Device.model_validate_json(self._transport.get(f"devices/{name}").content)

    def add(self, definition: Mapping[str, Any] | Path) -> resources.Device:
        """Register a device, or describe it anew, by its file or its content; name, title and kind are enough.

        Raises:
            ConfigError: the file is no YAML.
            ApiError: the description holds a mistake.
        """
        if isinstance(definition, Path):
            load_yaml(definition)
            body: dict[str, Any] = {"definition": definition.read_text(encoding="utf-8")}
        else:
            body = {"definition": dict(definition)}
        return resources.Device.model_validate_json(self._transport.create("devices", body).content)

    def make_key(self, name: str) -> str:
        """A new API key with which an agent may measure as this device; it is never shown again."""
        answer = self._transport.post(f"devices/{name}/keys")
        return devices.DeviceKey.model_validate_json(answer.content).key

    def probe(
        self,
        name: str,
        space: str | None = None,
        preset: str | None = None,
        *,
        seed: int = 0,
        data_type: str = "float32",
        **settings: int,
    ) -> resources.Job:
        """Measure kernels and networks on a device and fit its latency model; follow the job it returns.

        Args:
            name: of the device.
            space: catalog name; None = the kernels of every space, for one model that serves all.
            preset: one of the space's; its first if left out.
            seed: of the choice of what is measured.
            data_type: what the device computes in.
            **settings: how much: of a job's `cost_model` with a space, else of `KernelSettings`.
        """
        body = {"space": space, "preset": preset, "seed": seed, "data_type": data_type, "settings": settings}
        return resources.Job.model_validate_json(self._transport.post(f"devices/{name}/probes", body).content)

    def cancel(self, name: str) -> int:
        """Cancel what the device still has to measure and the probes that wait for it; how many."""
        return int(self._transport.post(f"devices/{name}/cancel").json()["cancelled"])

    def models(self, name: str) -> list[devices.DeviceModel]:
        """The models fitted to what the device measured, newest first, each with its held-out error."""
        return list(self._transport.pages(f"devices/{name}/models", devices.DeviceModel))

    def tasks(self, name: str) -> Iterator[devices.Task]:
        """What the device still has to measure, with the models."""
        return self._transport.pages(f"devices/{name}/tasks", devices.Task)

    def export_tasks(self, name: str, target: Path) -> int:
        """Write the device's open tasks into a file for an agent without a line to the server; how many."""
        tasks = [task.model_dump(mode="json") for task in self.tasks(name)]
        content = json.dumps({"format": FORMAT, "device": name, "tasks": tasks})
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tasks.json", content)
        return len(tasks)

    def upload(self, name: str, results: Path) -> devices.UploadAnswer:
        """Hand in a result file; repeating it does no harm, since each task is done once.

        Raises:
            DeviceError: it is no result file of this device.
            ApiError: a line is no result.
        """
        lines = _read_results(name, results)
        accepted, refused = 0, []
        for first in range(0, len(lines), TOGETHER):
            body = {"results": lines[first : first + TOGETHER]}
            response = self._transport.create(f"devices/{name}/results", body)
            answer = devices.UploadAnswer.model_validate_json(response.content)
            accepted += answer.accepted
            refused += answer.refused
        return devices.UploadAnswer(accepted=accepted, refused=refused)


def _read_results(name: str, path: Path) -> list[dict[str, Any]]:
    """The results of a file, one JSON object per line under a head; a last line torn by a kill is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("results", str(path), "a readable result file of the agent", str(error)) from error
    try:
        head, *lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        device, version = head["device"], head["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"{path}: not a result file of the agent ({error}); make it with --results.") from error
    if (device, version) != (name, FORMAT):
        raise DeviceError(
            f"{path}: results of device {device!r} in format {version}; expected {name!r} and {FORMAT}. Name the "
            "device that measured."
        )
    return lines
