from __future__ import annotations

import dataclasses

import pytest

from archsmith.errors import ConfigError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.device import Figure, load_device

GOOD = "name: toy\ntitle: A toy\nkind: cpu\n"


def test_good_file_is_read():
    device = load_device(GOOD + "peak_gmacs_per_s:\n  float32: {value: 1e3, source: data sheet}\n")
    assert device.peak_gmacs_per_s == {"float32": Figure(1000.0, "data sheet")}
    assert device.memory_bandwidth_gb_per_s is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "speed: 3\n", r"toy\.yaml, line 4: speed: got 'speed'; allowed: the keys name, title"),
        (GOOD + "memory_bandwidth: 3\n", r"line 4: .*allowed: memory_bandwidth_gb_per_s\. The unit is part of the key"),
        (GOOD + "idle_power_w: {value: -2, source: x}\n", r"line 4: idle_power_w\.value: got -2; allowed: a finite"),
        (GOOD + "idle_power_w: {value: .nan, source: x}\n", "finite number above 0"),
        (GOOD + "idle_power_w: {value: true, source: x}\n", "a number in the unit"),
        (GOOD + "idle_power_w: {value: '2 W', source: x}\n", "a number in the unit"),
        (GOOD + "idle_power_w: 2\n", "a mapping of exactly `value` and `source`"),
        (GOOD + "idle_power_w: {value: 2}\n", r"got \['value'\]"),
        (GOOD + "idle_power_w: {value: 2, source: ''}\n", "text"),
        (
            GOOD + "caches_kib:\n  l9: {value: 2, source: x}\n",
            r"line 5: caches_kib\.l9: got 'l9'; allowed: the keys l1d",
        ),
        (GOOD + "caches_kib: 3\n", "a mapping with keys among l1d"),
        (GOOD + "name: again\n", r"line 4: name: .*each key once"),
        ("name: toy\nkind: cpu\n", r"Add \['title'\]"),
        ("name: toy\ntitle: A toy\nkind: abacus\n", r"line 3: kind: got 'abacus'; allowed: one of cpu, gpu"),
    ],
)
def test_wrong_file_names_line_place_value_and_allowed(text, message):
    with pytest.raises(ConfigError, match=message):
        load_device(text, place="toy.yaml")


def test_identity_changes_with_any_figure():
    device = catalog.get("raspberry_pi_4")
    other = dataclasses.replace(device, idle_power_w=Figure(2.8, "elsewhere"))
    assert device.identity == catalog.get("raspberry_pi_4").identity != other.identity


@pytest.mark.parametrize("name", catalog.names())
def test_shipped_file_is_complete_enough_for_energy(name):
    device = catalog.get(name)
    assert device.name == name
    assert device.energy_per_mac_pj["float32"].value > 0
    assert None not in (device.energy_per_byte_pj, device.idle_power_w, device.energy_relative_std)
    if device.busy_power_w is not None:
        # The MAC term may not explain more than the power between idle and busy.
        dynamic_w = device.busy_power_w.value - device.idle_power_w.value
        mac_w = device.energy_per_mac_pj["float32"].value * device.peak_gmacs_per_s["float32"].value * 1e-3
        assert mac_w == pytest.approx(dynamic_w, rel=0.02)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"got 'hots'; allowed: one of .*raspberry_pi_4.*Did you mean 'host'"):
        catalog.get("hots")


def test_host_is_detected_and_measured():
    device = catalog.get("host", measured=True)
    assert device.cores.value >= 1
    assert device.memory_mib.value > 64
    assert device.memory_bandwidth_gb_per_s.source.startswith("measured:")
    assert device.peak_gmacs_per_s["float32"].value > 0.01
