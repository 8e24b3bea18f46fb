"""What every test shares: nothing reads settings, credentials or clusters from the environment it was started in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from running import Finished

# Before any test imports numpy, torch or ray: one thread each, as in the pool's workers, and nobody else's cluster.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A store with one finished search; tests work on copies of it, where every stage's result can be reused."""
    from running import finish  # imports half of archsmith: only for tests that ask for it

    return finish(tmp_path_factory.mktemp("finished"))
