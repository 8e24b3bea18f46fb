"""The supernet of every family keeps the contract, on the CPU and, where there is one, on a CUDA device."""

from __future__ import annotations

import pytest
from contracts.supernet_kit import SupernetKit

from archsmith import spaces
from archsmith.spaces import catalog


class TestTinySupernets(SupernetKit):
    @pytest.fixture(scope="class", params=[name for name, family in catalog.FAMILIES.items() if family.supernet])
    @classmethod
    def space(cls, request):
        if request.param == "custom":
            pytest.importorskip("yaml")  # its presets are definitions in YAML
        return spaces.get(request.param, "tiny")
