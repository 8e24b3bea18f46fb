"""What every strategy shares: new, canonical, feasible proposals; one archive; one generator; exact resumption.

A strategy adds where to look (`_candidates`) and what to remember (`_learn`, `_memory`, `_recall`). The base asks it
for candidates, repairs them towards the known constraints, drops what was proposed before, and falls back in bounded
steps where too few remain: neighbours of the candidates, uniform samples and, in small spaces, every genome left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..enumeration import every_genome
from ..problem import Population, Problem
from ..strategy import Json, Proposals, Results, StrategyState
from .archive import Archive
from .repair import repair

__all__ = ["BaseStrategy", "Candidates"]

Candidates = tuple[Population, NDArray[np.int64]]
"""[B, G] canonical genomes and [B] the trial number of each one's (first) parent, -1 for none."""

ENUMERABLE: Final = 1 << 16
"""Spaces up to this size are searched to the last genome; larger ones by bounded sampling."""

LEAST_NOVELTY: Final = 0.125
"""At most eight candidates are drawn per genome that is missing."""


class BaseStrategy(ABC):
    """Common half of all strategies; see the module.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
    """

    name: ClassVar[str]

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.space = problem.space
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.archive = Archive(problem.space, equivalence=problem.equivalence)
        self.told = 0
        self._any_feasible = False
        self._novelty = 1.0
        self._constrained = any(constraint.label in problem.known for constraint in problem.constraints)
        self._last_asked: Population | None = None

    # --- the contract --------------------------------------------------------------------------------------------

    def ask(self, n: int, pending: NDArray[np.int16] | None = None) -> Proposals:
        """Propose up to `n` genomes that were never proposed before; see `archsmith.search.strategy`."""
        if n < 1:
            raise StrategyError(f"{self.name}.ask: got n = {n}; ask for at least 1 proposal.")
        if pending is not None and len(pending):
            self.archive.admit(pending)
        genomes, parents = self._collect(n)
        self._last_asked = genomes
        return Proposals(genomes=genomes, fidelity=np.ones(len(genomes)), parents=parents)

    def tell(self, results: Results) -> None:
        """Learn from results not told before."""
        asked = self._last_asked
        if asked is None or not np.array_equal(asked, results.genomes):  # else the archive has them already
            self.archive.admit(results.genomes)
        numbers = np.arange(self.told, self.told + len(results))
        self.told += len(results)
        self._learn(results, numbers)

    def know(self, results: Results) -> None:
        """Learn from results of other searches: they are no trials, have no numbers, and may be proposed again."""
        self._last_asked = None
        self._learn(results, np.full(len(results), -1, dtype=np.int64))

    def state(self) -> StrategyState:
        """Everything that later behaviour depends on."""
        memory = self._memory()
        scalars: dict[str, Json] = {
            "strategy": self.name,
            "space": self.space.identity,
            "objectives": [objective.label for objective in self.problem.objectives],
            "told": self.told,
            "any_feasible": self._any_feasible,
            "novelty": self._novelty,
            "generator": _generator_to_json(self.rng),
        }
        return StrategyState(
            scalars={**scalars, **memory.scalars}, arrays={"proposed": self.archive.keys, **memory.arrays}
        )

    def restore(self, state: StrategyState) -> None:
        """Continue from `state`; raises StrategyError if it belongs to another space, problem or strategy."""
        expected = {
            "strategy": self.name,
            "space": self.space.identity,
            "objectives": [objective.label for objective in self.problem.objectives],
        }
        for key, value in expected.items():
            if state.scalars.get(key) != value:
                raise StrategyError(
                    f"{self.name}.restore: the state's {key} is {state.scalars.get(key)!r}, this strategy's is "
                    f"{value!r}. Restore with the job that wrote the state, or start a new search."
                )
        self.told = _integer(state, "told")
        self._any_feasible = bool(state.scalars["any_feasible"])
        self._novelty = float(str(state.scalars["novelty"]))
        self.rng = _generator_from_json(state.scalars["generator"])
        self.archive.load(np.asarray(state.arrays["proposed"], dtype=np.uint64))
        self._last_asked = None
        self._recall(state)

    # --- what a strategy adds ------------------------------------------------------------------------------------

    @abstractmethod
    def _candidates(self, n: int) -> Candidates:
        """Where to look next: about `n` canonical genomes, which need be neither new nor feasible."""

    @abstractmethod
    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        """Remember `results`, whose trial numbers are `numbers` [B]; rows that are not OK are among them."""

    def _memory(self) -> StrategyState:
        """The strategy's own part of the state."""
        return StrategyState(scalars={})

    def _recall(self, state: StrategyState) -> None:  # noqa: B027  # a strategy without memory recalls nothing
        """Inverse of `_memory`."""

    # --- proposing -----------------------------------------------------------------------------------------------

    def _collect(self, n: int) -> Candidates:
        parts: list[Candidates] = []
        fallback: list[tuple[Candidates, NDArray[np.float64]]] = []
        missing = n
        for source in self._sources():
            # Evolution that converges breeds what it bred before: draw as many more as the last draws call for.
            genomes, parents = source(math.ceil(missing / self._novelty))
            if not len(genomes):
                continue
            if self._constrained:
                genomes, violation = repair(self.problem, genomes, self.rng)
                feasible = np.flatnonzero(violation <= 0)
                fallback.append(((genomes, parents), violation))
                genomes, parents = genomes[feasible], parents[feasible]
            new = self.archive.admit(genomes, missing)
            # Everything new is the common case: hand the arrays on as they are.
            parts.append((genomes, parents) if len(new) == len(genomes) else (genomes[new], parents[new]))
            looked_at = int(new[-1]) + 1 if len(new) == missing else len(genomes)
            self._novelty = min(1.0, max(LEAST_NOVELTY, 0.9 * len(new) / max(looked_at, 1)))
            missing -= len(new)
            if not missing:
                break
        if missing < n:
            self._any_feasible = True
        elif not self._any_feasible and fallback:
            return self._least_violating(fallback, n)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return self._nothing()
        return np.concatenate([genomes for genomes, _ in parts]), np.concatenate([parents for _, parents in parts])

    def _sources(self) -> list[Callable[[int], Candidates]]:
        """Where candidates come from, in turn, until enough are new."""
        if self.space.size <= ENUMERABLE:
            return [self._candidates, self._candidates, self._remaining]
        return [
            self._candidates,
            self._candidates,
            self._candidates,
            self._nearby,
            self._uniform,
            self._uniform,
            self._uniform,
        ]

    def _least_violating(self, pool: list[tuple[Candidates, NDArray[np.float64]]], n: int) -> Candidates:
        """No feasible genome is known: the new genomes that come closest to the constraints."""
        genomes = np.concatenate([genomes for (genomes, _), _ in pool])
        parents = np.concatenate([parents for (_, parents), _ in pool])
        order = np.argsort(np.concatenate([violation for _, violation in pool]), kind="stable")
        new = order[self.archive.admit(genomes[order], n)]
        return genomes[new], parents[new]

    def _nothing(self) -> Candidates:
        return np.empty((0, len(self.space.genes)), dtype=np.int16), np.empty(0, dtype=np.int64)

    def _uniform(self, n: int) -> Candidates:
        """Uniform samples, none with a parent."""
        return self.space.sample(n, self.rng), np.full(n, -1, dtype=np.int64)

    def _nearby(self, n: int) -> Candidates:
        """Neighbours of a few candidates, shuffled."""
        genomes, parents = self._candidates(min(n, 8))
        around = [self.space.neighbors(genome) for genome in genomes]
        out = np.concatenate(around)
        origin = np.repeat(parents, [len(part) for part in around])
        order = self.rng.permutation(len(out))
        return out[order], origin[order]

    def _remaining(self, n: int) -> Candidates:
        """Every genome of a small space, shuffled; the archive keeps what is left of them."""
        del n
        genomes = every_genome(self.space)
        return genomes[self.rng.permutation(len(genomes))], np.full(len(genomes), -1, dtype=np.int64)


def _integer(state: StrategyState, key: str) -> int:
    value = state.scalars[key]
    if not isinstance(value, int):
        raise StrategyError(f"restore: the state's {key} is {value!r}; an integer is expected. The state is damaged.")
    return value


def _generator_to_json(rng: np.random.Generator) -> dict[str, Json]:
    """The state of a PCG64 generator; its 128-bit integers as strings, because JSON readers lose digits."""
    state = rng.bit_generator.state
    return {
        "state": str(state["state"]["state"]),
        "inc": str(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def _generator_from_json(data: Json) -> np.random.Generator:
    if not isinstance(data, dict) or set(data) != {"state", "inc", "has_uint32", "uinteger"}:
        raise StrategyError(f"restore: got generator state {data!r}; expected that of PCG64. The state is damaged.")
    generator = np.random.PCG64()
    generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(str(data["state"])), "inc": int(str(data["inc"]))},
        "has_uint32": int(str(data["has_uint32"])),
        "uinteger": int(str(data["uinteger"])),
    }
    return np.random.Generator(generator)
