"""A gradient-based search in progress: the supernet, the architecture parameters and their optimisers, step by step.

Whatever a step depends on follows from (seed, step) or is part of `TrainingState`, so that a search that is restored
computes the same bits as one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from ...errors import PredictorError, StrategyError
from ...predictors.optimization import channels_last, learning_rate, make_optimizer, set_learning_rate
from ...predictors.runtime import thread_count
from ...predictors.supernet.checkpoint import CheckpointStore, TrainingState, load_optimizer, optimizer_tensors
from ...predictors.supernet.losses import label_loss
from ...predictors.tasks.task import Samples, Task, step_generator
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from .distribution import places_of
from .mixing import Mixer, expectation, merged
from .parameters import ArchitectureParameters
from .relaxation import Draw, Learns, Moment
from .relaxations import RELAXATIONS
from .schedules import SCHEDULES, Phase, temperature, warming
from .unrolled import Ahead, unrolled_gradient

if TYPE_CHECKING:
    from .trainer import GradientSearch

__all__ = ["GradientRun", "build_supernet"]

_STREAMS: Final = {Learns.WEIGHTS: 19, Learns.CHOICES: 23, Learns.BOTH: 29}
_HISTORY_POINTS: Final = 100
_SECOND_BETA: Final = 0.999


class GradientRun:
    """The moving parts of one call of `GradientSearch.run`.

    Attributes:
        step: steps of the weights done.
        updates: of the choices.
        seconds: wall time of all steps.
        threads: that the steps run on.
        history: points of the progress, as `LearnedSearch` describes them.

    Args:
        search: says what to train, and how.
    """

    def __init__(self, search: GradientSearch) -> None:
        settings = search.settings
        self.search, self.settings, self.device = search, settings, search.device
        self.supernet = build_supernet(search.space, search.seed, settings.relaxation.partial)
        self.supernet.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
        relaxation, places = RELAXATIONS[settings.relaxation.name](), places_of(search.space)
        relaxation.bind(search.space, self.supernet)
        parameters = ArchitectureParameters(
            places,
            [relaxation.size(place) for place in places],
            compete=settings.relaxation.edges != "equal",
            seed=search.seed,
            device=self.device,
        )
        self.mixer = Mixer(parameters, relaxation, settings.relaxation.edges)
        self.pricing = search.pricing
        self.weights = [weight for weight in self.supernet.parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(self.supernet, settings.optimizer, weight_decay=settings.weight_decay)
        self.choices_optimizer = torch.optim.Adam(
            parameters.tensors(),
            lr=settings.choices.learning_rate,
            betas=(settings.choices.momentum, _SECOND_BETA),
            weight_decay=settings.choices.weight_decay,
        )
        macs = int(search.space.macs(search.space.largest()[None])[0])
        self.threads = thread_count(macs * settings.batch_size, torch.get_num_threads())
        self.step, self.updates, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self._tasks: dict[tuple[float, float], Task] = {}
        self._told: dict[str, float] = {}

    # --- one step -------------------------------------------------------------------------------------------------

    def advance(self, store: CheckpointStore) -> None:
        """One step: what the schedule says is learned in it.

        Raises:
            PredictorError: a loss is no number any more.
        """
        started = time.perf_counter()
        settings = self.settings
        rate = learning_rate(
            self.step, settings.steps, settings.learning_rate, settings.rate_warmup, schedule=settings.annealing
        )
        set_learning_rate(self.optimizer, rate)
        self.supernet.train()
        for phase in self._phases():
            loss = self._update(phase, rate)
            self._told["choices_loss" if phase.learns is Learns.CHOICES else "loss"] = loss
            if not math.isfinite(loss):
                raise PredictorError(self._diverged(loss, rate, store))
        self.step += 1
        if self.step % max(1, settings.steps // _HISTORY_POINTS) == 0 or self.step == settings.steps:
            self.history.append(self._point(rate))
        self.seconds += time.perf_counter() - started

    def _update(self, phase: Phase, rate: float) -> float:
        """Gradients of one phase and the optimisers' steps; the cross-entropy."""
        batch = self._batch(phase)
        choices = self.mixer.parameters.tensors()
        if phase.learns is Learns.CHOICES and self.settings.schedule.order == 2:
            loss, draws = self._ahead(phase, batch, rate)
        else:
            leaves: list[Tensor] = [] if phase.learns is Learns.CHOICES else [*self.weights]
            leaves += [] if phase.learns is Learns.WEIGHTS else [*choices]
            loss, draws = self._accumulate(phase, batch, leaves)
        if not math.isfinite(loss):
            return loss
        if phase.learns is not Learns.CHOICES:
            if self.settings.max_grad_norm:
                nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        if phase.learns is not Learns.WEIGHTS:
            self._settle(draws)
        return loss

    def _accumulate(self, phase: Phase, batch: Samples, leaves: Sequence[Tensor]) -> tuple[float, list[Draw]]:
        """Mean gradients over the schedule's samples, in the `grad` of `leaves`; the mean cross-entropy, the draws."""
        count = self.settings.schedule.samples
        moment = self._moment(phase.learns)
        draws, total = [], 0.0
        for _ in range(count):
            draw = self.mixer.draw(moment)
            entropy = self._entropy(draw, batch)
            loss = entropy if phase.learns is Learns.WEIGHTS else self._priced(entropy, draw)
            for leaf, part in zip(leaves, torch.autograd.grad(loss / count, leaves, allow_unused=True), strict=True):
                if part is not None:
                    leaf.grad = part if leaf.grad is None else leaf.grad + part
            total += float(entropy.detach()) / count
            draws.append(draw)
        return total, draws

    def _ahead(self, phase: Phase, batch: Samples, rate: float) -> tuple[float, list[Draw]]:
        """The choices' gradient one step of the weights ahead; all losses under the same noise."""
        train_batch = self._batch(self._phases()[-1])  # of the weights
        told: dict[str, Any] = {}

        def train() -> Tensor:
            return self._entropy(self.mixer.draw(self._moment(Learns.CHOICES)), train_batch)

        def valid() -> Tensor:
            told["draw"] = self.mixer.draw(self._moment(phase.learns))
            told["entropy"] = self._entropy(told["draw"], batch)
            return self._priced(told["entropy"], told["draw"])

        choices = self.mixer.parameters.tensors()
        _, gradients = unrolled_gradient(
            train, valid, weights=self.weights, choices=choices, ahead=self._next_step(rate)
        )
        for choice, gradient in zip(choices, gradients, strict=True):
            choice.grad = gradient
        return float(told["entropy"].detach()), [told["draw"]]

    def _next_step(self, rate: float) -> Ahead:
        groups = {id(weight): group for group in self.optimizer.param_groups for weight in group["params"]}
        buffers = [self.optimizer.state.get(weight, {}).get("momentum_buffer") for weight in self.weights]
        return Ahead(
            rate=rate,
            momentum=self.optimizer.param_groups[0]["momentum"],
            decay=[groups[id(weight)]["weight_decay"] for weight in self.weights],
            buffers=buffers,
        )

    def _settle(self, draws: Sequence[Draw]) -> None:
        """Step the choices, and correct the step."""
        parameters = self.mixer.parameters
        before = {name: logits.detach().clone() for name, logits in parameters.logits.items()}
        self.choices_optimizer.step()
        self.choices_optimizer.zero_grad(set_to_none=True)
        self.mixer.relaxation.settle(parameters, before, merged(draws))
        self.updates += 1
        if self.pricing is not None:
            expected = float(self.pricing.table.expected(expectation(self.mixer.learned())))
            self.pricing.settle(parameters, self.updates, expected)

    # --- its parts ------------------------------------------------------------------------------------------------

    def _phases(self) -> tuple[Phase, ...]:
        schedule = self.settings.schedule
        return SCHEDULES[schedule.name](self.step, self.settings.steps, schedule)

    def _batch(self, phase: Phase) -> Samples:
        if phase.share not in self._tasks:
            self._tasks[phase.share] = phase.samples(self.search.task)
        batch = self._tasks[phase.share].batch(self.step, self.settings.batch_size, self.search.seed, self.device)
        return batch.map_inputs(channels_last)

    def _entropy(self, draw: Draw, batch: Samples) -> Tensor:
        """Mean cross-entropy of the mixture on a batch."""
        autocast: AbstractContextManager[object] = nullcontext()
        if self.device.type == "cuda":
            autocast = torch.autocast("cuda", torch.bfloat16)
        with autocast:
            logits, labels = batch.labelled(self.supernet(*batch.tensors, self.mixer.mixture(draw)))
            return label_loss(logits, labels, self.settings.label_smoothing)

    def _priced(self, entropy: Tensor, draw: Draw) -> Tensor:
        if self.pricing is None:
            return entropy
        return self.pricing.loss(entropy, self.pricing.table.expected(draw).to(entropy))

    def _moment(self, learns: Learns) -> Moment:
        settings = self.settings
        relaxation = settings.relaxation
        return Moment(
            learns=learns,
            generator=step_generator(self.search.seed, self.step, _STREAMS[learns]),
            temperature=temperature(
                min(1.0, self.step / max(1, settings.steps - 1)),
                relaxation.start,
                relaxation.end,
                relaxation.annealing,
            ),
            warming=warming(self.step, settings.steps, settings.schedule.warmup),
        )

    def _point(self, rate: float) -> dict[str, float]:
        learned = self.mixer.learned()
        point = {"step": float(self.step), "learning_rate": rate, "entropy": learned.entropy, **self._told}
        point["temperature"] = self._moment(Learns.WEIGHTS).temperature
        if self.pricing is not None:
            point["expected_cost"] = float(self.pricing.table.expected(expectation(learned)))
            if self.pricing.multiplier is not None:
                point["multiplier"] = self.pricing.multiplier.multiplier
        return point

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def state(self) -> TrainingState:
        """What a checkpoint holds."""
        tensors = {f"weights/{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        tensors |= {f"choices/{name}": value for name, value in optimizer_tensors(self.choices_optimizer).items()}
        tensors |= {f"parameters/{name}": value for name, value in self.mixer.parameters.state().items()}
        multiplier = self.pricing.multiplier if self.pricing is not None else None
        return TrainingState(
            step=self.step,
            weights=self.supernet.state_dict(),
            optimizer=tensors,
            extra={
                "updates": self.updates,
                "seconds": self.seconds,
                "history": self.history,
                "told": self._told,
                "threads": self.threads,
                "multiplier": None if multiplier is None else multiplier.multiplier,
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Continue from a checkpoint."""
        self.supernet.load_state_dict(state.weights)
        load_optimizer(self.optimizer, _under("weights/", state.optimizer))
        load_optimizer(self.choices_optimizer, _under("choices/", state.optimizer))
        self.mixer.parameters.load(_under("parameters/", state.optimizer))
        self.step, self.updates, self.seconds = state.step, state.extra["updates"], state.extra["seconds"]
        self.threads = state.extra["threads"]  # another number would split sums differently, and change the last bits
        self.history, self._told = list(state.extra["history"]), dict(state.extra["told"])
        if self.pricing is not None and self.pricing.multiplier is not None:
            self.pricing.multiplier.multiplier = state.extra["multiplier"]

    def message(self) -> str:
        """The last figures, for a progress bar."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in self._told.items())

    def _diverged(self, loss: float, rate: float, store: CheckpointStore) -> str:
        return (
            f"gradient-based search diverged: the loss is {loss} at step {self.step} with learning rate {rate:.3g}; "
            f"{store.last_good(self.step)}. Lower gradient.learning_rate (now {self.settings.learning_rate:g}) "
            "or set gradient.max_grad_norm."
        )


def build_supernet(space: SearchSpace, seed: int, partial: int) -> Supernet:
    """The supernet of a space, with partial channels where asked for.

    Raises:
        StrategyError: the space has no supernet with partial channels.
    """
    if partial == 1:
        return space.supernet(seed=seed)
    if not space.partial_channels:
        raise StrategyError(
            f"gradient.relaxation.partial: got {partial}; supernets of {space.name!r} have no partial channels: set 1."
        )
    return space.supernet(seed=seed, partial=partial)  # type: ignore[call-arg]  # as its signature says


def _under(prefix: str, tensors: Any) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
