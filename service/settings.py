"""Settings of the service: environment variables, a `.env` file, or arguments; never a module-level instance.

They reach the application through `create_app(settings)`, so that tests and several servers in one process each have
their own. `docs/settings.md` lists them all; a test compares it with this module.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ..errors import ConfigError

__all__ = ["ENV_PREFIX", "Settings", "is_loopback", "load_settings"]

ENV_PREFIX = "ARCHSMITH_"


class Settings(BaseSettings):
    """Everything that one installation decides; each field is the variable ARCHSMITH_<NAME>.

    >>> Settings(port=9000).url
    'http://127.0.0.1:9000'
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_file=".env", extra="ignore", validate_default=True)

    store_url: str = Field(
        default="sqlite:///runs/archsmith.db",
        description="Database: a file by `sqlite:///path`, or `postgresql+psycopg://user:password@host/name`.",
    )
    artifacts_dir: Path = Field(
        default=Path("runs/artifacts"), description="Folder of the content-addressed artifact files."
    )
    runs_dir: Path = Field(
        default=Path("runs"), description="Folder for deliverables, checkpoints of unfinished stages and the secret."
    )
    host: str = Field(default="127.0.0.1", description="Address the server listens on.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port the server listens on; 0 takes a free one.")
    require_api_key: bool | None = Field(
        default=None, description="Whether every request needs an API key; unset: unless `host` is a loopback address."
    )
    trusted_hosts: Annotated[list[str], NoDecode] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        description="Values of the Host header that are answered, separated by commas; `*` answers all.",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="Key that signs cursors and API key digests; unset: made once and kept in `runs_dir`/secret.",
    )
    session_hours: float = Field(
        default=12.0, gt=0, le=8760, description="Hours for which a browser stays signed in, where keys are needed."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Largest request body in bytes.")
    idempotency_days: float = Field(default=7.0, gt=0, description="Days for which an Idempotency-Key is remembered.")
    event_poll_s: float = Field(default=0.5, gt=0, description="Seconds between two looks at the event log per stream.")
    worker_in_server: bool = Field(
        default=True, description="Whether `serve` also runs a worker; SQLite always does, PostgreSQL may run others."
    )
    workers: int = Field(default=2, ge=1, description="Processes (or Ray actors) that evaluate candidates.")
    pool: Literal["serial", "local", "ray"] = Field(
        default="local", description="Where candidates are evaluated: in the worker itself, local processes, or Ray."
    )
    ray_address: str | None = Field(
        default=None, description="Ray cluster to join, e.g. `ray://head:10001`; unset: a local one is started."
    )
    lease_ttl_s: float = Field(
        default=60.0, gt=0, description="Seconds after which work of a silent worker is given to another."
    )
    device_patience_s: float = Field(
        default=900.0, gt=0, description="Seconds of silence of a device's agent after which a search gives up on it."
    )
    poll_s: float = Field(default=1.0, gt=0, description="Seconds between two looks of an idle worker for work.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")

    @field_validator("trusted_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def to_environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process; the secret stays in its file or variable."""
        values = self.model_dump(mode="json", exclude={"secret"}, exclude_none=True)
        return {
            f"{ENV_PREFIX}{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
        }

    @property
    def url(self) -> str:
        """Address of the service for people and clients on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104  # compared, not bound
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{self.port}"

    @property
    def needs_api_key(self) -> bool:
        """Whether requests without an API key are refused."""
        return not is_loopback(self.host) if self.require_api_key is None else self.require_api_key

    def signing_key(self) -> bytes:
        """The key of every signature; created with mode 0600 on first use where `secret` is unset.

        Raises:
            ConfigError: the file can be neither read nor created.
        """
        if self.secret is not None:
            return self.secret.get_secret_value().encode()
        path = self.runs_dir / "secret"
        try:
            self.runs_dir.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _create_whole(path, secrets.token_hex(32))
            return path.read_text(encoding="ascii").strip().encode()
        except OSError as error:
            raise ConfigError(
                "runs_dir", str(self.runs_dir), "a folder that can be written", f"{error.strerror}: {error.filename}"
            ) from error


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, with `overrides` (None = not given) on top.

    Raises:
        ConfigError: a variable or override holds something that is not allowed; it names the variable.
    """
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type]  # checked by pydantic
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        shown = "(hidden)" if field == "secret" else first.get("input")
        raise ConfigError(f"{ENV_PREFIX}{field.upper()}", shown, first["msg"], "See docs/settings.md.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _create_whole(path: Path, content: str) -> None:
    """Create `path` with mode 0600 and its whole content at once; raises FileExistsError if it exists."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(content)
        os.link(draft, path)  # unlike a rename, this never replaces another process's secret
    finally:
        draft.unlink()
