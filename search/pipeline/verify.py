"""Verify: train and measure members of the front, audit the supernet's ranking, and compare with random sampling.

The believed front was found with shared weights and models. Here a spread of its members and an audit of random
architectures are trained alone by one recipe, from scratch or from the shared weights; the test split is touched here
and nowhere else. What agrees and what does not both go into the report.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError
from ...hwmodels.latency import LatencySettings, measure_network
from ...hwmodels.lookup import LookupModel
from ...hwmodels.measure.timer import NetworkTimer
from ...hwmodels.measurement import Measurement
from ...predictors.ranking import agreement
from ...predictors.tables.table import ACCURACY
from ...predictors.training import StandaloneSettings, source_of
from ...spaces.architecture import Architecture
from ..evaluators import CompositeEvaluator
from ..pareto import nondominated_mask
from ..problem import Population, label
from ..protocol import compare_fronts, relative_improvement
from ..strategy import Proposals, Results
from .alone import SharedWeights, Trained, name_of, train_alone
from .contracts import Interrupted, Observation, Recorder, ResultStore, Stage, VerifiedMember
from .explore import Exploration, columns_of
from .model import CostModels
from .prepare import HOST, Setting
from .scoring import Scoring, SupernetScoring
from .select import random_feasible, spread_members
from .train import WEIGHTS

__all__ = ["Verification", "plain", "verify"]

AUDIT_SEED = 1
"""Added to the plan's seed: the audit must not repeat the draws of the strategy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What verify found: the members with their networks, and the report's sections."""

    members: tuple[VerifiedMember, ...]
    trained: tuple[Trained, ...]
    report: Mapping[str, object]


def verify(
    setting: Setting,
    models: CostModels,
    scoring: Scoring,
    found: Exploration,
    *,
    recorder: Recorder,
    store: ResultStore,
) -> Verification:
    """Check what the search believed.

    Raises:
        Interrupted: the recorder asked to stop; finished trainings are kept.
    """
    plan, problem = setting.plan, found.problem
    steps = _Steps(recorder)
    numbers = _front_numbers(found.results)
    chosen = numbers[spread_members(found.results.values[numbers], plan.members)]
    rng = np.random.default_rng(plan.seed + AUDIT_SEED)
    audit = random_feasible(problem, plan.audit, rng)
    architectures = [setting.space.decode(row) for row in (*found.results.genomes[chosen], *audit)]
    unique = list({name_of(setting, architecture): architecture for architecture in architectures}.values())
    steps.trainings = len(unique)
    random = _score_random(models, scoring, found, rng=rng, audit=audit, steps=steps)
    trained = train_alone(setting, unique, steps.trained, store, shared=_shared(scoring))
    of_members = [trained[name_of(setting, architecture)] for architecture in architectures[: len(chosen)]]
    of_audit = [trained[name_of(setting, architecture)] for architecture in architectures[len(chosen) :]]
    members = []
    for number, result in zip(chosen, of_members, strict=True):
        steps.measured(len(members), len(chosen))
        numbered = (int(number), result)
        members.append(_member(setting, models, found, numbered, waiting=steps.waiting))
    steps.measured(len(members), len(chosen))
    rng = np.random.default_rng(plan.seed)
    compared = compare_fronts(
        _feasible_values(found.results),
        _feasible_values(random),
        found.reference,
        rng,
        evaluations=max(len(found.results), len(random)),
    )
    report = {
        # Trained alone by the same recipe, the belief is the verification: nothing to compare.
        "ranking": _ranking(found, random, of_audit, seed=plan.seed) if plan.evaluator.kind == "supernet" else {},
        "training": _training(setting),
        "random": {"front": plain(compared), "accuracy": _improvement(of_members, of_audit, rng)},
        "members": [_row(found, member, result) for member, result in zip(members, of_members, strict=True)],
    }
    return Verification(members=tuple(members), trained=tuple(of_members), report=report)


def _shared(scoring: Scoring) -> SharedWeights | None:
    """The trained supernet, where the search had one."""
    if not isinstance(scoring, SupernetScoring):
        return None
    return SharedWeights(file=scoring.supernet.directory / WEIGHTS, identity=scoring.identity)


def _training(setting: Setting) -> dict[str, object]:
    """By what the members and the audit were trained, for the report."""
    settings = StandaloneSettings.from_json(setting.plan.standalone)
    return {"initial": settings.initial, "steps": settings.steps, "source": source_of(settings)}


class _Steps:
    """The progress of verify, every step of which the recorder may interrupt.

    The random sample, each training from scratch and the measuring of all members count one each.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.trainings = 0
        recorder.stage(Stage.VERIFY)

    def scored(self, done: int, total: int) -> None:
        """Of the random sample."""
        self._tell(done / total, f"{done} of {total} random architectures scored")

    def trained(self, done: int, reused: int) -> None:
        """Of the architectures to be trained alone."""
        stored = f", {reused} of them reused" if reused else ""
        self._tell(1 + done, f"{done} of {self.trainings} trained alone{stored}")

    def measured(self, done: int, total: int) -> None:
        """Of the members."""
        self._tell(1 + self.trainings + done / max(total, 1), f"{done} of {total} members measured")

    def waiting(self, message: str) -> None:
        """For a device elsewhere."""
        self._tell(1 + self.trainings, message)

    def _tell(self, done: float, message: str) -> None:
        self._recorder.progress(done, self.trainings + 2, message)
        if reason := self._recorder.should_stop():
            raise Interrupted(reason)


def _front_numbers(results: Results) -> NDArray[np.int64]:
    feasible = np.flatnonzero(results.eligible)
    return feasible[nondominated_mask(results.values[feasible])]


def _score_random(
    models: CostModels,
    scoring: Scoring,
    found: Exploration,
    *,
    rng: np.random.Generator,
    audit: Population,
    steps: _Steps,
) -> Results:
    """As many random feasible architectures as the search had trials, scored the same way; the audit comes first."""
    problem = found.problem
    others = random_feasible(problem, max(len(found.results) - len(audit), 0), rng)
    genomes = np.concatenate([audit, others])
    with scoring.open(steps.scored) as scores:
        evaluator = CompositeEvaluator(problem, columns_of(problem, models, scores))
        return evaluator.evaluate(Proposals.full(genomes))


def _ranking(found: Exploration, random: Results, audit: list[Trained], *, seed: int) -> dict[str, object]:
    """How far the supernet ranks the audit as training alone does; empty where accuracy is no objective."""
    names = [objective.name for objective in found.problem.objectives]
    if ACCURACY not in names:
        return {}
    scored = random.ok[: len(audit)]
    believed = found.problem.minimised(random.values[: len(audit)])[:, names.index(ACCURACY)]
    actual = np.array([result.valid_accuracy for result in audit])
    return plain(agreement(believed[scored], actual[scored], seed=seed))


def _improvement(members: list[Trained], audit: list[Trained], rng: np.random.Generator) -> dict[str, object]:
    """Test accuracy of the members against that of the audit; empty without an audit."""
    if not audit:
        return {}
    found, drawn = (np.array([result.test_accuracy for result in group]) for group in (members, audit))
    return plain(relative_improvement(found, drawn, rng))


def _feasible_values(results: Results) -> NDArray[np.float64]:
    return results.values[results.eligible]


def plain(record: Any) -> dict[str, object]:
    """A dataclass as JSON-able data; what is not finite becomes None, since JSON has no such numbers."""
    values = dataclasses.asdict(record)
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in values.items()}


def _member(
    setting: Setting,
    models: CostModels,
    found: Exploration,
    numbered: tuple[int, Trained],
    *,
    waiting: Callable[[str], None],
) -> VerifiedMember:
    number, result = numbered
    observations = [
        Observation(
            quantity=ACCURACY,
            device=None,
            value=result.test_accuracy,
            spread=None,
            source=source_of(StandaloneSettings.from_json(setting.plan.standalone)),
        ),
        *(
            item
            for name in setting.devices
            for item in _on_device(setting, models, result.architecture, name, waiting=waiting)
        ),
    ]
    natural = {label(item.quantity, item.device): item.value for item in observations}
    genome = np.array([result.architecture.genome], dtype=np.int16)
    for name, quantity in found.problem.known.items():
        natural.setdefault(name, float(quantity(genome)[0]))
    values = found.problem.minimised(np.array([[natural[item.label] for item in found.problem.objectives]]))[0]
    feasible = all(item.violation(np.array([natural[item.label]]))[0] <= 0 for item in found.problem.constraints)
    return VerifiedMember(
        number=number, values=tuple(values.tolist()), observations=tuple(observations), feasible=feasible
    )


def _on_device(
    setting: Setting, models: CostModels, architecture: Architecture, name: str, *, waiting: Callable[[str], None]
) -> list[Observation]:
    """Measured where the device is this machine or has an agent, else predicted, each marked as what it is."""
    genome = np.array([architecture.genome], dtype=np.int16)
    measured = {item.quantity: item for item in _measure(setting, models, architecture, name, waiting=waiting)}
    out = []
    for quantity in ("latency_ms", "energy_mj"):
        if quantity not in measured and label(quantity, name) not in models.models:
            continue  # the device's file has no energy terms
        if item := measured.get(quantity):
            value, spread, source = item.value, item.iqr, item.source
        else:
            estimate = models.models[label(quantity, name)].predict(setting.space, genome)
            value, spread, source = float(estimate.mean[0]), float(estimate.std[0]), estimate.source
        out.append(Observation(quantity=quantity, device=name, value=value, spread=spread, source=source))
    for quantity in measured.keys() - {"latency_ms", "energy_mj"}:  # told along the way; nothing predicts it
        item = measured[quantity]
        out.append(Observation(quantity=quantity, device=name, value=item.value, spread=None, source=item.source))
    return out


def _measure(
    setting: Setting, models: CostModels, architecture: Architecture, name: str, *, waiting: Callable[[str], None]
) -> list[Measurement]:
    """On the scale of the device's latency model: both see the reference kernel at the same nominal time."""
    settings = LatencySettings.from_json(setting.plan.cost_model)
    if name != HOST:
        timer = setting.lab.timer(name, settings.timer, waiting) if setting.lab else None
        if timer is None:
            return []
        ops = setting.space.ops(architecture)
        return timer.measure_network(ops) if isinstance(timer, NetworkTimer) else [timer.measure(ops)]
    latency = models.models[label("latency_ms", name)]
    conditions = latency.details.get("conditions", {}) if isinstance(latency, LookupModel) else {}
    try:
        return measure_network(
            setting.space, architecture, setting.devices[name], settings, reference_ms=conditions.get("reference_ms")
        )
    except DeviceError:
        return []  # not this machine: its values stay predictions


def _row(found: Exploration, member: VerifiedMember, result: Trained) -> dict[str, object]:
    believed = found.problem.minimised(found.results.values[member.number][None])[0]
    labels = [item.label for item in found.problem.objectives]
    return {
        "number": member.number,
        "key": result.architecture.key,
        "believed": dict(zip(labels, believed.tolist(), strict=True)),
        "verified": {
            label(item.quantity, item.device): {"value": item.value, "spread": item.spread, "source": item.source}
            for item in member.observations
        },
        "valid_accuracy": result.valid_accuracy,
        "feasible": member.feasible,
        "seconds": result.seconds,
    }
