"""Comparing strategies: equal budgets, paired differences, and noise called noise."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from contracts.strategy_kit import toy_problem, toy_space

from archsmith.errors import ConfigError
from archsmith.search.comparison import Comparison, Contender, Curve, compare, variants
from archsmith.search.evaluators import CompositeEvaluator, Known
from archsmith.search.plot import Line, draw_chart, ticks


def toy_comparison(**options) -> Comparison:
    problem = toy_problem(toy_space())
    columns = {item.label: Known(problem.known[item.label], "predicted:test") for item in problem.objectives}
    return compare(
        problem,
        CompositeEvaluator(problem, columns),
        [Contender("nsga2", {"population": 16}), Contender("random")],
        trials=120,
        **options,
    )


def test_compare_tells_search_from_chance() -> None:
    found = toy_comparison(seeds=range(8))
    assert [curve.contender.strategy for curve in found.curves] == ["random", "nsga2"]
    assert found.evaluations[-1] == 120
    for curve in found.curves:
        assert curve.hypervolume.shape == (8, len(found.evaluations))
        assert (np.diff(curve.hypervolume, axis=1) >= -1e-12).all()
        low, mean, high = curve.band()
        assert ((low <= mean) & (mean <= high)).all()
    difference = found.against(found.curves[1])
    assert difference.verdict == "better"
    assert 0 < difference.low < difference.percent < difference.high
    assert found.best() is found.curves[1]
    assert "nsga2 (population 16)" in found.to_markdown()


def test_one_seed_and_equal_curves_are_within_noise() -> None:
    assert toy_comparison(seeds=[3]).against(toy_comparison(seeds=[3]).curves[1]).verdict == "within noise"
    rng = np.random.default_rng(0)
    values = 1 + 0.1 * rng.random((20, 3))
    ours, theirs = (
        Curve(contender=Contender("random"), hypervolume=part, proposing_s=np.zeros(20))
        for part in (values, values[rng.permutation(20)])
    )
    found = Comparison(
        objectives=("a",),
        evaluations=np.arange(1, 4),
        reference=np.ones(1),
        curves=(theirs, ours),
        sensitivity={},
    )
    assert found.against(ours).verdict == "within noise"


def test_sensitivity_varies_one_setting_at_a_time() -> None:
    group = variants(Contender("regularized_evolution", {"population": 20}))
    assert Contender("regularized_evolution", {"population": 10}) in group
    assert Contender("regularized_evolution", {"population": 20, "sample": 20}) in group
    found = toy_comparison(seeds=[0, 1], sensitivity=True)
    assert len(found.sensitivity["nsga2 (population 16)"]) >= 3
    assert "settings tried" in found.to_markdown()


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="seeds"):
        toy_comparison(seeds=[])
    problem = toy_problem(toy_space())
    columns = {item.label: Known(problem.known[item.label], "predicted:test") for item in problem.objectives}
    with pytest.raises(ConfigError, match=r"strategy\.name"):
        compare(problem, CompositeEvaluator(problem, columns), [Contender("nsga9")], seeds=[0], trials=10)


def test_chart_is_well_formed_and_lists_every_line() -> None:
    band = np.stack([np.arange(4.0), np.arange(4.0) + 1, np.arange(4.0) + 2])
    text = draw_chart(
        [Line("a & b", band), Line("c", band * 2)], np.array([1, 2, 3, 4]), title="t < u", x_label="x", y_label="y"
    )
    root = ET.fromstring(text)
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "c", "t < u", "x", "y"} <= set(shown)
    assert shown.index("c") < shown.index("a & b")  # in the order of the final values


def test_ticks_span_any_range() -> None:
    for low, high in ((0.0, 1.0), (-3.0, 17.0), (0.981, 0.983), (5.0, 5.0), (1e6, 3e6)):
        found = ticks(low, high)
        assert found[0] <= low
        assert found[-1] >= high
        assert 2 <= len(found) <= 12
