"""What every test shares: nothing reads settings, credentials or clusters from the environment it was started in."""

from __future__ import annotations

import os

# Before any test imports numpy, torch or ray: one thread each, as in the pool's workers, and nobody else's cluster.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.pop("RAY_ADDRESS", None)
