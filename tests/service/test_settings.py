from __future__ import annotations

import re
from pathlib import Path

import pytest

from archsmith.errors import ConfigError
from archsmith.service.settings import ENV_PREFIX, Settings, load_settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_docs_list_every_setting_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `(ARCHSMITH_\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "unset" if default is None else ",".join(default) if isinstance(default, list) else str(default)
        expected[ENV_PREFIX + name.upper()] = f"`{shown}` | {field.description}"
    assert rows == expected


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSMITH_PORT", "9001")
    monkeypatch.setenv("ARCHSMITH_TRUSTED_HOSTS", "a.example, b.example")
    settings = load_settings(host=None, pool="ray")
    assert (settings.port, settings.trusted_hosts, settings.pool) == (9001, ["a.example", "b.example"], "ray")


def test_settings_bad_value_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSMITH_PORT", "many")
    with pytest.raises(ConfigError, match="ARCHSMITH_PORT: got 'many'"):
        load_settings()


def test_settings_secret_is_kept_private_and_stable(tmp_path: Path) -> None:
    settings = Settings(runs_dir=tmp_path)
    key = settings.signing_key()
    assert len(key) == 64
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert Settings(runs_dir=tmp_path).signing_key() == key
    assert "swordfish" not in repr(Settings(secret="swordfish"))  # type: ignore[arg-type]  # pydantic converts it


def test_settings_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="runs_dir"):
        Settings(runs_dir=tmp_path / "file" / "runs").signing_key()
