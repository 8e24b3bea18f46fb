"""Write ``docs/device-catalog.md``: every device of the catalog with its figures, and where each comes from.

python -m archsmith.hwmodels.catalog_page docs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from . import catalog
from .device import Device, Figure, load_device

__all__ = ["page", "write"]

HEAD = """# Device catalog

Generated from `configs/devices` by `python -m archsmith.hwmodels.catalog_page docs`; do not edit by hand. These figures
feed the roofline and energy models of devices that are not at hand: they rank networks, and their errors are wide and
said. A device that is at hand is measured instead: see [devices](devices.md) for how to bring your own. On `host`,
processor, cores, caches and memory are detected, copy bandwidth and matrix-product rate measured.

A rate counts multiply-accumulates (1 MAC = 2 FLOPs) of the whole device; "own estimate" and "derived" mark figures that
no data sheet gives.

## Using it

A job names devices, objectives and constraints; what networks compute in is one setting for all of them, or left to
each device: float32 where it computes in that, else what it has (int8 on an Edge TPU). `host` measures float32 and int8
(static quantisation), device agents measure float32.

```yaml
devices: [stm32f746]
objectives:
  - {name: accuracy}
  - {name: latency_ms, device: stm32f746}
constraints:
  - sram_bytes@stm32f746 <= 327680      # 320 KiB: live activations at their peak
  - flash_bytes@stm32f746 <= 1048576    # 1 MiB: all weights
cost_model: {data_type: int8}
```

`memory_bytes` is both together, for devices with one memory. The program, its stack and the scratch space of kernels
come on top, so leave room. Memory is modelled, exactly for the order in which a network is described: run by torch on a
processor, networks of `mobilenet`, `mobilenetv3` and `resnet` were measured within 5 % of the model.

A device of your own is one more file like those in `configs/devices`: `name`, `title`, `kind` (`cpu`, `gpu`,
`accelerator` or `microcontroller`) and any of the figures below, each a `value` with its `source`, the unit being part
of the key. An unknown key, a key without its unit, a value that is not a number above 0 and a figure without a source
are refused with the file, the line and what is allowed.

## Overview
"""

UNITS = {
    "cores": ("cores", ""),
    "peak_gmacs_per_s": ("peak rate", "GMAC/s"),
    "memory_bandwidth_gb_per_s": ("memory bandwidth", "GB/s"),
    "memory_mib": ("memory", "MiB"),
    "caches_kib": ("cache", "KiB"),
    "sram_kib": ("SRAM", "KiB"),
    "flash_kib": ("flash", "KiB"),
    "launch_overhead_us": ("launch overhead", "µs"),
    "energy_per_mac_pj": ("energy per MAC", "pJ"),
    "energy_per_byte_pj": ("energy per byte", "pJ"),
    "idle_power_w": ("idle power", "W"),
    "busy_power_w": ("busy power", "W"),
    "energy_relative_std": ("energy model's relative error", ""),
}
"""How a figure is called, and its unit."""

SHOWN = ("float32", "float16", "int16", "int8")
"""Data types with a column of their own in the overview."""


def page() -> str:
    """The whole page."""
    # The files as they are: `host` tells what is written about it, not what the machine at hand is like.
    devices = [load_device(catalog.DEVICE_FOLDER / f"{name}.yaml") for name in catalog.names()]
    overview = [
        f"| device | kind | {' | '.join(f'{name} GMAC/s' for name in SHOWN)} | GB/s | idle W | busy W |",
        f"|---|---|{'---:|' * (len(SHOWN) + 3)}",
        *(_overview_row(device) for device in devices),
    ]
    sections = []
    for device in devices:
        rows = [f"| {name} | {value} | {source} |" for name, value, source in _rows(device)]
        table = ["| figure | value | source |", "|---|---:|---|", *rows]
        sections.append("\n".join([f"## {device.name}", "", f"{device.title}.", "", *table, ""]))
    return "\n".join([HEAD, *overview, "", *sections])


def _overview_row(device: Device) -> str:
    rates = [_number(device.peak_gmacs_per_s.get(name)) for name in SHOWN]
    others = [device.memory_bandwidth_gb_per_s, device.idle_power_w, device.busy_power_w]
    cells = [*rates, *(_number(figure) for figure in others)]
    return f"| [{device.name}](#{device.name}) | {device.kind} | {' | '.join(cells)} |"


def _rows(device: Device) -> Iterator[tuple[str, str, str]]:
    """(figure with its unit, value, source) of everything that is known."""
    for key, (called, unit) in UNITS.items():
        content = getattr(device, key)
        figures = content.items() if isinstance(content, dict) else [("", content)]
        for entry, figure in figures:
            if figure is not None:
                name = f"{called} {entry.upper() if key == 'caches_kib' else entry}".strip()
                yield f"{name} ({unit})" if unit else name, _number(figure), figure.source.replace("|", "/").strip()


def _number(figure: Figure | None) -> str:
    """A value with thousands set apart; a dash where none is known."""
    if figure is None:
        return "–"
    return f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:g}"


def write(docs: Path) -> None:
    """Write the page into the folder `docs`."""
    (docs / "device-catalog.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
