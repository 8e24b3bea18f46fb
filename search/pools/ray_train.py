"""Supernet training by several processes that Ray Train starts: on this machine, or on the nodes and GPUs of a cluster.

Ray Train starts the workers and connects them (gloo on CPUs, nccl on CUDA); what they compute is `SupernetTrainer` with
a `ProcessGroup`. Checkpoints are the trainer's own, in a folder that all workers see, so that a run continues whoever
started it. As in `RayPool`, Ray retries nothing: the job does, and goes on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import ArchsmithError, PoolError, PredictorError
from ..pool import WORKER_ENVIRONMENT
from .cluster import connect

if TYPE_CHECKING:  # the mailbox's process needs no torch, which takes seconds to import
    from ...predictors.supernet.trainer import Progress, TrainedSupernet

__all__ = ["train_on_ray"]

_PAUSE_S: Final = 0.2
"""Between two looks at how far the workers are."""
_SETTINGS: Final = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths of a job are relative to where it was started
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def train_on_ray(
    config: Mapping[str, Any],
    *,
    workers: int,
    address: str | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainedSupernet:
    """Train a supernet by `workers` processes, one CPU each, or one GPU each where the cluster has as many.

    Args:
        config: JSON-able: ``space`` and ``task``, each {name, preset, options}; ``settings``, `SupernetSettings` by
            field name; ``seed``; ``directory``, where checkpoints and weights go, a folder that every node sees.
        workers: how many.
        address: cluster to join; None takes ``RAY_ADDRESS``, and else starts one for as long as training lasts.
        progress: told how far training is.
        should_stop: asked again and again.

    Raises:
        TrainingInterrupted: `should_stop` said so; the state is checkpointed.
        PredictorError: training failed, as with one process.
        PoolError: Ray could not be started, or lost a worker.
    """
    owned = connect(workers, address)
    import ray

    try:
        actor: Any = ray.remote(num_cpus=0, max_restarts=0)(_Mailbox)
        mailbox = actor.remote()
        with ThreadPoolExecutor(1, thread_name_prefix="ray-train") as thread:
            running = thread.submit(_fit, dict(config), workers, mailbox)
            with _stopped_at_last(mailbox):
                _attend(running, mailbox, progress or _silent, should_stop or _never)
        kind, content = json.loads(ray.get(mailbox.outcome.remote()) or '["lost", ""]')
        return _outcome(kind, content, running.exception())
    finally:
        if owned:
            ray.shutdown()


def _fit(config: dict[str, Any], workers: int, mailbox: Any) -> None:
    """Run Ray Train to its end; in a thread of its own."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ.update(_SETTINGS)
    gpu = ray.cluster_resources().get("GPU", 0) >= workers
    needs = None if gpu else {"CPU": 1.0}
    TorchTrainer(
        _work,
        train_loop_config=config | {"mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=needs),
        run_config=RunConfig(
            name="supernet",
            storage_path=str(Path(config["directory"]).resolve() / "ray"),
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env={"env_vars": {} if gpu else dict(WORKER_ENVIRONMENT)},
        ),
    ).fit()


def _attend(running: Future[None], mailbox: Any, progress: Progress, should_stop: Callable[[], bool]) -> None:
    """Pass on what the workers tell, and what the caller asks, until training ends."""
    import ray

    told = None
    ended = threading.Event()
    running.add_done_callback(lambda _: ended.set())
    while not ended.wait(_PAUSE_S):
        news = ray.get(mailbox.news.remote())
        if news is not None and news != told:
            progress(*news)
            told = news
        if should_stop():
            mailbox.stop.remote()


@contextlib.contextmanager
def _stopped_at_last(mailbox: Any) -> Iterator[None]:
    """Whatever ends the waiting, an interrupt or an error of the caller's, ends the training after its next step."""
    try:
        yield
    finally:
        mailbox.stop.remote()


def _outcome(kind: str, content: Any, error: BaseException | None) -> TrainedSupernet:
    from ...predictors.supernet.trainer import TrainedSupernet, TrainingInterrupted

    if kind == "trained":
        return TrainedSupernet(**content | {"weights": Path(content["weights"]), "history": tuple(content["history"])})
    if kind == "interrupted":
        raise TrainingInterrupted(content["step"], Path(content["checkpoint"]))
    if kind == "failed":
        raise PredictorError(content) from error
    cause = str(error).strip().rpartition("\n")[2] if error else "its workers ended without a result"
    raise PoolError(
        f"supernet.workers: Ray Train stopped: {cause}. Training goes on from its last checkpoint when the job is "
        "started again."
    ) from error


def _work(config: dict[str, Any]) -> None:
    """What every worker does."""
    import ray
    from ray.train.torch import get_device

    from ...predictors.supernet.distributed import ProcessGroup
    from ...predictors.supernet.scoring import build_space_and_task
    from ...predictors.supernet.settings import SupernetSettings
    from ...predictors.supernet.trainer import SupernetTrainer, TrainingInterrupted

    mailbox = config["mailbox"]
    told = _Told(mailbox)
    try:
        space, task = build_space_and_task(config)
        group = ProcessGroup()
        trainer = SupernetTrainer(
            space,
            task,
            SupernetSettings.from_json(config.get("settings", {})),
            seed=config["seed"],
            directory=Path(config["directory"]),
            device=get_device(),  # type: ignore[arg-type]  # one device, since every worker asks for one
            group=group,
        )
        trained = trainer.run(told.progress, told.should_stop) if group.rank == 0 else trainer.run()
        outcome = "trained", trained.summary() | {"weights": str(trained.weights)}
    except TrainingInterrupted as stop:
        outcome = "interrupted", {"step": stop.step, "checkpoint": str(stop.checkpoint)}
    except ArchsmithError as error:
        ray.get(mailbox.end.remote(json.dumps(["failed", str(error)])))
        raise  # which ends the other workers, too
    ray.get(mailbox.end.remote(json.dumps(outcome)))  # from every worker: all say the same


class _Told:
    """Rank 0's ear and mouth."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._stop = False

    def progress(self, done: int, total: int, message: str) -> None:
        """Tell how far training is, and hear whether to go on."""
        import ray

        self._stop = bool(ray.get(self._mailbox.tell.remote(done, total, message)))

    def should_stop(self) -> bool:
        """What was heard last."""
        return self._stop


class _Mailbox:
    """An actor between the workers and who started them."""

    def __init__(self) -> None:
        self._news: tuple[int, int, str] | None = None
        self._stop = False
        self._outcome: str | None = None

    def tell(self, done: int, total: int, message: str) -> bool:
        """A step was made; whether to stop before the next one."""
        self._news = done, total, message
        return self._stop

    def news(self) -> tuple[int, int, str] | None:
        """The last step that was told."""
        return self._news

    def stop(self) -> None:
        """Ask for a stop."""
        self._stop = True

    def end(self, outcome: str) -> None:
        """Training is over; the first word counts."""
        self._outcome = self._outcome or outcome

    def outcome(self) -> str | None:
        """How it ended, as JSON: what, and the rest."""
        return self._outcome


def _silent(done: int, total: int, message: str) -> None:
    """Nobody wants to know."""


def _never() -> bool:
    return False
