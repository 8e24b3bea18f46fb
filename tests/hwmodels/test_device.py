from __future__ import annotations

import dataclasses

import pytest

from archsmith.errors import ConfigError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.device import BYTES_PER_VALUE, KINDS, Figure, load_device

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
        (GOOD + "sram: 3\n", r"line 4: sram: .*allowed: sram_kib\. The unit is part of the key"),
        (
            GOOD + "peak_gmacs_per_s:\n  int4: {value: 2, source: x}\n",
            r"got 'int4'; allowed: the keys float32, float16, bfloat16, int16, int8",
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


NEEDED = {
    "h200", "h100", "a100", "v100", "t4", "rtx_4090", "xeon_gold_6240", "epyc_9654", "raspberry_pi_4", "raspberry_pi_5",
    "jetson_orin_nano", "cortex_a76", "cortex_a55", "edge_tpu", "eyeriss", "tpu_v1", "stm32f746", "host",
}  # fmt: skip


def test_catalog_holds_every_class_of_device():
    assert set(catalog.names()) >= NEEDED
    assert {catalog.get(name).kind for name in catalog.names()} == set(KINDS)


@pytest.mark.parametrize("name", catalog.names())
def test_shipped_file_is_complete_enough_for_energy(name):
    device = catalog.get(name)
    assert device.name == name
    assert device.data_type in device.energy_per_mac_pj
    assert None not in (device.energy_per_byte_pj, device.idle_power_w, device.energy_relative_std)
    if device.busy_power_w is not None:
        # The MAC term may not explain more than the power between idle and busy, in any data type.
        dynamic_w = device.busy_power_w.value - device.idle_power_w.value
        for data_type, rate in device.peak_gmacs_per_s.items():
            mac_w = device.energy_per_mac_pj[data_type].value * rate.value * 1e-3
            assert mac_w == pytest.approx(dynamic_w, rel=0.02)


@pytest.mark.parametrize("name", [name for name in catalog.names() if name != "host"])
def test_shipped_file_is_complete_enough_for_latency(name):
    device = catalog.get(name)
    assert device.data_type in device.peak_gmacs_per_s
    assert device.memory_bandwidth_gb_per_s is not None
    assert set(device.peak_gmacs_per_s) == set(device.energy_per_mac_pj)
    # Narrower numbers never run slower.
    by_size = sorted(device.peak_gmacs_per_s, key=lambda data_type: -BYTES_PER_VALUE[data_type])
    rates = [device.peak_gmacs_per_s[data_type].value for data_type in by_size]
    assert rates == sorted(rates)
    if device.kind == "microcontroller":
        assert None not in (device.sram_kib, device.flash_kib)


def test_data_type_is_float32_where_the_device_computes_in_it():
    assert catalog.get("raspberry_pi_5").data_type == "float32"
    assert catalog.get("edge_tpu").data_type == "int8"
    assert load_device(GOOD).data_type == "float32"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"got 'hots'; allowed: one of .*raspberry_pi_4.*Did you mean 'host'"):
        catalog.get("hots")


def test_host_is_detected_and_measured():
    device = catalog.get("host", measured=True)
    assert device.cores.value >= 1
    assert device.memory_mib.value > 64
    assert device.memory_bandwidth_gb_per_s.source.startswith("measured:")
    assert device.peak_gmacs_per_s["float32"].value > 0.01
    assert catalog.get("host", measured=True).peak_gmacs_per_s == device.peak_gmacs_per_s  # measured once
