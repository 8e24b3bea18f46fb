"""Ray pool: one actor per worker, on a cluster that is started here or already runs.

Ray is disposable compute: actors hold no state worth saving, never open the database, and Ray itself retries nothing
(``max_restarts=0``, ``max_task_retries=0``), because two owners of retries would evaluate one item several times over.

A cluster started here listens on the loopback interface only, asks for a token, and sends no usage statistics. One at
an address must have archsmith installed on its nodes and must ask for a token unless it is on this machine.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from ...errors import ArchsmithError, PoolError
from ..pool import WORKER_ENVIRONMENT, OnDone, Pool
from .evaluation import Evaluation, EvaluatorSpec
from .ledger import Ledger

__all__ = ["RayPool", "connect"]

_START_TIMEOUT_S: Final = 120.0
_OBJECT_STORE_BYTES: Final = 128 * 2**20
"""Items and results are small JSON; Ray's default would claim a third of the memory."""

_LOCAL_SETTINGS: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: 0 binds every Ray process to 127.0.0.1, on Linux too
    "RAY_worker_niceness": "0",  # by default 15: beside any other work on this machine, actors would hardly run
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # an actor that asks for no GPU keeps the environment's device list
}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]", "auto", "local")


class RayPool(Pool):
    """Evaluates items in `workers` Ray actors, one CPU each.

    Args:
        workers: how many actors; at least one.
        spec: the evaluator every actor builds once.
        address: cluster to join; None takes ``RAY_ADDRESS``, and else starts a cluster for this pool's lifetime. A
            process that is already connected to Ray stays connected where it is.

    Raises:
        PoolError: the cluster is out of reach, has too few CPUs, or an actor could not build the evaluator.
    """

    def __init__(self, workers: int, spec: EvaluatorSpec, address: str | None = None) -> None:
        super().__init__(workers)
        self._spec = spec
        self._owns_ray = connect(workers, address)
        self._idle: list[Any] = []
        try:
            self._refill()
        except BaseException:
            self.close()
            raise

    def map(self, items: list[dict[str, Any]], on_done: OnDone | None = None) -> list[dict[str, Any]]:
        """Evaluate `items`; see `Pool.map`."""
        import ray

        self._check_open()
        self._refill()
        ledger = Ledger(items, on_done)
        busy: dict[Any, tuple[Any, int]] = {}
        try:
            while ledger.unfinished:
                while ledger.waiting and self._idle:
                    actor, index = self._idle.pop(), ledger.waiting.popleft()
                    busy[actor.run.remote(ledger.texts[index])] = (actor, index)
                answered, _ = ray.wait(list(busy), num_returns=1)
                for reference in answered:
                    self._collect(reference, *busy.pop(reference), ledger)
        finally:
            # Reached with busy actors only when the caller was interrupted: their answers have no reader any more.
            for actor, _ in busy.values():
                ray.kill(actor)
        return ledger.results()

    def close(self) -> None:
        """End the actors, and the cluster if this pool started it."""
        import ray

        actors, self._idle = self._idle, []
        if self._closed or not ray.is_initialized():
            self._closed = True
            return
        self._closed = True
        for actor in actors:
            ray.kill(actor)
        if self._owns_ray:
            ray.shutdown()

    def _collect(self, reference: Any, actor: Any, index: int, ledger: Ledger) -> None:
        """Take an actor's answer, or its death: the item is retried once, then failed with the cause."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

        try:
            answer = json.loads(ray.get(reference))
        except (RayActorError, WorkerCrashedError, OutOfMemoryError) as death:
            ray.kill(actor)
            self._refill(1)
            ledger.lost(index, f"died: {_first_line(death)}")
        else:
            self._idle.append(actor)
            ledger.done(index, answer)

    def _refill(self, missing: int | None = None) -> None:
        """Start `missing` actors, by default all that are lacking, and wait until they are ready."""
        import ray

        options = {
            "num_cpus": 1,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": dict(WORKER_ENVIRONMENT)},
        }
        missing = self.workers - len(self._idle) if missing is None else missing
        actors = [ray.remote(**options)(_Host).remote() for _ in range(missing)]
        self._idle.extend(actors)
        self._prepare(actors)

    def _prepare(self, actors: list[Any]) -> None:
        """Let actors build the evaluator, side by side; raise if one cannot."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            refusals = ray.get(
                [actor.prepare.remote(self._spec.to_json()) for actor in actors], timeout=_START_TIMEOUT_S
            )
        except GetTimeoutError as error:
            cpus = ray.cluster_resources().get("CPU", 0)
            raise PoolError(
                f"Ray did not start {self.workers} workers within {_START_TIMEOUT_S:g} s; the cluster has {cpus:g} "
                "CPUs and every worker takes one. Ask for fewer workers or add nodes."
            ) from error
        except RayActorError as error:
            raise PoolError(
                f"A Ray worker died while it started: {_first_line(error)}. "
                "Check that archsmith is installed on every node, and the memory left."
            ) from error
        for refusal in refusals:
            if refusal:
                raise PoolError(refusal)


class _Host:
    """What runs inside an actor: the same evaluation as in every other pool."""

    def __init__(self) -> None:
        self._evaluation: Evaluation | None = None

    def prepare(self, spec: str) -> str:
        """Build the evaluator once; returns why not, or nothing."""
        try:
            self._evaluation = self._evaluation or Evaluation(EvaluatorSpec.from_json(spec))
        except ArchsmithError as error:
            return str(error)
        return ""

    def run(self, item: str) -> str:
        """One item's JSON to its result's JSON."""
        assert self._evaluation is not None
        return self._evaluation.run(item)


def connect(workers: int, address: str | None) -> bool:
    """Connect this process to Ray; True if a cluster was started for it, which the caller then shuts down.

    Args:
        workers: CPUs of a cluster that is started.
        address: cluster to join; None takes ``RAY_ADDRESS``, and else starts one.

    Raises:
        PoolError: the cluster is out of reach, or would let anybody run code.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    local = address in (None, "", "local")
    if local:
        for name, value in _LOCAL_SETTINGS.items():
            os.environ.setdefault(name, value)  # read when ray is imported, and inherited by the processes it starts
    else:
        assert address is not None
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        _refuse_open_cluster(address)
    import ray

    if ray.is_initialized():
        return False
    try:
        if local:
            ray.init(
                address="local",
                num_cpus=workers,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
        else:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "a local Ray cluster could not be started" if local else f"Ray at {address!r} cannot be reached"
        raise PoolError(f"pool.kind ray: {where}: {_first_line(error)}.") from error
    return True


def _refuse_open_cluster(address: str) -> None:
    """Whoever reaches an unauthenticated Ray may run code on it (CVE-2023-48022), so we send it no work."""
    host = address.removeprefix("ray://").rpartition(":")[0] or address
    if host not in _LOOPBACK and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        mode = os.environ.get("RAY_AUTH_MODE")
        raise PoolError(
            f"pool.address {address!r} is not on this machine and RAY_AUTH_MODE is {mode!r}; allowed: token. "
            " Start the cluster with token authentication and set RAY_AUTH_MODE=token."
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
