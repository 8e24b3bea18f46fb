"""Opaque page cursors: where the next page begins, signed, and valid only for the list and filter they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .problems import ProblemError

__all__ = ["Cursors"]

_SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Cursors:
    """Makes and reads cursors.

    Args:
        key: signs them, so that a client can neither invent nor change one.

    >>> cursors = Cursors(b"secret")
    >>> cursors.read(cursors.make(41, {"list": "trials"}), {"list": "trials"})
    41
    """

    key: bytes

    def make(self, position: object, scope: Mapping[str, object]) -> str:
        """A cursor for the JSON-able `position` in the list and filter that `scope` names."""
        payload = json.dumps(position, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(payload, scope) + payload).decode().rstrip("=")

    def read(self, cursor: str | None, scope: Mapping[str, object]) -> Any:
        """The position, None for no cursor.

        Raises:
            ProblemError: 400, a cursor that was changed or belongs to another list or filter.
        """
        if cursor is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(payload, scope)):
            raise ProblemError(
                400,
                "invalid-cursor",
                "The cursor does not belong to this list and filter; pass next_cursor of the page before unchanged, "
                "with the same query, or leave it out to begin anew.",
            )
        return json.loads(payload)

    def _sign(self, payload: bytes, scope: Mapping[str, object]) -> bytes:
        bound = json.dumps(scope, sort_keys=True, default=str).encode()
        message = hashlib.sha256(bound).digest() + payload
        return hmac.digest(self.key, b"cursor:" + message, "sha256")[:_SIGNATURE_BYTES]
