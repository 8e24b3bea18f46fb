"""Optuna's samplers as strategies: TPE, a Gaussian process, CMA-ES and NSGA-II, with their defaults.

A gene is a categorical distribution over its choice indices where it is categorical and an integer one where it is
ordered. TPE is asked for active genes alone, the others for every gene, of which the inactive ones are dropped. What a
sampler proposes a second time is never evaluated again (CMA-ES and NSGA-II are told from memory, as their generations
must fill); what was repaired or filled in by `BaseStrategy` is told like anything else.

Every call makes a sampler with a seed of its own, drawn from the strategy's generator. TPE and the Gaussian process
depend on nothing else but the trials told. CMA-ES and NSGA-II also keep state in their trials (CMA-ES a pickle), which
is not stored: `restore` replays the calls instead.

Source: Akiba et al., "Optuna: A next-generation hyperparameter optimization framework", KDD 2019,
https://arxiv.org/abs/1907.10902; https://optuna.readthedocs.io. We deviate where CMA-ES has several objectives or
constraints, which it does not know: it then minimises the place of a result in the order of constraint-domination and
crowding.
"""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from ..strategy import Proposals, Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members

if TYPE_CHECKING:
    import optuna

__all__ = ["OptunaCMAES", "OptunaGP", "OptunaNSGA2", "OptunaStrategy", "OptunaTPE"]

CONSTRAINTS: Final = "constraints"
"""System attribute under which Optuna looks for a trial's constraint values, satisfied up to 0."""

GENE_STARTS: Final = 400
"""Genes times models times starting points of one acquisition: about a second and a half of one core."""

PICKLED: Final = "optimizer"
"""Part of the name of the system attributes that hold CMA-ES itself."""


class OptunaStrategy(BaseStrategy):
    """A sampler of Optuna behind ask and tell; see the module.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        suggestions: most genomes that the sampler is asked for at a time, which takes it milliseconds to a second each;
            where more are wanted, mutants of these follow.
    """

    active_only: ClassVar[bool] = False
    """Whether the sampler is asked for the active genes alone."""

    integers_only: ClassVar[bool] = False
    """Whether categorical genes are integers, too: CMA-ES knows no categories."""

    one_objective: ClassVar[bool] = False
    """Whether the sampler can minimise one value only."""

    replays: ClassVar[bool] = False
    """Whether the sampler keeps state in its trials, so that restoring it repeats its calls."""

    def __init__(self, problem: Problem, seed: int, *, suggestions: int) -> None:
        if suggestions < 1:
            raise StrategyError(f"{self.name}: got suggestions {suggestions}; at least 1 is needed.")
        super().__init__(problem, seed)
        self.suggestions = suggestions
        self._forget()

    @abstractmethod
    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler; its only randomness is that of `seed`."""

    # --- proposing ------------------------------------------------------------------------------------------------

    def _candidates(self, n: int) -> Candidates:
        wanted = min(n, self.suggestions)
        seed = int(self.rng.integers(1 << 31))
        if self.replays:
            self._log.append((seed, wanted))
        genomes = self._suggest(seed, wanted)
        if n > wanted:
            copies = genomes[np.arange(n - wanted) % wanted]
            genomes = np.concatenate([genomes, self.space.mutate(copies, self.rng)])
        return genomes, np.full(len(genomes), -1, dtype=np.int64)

    def _suggest(self, seed: int, n: int) -> Population:
        """[n, G] canonical genomes from the sampler; those evaluated before are told to it at once."""
        with _quiet():
            study = self._study_to_ask()
            study.sampler = self._sampler(seed)
            trials: list[optuna.Trial] = []
            genomes = np.zeros((n, len(self.space.genes)), dtype=np.int16)
            for row in range(n):  # all stay open until the last is made, so that samplers which look at open ones do
                trial = study.ask()
                trials.append(trial)
                genomes[row] = self._suggested(trial)
            genomes = self.space.canonical(genomes)
            attributes = [_attributes(trial) for trial in trials]
            for trial in trials:
                study.tell(trial, state=_states().FAIL)
            if not self.replays:  # a restored study has every result once
                return genomes
            for genome, kept in zip(genomes, attributes, strict=True):
                name = genome.tobytes()
                self._generation = {key: value for key, value in kept.items() if PICKLED not in key}
                if name in self._row_of:
                    self._add(self._study, self._row_of[name], kept)
                elif kept:
                    self._attributes[name] = kept
        return genomes

    def _study_to_ask(self) -> optuna.Study:
        """The study with the trials that the sampler shall see."""
        return self._study

    def _suggested(self, trial: optuna.Trial) -> NDArray[np.int16]:
        """[G] the sampler's choice for every gene it is asked for, 0 for the others."""
        row = np.zeros(len(self.space.genes), dtype=np.int16)
        inactive: set[str] = set()
        for index in self.space.table.order:
            gene = self.space.genes[index]
            if self.active_only and any(
                when.gene in inactive or self._value(row, when.gene) not in when.values for when in gene.when
            ):
                inactive.add(gene.name)
            elif gene.cardinality > 1:
                if gene.kind == "categorical" and not self.integers_only:
                    row[index] = trial.suggest_categorical(gene.name, range(gene.cardinality))
                else:
                    row[index] = trial.suggest_int(gene.name, 0, gene.cardinality - 1)
        return row

    def _value(self, row: NDArray[np.int16], name: str) -> object:
        index = self.space.table.find(name)
        return self.space.genes[index].values[int(row[index])]

    # --- learning -------------------------------------------------------------------------------------------------

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        members = Members.successful(results, numbers)
        if self.replays:
            self._log.append((-1, len(members)))
        self._violations = np.concatenate([self._violations, results.violations[results.ok]])
        self._absorb(members)

    def _absorb(self, members: Members) -> None:
        first = len(self._members)
        self._members = Members.join([self._members, members])
        with _quiet():
            for row in range(first, len(self._members)):
                name = self._members.genomes[row].tobytes()
                self._row_of[name] = row
                # What the sampler did not propose itself counts as part of the generation that it works on.
                self._add(self._study, row, self._attributes.pop(name, self._generation))

    def _add(self, study: optuna.Study, row: int, attributes: dict[str, Any]) -> None:
        """Tell Optuna of a result as a finished trial."""
        study.add_trial(self._trial(row, attributes))

    def _trial(self, row: int, attributes: dict[str, Any]) -> optuna.trial.FrozenTrial:
        import optuna

        genome = self._members.genomes[row]
        asked = self.space.table.cardinalities > 1
        if self.active_only:
            asked = asked & self.space.table.active(genome[None])[0]
        genes = [self.space.genes[index] for index in np.flatnonzero(asked)]
        constraints = {CONSTRAINTS: self._violations[row].tolist()} if self._told_constraints else {}
        return optuna.trial.create_trial(
            values=self._values(row),
            params={gene.name: int(genome[self.space.table.find(gene.name)]) for gene in genes},
            distributions={gene.name: self._distribution(gene.kind, gene.cardinality) for gene in genes},
            system_attrs={**attributes, **constraints},
        )

    def _distribution(self, kind: str, cardinality: int) -> optuna.distributions.BaseDistribution:
        import optuna

        if kind == "categorical" and not self.integers_only:
            return optuna.distributions.CategoricalDistribution(range(cardinality))
        return optuna.distributions.IntDistribution(0, cardinality - 1)

    def _values(self, row: int) -> list[float]:
        """What the sampler shall minimise."""
        if not self.one_objective or not (self._members.values.shape[1] > 1 or self.problem.constraints):
            return self._members.values[row].tolist()
        seen = self._members.take(slice(0, row + 1))
        place = int(np.flatnonzero(seen.best_first(len(seen)) == row)[0])
        return [(place + 0.5) / len(seen)]

    @property
    def _told_constraints(self) -> bool:
        return bool(self.problem.constraints) and not self.one_objective

    def _constraints_func(self) -> Any:
        """What samplers of Optuna 4 need to be told that trials carry constraints; Optuna 5 sees it."""
        return (lambda trial: trial.system_attrs[CONSTRAINTS]) if self._told_constraints else None

    # --- state ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._members = Members.none(self.problem)
        self._violations = np.empty((0, len(self.problem.constraints)))
        self._row_of: dict[bytes, int] = {}
        self._attributes: dict[bytes, dict[str, Any]] = {}
        self._generation: dict[str, Any] = {}
        self._log: list[tuple[int, int]] = []
        self._study = self._empty_study()

    def _empty_study(self) -> optuna.Study:
        import optuna

        objectives = 1 if self.one_objective else len(self.problem.objectives)
        with _quiet():
            return optuna.create_study(directions=[optuna.study.StudyDirection.MINIMIZE] * objectives)

    def _memory(self) -> StrategyState:
        return StrategyState(
            scalars={},
            arrays={
                **self._members.arrays("told"),
                "violations": self._violations,
                "calls": np.array(self._log, dtype=np.int64).reshape(-1, 2),
            },
        )

    def _recall(self, state: StrategyState) -> None:
        self._forget()
        members = Members.from_arrays("told", state.arrays)
        self._violations = np.asarray(state.arrays["violations"], dtype=np.float64)
        if not self.replays:
            self._absorb(members)
            return
        first = 0
        for seed, count in np.asarray(state.arrays["calls"]).tolist():
            self._log.append((seed, count))
            if seed >= 0:
                self._suggest(seed, count)
            else:
                self._absorb(members.take(slice(first, first + count)))
                first += count


class OptunaTPE(OptunaStrategy):
    """Optuna's tree-structured Parzen estimator, multivariate over the genes that occur together.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: random trials before the estimator takes over.
        suggestions: most genomes that the sampler is asked for at a time; mutants of these follow.
    """

    name = "optuna_tpe"
    active_only = True

    def __init__(self, problem: Problem, seed: int, *, initial: int = 10, suggestions: int = 8) -> None:
        self.initial = _checked(self.name, "initial", initial)
        super().__init__(problem, seed, suggestions=suggestions)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.TPESampler(
            n_startup_trials=self.initial, multivariate=True, group=True, constant_liar=True, seed=seed,
            warn_independent_sampling=False, constraints_func=self._constraints_func(),
        )  # fmt: skip


class OptunaGP(OptunaStrategy):
    """Optuna's Gaussian process with (constrained) log expected improvement or hypervolume improvement.

    Its time is bounded, so that a call takes less than two seconds on spaces of some fifty genes as well: the model
    sees `rows` trials, the sampler is asked once per call, and its acquisition is optimised from fewer points the more
    genes and models there are (Optuna: always from 10).

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: random trials before there is a model.
        rows: trials that the model sees at most: the best half of them, and the latest; its cost grows with their cube.
        suggestions: most genomes that the sampler is asked for at a time; mutants of these follow.
    """

    name = "optuna_gp"

    def __init__(
        self, problem: Problem, seed: int, *, initial: int = 10, rows: int = 100, suggestions: int = 1
    ) -> None:
        self.initial = _checked(self.name, "initial", initial)
        self.rows = _checked(self.name, "rows", rows)
        super().__init__(problem, seed, suggestions=suggestions)
        models = len(problem.objectives) + len(problem.constraints)
        self.starts = int(np.clip(round(GENE_STARTS / (len(self.space.genes) * models)), 2, 10))
        self._suggested_now: Population | None = None

    def ask(self, n: int, pending: Population | None = None) -> Proposals:
        """See `archsmith.search.strategy`; the sampler is asked once, however much of what follows is known."""
        self._suggested_now = None
        return super().ask(n, pending)

    def _candidates(self, n: int) -> Candidates:
        if self._suggested_now is None:
            genomes, parents = super()._candidates(n)
            self._suggested_now = genomes[: self.suggestions]
            return genomes, parents
        copies = self._suggested_now[np.arange(n) % len(self._suggested_now)]
        return self.space.mutate(copies, self.rng), np.full(n, -1, dtype=np.int64)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        sampler = optuna.samplers.GPSampler(
            n_startup_trials=self.initial, seed=seed, constraints_func=self._constraints_func(),
            warn_independent_sampling=False,
        )  # fmt: skip
        sampler._n_local_search = self.starts  # no public setting: every start climbs gene by gene
        return sampler

    def _add(self, study: optuna.Study, row: int, attributes: dict[str, Any]) -> None:
        """Nothing: every call makes a study of the trials that count."""

    def _study_to_ask(self) -> optuna.Study:
        study = self._empty_study()
        rows = np.arange(len(self._members))
        if len(rows) > self.rows:
            best = self._members.best_first(self.rows // 2)
            rest = np.setdiff1d(rows, best)
            rows = np.sort(np.concatenate([best, rest[len(rest) - (self.rows - len(best)) :]]))
        study.add_trials([self._trial(int(row), {}) for row in rows])
        return study


class OptunaCMAES(OptunaStrategy):
    """Optuna's CMA-ES, with margin, over the genes as integers; needs the package `cmaes`.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        suggestions: most genomes that the sampler is asked for at a time; mutants of these follow.
    """

    name = "optuna_cmaes"
    integers_only = True
    one_objective = True
    replays = True

    def __init__(self, problem: Problem, seed: int, *, suggestions: int = 16) -> None:
        try:
            import cmaes  # noqa: F401  # Optuna imports it only when it is asked
        except ImportError as error:
            raise StrategyError(
                "optuna_cmaes: the package cmaes is not installed; run `pip install cmaes`, or choose another strategy."
            ) from error
        super().__init__(problem, seed, suggestions=suggestions)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.CmaEsSampler(seed=seed, with_margin=True, warn_independent_sampling=False)


class OptunaNSGA2(OptunaStrategy):
    """Optuna's NSGA-II.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        population: trials of a generation.
        suggestions: most genomes that the sampler is asked for at a time; mutants of these follow.
    """

    name = "optuna_nsga2"
    replays = True

    def __init__(self, problem: Problem, seed: int, *, population: int = 50, suggestions: int = 50) -> None:
        self.population = _checked(self.name, "population", population)
        super().__init__(problem, seed, suggestions=suggestions)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.NSGAIISampler(
            population_size=self.population, seed=seed, constraints_func=self._constraints_func()
        )


def _checked(strategy: str, name: str, value: int) -> int:
    if value < 2:
        raise StrategyError(f"{strategy}: got {name} {value}; at least 2 are needed.")
    return value


def _attributes(trial: optuna.Trial) -> dict[str, Any]:
    """What the sampler wrote into a trial."""
    return dict(trial.storage.get_trial_system_attrs(trial._trial_id))  # the public `system_attrs` is deprecated


def _states() -> type[optuna.trial.TrialState]:
    import optuna

    return optuna.trial.TrialState


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log lines and its notes on experimental options, as it was before afterwards."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)  # of `constraints_func`, which Optuna 4 needs
            yield
    finally:
        optuna.logging.set_verbosity(level)
