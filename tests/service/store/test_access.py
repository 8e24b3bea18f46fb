"""API keys, idempotency keys and devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from service.store.samples import new_search

from archsmith.service.store.faults import Conflict, IdempotencyMismatch
from archsmith.service.store.records import (
    IdempotencyKey,
    NewMeasurement,
    Role,
    SearchRecord,
    StoredResponse,
)
from archsmith.service.store.store import Store

KEY = IdempotencyKey(principal="me", route="POST /searches", key="k1", body_sha256="a" * 64)


def respond(record: SearchRecord) -> StoredResponse:
    return StoredResponse(status=202, body={"id": record.id}, headers={"Location": f"/searches/{record.id}"})


def test_a_retried_creation_is_answered_from_the_store(store: Store) -> None:
    assert store.replay(KEY) is None
    record = store.create_search(new_search(), idempotency=KEY, respond=respond)
    assert store.replay(KEY) == respond(record)
    other = IdempotencyKey(principal="me", route=KEY.route, key="k1", body_sha256="b" * 64)
    with pytest.raises(IdempotencyMismatch):
        store.replay(other)
    assert store.expire_idempotency() == 0


def test_racing_creations_under_one_key_make_one_search(store: Store) -> None:
    def create(_: int) -> bool:
        try:
            store.create_search(new_search(), idempotency=KEY, respond=respond)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(24)))
    assert sum(won) == 1
    assert [record.number for record in store.searches()] == [1]


def test_api_keys_are_listed_and_revoked_once(store: Store) -> None:
    key = store.create_api_key(name="ci", role=Role.EDITOR, digest="d" * 64)
    revoked = store.revoke_api_key(key.id)
    assert revoked.revoked is not None
    assert store.revoke_api_key(key.id) == revoked
    assert store.api_keys() == [revoked] == [store.api_key(key.id)]


def test_devices_and_their_measurements(store: Store) -> None:
    first = store.put_device("host", {"cores": 2})
    second = store.put_device("host", {"cores": 4})
    assert (second.created, second.description) == (first.created, {"cores": 4})
    assert store.devices() == [second]
    new = [
        NewMeasurement(subject=f"conv{n}", quantity="latency_ms", value=n + 1.0, iqr=0.1, source="measured:onnxruntime")
        for n in range(3)
    ]
    store.add_measurements("host", new)
    stored = store.measurements("host", limit=2)
    assert [one.subject for one in stored] == ["conv0", "conv1"]
    assert [one.subject for one in store.measurements("host", after=stored[-1].id)] == ["conv2"]
    assert store.measurements("host", quantity="energy_mj") == []
