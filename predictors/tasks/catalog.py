"""The tasks that exist, by name.

>>> get("digits_shifted", noise=0.2).input_shape
(1, 11, 11)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ...errors import ConfigError, TaskError
from .arrays import image_arrays
from .cifar import cifar10, cifar100
from .digits import digits, digits_shifted
from .image_folder import image_folder
from .numbers import numbers
from .parallel_text import parallel_text
from .speech import speech_folder
from .task import Task
from .text import text
from .tones import tones

__all__ = ["TASKS", "get", "names", "options"]

TASKS: Final[Mapping[str, Callable[..., Task]]] = MappingProxyType(
    {
        "cifar10": cifar10,
        "cifar100": cifar100,
        "digits": digits,
        "digits_shifted": digits_shifted,
        "image_arrays": image_arrays,
        "image_folder": image_folder,
        "numbers": numbers,
        "parallel_text": parallel_text,
        "speech_folder": speech_folder,
        "text": text,
        "tones": tones,
    }
)
"""Every task's builder, by name; its keyword arguments are the task's options."""


def names() -> tuple[str, ...]:
    """Names of the tasks, sorted."""
    return tuple(sorted(TASKS))


def options(name: str) -> tuple[str, ...]:
    """Names of a task's options, sorted; raises TaskError for an unknown task."""
    return tuple(sorted(inspect.signature(_builder(name)).parameters))


def get(name: str, **given: object) -> Task:
    """Build a task.

    Args:
        name: one of `names()`.
        **given: the task's options.

    Raises:
        TaskError: unknown task, or its data are missing or broken.
        ConfigError: unknown option, a required one left out, or a value it does not allow.
    """
    parameters = inspect.signature(_builder(name)).parameters
    for key in given:
        if key not in parameters:
            raise ConfigError(f"task.options.{key}", given[key], f"options {', '.join(options(name))} of task {name!r}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in given:
            raise ConfigError(f"task.options.{key}", None, f"a value: task {name!r} needs it")
        if key in given:
            _check_type(key, given[key], str(parameter.annotation))
    return _builder(name)(**given)


def _builder(name: str) -> Callable[..., Task]:
    if name not in TASKS:
        raise TaskError(f"task {name!r} is unknown; choose one of {list(names())}.")
    return TASKS[name]


_TYPES: Final = {
    "bool": (bool,),
    "float": (int, float),
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
}


def _check_type(key: str, value: object, annotation: str) -> None:
    if isinstance(value, bool) != (annotation == "bool") or not isinstance(value, _TYPES[annotation]):
        raise ConfigError(f"task.options.{key}", value, f"a value of type {annotation}")
