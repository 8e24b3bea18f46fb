"""What the training tests share: the smallest space, the digits, and one thread, for equal bits."""

from __future__ import annotations

import pytest
import torch

from archsmith import spaces
from archsmith.predictors.tasks import catalog as tasks


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space():
    return spaces.get("mobilenet", "tiny")


@pytest.fixture(scope="module")
def task():
    return tasks.get("digits_shifted")
