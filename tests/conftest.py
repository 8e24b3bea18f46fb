"""What every test shares: nothing reads settings, credentials or clusters from the environment it was started in."""

from __future__ import annotations

import importlib
import os
import re
import signal
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from running import Finished

# Before any test imports numpy, torch or ray: one thread each, as in the pool's workers, and nobody else's cluster.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.pop("RAY_ADDRESS", None)

# A shell starts background jobs deaf to Ctrl-C, and their children too: tests that interrupt would wait forever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A store with one finished search; tests work on copies of it, where every stage's result can be reused."""
    from running import finish  # imports half of archsmith: only for tests that ask for it

    return finish(tmp_path_factory.mktemp("finished"))


def _importable(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the limit per test that pyproject.toml sets also where pytest-timeout, which enforces it, is missing."""
    if not _importable("pytest_timeout"):
        parser.addini("timeout", "seconds that a test may take; not enforced without pytest-timeout")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` alone, leave the service out: it needs no GPU, and even its fixtures need its packages."""
    return (config.getoption("markexpr") == "gpu" and collection_path == Path(__file__).parent / "service") or None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """With ``-m gpu`` alone, pass over modules that need packages which a bare GPU machine lacks, and say so."""
    report = yield
    missing = re.findall(r"No module named '(\w+)", str(report.longrepr)) if report.failed else []
    if missing and collector.config.getoption("markexpr") == "gpu" and not _importable(missing[-1]):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {missing[-1]}")
    return report
