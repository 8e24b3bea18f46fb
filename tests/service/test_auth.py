from __future__ import annotations

from pathlib import Path

import pytest

from archsmith.service.auth import authenticate, create_key, main
from archsmith.service.settings import load_settings
from archsmith.service.store.records import Role
from archsmith.service.store.store import Store

KEY = b"signing key"


def test_key_opens_only_as_itself(store: Store) -> None:
    text = create_key(store, KEY, name="ci", role=Role.EDITOR)
    principal = authenticate(store, KEY, text)
    assert principal is not None
    assert principal.may(Role.VIEWER)
    assert principal.may(Role.EDITOR)
    assert not principal.may(Role.ADMIN)
    for other in (text[:-1], text + "A", text.upper(), text[:-2] + "AA", "", "nas_000000000000_" + text[-43:]):
        assert authenticate(store, KEY, other) is None
    assert authenticate(store, b"another server", text) is None


def test_key_secret_is_not_stored(store: Store) -> None:
    text = create_key(store, KEY, name="ci", role=Role.VIEWER)
    (record,) = store.api_keys()
    assert text.split("_", 2)[2] not in repr(record)


def test_command_makes_a_key_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHSMITH_RUNS_DIR", str(tmp_path))
    monkeypatch.setenv("ARCHSMITH_ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    monkeypatch.setenv("ARCHSMITH_STORE_URL", f"sqlite:///{tmp_path}/archsmith.db")
    main(["--name", "first", "--role", "admin"])
    settings = load_settings()
    with Store.open(settings.store_url, settings.artifacts_dir) as opened:
        principal = authenticate(opened, settings.signing_key(), capsys.readouterr().out.strip())
    assert principal is not None
    assert principal.role is Role.ADMIN
