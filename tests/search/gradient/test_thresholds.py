"""Thresholds over superkernels: gates, what they choose, and the gradient that reaches them."""

from __future__ import annotations

import pytest
import torch

from archsmith import spaces
from archsmith.errors import StrategyError
from archsmith.search.gradient.distribution import places_of
from archsmith.search.gradient.relaxation import Learns, Moment
from archsmith.search.gradient.thresholds import Thresholds

SPACE = spaces.get("single_path_nas", "tiny")
PLACES = places_of(SPACE)


def bound() -> tuple[Thresholds, torch.nn.Module]:
    thresholds, supernet = Thresholds(), SPACE.supernet(seed=0)
    thresholds.bind(SPACE, supernet)
    return thresholds, supernet


def moment(learns: Learns = Learns.BOTH, *, warming: bool = False) -> Moment:
    return Moment(learns=learns, generator=torch.Generator().manual_seed(0), warming=warming)


@pytest.mark.parametrize(("level", "largest"), [(1e3, False), (-1e3, True)])
def test_extreme_thresholds_choose_the_smallest_and_the_largest(level: float, largest: bool) -> None:
    thresholds, _ = bound()
    chosen = {}
    for place in PLACES:
        drawn = thresholds.place(place, torch.full((thresholds.size(place),), level), moment())
        assert sorted(drawn.weights.tolist()) == [0.0] * (len(place.choices) - 1) + [1.0]
        chosen[place.name] = int(drawn.weights.argmax())
    values = SPACE.decode(SPACE.assembled(chosen)).choices
    expected = SPACE.decode(SPACE.largest() if largest else SPACE.smallest()).choices
    assert dict(values) == dict(expected)


def test_at_the_start_every_strength_is_one() -> None:
    thresholds, _ = bound()
    for place in PLACES:
        size = thresholds.size(place)
        open_all = thresholds.place(place, torch.full((size,), 0.999), moment())
        none_open = thresholds.place(place, torch.full((size,), 1.001), moment())
        assert int(open_all.weights.argmax()) != int(none_open.weights.argmax())


def test_gradients_reach_thresholds_and_weights_but_not_where_weights_learn_alone() -> None:
    thresholds, supernet = bound()
    place = PLACES[0]
    logits = torch.full((thresholds.size(place),), 0.5, requires_grad=True)
    cost = torch.arange(float(len(place.choices)))
    (thresholds.place(place, logits, moment()).weights * cost).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert any(parameter.grad is not None for parameter in supernet.parameters())
    assert not thresholds.place(place, logits, moment(Learns.WEIGHTS)).weights.requires_grad


def test_raising_a_threshold_makes_its_choice_less_likely() -> None:
    thresholds, _ = bound()
    place = PLACES[0]
    low, high = (thresholds.chances(place, torch.full((thresholds.size(place),), level)) for level in (0.8, 1.2))
    assert float(low.sum()) == pytest.approx(1)
    assert int(low.argmax()) != int(high.argmax())


def test_gates_are_dropped_while_warming() -> None:
    thresholds, _ = bound()
    place = PLACES[0]
    logits = torch.full((thresholds.size(place),), -1e3)
    at = moment(Learns.WEIGHTS, warming=True)
    drawn = {int(thresholds.place(place, logits, at).weights.argmax()) for _ in range(60)}
    assert len(drawn) == len(place.choices)


def test_a_mixture_of_thresholds_runs_the_architecture_it_chose() -> None:
    from archsmith.search.gradient.mixing import Mixer
    from archsmith.search.gradient.parameters import ArchitectureParameters

    thresholds, supernet = bound()
    parameters = ArchitectureParameters(PLACES, [thresholds.size(place) for place in PLACES], seed=1)
    for logits in parameters.logits.values():
        logits.data = 1 + torch.randn(len(logits), generator=torch.Generator().manual_seed(7))
    mixer = Mixer(parameters, thresholds)
    draw = mixer.draw(moment())
    chosen = {name: int(weights.argmax()) for name, weights in draw.weights.items()}
    inputs = SPACE.example_inputs(4)
    architecture = SPACE.decode(SPACE.assembled(chosen))
    blended = supernet(*inputs, mixer.mixture(draw))
    assert torch.allclose(blended, supernet(*inputs, architecture), atol=1e-4)


def test_choices_that_are_no_superkernel_are_refused() -> None:
    space = spaces.get("fbnet", "tiny")
    with pytest.raises(StrategyError, match="no superkernel"):
        Thresholds().bind(space, space.supernet(seed=0))
