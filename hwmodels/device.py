"""Device: named hardware with peak rates, caches, power and energy terms, each with the source of its number.

A device file is YAML with the unit in every key (``memory_bandwidth_gb_per_s``), and every figure is a mapping of
`value` and `source`, so that a reader can check each number. A `Device` can also be built in code, without any file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError, DeviceError

__all__ = ["BYTES_PER_VALUE", "DATA_TYPES", "KINDS", "Device", "Figure", "check_data_type", "load_device"]

BYTES_PER_VALUE: Final[Mapping[str, int]] = MappingProxyType(
    {"float32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "int8": 1}
)
"""Bytes of one stored value, by data type."""

DATA_TYPES: Final = tuple(BYTES_PER_VALUE)
KINDS: Final = ("cpu", "gpu", "accelerator", "microcontroller")
CACHES: Final = ("l1d", "l2", "l3")


def check_data_type(data_type: str, place: str = "data_type") -> str:
    """The data type itself; raises ConfigError for one that is unknown.

    >>> check_data_type("int8")
    'int8'
    """
    if data_type not in BYTES_PER_VALUE:
        raise ConfigError(place, data_type, f"one of {', '.join(DATA_TYPES)}")
    return data_type


@dataclass(frozen=True, slots=True)
class Figure:
    """One number about a device and where it comes from; the unit is in the name of the field that holds it."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Named hardware. None and missing entries mean "not known", never zero.

    Attributes:
        name: how jobs and results call it.
        title: one line for people.
        kind: one of `KINDS`.
        cores: processor cores, or multiprocessors of a GPU, or processing elements of an accelerator.
        peak_gmacs_per_s: by data type, 10^9 multiply-accumulates per second of the whole device.
        memory_bandwidth_gb_per_s: 10^9 bytes per second, of the memory that holds weights and activations.
        memory_mib: main memory.
        caches_kib: data caches by level; per core for those that are private.
        sram_kib: on-chip memory that must hold the live activations; of microcontrollers and accelerators.
        flash_kib: memory that must hold the program and all weights; of microcontrollers.
        launch_overhead_us: time per kernel launch or layer call, on top of its work.
        energy_per_mac_pj: by data type, dynamic energy of one multiply-accumulate, instructions included.
        energy_per_byte_pj: dynamic energy of moving one byte of activations or weights.
        idle_power_w: drawn while waiting; of the share of the device that runs the network.
        busy_power_w: drawn at full load.
        energy_relative_std: one standard deviation of the energy model's relative error.
    """

    name: str
    title: str
    kind: str
    cores: Figure | None = None
    peak_gmacs_per_s: Mapping[str, Figure] = field(default_factory=dict)
    memory_bandwidth_gb_per_s: Figure | None = None
    memory_mib: Figure | None = None
    caches_kib: Mapping[str, Figure] = field(default_factory=dict)
    sram_kib: Figure | None = None
    flash_kib: Figure | None = None
    launch_overhead_us: Figure | None = None
    energy_per_mac_pj: Mapping[str, Figure] = field(default_factory=dict)
    energy_per_byte_pj: Figure | None = None
    idle_power_w: Figure | None = None
    busy_power_w: Figure | None = None
    energy_relative_std: Figure | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-able form: every figure as value and source, unknown ones left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}

    def require(self, name: str, entry: str | None = None) -> float:
        """The value of a figure, or of one entry of a table of figures.

        Raises:
            DeviceError: the device's file lacks it.
        """
        content = getattr(self, name)
        figure = content if entry is None else content.get(entry)
        if figure is None:
            place = name if entry is None else f"{name}.{entry}"
            known = f" (it has {', '.join(content)})" if entry is not None and content else ""
            raise DeviceError(f"device {self.name!r} has no {place}{known}; add it, with its source, to its file.")
        return figure.value

    @property
    def data_type(self) -> str:
        """What networks run in here unless a job says otherwise: float32 where the device computes in it.

        >>> rates = {"int8": Figure(2e3, "data sheet")}
        >>> Device(name="npu", title="An NPU", kind="accelerator", peak_gmacs_per_s=rates).data_type
        'int8'
        """
        rates = self.peak_gmacs_per_s or self.energy_per_mac_pj
        return next((name for name in DATA_TYPES if name in rates), "float32")

    @property
    def identity(self) -> str:
        """Stable name of exactly this description: equal identities have equal figures."""
        content = json.dumps(self.to_json(), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


_TEXTS: Final = ("name", "title", "kind")
_TABLES: Final = {"peak_gmacs_per_s": DATA_TYPES, "energy_per_mac_pj": DATA_TYPES, "caches_kib": CACHES}
_KEYS: Final = tuple(item.name for item in fields(Device))


def load_device(source: Path | str, *, place: str = "") -> Device:
    r"""Read a device file.

    Args:
        source: a file's path, or the YAML text.
        place: how errors call the source; the file's path if left out.

    Raises:
        ConfigError: an unknown, repeated or missing key, a key without its unit, a figure without a source, a negative
            or non-finite number; it names the file, the line, the place, the value and what is allowed.

    >>> load_device("name: toy\ntitle: A toy\nkind: cpu\nidle_power_w: {value: 2, source: guess}").idle_power_w
    Figure(value=2.0, source='guess')
    """
    from ..spaces.strict_yaml import line_numbers, load_yaml  # a device built in code needs no YAML package

    where = place or (str(source) if isinstance(source, Path) else "device")
    content = load_yaml(source, place=where)
    reader = _Reader(where, line_numbers(source, place=where))
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key in _TEXTS:
            values[key] = reader.text(key, value)
        elif key in _TABLES:
            values[key] = reader.figures(key, value)
        elif key in _KEYS:
            values[key] = reader.figure(key, value)
        else:
            raise reader.unknown(key)
    if missing := [key for key in _TEXTS if key not in values]:
        raise ConfigError(reader.where, sorted(content), f"a device with all of {', '.join(_TEXTS)}", f"Add {missing}.")
    if values["kind"] not in KINDS:
        raise ConfigError(reader.at("kind"), values["kind"], f"one of {', '.join(KINDS)}")
    return Device(**values)


class _Reader:
    """Checks values of one device file; knows the line of each."""

    def __init__(self, where: str, lines: Mapping[str, int]) -> None:
        self.where = where
        self._lines = lines

    def at(self, place: str) -> str:
        """Place of a value for a message: file, line, dotted path."""
        return f"{self.where}, line {self._lines.get(place, 1)}: {place}"

    def unknown(self, key: str) -> ConfigError:
        """The error for a key that no device has; a key that only lacks its unit is told so."""
        complete = [known for known in _KEYS if known.startswith(f"{key}_")]
        if complete:
            return ConfigError(self.at(key), key, f"{complete[0]}", "The unit is part of the key.")
        return ConfigError(self.at(key), key, f"the keys {', '.join(_KEYS)}")

    def text(self, place: str, value: object) -> str:
        """Non-empty text."""
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(self.at(place), value, "text")
        return value

    def figures(self, key: str, value: object) -> dict[str, Figure]:
        """A mapping of known names to figures."""
        names = _TABLES[key]
        if not isinstance(value, dict):
            raise ConfigError(self.at(key), value, f"a mapping with keys among {', '.join(names)}")
        out = {}
        for name, item in value.items():
            place = f"{key}.{name}"
            if name not in names:
                raise ConfigError(self.at(place), name, f"the keys {', '.join(names)}")
            out[name] = self.figure(place, item)
        return out

    def figure(self, place: str, value: object) -> Figure:
        """A mapping of a positive `value` and a `source`."""
        if not isinstance(value, dict) or set(value) != {"value", "source"}:
            shown = sorted(value) if isinstance(value, dict) else value
            raise ConfigError(self.at(place), shown, "a mapping of exactly `value` and `source`")
        number = value["value"]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError(self.at(f"{place}.value"), number, "a number in the unit that the key names")
        if not math.isfinite(number) or number <= 0:
            raise ConfigError(self.at(f"{place}.value"), number, "a finite number above 0")
        return Figure(float(number), self.text(f"{place}.source", value["source"]))
