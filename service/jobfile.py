"""Job files: strict YAML whose every mistake is reported with its file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..spaces.definition import definition_data, read_definition
from ..spaces.strict_yaml import line_numbers, load_yaml
from .schemas.check import InvalidJobError, check_job
from .schemas.job import JobSpec

__all__ = ["load_job", "read_job"]


def load_job(path: Path | str, *, local: bool = False) -> JobSpec:
    """Read, validate and resolve a job file.

    Args:
        path: the file.
        local: whether the job runs in this process, where it may name a path and a pool.

    Raises:
        ConfigError: an unreadable file, broken YAML, an unknown or repeated key, or a value that is not allowed.
    """
    file = Path(path)
    try:
        return check_job(_with_definition(load_yaml(file), file), local=local)
    except InvalidJobError as error:
        lines = line_numbers(file)
        raise InvalidJobError([_with_line(item, file, lines) for item in error.errors]) from error


def read_job(path: Path | str) -> dict[str, object]:
    """The plain data of a job file, only its YAML checked: the server checks the rest."""
    return _with_definition(load_yaml(Path(path)), Path(path))


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


def _with_line(error: ConfigError, file: Path, lines: dict[str, int]) -> ConfigError:
    place = error.place
    while place and place not in lines:  # a missing key has no line: take that of what should hold it
        place = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", place)
    line = lines.get(place, 1)
    return ConfigError(f"{file}, line {line}: {error.place}", error.value, error.allowed, error.hint)
