"""The three pools on real processes and a real local Ray cluster: one contract, the same results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsmith.errors import ConfigError, PoolError
from archsmith.search.pool import Pool, PoolKind, open_pool

HERE = str(Path(__file__).parent)
KINDS: list[PoolKind] = ["serial", "local", "ray"]
SCORER = "pool_factories:scorer"


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pool]]:
    """One open pool of two workers per kind, shared by the tests that leave their pool as they found it."""
    logs = tmp_path_factory.mktemp("pools")
    opened: dict[str, Pool] = {}
    try:
        for kind in KINDS:
            config = {"factor": 2.0, "log": str(logs / kind)}
            opened[kind] = open_pool(kind, 2, SCORER, config, import_root=HERE)
        yield opened
    finally:
        for pool in opened.values():
            pool.close()


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest, pools: dict[str, Pool]) -> Pool:
    return pools[request.param]


@pytest.fixture(params=["local", "ray"])
def process_pool(request: pytest.FixtureRequest, pools: dict[str, Pool]) -> Pool:
    return pools[request.param]


def test_map_same_items_gives_same_results_from_every_kind(pools: dict[str, Pool]) -> None:
    items: list[dict[str, Any]] = [{"x": x} for x in range(20)]
    items[7] = {"x": 7, "raise": True}
    results = {kind: pools[kind].map(items) for kind in KINDS}
    assert results["serial"] == results["local"] == results["ray"]
    assert results["serial"][5] == {"score": 5 / 3 * 2.0, "shape": [5, 1]}


def test_map_slow_first_item_keeps_the_order_of_items(process_pool: Pool) -> None:
    finished: list[int] = []
    items: list[dict[str, Any]] = [{"x": 0, "sleep_s": 0.5}, {"x": 1}, {"x": 2}, {"x": 3}]
    results = process_pool.map(items, on_done=lambda index, result: finished.append(index))
    assert [result["shape"][0] for result in results] == [0, 1, 2, 3]
    assert sorted(finished) == [0, 1, 2, 3]
    assert finished[-1] == 0


def test_map_no_items_gives_no_results(pool: Pool) -> None:
    assert pool.map([]) == []


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"raise": True}, r"ValueError: no score for 3 (pool_factories.py:"),
        ({"exit": 4}, "SystemExit: 4 (pool_factories.py:"),
        ({"unserialisable": True}, "TypeError: Object of type object is not JSON serializable"),
        ({"not_a_dict": True}, "TypeError: the evaluator returned list; it must return a dict"),
    ],
)
def test_map_item_that_fails_costs_only_itself(pool: Pool, flaw: dict[str, Any], message: str) -> None:
    before, broken, after = pool.map([{"x": 1}, {"x": 3} | flaw, {"x": 2}])
    assert broken["status"] == "failed"
    assert broken["error"].startswith(message)
    assert set(broken) == {"error", "status"}
    assert (before["shape"], after["shape"]) == ([1, 1], [2, 1])


def test_map_worker_killed_once_retries_the_item(process_pool: Pool, tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [{"x": x} for x in range(6)]
    items[2]["die_once"] = str(tmp_path / "died")
    results = process_pool.map(items)
    assert (tmp_path / "died").exists()
    assert [result["shape"][0] for result in results] == list(range(6))


def test_map_item_that_kills_every_worker_fails_with_the_cause(process_pool: Pool) -> None:
    progress: list[int] = []
    results = process_pool.map(
        [{"x": 0}, {"x": 1, "die": True}, {"x": 2}, {"x": 3}], on_done=lambda index, result: progress.append(index)
    )
    assert results[1]["status"] == "failed"
    assert results[1]["error"].startswith("WorkerDied: two workers were lost on this item; the last one ")
    assert [results[index]["shape"][0] for index in (0, 2, 3)] == [0, 2, 3]
    assert sorted(progress) == [0, 1, 2, 3]
    assert process_pool.map([{"x": 9}])[0]["shape"] == [9, 1]


def test_map_callback_raises_ends_the_call_and_keeps_the_pool(pool: Pool) -> None:
    class StopError(Exception):
        pass

    def stop(index: int, result: dict[str, Any]) -> None:
        raise StopError

    with pytest.raises(StopError):
        pool.map([{"x": 0}, {"x": 1, "sleep_s": 0.5}, {"x": 2}], on_done=stop)
    assert [result["shape"][0] for result in pool.map([{"x": 5}, {"x": 6}])] == [5, 6]


def test_map_item_that_is_not_json_raises_before_anything_runs(pool: Pool) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        pool.map([{"x": 1}, {"x": object()}])
    assert pool.map([{"x": 1}])[0]["shape"] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "threads"}, "pool.kind: got 'threads'; allowed: serial, local, ray"),
        ({"workers": 0}, "pool.workers: got 0; allowed: an integer >= 1"),
        ({"factory": "pool_factories.scorer"}, "allowed: 'module:function'"),
        ({"factory": "os:system", "import_root": None}, "allowed: a module of archsmith"),
        ({"import_root": "/nonexistent"}, "import_root: got '/nonexistent'; allowed: an existing folder"),
        ({"config": {"factor": object()}}, "config: .* allowed: JSON-able values"),
        ({"address": "10.0.0.1:6379"}, "pool.address: .* unless pool.kind is ray"),
    ],
)
def test_open_pool_wrong_argument_names_place_value_and_choices(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"kind": "serial", "workers": 1, "factory": SCORER, "config": {}, "import_root": HERE}
    with pytest.raises(ConfigError, match=message):
        open_pool(**(arguments | change))


def test_open_pool_missing_module_names_it() -> None:
    with pytest.raises(PoolError, match=r"No module named 'archsmith.search.nowhere'"):
        open_pool("serial", 1, "archsmith.search.nowhere:build", {})


def test_ray_cluster_without_token_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(PoolError, match="RAY_AUTH_MODE=token"):
        open_pool("ray", 1, SCORER, {}, address="192.0.2.1:6379", import_root=HERE)
