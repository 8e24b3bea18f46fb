"""Relaxations: what weights, chances and gradients are, against closed forms and Monte Carlo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from archsmith.search.gradient.edges import sampled_edges, softmax_edges
from archsmith.search.gradient.mixing import Mixer, merged
from archsmith.search.gradient.parameters import ArchitectureParameters
from archsmith.search.gradient.relaxation import Learns, Moment
from archsmith.search.gradient.relaxations import RELAXATIONS, MaxW, StraightThrough
from archsmith.spaces.elastic.mixture import MixedPlace

PLACE = MixedPlace(name="p", choices=("a", "b", "c", "d"))
LOGITS = torch.tensor([0.3, -0.7, 1.1, 0.0], dtype=torch.float64)
SUMMED = ["binary_gates", "gumbel", "max_w", "sigmoid", "softmax", "straight_through"]


def moment(learns: Learns = Learns.CHOICES, seed: int = 0, temperature: float = 1.0) -> Moment:
    return Moment(learns=learns, generator=torch.Generator().manual_seed(seed), temperature=temperature)


@pytest.mark.parametrize("name", SUMMED)
def test_chances_are_a_distribution_and_draws_repeat(name: str) -> None:
    relaxation = RELAXATIONS[name]()
    first, second = (relaxation.place(PLACE, LOGITS, moment(seed=5)) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert first.active == second.active
    assert float(first.chances.sum()) == pytest.approx(1)
    assert float(relaxation.chances(PLACE, LOGITS).sum()) == pytest.approx(1)


def test_max_w_of_a_decided_place_is_one_hot_and_of_an_undecided_one_the_plain_sum() -> None:
    decided = MaxW().place(PLACE, torch.tensor([60.0, 0.0, 0.0, 0.0]), moment())
    assert decided.weights.tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert MaxW().place(PLACE, torch.zeros(4), moment()).weights.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_straight_through_draws_from_softmax_at_any_temperature(temperature: float) -> None:
    at = moment(temperature=temperature)
    drawn = [StraightThrough().place(PLACE, LOGITS, at).active for _ in range(4000)]
    counts = np.bincount([active[0] for active in drawn if active is not None], minlength=4) / 4000
    expected = torch.softmax(LOGITS, 0).numpy()
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_soft_and_hard_samples_agree_as_the_temperature_goes_to_zero() -> None:
    soft = RELAXATIONS["gumbel"]().place(PLACE, LOGITS, moment(seed=3, temperature=1e-4))
    hard = RELAXATIONS["straight_through"]().place(PLACE, LOGITS, moment(seed=3, temperature=1e-4))
    assert torch.allclose(soft.weights, hard.weights, atol=1e-9)


def test_gradient_of_binary_gates_is_that_of_the_explicit_softmax_of_the_pair() -> None:
    """dL/da_i = sum_j dL/dg_j p_j (delta_ij - p_i), for outputs that are linear in the gates."""
    logits = LOGITS.clone().requires_grad_()
    outputs = torch.tensor([2.0, -1.0, 0.5, 3.0], dtype=torch.float64)  # dL/dg_j of a loss that is the output itself
    drawn = RELAXATIONS["binary_gates"]().place(PLACE, logits, moment(seed=2))
    assert sorted(drawn.weights.tolist()) == [0, 0, 0, 1]
    (found,) = torch.autograd.grad((drawn.weights * outputs).sum(), logits)
    pair = list(drawn.active or ())
    shares = torch.softmax(LOGITS[pair], 0)
    expected = torch.zeros(4, dtype=torch.float64)
    for i, j in itertools.product(range(2), range(2)):
        expected[pair[i]] += outputs[pair[j]] * shares[j] * (float(i == j) - shares[i])
    assert torch.allclose(found, expected, atol=1e-12)
    explicit = LOGITS[pair].clone().requires_grad_()
    (mixture,) = torch.autograd.grad((torch.softmax(explicit, 0) * outputs[pair]).sum(), explicit)
    assert torch.allclose(found[pair], mixture, atol=1e-12)


def test_binary_gates_run_one_path_for_the_weights_and_two_for_the_choices() -> None:
    relaxation = RELAXATIONS["binary_gates"]()
    assert len(relaxation.place(PLACE, LOGITS, moment(Learns.WEIGHTS)).active or ()) == 1
    assert len(relaxation.place(PLACE, LOGITS, moment()).active or ()) == 2


def test_a_step_of_binary_gates_keeps_what_was_not_drawn_and_the_pairs_total() -> None:
    """Adam's weight decay would move every logit; only the pair may move, and only within its total."""
    places = [PLACE, MixedPlace(name="q", choices=("a", "b", "c"))]
    parameters = ArchitectureParameters(places, seed=1)
    mixer = Mixer(parameters, RELAXATIONS["binary_gates"]())
    optimizer = torch.optim.Adam(parameters.tensors(), lr=0.5, betas=(0.0, 0.999), weight_decay=0.1)
    for seed in range(5):
        before = {name: logits.detach().clone() for name, logits in parameters.logits.items()}
        draw = mixer.draw(moment(seed=seed))
        losses = [(draw.weights[name] * torch.arange(len(draw.weights[name]))).sum() for name in before]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        mixer.relaxation.settle(parameters, before, merged([draw]))
        for name, logits in parameters.logits.items():
            old, new = torch.softmax(before[name], 0), torch.softmax(logits.detach(), 0)
            pair = list(draw.active[name])
            others = [index for index in range(len(old)) if index not in pair]
            assert torch.allclose(old[others], new[others], atol=1e-6)
            assert float(old[pair].sum()) == pytest.approx(float(new[pair].sum()), abs=1e-6)
            assert not torch.allclose(old[pair], new[pair], atol=1e-3)


def test_gumbel_top_two_draws_pairs_without_replacement() -> None:
    """Frequencies of the pairs against p_i p_k / (1 - p_i) + p_k p_i / (1 - p_k)."""
    edges = tuple(MixedPlace(name=f"n.{index}", choices=("a", "b"), node="n", kept=2) for index in range(4))
    p = torch.softmax(LOGITS, 0).numpy()
    at, draws = moment(), 6000
    counts: dict[frozenset[int], int] = {}
    for _ in range(draws):
        drawn = sampled_edges(LOGITS, edges, at)
        assert sorted(drawn.factors.tolist()) == pytest.approx([0, 0, 1, 1])
        assert drawn.running is not None
        counts[drawn.running] = counts.get(drawn.running, 0) + 1
    for i, k in itertools.combinations(range(4), 2):
        expected = p[i] * p[k] / (1 - p[i]) + p[k] * p[i] / (1 - p[k])
        error = (expected * (1 - expected) / draws) ** 0.5
        assert abs(counts[frozenset((i, k))] / draws - expected) < 3 * error


def test_kept_probabilities_add_up_to_how_many_edges_are_kept() -> None:
    edges = tuple(MixedPlace(name=f"n.{index}", choices=("a", "b"), node="n", kept=2) for index in range(4))
    for logits in (LOGITS, 6 * LOGITS, torch.zeros(4)):
        kept = softmax_edges(logits, edges, moment()).kept
        assert float(kept.sum()) == pytest.approx(2)
        assert float(kept.max()) <= 1


def test_edges_that_were_not_drawn_do_not_run() -> None:
    edges = [MixedPlace(name=f"n.{index}", choices=("a", "b"), node="n", kept=2) for index in range(4)]
    mixer = Mixer(ArchitectureParameters(edges, compete=True), RELAXATIONS["straight_through"](), "sampled")
    draw = mixer.draw(moment())
    assert sorted(len(draw.active[edge.name]) for edge in edges) == [0, 0, 1, 1]
    mixture = mixer.mixture(draw)
    mixture.check(edges)
    (mixture.edges["n"] * torch.arange(4.0)).sum().backward()
    assert mixer.parameters.edges["n"].grad is not None
