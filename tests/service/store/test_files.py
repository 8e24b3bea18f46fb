"""Artifacts, locks, full disks and read-only places."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from service.store.samples import claimed

from archsmith.errors import StoreError
from archsmith.service.store.artifacts import ArtifactFiles
from archsmith.service.store.faults import StoreBusy
from archsmith.service.store.lock import StoreLock
from archsmith.service.store.store import Store


def test_equal_content_is_stored_once(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(b"w" * 3_000_000)
    one = store.add_artifact(source, name="weights.bin", media_type="application/octet-stream")
    two = store.add_artifact(b"w" * 3_000_000, name="weights.bin", media_type="application/octet-stream")
    assert one == two
    assert one.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert store.files.used_bytes() == one.size == 3_000_000
    assert store.artifact_path(one.id).read_bytes() == source.read_bytes()


def test_stored_result_keeps_the_first(store: Store) -> None:
    model = store.add_artifact(b"m", name="m", media_type="application/octet-stream")
    first = store.put_stored("supernet", "abc", summary={"acc": 0.9}, files={"weights/m": model.id})
    assert store.put_stored("supernet", "abc", summary={"acc": 0.1}) == first
    assert store.get_stored("supernet", "abc") == first
    assert store.get_stored("supernet", "other") is None


def test_evaluation_is_known_by_recipe_key_fidelity_and_seed(store: Store) -> None:
    _, lease = claimed(store)
    store.keep_evaluated(lease, "r", {"a": 0.5, "b": 0.25}, seed=1)
    store.keep_evaluated(lease, "r", {"a": 0.75, "c": 1.0}, seed=1)
    assert store.evaluated("r", ["a", "b", "c", "d"], seed=1) == {"a": 0.5, "b": 0.25, "c": 1.0}
    assert store.evaluated("r", ["a"], seed=2) == {}
    assert store.evaluated("r", ["a"], seed=1, fidelity=0.5) == {}
    assert store.evaluated("other", ["a"], seed=1) == {}


def test_quota_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    files = ArtifactFiles(tmp_path / "artifacts", quota_bytes=10)
    files.add(b"12345")
    with pytest.raises(StoreError, match=r"quota of 10 bytes"):
        files.add(b"1234567")
    assert [path.name for path in files.folder.rglob("*") if path.is_file()] == [hashlib.sha256(b"12345").hexdigest()]


def test_lost_file_is_named(store: Store) -> None:
    record = store.add_artifact(b"x", name="x", media_type="text/plain")
    store.artifact_path(record.id).unlink()
    with pytest.raises(StoreError, match="missing"):
        store.artifact_path(record.id)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="folder"):
        ArtifactFiles(tmp_path / "file" / "artifacts").add(b"x")
    with pytest.raises(StoreError, match="cannot be created"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'store.db'}", tmp_path)
    with pytest.raises(StoreError, match="lock file"):
        StoreLock.acquire(tmp_path / "file" / "store.db")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from service.store.samples import claimed

from archsmith.errors import StoreError
from archsmith.service.store.store import Store
from service.store.samples import claimed, random_batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
store = Store.open(f"sqlite:///{folder / 'store.db'}", folder / "artifacts")
search, lease = claimed(store)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    store.add_artifact(bytes(3_000_000), name="big", media_type="x")
except StoreError as error:
    print(error)
stored = 0
try:
    for seed in range(1000):
        stored += len(store.record_trials(lease, random_batch(500, seed)))
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.search(search.id).n_trials == stored == len(store.points(search.id)), stored
store.record_trials(lease, random_batch(5, 0))
store.close()
"""


def test_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tests,
        env={"PYTHONPATH": str(tests)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("disk is full" in line for line in lines)


def test_second_owner_is_refused_and_a_child_shares(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    lock = StoreLock.acquire(database)
    with pytest.raises(StoreBusy, match="owned by process"):
        StoreLock.acquire(database)
    child = (
        "import sys; from pathlib import Path; from archsmith.service.store.lock import StoreLock; "
        "StoreLock.adopt(Path(sys.argv[1]), int(sys.argv[2])); print('shared', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", child, str(database), str(lock.fd)]
    with subprocess.Popen(
        command, pass_fds=[lock.fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "shared\n"
        lock.release()
        with pytest.raises(StoreBusy):  # the child still holds it
            StoreLock.acquire(database)
        process.stdin.close()
        assert process.wait() == 0
    StoreLock.acquire(database).release()


def test_adopting_another_file_is_refused(tmp_path: Path) -> None:
    with (
        StoreLock.acquire(tmp_path / "a.db") as lock,
        StoreLock.acquire(tmp_path / "b.db"),
        pytest.raises(StoreError, match="another file"),
    ):
        StoreLock.adopt(tmp_path / "b.db", lock.fd)
