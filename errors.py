"""The errors archsmith raises on purpose: one root, one class per room of the house.

Every message says what failed, the value received, what is allowed, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "ArchsmithError",
    "ConfigError",
    "DeviceError",
    "InfeasibleError",
    "LeaseLostError",
    "PoolError",
    "PredictorError",
    "SpaceError",
    "StoreError",
    "StrategyError",
    "TaskError",
]


class ArchsmithError(Exception):
    """Root of every error that archsmith raises deliberately."""


class ConfigError(ArchsmithError):
    """A job, device, system or settings file holds something that is not allowed.

    Args:
        place: dotted path of the offending value, e.g. ``objectives[1].device``.
        value: the value received.
        allowed: what would have been accepted, in words.
        hint: what to do next; empty if `allowed` says it all.
    """

    def __init__(self, place: str, value: object, allowed: str, hint: str = "") -> None:
        self.place = place
        self.value = value
        self.allowed = allowed
        self.hint = hint
        message = f"{place}: got {value!r}; allowed: {allowed}."
        super().__init__(f"{message} {hint}".rstrip())


class SpaceError(ArchsmithError):
    """A genome, gene, architecture or input does not belong to the search space."""


class TaskError(ArchsmithError):
    """A data set is missing, broken, or does not fit the network it is meant for."""


class DeviceError(ArchsmithError):
    """A device description or a measurement is wrong, or the device went away."""


class PredictorError(ArchsmithError):
    """A predictor or cost model was asked for something it cannot honestly answer."""


class StrategyError(ArchsmithError):
    """A strategy was configured, told or restored wrongly."""


class InfeasibleError(StrategyError):
    """No architecture of the space satisfies the constraints; the message names the tightest value found."""


class PoolError(ArchsmithError):
    """An evaluation pool could not start or replace its workers, or was used after it was closed."""


class StoreError(ArchsmithError):
    """The database or artifact store refused an operation."""


class LeaseLostError(StoreError):
    """This worker's lease is gone: another epoch owns the job, so nothing it still wants to write may be stored."""
