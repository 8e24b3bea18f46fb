"""The pools' processes: born with the right settings, replaced when killed, gone when the pool or its parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import archsmith
from archsmith.errors import PoolError
from archsmith.search.pool import PoolKind, open_pool

HERE = str(Path(__file__).parent)
KINDS: list[PoolKind] = ["serial", "local", "ray"]
SCORER = "pool_factories:scorer"


@pytest.mark.parametrize("kind", KINDS)
def test_factory_runs_once_per_worker(kind: PoolKind, tmp_path: Path) -> None:
    log = tmp_path / "builds"
    with open_pool(kind, 2, SCORER, {"factor": 1.0, "log": str(log)}, import_root=HERE) as pool:
        pool.map([{"x": x} for x in range(8)])
        pool.map([{"x": x} for x in range(8)])
    builders = log.read_text().split()
    assert len(builders) == len(set(builders)) == (1 if kind == "serial" else 2)


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_workers_use_one_thread_and_this_package(kind: PoolKind) -> None:
    with open_pool(kind, 1, "pool_factories:witness", {}, import_root=HERE) as pool:
        (seen,) = pool.map([{}])
    assert seen["threads"] == 1
    assert seen["omp"] == "1"
    assert seen["package"] == archsmith.__file__
    assert seen["pid"] != os.getpid()


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_close_leaves_no_process(kind: PoolKind) -> None:
    before = _descendants()
    with open_pool(kind, 2, SCORER, {"factor": 1.0}, import_root=HERE) as pool:
        pool.map([{"x": x} for x in range(4)])
        assert _descendants() - before
    _wait_until(lambda: not _descendants() - before)
    pool.close()
    with pytest.raises(PoolError, match="open a new one"):
        pool.map([{"x": 1}])


def test_local_worker_killed_while_idle_is_replaced() -> None:
    with open_pool("local", 1, "pool_factories:witness", {}, import_root=HERE) as pool:
        (first,) = pool.map([{}])
        os.kill(first["pid"], signal.SIGKILL)
        psutil.Process(first["pid"]).wait(timeout=10)
        (second,) = pool.map([{}])
    assert second["pid"] != first["pid"]


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_parent_killed_takes_its_workers_along(kind: PoolKind, tmp_path: Path) -> None:
    with _script(kind, tmp_path) as parent:
        worker = _started_worker(tmp_path)
        # Ray's two agents notice the death of their raylet by themselves, but may take a minute over it.
        family = psutil.Process(parent.pid).children(recursive=True)
        children = [child for child in family if "Agent" not in " ".join(child.cmdline())]
        assert worker in {child.pid for child in children}
        parent.kill()
        parent.wait()
        _wait_until(lambda: not psutil.pid_exists(worker))
        _wait_until(lambda: not [child for child in children if child.is_running()])


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_interrupt_of_the_process_group_reaches_the_parent_only(kind: PoolKind, tmp_path: Path) -> None:
    with _script(kind, tmp_path) as parent:
        worker = _started_worker(tmp_path)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == "interrupted"
        assert parent.wait(timeout=60) == 0
        _wait_until(lambda: not psutil.pid_exists(worker))


@pytest.mark.parametrize("kind", KINDS)
def test_factory_that_fails_is_reported_with_its_cause(kind: PoolKind) -> None:
    before = _descendants()
    with pytest.raises(PoolError, match=r"'pool_factories:refuses' could not be built: KeyError: 'weights'"):
        open_pool(kind, 2, "pool_factories:refuses", {"missing": "weights"}, import_root=HERE)
    _wait_until(lambda: not _descendants() - before)


def test_factory_that_kills_its_process_is_reported_after_two_starts() -> None:
    before = _descendants()
    with pytest.raises(PoolError, match="died 2 times while starting: was killed by SIGKILL"):
        open_pool("local", 2, "pool_factories:dies", {}, import_root=HERE)
    assert not _descendants() - before


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Poll; the limit only bounds a failing test."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.05)


def _script(kind: str, folder: Path) -> subprocess.Popen[str]:
    """A parent process in its own group whose only worker is in the middle of a long item."""
    code = f"""
        from archsmith.search.pool import open_pool
        pool = open_pool({kind!r}, 1, "pool_factories:witness", {{}}, import_root={HERE!r})
        try:
            pool.map([{{"started": {str(folder / "started")!r}, "sleep_s": 600}}])
        except KeyboardInterrupt:
            pool.close()
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)


def _started_worker(folder: Path) -> int:
    started = folder / "started"
    _wait_until(lambda: started.exists() and started.read_text() != "", limit_s=120)
    return int(started.read_text())
