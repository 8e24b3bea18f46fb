"""Remembered evaluations: one per key, also within a call; failures are tried again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archsmith import spaces
from archsmith.search.evaluators import Measured
from archsmith.search.pipeline.local import FolderStore
from archsmith.search.pipeline.remember import Remembered
from archsmith.search.problem import Population
from archsmith.search.strategy import Proposals


class Counting:
    """A measurer that adds up choices, keeps what it was asked, and fails on request."""

    def __init__(self) -> None:
        self.asked: list[Population] = []
        self.failing = False

    def __call__(self, proposals: Proposals) -> Measured:
        genomes = proposals.genomes
        self.asked.append(genomes)
        ok = np.full(len(genomes), not self.failing)
        values = np.where(ok, genomes.sum(axis=1) / 100, np.nan)
        errors = tuple("broken" if self.failing else None for _ in genomes)
        return Measured(values=values, seconds=np.ones(len(genomes)), ok=ok, source="predicted:test", errors=errors)


def remembered(measure: Counting, folder: Path, seed: int = 0) -> Remembered:
    space = spaces.get("nas_bench_201", "tiny")
    return Remembered(measure, space, FolderStore(folder), recipe="r", seed=seed, source="predicted:test")


def test_genomes_of_one_key_are_evaluated_once(tmp_path: Path) -> None:
    space = spaces.get("nas_bench_201", "tiny")
    # Node 1 is reached by nothing, so what leaves it computes nothing: three genomes, one computation.
    genomes = np.array([[0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 1], [0, 1, 2, 1, 3, 1], [3, 1, 2, 1, 3, 1]], dtype=np.int16)
    assert len(np.unique(space.keys(genomes), axis=0)) == 2
    measure = Counting()
    first = remembered(measure, tmp_path)
    found = first(Proposals.full(genomes))
    assert [len(asked) for asked in measure.asked] == [2]
    assert found.values.tolist() == [0.03, 0.03, 0.03, 0.11]
    assert found.seconds.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert first.reused == 2
    again = remembered(measure, tmp_path)
    assert again(Proposals.full(genomes)).values.tolist() == found.values.tolist()
    assert again.reused == 4
    assert len(measure.asked) == 1


def test_another_seed_is_another_evaluation(tmp_path: Path) -> None:
    genomes = np.array([[3, 1, 2, 1, 3, 1]], dtype=np.int16)
    measure = Counting()
    remembered(measure, tmp_path)(Proposals.full(genomes))
    remembered(measure, tmp_path, seed=1)(Proposals.full(genomes))
    assert len(measure.asked) == 2


def test_failure_is_told_and_tried_again(tmp_path: Path) -> None:
    genomes = np.array([[3, 1, 2, 1, 3, 1]], dtype=np.int16)
    measure = Counting()
    measure.failing = True
    failed = remembered(measure, tmp_path)(Proposals.full(genomes))
    assert not failed.ok[0]
    assert failed.errors == ("broken",)
    measure.failing = False
    assert remembered(measure, tmp_path)(Proposals.full(genomes)).values.tolist() == [0.11]
