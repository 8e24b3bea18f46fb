"""Devices by name: the files in `configs/devices`, and the machine archsmith runs on as `host`."""

from __future__ import annotations

import difflib
import functools
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .device import Device, load_device
from .host import detect, measure_rates

__all__ = ["DEVICE_FOLDER", "get", "names"]

DEVICE_FOLDER: Final = Path(__file__).resolve().parent.parent / "configs" / "devices"


_rates = functools.cache(measure_rates)


def names() -> tuple[str, ...]:
    """Names of all known devices, sorted."""
    return tuple(sorted(path.stem for path in DEVICE_FOLDER.glob("*.yaml")))


def get(name: str, *, measured: bool = False) -> Device:
    """The device called `name`.

    Args:
        name: one of `names()`.
        measured: for `host`, also measure memory bandwidth and peak rate: about a second, once per process.

    Raises:
        ConfigError: an unknown name, with the closest known ones.

    >>> get("raspberry_pi_4").kind
    'cpu'
    """
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Add a file to {DEVICE_FOLDER} to bring your own."
        raise ConfigError("device", name, f"one of {', '.join(names())}", hint)
    device = load_device(DEVICE_FOLDER / f"{name}.yaml")
    if device.name != name:
        raise ConfigError(f"{name}.yaml: name", device.name, f"{name!r}, as the file is called")
    if name == "host":
        found = detect()
        if device.busy_power_w is not None:
            del found["busy_power_w"]  # what somebody wrote down is better than what we derive
        device = replace(device, **found)
        if measured:
            device = replace(device, **_rates())
    return device
