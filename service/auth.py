"""Who may do what: API keys with a role, checked before every route.

A key reads ``nas_<id>_<secret>``. The store keeps an HMAC-SHA256 of the secret: it is random and long, so that no slow
hash is needed, and a stolen database holds nothing that opens a door.
"""

from __future__ import annotations

import argparse
import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError
from .settings import ENV_PREFIX, Settings, is_loopback, load_settings
from .store.faults import NotFound
from .store.records import ApiKeyRecord, Role
from .store.store import Store

__all__ = ["LOCAL", "Principal", "authenticate", "check_exposure", "create_key", "digest_of", "main", "principal_of"]

_KEY = re.compile(r"nas_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
_INCLUDES: Final = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.DEVICE: frozenset({Role.DEVICE}),
    Role.EDITOR: frozenset({Role.VIEWER, Role.DEVICE, Role.EDITOR}),
    Role.ADMIN: frozenset(Role),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sends a request.

    Attributes:
        name: for logs and idempotency; the key's id, or ``local``.
        role: what it may do.
        device: the only device that one of the role `device` may act for; None for none.
    """

    name: str
    role: Role
    device: str | None = None

    def may(self, role: Role) -> bool:
        """Whether its role includes `role`."""
        return role in _INCLUDES[self.role]

    def acts_for(self, device: str) -> bool:
        """Whether it may do to this device what its role lets it do to devices."""
        return self.role is not Role.DEVICE or self.device == device


LOCAL: Final = Principal(name="local", role=Role.ADMIN)
"""Whoever reaches a server that listens on loopback and asks for no keys."""


def digest_of(secret: str, signing_key: bytes) -> str:
    """What the store keeps of a key's secret."""
    return hmac.digest(signing_key, b"api-key:" + secret.encode(), "sha256").hex()


def create_key(store: Store, signing_key: bytes, *, name: str, role: Role, device: str | None = None) -> str:
    """Make and register a key; the returned text is shown once and kept nowhere.

    Raises:
        ConfigError: a key of the role `device` without a device, or another one with.
    """
    if (role is Role.DEVICE) != (device is not None):
        raise ConfigError("device", device, "the name of one device for the role device, and nothing for the others")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    store.create_api_key(name=name, role=role, digest=digest_of(secret, signing_key), key_id=key_id, device=device)
    return f"nas_{key_id}_{secret}"


def authenticate(store: Store, signing_key: bytes, key: str) -> Principal | None:
    """Who owns `key`; None for one that is malformed, unknown, wrong or revoked."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    try:
        record = store.api_key(match["id"])
    except NotFound:
        return None
    valid = hmac.compare_digest(record.digest, digest_of(match["secret"], signing_key))
    return _principal(record) if valid else None


def principal_of(store: Store, key_id: str) -> Principal | None:
    """Who owns the key with this id now; None once it is revoked or gone."""
    try:
        record = store.api_key(key_id)
    except NotFound:
        return None
    return _principal(record)


def _principal(record: ApiKeyRecord) -> Principal | None:
    """Who owns a key; None for a revoked one."""
    return Principal(name=record.id, role=record.role, device=record.device) if record.revoked is None else None


def check_exposure(settings: Settings, store: Store) -> None:
    """Refuse to be reachable from other machines without API keys.

    Raises:
        ConfigError: `host` is no loopback address, and keys are switched off or there is none.
    """
    if is_loopback(settings.host):
        return
    if not settings.needs_api_key:
        raise ConfigError(
            f"{ENV_PREFIX}REQUIRE_API_KEY",
            False,
            "true while other machines can reach the server",
            f"Leave it unset, or listen on 127.0.0.1 instead of {settings.host}.",
        )
    if not any(record.revoked is None for record in store.api_keys()):
        raise ConfigError(
            f"{ENV_PREFIX}HOST",
            settings.host,
            "a loopback address as long as there is no API key",
            "Create one first: python -m archsmith.service.auth --name <name> --role admin.",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a key for the store of the settings and write it to standard output, the only time it is seen."""
    parser = argparse.ArgumentParser(prog="python -m archsmith.service.auth", description=main.__doc__)
    parser.add_argument("--name", required=True, help="whose key it is")
    parser.add_argument("--role", choices=[role.value for role in Role], default=Role.VIEWER.value)
    parser.add_argument("--device", help="the device that a key of the role device may act for")
    given = parser.parse_args(arguments)
    if (given.role == Role.DEVICE) != (given.device is not None):
        parser.error("--role device needs --device NAME, and no other role takes it")
    settings = load_settings()
    with Store.open(settings.store_url, settings.artifacts_dir) as store:
        key = create_key(store, settings.signing_key(), name=given.name, role=Role(given.role), device=given.device)
    sys.stdout.write(f"{key}\n")


if __name__ == "__main__":
    main()
