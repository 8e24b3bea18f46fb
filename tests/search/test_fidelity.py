"""Rungs, Hyperband, deepening Hyperband, ASHA and MOBSTER do what their publications say."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from contracts.strategy_kit import evaluate, toy_problem, toy_space

from archsmith.errors import ConfigError, StrategyError
from archsmith.search.evaluators import CompositeEvaluator, Measured
from archsmith.search.fidelity.asha import ASHA
from archsmith.search.fidelity.hyperband import VARIANTS, Bracket, Hyperband, IterativeDeepeningHyperband
from archsmith.search.fidelity.mobster import MOBSTER
from archsmith.search.fidelity.rungs import Rungs, Stage, best_first, ladder
from archsmith.search.pareto import hypervolume, rank, reference_point
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategy import Proposals, StrategyState, TrialStatus
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

STAGED = [name for name in catalog.names() if catalog.multi_fidelity(name)]


def noisy_problem(genes: int = 8) -> Problem:
    """Loss of genes near their middle; `noisy` sees it through noise that vanishes with full effort."""
    space = GeneSpace([Gene(f"g{index}", tuple(range(7)), kind="ordered") for index in range(genes)], name="bowl")
    loss = {"loss": lambda genomes: ((genomes - 4.0) ** 2).sum(axis=1)}
    return Problem(space=space, objectives=(Objective(name="loss", direction="min"),), known=loss)


def noisy(problem: Problem, proposals: Proposals):
    """The value of a genome at a fidelity, the same whenever it is asked."""

    def measure(proposals: Proposals) -> Measured:
        values = problem.known["loss"](proposals.genomes)
        salt = proposals.genomes.astype(float) @ np.sqrt(np.arange(2.0, 2.0 + proposals.genomes.shape[1]))
        noise = np.sin(1e3 * (salt + proposals.fidelity)) * (1.0 - proposals.fidelity)
        return Measured(values + 2.0 * noise, np.zeros(len(values)), np.ones(len(values), dtype=bool), "measured:test")

    hidden = Problem(space=problem.space, objectives=problem.objectives)
    return CompositeEvaluator(hidden, {"loss": measure}).evaluate(proposals)


def filled(values: np.ndarray, *, eta: int = 3, rungs: int = 3) -> Rungs:
    """A table whose candidates all have a result at the lowest rung."""
    table = Rungs(1, values.shape[1], 0, eta=eta, rungs=rungs)
    record(table, table.add(np.arange(len(values), dtype=np.int16)[:, None]), 0, values)
    return table


def record(table: Rungs, ids: np.ndarray, rung: int, values: np.ndarray) -> None:
    ok = np.isfinite(values).all(axis=1)
    table.record(ids, rung, values, np.empty((len(ids), 0)), ok=ok, numbers=np.arange(len(ids)))


def test_ladder_ends_at_full_effort_and_refuses_nonsense():
    np.testing.assert_allclose(ladder(3, 4), [1 / 27, 1 / 9, 1 / 3, 1.0])
    assert ladder(5, 1).tolist() == [1.0]
    for eta, rungs in [(1, 3), (3, 0), (3, 21)]:
        with pytest.raises(StrategyError, match="eta must be at least 2"):
            ladder(eta, rungs)


def test_best_of_one_objective_is_the_value_and_infeasible_ones_follow():
    values = np.array([[3.0], [1.0], [2.0], [0.0]])
    assert best_first(values).tolist() == [3, 1, 2, 0]
    assert best_first(values, np.array([[0.0], [0.0], [0.0], [0.5]])).tolist() == [1, 2, 0, 3]
    assert best_first(values, count=2).tolist() == [3, 1]
    assert best_first(np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize("objectives", [2, 3])
def test_best_of_several_objectives_keeps_ranks_and_then_hypervolume(objectives):
    rng = np.random.default_rng(objectives)
    values = rng.random((60, objectives))
    violations = np.where(rng.random((60, 1)) < 0.3, rng.random((60, 1)), 0.0)
    order = best_first(values, violations)
    assert sorted(order) == list(range(60))
    assert (np.diff(rank(values, violations)[order]) >= 0).all()
    front = values[rank(values) == 0]
    reference = reference_point(front)
    kept = best_first(front, count=len(front) // 2)
    ours = hypervolume(front[kept], reference)
    at_random = [hypervolume(front[rng.permutation(len(front))[: len(kept)]], reference) for _ in range(200)]
    assert ours >= np.quantile(at_random, 0.95)


def test_a_pair_of_twins_does_not_eliminate_both():
    front = np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    order = best_first(front).tolist()
    assert order[-1] == 2
    assert order.index(1) < 3


def test_promotable_is_the_best_third_and_shrinks_as_it_is_started():
    table = filled(np.array([[5.0], [1.0], [4.0], [2.0], [3.0], [9.0]]))
    assert table.promotable(0).tolist() == [1, 3]
    table.start(np.array([1]), 1)
    assert table.promotable(0).tolist() == [3]
    assert table.promotable(1).tolist() == table.promotable(2).tolist() == []
    assert table.stopped(0, 2).tolist() == [3, 4]


def test_failures_count_as_results_but_are_never_promoted():
    table = filled(np.array([[np.nan], [np.nan], [1.0]]))
    assert table.promotable(0).tolist() == [2]
    assert filled(np.full((6, 1), np.nan)).promotable(0).tolist() == []
    assert table.keeps(2, 0)
    assert not table.keeps(0, 0)


def test_stopping_and_promoting_agree_when_all_results_are_there():
    values = np.random.default_rng(0).random((27, 2))
    table = filled(values)
    assert sorted(table.promotable(0)) == [row for row in range(27) if table.keeps(row, 0)]


@pytest.mark.parametrize("objectives", [1, 2])
def test_synchronous_and_asynchronous_halving_agree_when_results_come_before_decisions(objectives):
    """C11: the winner is the same."""
    values = np.random.default_rng(objectives).random((27, objectives))
    asynchronous, synchronous = filled(values, rungs=4), filled(values, rungs=4)
    for rung in range(3):
        ids = asynchronous.promotable(rung)
        record(asynchronous, ids, rung + 1, values[ids])
    bracket = Bracket(s=3, depth=3, members=[list(range(27))])
    while found := bracket.next(synchronous):
        record(synchronous, found[0], found[1], values[found[0]])
    assert bracket.complete(synchronous)
    np.testing.assert_array_equal(asynchronous.stage, synchronous.stage)
    assert (synchronous.stage[:, 3] == Stage.OK).sum() == 1


def test_hyperband_brackets_have_the_published_sizes():
    """C11: R = 81 and eta = 3 give 81@1, 34@3, 15@9, 8@27, 5@81."""
    problem = toy_problem(toy_space(20))
    strategy = Hyperband(problem, 0, rungs=5)
    proposals = strategy.ask(81 + 34 + 15 + 8 + 5)
    sizes = Counter(np.round(81 * proposals.fidelity).astype(int).tolist())
    assert sizes == {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}
    strategy.tell(evaluate(problem, proposals))
    more = strategy.ask(27 + 11 + 5 + 2)  # what the brackets let go on
    assert Counter(np.round(81 * more.fidelity).astype(int).tolist()) == {3: 27, 9: 11, 27: 5, 81: 2}


def deepened(variant: str, quality: np.ndarray) -> tuple[Rungs, list[Bracket], int]:
    """Hyperband to a top of rung 2, deepened to rung 3; the table, the brackets, and what deepening spent."""
    table = Rungs(1, 1, 0, eta=3, rungs=4)
    table.add(np.arange(quality.shape[0], dtype=np.int16)[:, None])
    brackets, pools = fresh(2, variant, len(quality))
    spend(table, brackets, quality)
    for bracket, pool in zip(brackets, pools, strict=True):
        bracket.deepen()
        bracket.members[0].extend(pool[len(bracket.members[0]) :][: bracket.missing(3)])
    newest = Bracket(s=0, depth=3, variant=variant)
    newest.members[0].extend(range(150, 150 + newest.missing(3)))
    brackets.append(newest)
    return table, brackets, spend(table, brackets, quality)


def fresh(depth: int, variant: str, candidates: int) -> tuple[list[Bracket], list[list[int]]]:
    """Brackets of one round, each with the beginning of a pool of its own."""
    pools = [list(range(50 * place, min(50 * place + 50, candidates))) for place in range(depth + 1)]
    brackets = []
    for s, pool in zip(range(depth, -1, -1), pools, strict=True):
        bracket = Bracket(s=s, depth=depth, variant=variant)
        bracket.members[0].extend(pool[: bracket.missing(3)])
        brackets.append(bracket)
    return brackets, pools


def spend(table: Rungs, brackets: list[Bracket], quality: np.ndarray) -> int:
    """Run brackets to their end; the effort in units of the lowest rung's."""
    effort = 0
    for bracket in brackets:
        while found := bracket.next(table):
            ids, rung = found
            record(table, ids, rung, quality[ids, rung][:, None])
            effort += len(ids) * 3**rung
        assert bracket.complete(table)
    return effort


@pytest.mark.parametrize("seed", range(10))
def test_deepening_variants_against_starting_again(seed):
    """C12: discarding ends where fresh Hyperband does; efficient <= preserving <= a rerun."""
    rng = np.random.default_rng(seed)
    quality = rng.random((200, 1)) + 0.3 * rng.random((200, 4))  # rungs agree in part
    again = Rungs(1, 1, 0, eta=3, rungs=4)
    again.add(np.arange(200, dtype=np.int16)[:, None])
    rerun, _ = fresh(3, "discarding", 200)
    effort_again = spend(again, rerun, quality)
    spent = {}
    for variant in VARIANTS:
        table, brackets, spent[variant] = deepened(variant, quality)
        if variant == "discarding":
            assert [bracket.members for bracket in brackets] == [bracket.members for bracket in rerun]
            assert not ((again.stage == Stage.OK) & (table.stage != Stage.OK)).any()
    assert spent["efficient"] <= spent["preserving"] <= effort_again
    assert spent["discarding"] <= effort_again


@pytest.mark.parametrize("variant", VARIANTS)
def test_deepening_strategy_spends_less_than_restarting_and_reaches_full_effort(variant):
    problem = noisy_problem()
    strategy = IterativeDeepeningHyperband(problem, 0, start=2, variant=variant)
    seen = []
    for _ in range(60):
        proposals = strategy.ask(4)
        seen.extend(proposals.fidelity)
        strategy.tell(noisy(problem, proposals))
    shares = np.array(seen)
    assert (shares[:5] < 0.2).all()  # the first round knows two rungs
    assert shares[:40].max() < 1.0
    assert (shares == 1.0).sum() >= 4


def test_parents_of_promotions_are_the_trials_below():
    problem = noisy_problem()
    strategy = ASHA(problem, 3)
    trials: list[tuple[bytes, float]] = []
    promoted = 0
    for _ in range(25):
        proposals = strategy.ask(5)
        for genome, share, parent in zip(proposals.genomes, proposals.fidelity, proposals.parents, strict=True):
            if share > strategy.rungs.fidelities[0]:
                promoted += 1
                assert trials[parent][0] == genome.tobytes()
                assert trials[parent][1] == pytest.approx(share / 3)
            else:
                assert parent == -1
        trials.extend(
            (genome.tobytes(), share) for genome, share in zip(proposals.genomes, proposals.fidelity, strict=True)
        )
        strategy.tell(noisy(problem, proposals))
    assert promoted > 30


@pytest.mark.parametrize("name", STAGED)
def test_results_in_any_order_and_with_others_pending(name):
    """Four workers, the slowest first back last: nothing is asked twice and nothing gets lost."""
    problem = noisy_problem()
    strategy = catalog.get(name, problem, 0)
    rng = np.random.default_rng(1)
    running: list[Proposals] = []
    asked: Counter[tuple[bytes, float]] = Counter()
    for _ in range(120):
        while len(running) < 4:
            running.append(strategy.ask(1))
            assert len(running[-1]) == 1
            asked[running[-1].genomes.tobytes(), float(running[-1].fidelity[0])] += 1
        strategy.tell(noisy(problem, running.pop(int(rng.integers(4)))))
    assert asked.most_common(1)[0][1] == 1
    assert strategy.told == 120


@pytest.mark.parametrize("name", STAGED)
def test_resume_with_evaluations_still_running(name):
    problem = noisy_problem()
    whole, stopped = catalog.get(name, problem, 5), catalog.get(name, problem, 5)
    for strategy in (whole, stopped):
        for _ in range(6):
            strategy.tell(noisy(problem, strategy.ask(7)))
    late, late_again = whole.ask(5), stopped.ask(5)
    state = stopped.state()
    resumed = catalog.get(name, problem, 77)
    resumed.restore(StrategyState(scalars=json.loads(json.dumps(state.scalars)), arrays=state.arrays))
    for _ in range(3):
        expected, got = whole.ask(6), resumed.ask(6)
        np.testing.assert_array_equal(got.genomes, expected.genomes)
        np.testing.assert_array_equal(got.fidelity, expected.fidelity)
        whole.tell(noisy(problem, expected))
        resumed.tell(noisy(problem, got))
    whole.tell(noisy(problem, late))
    resumed.tell(noisy(problem, late_again))
    np.testing.assert_array_equal(resumed.ask(9).genomes, whole.ask(9).genomes)


@pytest.mark.parametrize("name", STAGED)
def test_results_of_an_earlier_search_are_not_asked_for_again(name):
    problem = noisy_problem()
    strategy = catalog.get(name, problem, 0)
    earlier = noisy(problem, Proposals.full(problem.space.sample(20, np.random.default_rng(9))))
    strategy.tell(earlier)
    known = {genome.tobytes() for genome in earlier.genomes}
    for _ in range(10):
        proposals = strategy.ask(8)
        assert not known & {genome.tobytes() for genome in proposals.genomes}
        strategy.tell(noisy(problem, proposals))


def test_mobster_finds_better_candidates_than_asha_in_the_same_effort():
    problem = noisy_problem()
    wins = 0
    for seed in range(3):
        best = {}
        for strategy in (ASHA(problem, seed), MOBSTER(problem, seed, pool=300)):
            effort, values = 0.0, [np.inf]
            while effort < 12.0:
                proposals = strategy.ask(3)
                results = noisy(problem, proposals)
                strategy.tell(results)
                effort += proposals.fidelity.sum()
                values.extend(results.values[results.eligible, 0])
            best[strategy.name] = min(values)
        wins += best["mobster"] < best["asha"]
    assert wins == 3


def test_mobster_learns_a_constraint_that_must_be_evaluated():
    space = toy_space()
    known = toy_problem(space).known
    problem = Problem(
        space=space,
        objectives=(Objective(name="quality", direction="max"), Objective(name="size", direction="min")),
        constraints=(Constraint(name="size", bound=9.0),),
    )

    def column(name):
        return lambda proposals: Measured(
            known[name](proposals.genomes), np.zeros(len(proposals)), np.ones(len(proposals), bool), "measured:test"
        )

    evaluator = CompositeEvaluator(problem, {name: column(name) for name in ("quality", "size")})
    feasible = {}
    for strategy in (ASHA(problem, 0), MOBSTER(problem, 0, pool=300)):
        new = []
        for _ in range(12):
            proposals = strategy.ask(8)
            results = evaluator.evaluate(proposals)
            new.extend(results.feasible[proposals.fidelity < 0.1])
            strategy.tell(results)
        feasible[strategy.name] = np.mean(new[20:])
    assert feasible["mobster"] > feasible["asha"] + 0.2


def test_only_the_best_third_of_several_objectives_goes_on():
    problem = toy_problem(toy_space(), bound=20.0)
    strategy = ASHA(problem, 0)
    proposals = strategy.ask(30)
    results = evaluate(problem, proposals)
    strategy.tell(results)
    promoted = strategy.ask(10)
    ranks = rank(results.values, results.violations)
    rows = [int(np.flatnonzero((results.genomes == genome).all(axis=1))[0]) for genome in promoted.genomes]
    assert (promoted.fidelity > 0.1).all()
    assert max(ranks[rows]) <= np.sort(ranks)[9]


def test_failed_evaluations_everywhere_end_without_a_loop():
    space = GeneSpace([Gene("a", tuple(range(6)))], name="six")
    problem = Problem(
        space=space,
        objectives=(Objective(name="a", direction="min"),),
        known={"a": lambda genomes: genomes[:, 0].astype(float)},
    )
    for name in STAGED:
        strategy = catalog.get(name, problem, 0)
        asked = 0
        while len(proposals := strategy.ask(4)):
            asked += len(proposals)
            results = evaluate(problem, proposals, np.ones(len(proposals), dtype=bool))
            assert (results.status == TrialStatus.FAILED).all()
            strategy.tell(results)
            assert asked <= 24
        assert asked == 6


def test_options_out_of_range_and_foreign_states_are_refused():
    problem = noisy_problem()
    with pytest.raises(StrategyError, match="eta must be at least 2"):
        catalog.get("asha", problem, 0, eta=1)
    with pytest.raises(StrategyError, match="choose one of discarding, preserving, efficient"):
        catalog.get("iterative_deepening_hyperband", problem, 0, variant="greedy")
    with pytest.raises(StrategyError, match="start 5; it must be from 1 to the 4 rungs"):
        catalog.get("iterative_deepening_hyperband", problem, 0, start=5)
    with pytest.raises(ConfigError, match=r"variant: got 3; allowed: text \(default efficient\)"):
        catalog.get("iterative_deepening_hyperband", problem, 0, variant=3)
    with pytest.raises(StrategyError, match="the state's rungs is 4, here it is 3"):
        catalog.get("asha", problem, 0, rungs=3).restore(catalog.get("asha", problem, 0).state())
    with pytest.raises(StrategyError, match="the state's strategy is 'asha'"):
        catalog.get("mobster", problem, 0).restore(catalog.get("asha", problem, 0).state())
    state = catalog.get("iterative_deepening_hyperband", problem, 0, variant="preserving").state()
    with pytest.raises(StrategyError, match="variant 'preserving'"):
        catalog.get("iterative_deepening_hyperband", problem, 0).restore(state)
