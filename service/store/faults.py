"""Refusals that callers tell apart: what is missing, what conflicts, what is unreachable."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import StoreError

__all__ = ["Conflict", "IdempotencyMismatch", "NotFound", "StoreBusy", "StoreUnavailable"]


class NotFound(StoreError):  # noqa: N818  # reads as the answer it is
    """There is no such thing.

    Args:
        what: the kind of thing, e.g. ``search``.
        key: what was asked for.
    """

    def __init__(self, what: str, key: object) -> None:
        self.what = what
        self.key = key
        super().__init__(f"{what} {key!r} does not exist in this store; list the {what} entries to see what does.")


class Conflict(StoreError):  # noqa: N818
    """The thing is in a state that does not allow this.

    Args:
        what: the thing and what was asked of it, e.g. ``pause search 3``.
        state: its state.
        allowed: the states that would have allowed it.
    """

    def __init__(self, what: str, state: str, allowed: Iterable[str]) -> None:
        self.state = str(state)
        self.allowed = tuple(sorted(str(one) for one in allowed))
        choices = ", ".join(self.allowed) or "no state"
        super().__init__(f"cannot {what}: its state is {self.state!r}; allowed: {choices}.")


class IdempotencyMismatch(StoreError):  # noqa: N818
    """An idempotency key came back with another body."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The database cannot be reached or stays locked; trying again later may help."""


class StoreBusy(StoreError):  # noqa: N818
    """Another process owns this SQLite file."""
