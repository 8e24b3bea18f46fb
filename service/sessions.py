"""Browser sessions: a signed cookie that names an API key for some hours, and a token that guards what it may change.

The cookie holds the key's id, when it ends, and a signature; never the key's secret. Whoever holds it may do what the
key may do now: the key is looked up at every request, so that revoking it ends its sessions. A page of this server
carries the session's token and its scripts send it back in a header; a page of another origin can read neither.

Source: the synchroniser token pattern of OWASP's "Cross-Site Request Forgery Prevention Cheat Sheet".
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final

__all__ = ["COOKIE", "CSRF_HEADER", "csrf_token", "is_csrf_token", "issue", "read"]

COOKIE: Final = "archsmith_session"
CSRF_HEADER: Final = "X-CSRF-Token"

_SESSION = re.compile(
    r"(?P<payload>(?P<key_id>[0-9a-f]{12})\.(?P<until>\d{1,12})\.[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})"
)


def issue(key_id: str, signing_key: bytes, *, until: float) -> str:
    """The cookie's value for a session of the API key `key_id` that ends at `until`, seconds since 1970."""
    payload = f"{key_id}.{int(until)}.{secrets.token_hex(16)}"
    return f"{payload}.{_mac(b'session:', payload, signing_key)}"


def read(value: str, signing_key: bytes, *, now: float) -> str | None:
    """The id of the session's API key; None where the cookie is malformed, forged or too old.

    >>> value = issue("0123456789ab", b"key", until=100)
    >>> read(value, b"key", now=99), read(value, b"key", now=100), read(value, b"other", now=99)
    ('0123456789ab', None, None)
    """
    match = _SESSION.fullmatch(value)
    if match is None or not hmac.compare_digest(match["mac"], _mac(b"session:", match["payload"], signing_key)):
        return None
    return match["key_id"] if now < int(match["until"]) else None


def csrf_token(value: str, signing_key: bytes) -> str:
    """The token of the session with this cookie."""
    return _mac(b"csrf:", value, signing_key)


def is_csrf_token(token: str, value: str, signing_key: bytes) -> bool:
    """Whether `token` is the session's."""
    return hmac.compare_digest(token.encode(), csrf_token(value, signing_key).encode())


def _mac(purpose: bytes, text: str, signing_key: bytes) -> str:
    return hmac.digest(signing_key, purpose + text.encode(), "sha256").hex()
