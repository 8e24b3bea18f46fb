"""The pool every candidate evaluation goes through, with back ends chosen by settings.

The three kinds differ in where the work happens and in nothing else: ``serial`` (this process), ``local`` (processes of
this machine) and ``ray`` (a Ray cluster, started here or named by an address). A pool evaluates; it never opens the
database, and it is the only owner of retries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from ..errors import ConfigError, PoolError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["WORKER_ENVIRONMENT", "OnDone", "Pool", "PoolKind", "open_pool"]

PoolKind = Literal["serial", "local", "ray"]

OnDone = Callable[[int, dict[str, Any]], None]
"""Progress: called in the caller's thread with an item's index and its result, in the order of completion."""

WORKER_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""One thread per worker, set before numpy or torch is imported: workers share the cores, their threads would fight."""


class Pool(ABC):
    """Workers that each built one evaluator and evaluate items with it. One `map` at a time; close it after use.

    Args:
        workers: how many evaluations may run side by side.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError("pool.workers", workers, "an integer >= 1")
        self.workers = workers
        self._closed = False

    @abstractmethod
    def map(self, items: list[dict[str, Any]], on_done: OnDone | None = None) -> list[dict[str, Any]]:
        """Evaluate every item.

        Args:
            items: JSON-able dicts, one per evaluation.
            on_done: progress callback; what it raises ends the call, and the pool stays usable.

        Returns:
            One result per item, in the items' order. An item whose evaluation raised has
            ``{"error": "<type>: <message> (<file>:<line>)", "status": "failed"}``; so has one that lost two workers
            (killed, out of memory): the first loss is repaired by a new worker and one retry.

        Raises:
            PoolError: the pool is closed, or a worker could not be replaced.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the workers; no process stays behind. Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise PoolError("The pool is closed; open a new one with open_pool().")


def open_pool(
    kind: PoolKind,
    workers: int,
    factory: str,
    config: dict[str, Any],
    *,
    address: str | None = None,
    import_root: str | None = None,
) -> Pool:
    """Open a pool whose workers each call ``factory(config)`` once.

    Args:
        kind: ``serial``, ``local`` or ``ray``.
        workers: evaluations side by side; ``serial`` accepts any number and uses one.
        factory: ``module:function`` in this package, or in `import_root`.
        config: JSON-able settings for the factory.
        address: Ray cluster; None takes the environment's ``RAY_ADDRESS`` and else starts one on this machine.
        import_root: folder of the factory's module if that is not in this package; it must exist on every worker.

    Raises:
        ConfigError: an argument is not allowed.
        PoolError: the evaluator cannot be built, or the cluster cannot be reached.

    >>> open_pool("threads", 2, "archsmith.search.pools.evaluation:failure", {})
    Traceback (most recent call last):
    archsmith.errors.ConfigError: pool.kind: got 'threads'; allowed: serial, local, ray.
    """
    from .pools.evaluation import EvaluatorSpec  # the back ends build on this module

    if kind not in get_args(PoolKind):
        raise ConfigError("pool.kind", kind, ", ".join(get_args(PoolKind)))
    if address is not None and kind != "ray":
        raise ConfigError("pool.address", address, "nothing, unless pool.kind is ray")
    spec = EvaluatorSpec(factory=factory, config=config, import_root=import_root)
    if kind == "serial":
        from .pools.serial import SerialPool

        return SerialPool(workers, spec)
    if kind == "local":
        from .pools.local import LocalPool

        return LocalPool(workers, spec)
    from .pools.cluster import RayPool

    return RayPool(workers, spec, address)
