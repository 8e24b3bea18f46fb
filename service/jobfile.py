"""Job files: strict YAML whose every mistake is reported with its file and line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..spaces.definition import definition_data, read_definition
from ..spaces.strict_yaml import line_numbers, load_yaml
from .schemas.check import InvalidJobError, check_job
from .schemas.job import JobSpec

__all__ = ["load_job", "read_job"]


def load_job(
    path: Path | str,
    *,
    local: bool = False,
    registered: Collection[str] = (),
    smoke: bool = False,
    data: Path | None = None,
) -> JobSpec:
    """Read, validate and resolve a job file.

    Args:
        path: the file.
        local: whether the job runs in this process, where it may name a path and a pool.
        registered: names of devices beside those of the catalog.
        smoke: whether to take over what the file lists under `smoke`: a small task and budget that try it out.
        data: replaces the path of the task's data.

    Raises:
        ConfigError: an unreadable file, broken YAML, an unknown or repeated key, or a value that is not allowed.
    """
    file = Path(path)
    try:
        job = read_job(file, smoke=smoke, data=data)
        return check_job(job, local=local, registered=registered)
    except InvalidJobError as error:
        lines = line_numbers(file)
        raise InvalidJobError([_with_line(item, file, lines) for item in error.errors]) from error


def read_job(path: Path | str, *, smoke: bool = False, data: Path | None = None) -> dict[str, object]:
    """The plain data of a job file, only its YAML checked: the server checks the rest."""
    job = _with_smoke(_with_definition(load_yaml(Path(path)), Path(path)), Path(path), smoke)
    return job if data is None else _with_data(job, Path(path), data)


def _with_definition(job: dict[str, Any], file: Path) -> dict[str, Any]:
    """The job with ``space: {file: mine.yaml}`` replaced by what that file holds; it lies relative to the job file.

    Raises:
        ConfigError: the definition cannot be read; with its own file and line.
    """
    space = job.get("space")
    if not isinstance(space, dict) or "file" not in space:
        return job
    if set(space) != {"file"} or not isinstance(space["file"], str):
        raise ConfigError(f"{file}: space", space, "a file alone, or name, preset and options")
    definition = read_definition(file.parent / space["file"])
    return job | {"space": {"definition": definition_data(definition)}}


def _with_smoke(job: dict[str, Any], file: Path, smoke: bool) -> dict[str, Any]:
    """The job without its `smoke` key, whose sections replace or refine those of the job where it is asked for.

    Raises:
        ConfigError: asked for, but the file has none.
    """
    changes = job.pop("smoke", None)
    if not smoke:
        return job
    if not isinstance(changes, dict):
        raise ConfigError(f"{file}: smoke", changes, "a mapping of sections that make the job small")
    return _merged(job, changes)


def _with_data(job: dict[str, Any], file: Path, data: Path) -> dict[str, Any]:
    """The job with another path of the task's data; raises ConfigError where it has no task."""
    if not isinstance(job.get("task"), dict):
        raise ConfigError(f"{file}: task", job.get("task"), "a mapping with the task's name, to read data from a path")
    return job | {"task": job["task"] | {"path": str(data)}}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, but a section that names another thing replaces the old one's options."""
    out = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        renamed = isinstance(value, Mapping) and isinstance(old, Mapping) and "name" in value
        out[key] = (
            _merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) and not renamed else value
        )
    return {key: value for key, value in out.items() if value is not None}


def _with_line(error: ConfigError, file: Path, lines: dict[str, int]) -> ConfigError:
    place = error.place
    while place and place not in lines:  # a missing key has no line: take that of what should hold it
        place = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", place)
    line = lines.get(place, 1)
    return ConfigError(f"{file}, line {line}: {error.place}", error.value, error.allowed, error.hint)
