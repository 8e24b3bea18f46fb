from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from archsmith import spaces
from archsmith.hwmodels.measurement import Measurement
from archsmith.spaces.op import total_macs


class SimulatedDevice:
    """A device whose latency is a known function of the Ops; kernels run alone pay `entry_ms` each, networks once."""

    device = "simulated"

    def __init__(self, cost_ms: Callable, overhead_ms: float = 0.003) -> None:
        self.conditions = {"runtime": "simulated"}
        self.cost_ms = cost_ms
        self.overhead_ms = overhead_ms
        self.measured = 0

    def measure(self, ops):
        self.measured += 1
        value = self.overhead_ms + self.cost_ms(ops)
        return Measurement(
            quantity="latency_ms", value=value, iqr=0.0, repeats=1, device=self.device, source="measured:simulated"
        )

    def state(self):
        return {"clock": 1.0}

    def restore(self, state):
        self.restored = dict(state)


def additive_ms(ops):
    """Exactly additive over Ops."""
    return 1e-7 * total_macs(ops) + 1e-3 * len(ops)


@pytest.fixture(scope="session")
def tiny():
    return spaces.get("mobilenet", "tiny")


@pytest.fixture
def additive_device():
    return SimulatedDevice(additive_ms)


@pytest.fixture
def crooked_device():
    """Not additive: every network is off by up to a tenth, in a way no site can explain."""

    def cost_ms(ops):
        phase = np.sin(1e-3 * total_macs(ops)) if len(ops) > 12 else 0.0
        return additive_ms(ops) * (1.0 + 0.1 * phase)

    return SimulatedDevice(cost_ms)
