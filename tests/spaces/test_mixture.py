from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from contracts.supernet_kit import _randomise

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.elastic.mixture import NONE, Mixture, one_hot
from archsmith.spaces.families import darts, mobilenet
from archsmith.spaces.families.darts_network import SHARP_CHOICES


def fixed_mobilenet():
    """Of the tiny preset, with one depth and one width per stage: kernels and expansions are all there is to choose."""
    spec = mobilenet.PRESETS["tiny"]
    stages = tuple(dataclasses.replace(stage, depths=(2,), widths=stage.widths[-1:]) for stage in spec.stages)
    return mobilenet.MobileNetSpace(dataclasses.replace(spec, stages=stages))


def changed_darts(**changes):
    return darts.DartsSpace(dataclasses.replace(darts.PRESETS["tiny"], **changes))


SPACES = {
    "darts": lambda: spaces.get("darts", "tiny"),
    "darts, search": lambda: changed_darts(affine=False, pool_norm=True),
    "darts, sharp": lambda: changed_darts(choices=SHARP_CHOICES, sharp=True),
    "fbnet": lambda: spaces.get("fbnet", "tiny"),
    "mobilenet": fixed_mobilenet,
    "nas_bench_201": lambda: spaces.get("nas_bench_201", "tiny"),
    "proxylessnas": lambda: spaces.get("proxylessnas", "tiny"),
    "single_path_nas": lambda: spaces.get("single_path_nas", "tiny"),
}
BLENDED = ("proxylessnas", "single_path_nas")


@pytest.fixture(scope="module", params=SPACES)
def space(request):
    return SPACES[request.param]()


@pytest.fixture(scope="module")
def supernet(space):
    supernet = space.supernet(seed=0)
    _randomise(supernet)
    return supernet


def genomes(space, n):
    return np.concatenate([space.smallest()[None], space.largest()[None], space.sample(n, np.random.default_rng(3))])


def drawn(space, *, factors=False, dtype=torch.float32, seed=0):
    """A mixture of random positive weights that ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    places = space.mixed_places()

    def numbers(count):
        return torch.rand(count, generator=generator, dtype=dtype).add(0.1).requires_grad_()

    incoming = {}
    for place in places:
        if place.node:
            incoming[place.node] = incoming.get(place.node, 0) + 1
    return Mixture(
        weights={place.name: numbers(len(place.choices)) for place in places},
        edges={node: numbers(count) for node, count in incoming.items()} if factors else {},
    )


def test_one_hot_mixture_is_the_architecture(space, supernet):
    (x,) = space.example_inputs(4)
    for genome in genomes(space, 6):
        mixture, architecture = one_hot(space.mixed_places(), space.choices_of(genome)), space.decode(genome)
        for training in (True, False):
            supernet.train(training)
            torch.testing.assert_close(supernet(x, mixture), supernet(x, architecture), atol=1e-5, rtol=1e-5)


def test_active_choice_alone_runs_with_its_weight_alone(space, supernet):
    """As binary gates leave it: every place has one active choice of weight 1, the other weights do not matter."""
    (x,) = space.example_inputs(4)
    chosen = space.choices_of(space.largest())
    weights = {place.name: torch.full((len(place.choices),), 0.3) for place in space.mixed_places()}
    for name, index in chosen.items():
        if index is not None:
            weights[name][index] = 1
    active = {name: () if index is None else (index,) for name, index in chosen.items()}
    expected = supernet.train()(x, space.decode(space.largest()))
    torch.testing.assert_close(supernet(x, Mixture(weights=weights, active=active)), expected, atol=1e-5, rtol=1e-5)


def test_choices_and_genomes_are_each_others_inverse(space):
    places = space.mixed_places()
    assert len({place.name for place in places}) == len(places)
    for genome in genomes(space, 50):
        chosen = space.choices_of(genome)
        assert list(chosen) == [place.name for place in places]
        assert np.array_equal(space.assembled(chosen), genome)
    names = {name: space.mixed_places()[i].choices for i, name in enumerate(space.choices_of(space.largest()))}
    assert all(len(set(choices)) == len(choices) > 1 for choices in names.values())


@pytest.mark.parametrize(
    "name", [name for name in SPACES if not name.startswith("darts")]
)  # whose nodes keep two edges
def test_every_combination_of_free_choices_is_a_canonical_genome(name):
    space, rng = SPACES[name](), np.random.default_rng(0)
    assert not any(place.kept for place in space.mixed_places())
    for _ in range(50):
        chosen = {place.name: int(rng.integers(len(place.choices))) for place in space.mixed_places()}
        genome = space.assembled(chosen)
        assert space.choices_of(space.check(genome[None])[0]) == chosen


@pytest.mark.parametrize(
    ("name", "blended"),
    [(name, False) for name in ("darts", "fbnet", "mobilenet", "nas_bench_201", *BLENDED)]
    + [(name, True) for name in BLENDED],
)
def test_gradients_of_weights_and_factors_equal_finite_differences(name, blended):
    space = SPACES[name]()
    supernet = space.supernet(seed=0).double()
    x = space.example_inputs(3)[0].double()
    mixture = drawn(space, factors=not blended, dtype=torch.float64)
    mixture = dataclasses.replace(mixture, blended=blended)
    leaves = [*mixture.weights.values(), *mixture.edges.values()]
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(supernet(x, mixture).shape, generator=generator, dtype=torch.float64)

    def loss():
        return (supernet(x, mixture) * target).sum()

    loss().backward()
    for _ in range(2):
        directions = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in leaves]
        slope = sum((leaf.grad * direction).sum() for leaf, direction in zip(leaves, directions, strict=True))
        step = 1e-6
        with torch.no_grad():
            torch._foreach_add_(leaves, directions, alpha=step)
            above = loss()
            torch._foreach_add_(leaves, directions, alpha=-2 * step)
            below = loss()
            torch._foreach_add_(leaves, directions, alpha=step)
            torch.testing.assert_close(slope, (above - below) / (2 * step), atol=1e-5, rtol=1e-5)


def test_place_gives_the_weighted_sum_of_its_candidates():
    """The last place's output is what the head reads."""
    space = spaces.get("fbnet", "tiny")
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(4)
    outputs = []
    hook = supernet.head.register_forward_pre_hook(lambda _module, inputs: outputs.append(inputs[0]))
    last = space.mixed_places()[-1]
    base = space.choices_of(space.smallest())
    weights = torch.tensor([0.2, 0.5, 0.3])
    for index in range(3):
        supernet(x, space.decode(space.assembled(base | {last.name: index})))
    mixture = one_hot(space.mixed_places(), base)
    supernet(x, dataclasses.replace(mixture, weights={**mixture.weights, last.name: weights}))
    hook.remove()
    *alone, mixed = outputs
    torch.testing.assert_close(mixed, sum(w * y for w, y in zip(weights, alone, strict=True)))


# --- candidates that run for their gate alone -------------------------------------------------------------------------


def gated(space, genome, *, dtype=torch.float32):
    """Gates as of ProxylessNAS: of two candidates per place one has weight 1, the other 0."""
    rng, weights, active = np.random.default_rng(5), {}, {}
    for place, index in zip(space.mixed_places(), space.choices_of(genome).values(), strict=True):
        weights[place.name] = torch.zeros(len(place.choices), dtype=dtype)
        others = [other for other in range(len(place.choices)) if other != index and place.choices[other] != NONE]
        active[place.name] = (int(rng.choice(others)),)
        if index is not None:
            weights[place.name][index] = 1
            active[place.name] += (index,)
        weights[place.name].requires_grad_()
    return Mixture(weights=weights, active=active)


def test_gate_gradients_are_those_of_the_explicit_sum(space):
    """d loss / d gate_j = <d loss / d output, candidate_j(x)>, with or without a graph of candidate j."""
    supernet, x = space.supernet(seed=0).double(), space.example_inputs(3)[0].double()
    mixture = gated(space, space.largest(), dtype=torch.float64)
    supernet(x, mixture).square().sum().backward()
    parameters = {name: p.grad for name, p in supernet.named_parameters()}
    supernet.zero_grad()
    # A weight next to 0 is not silent: the explicit sum, with a graph of all that is active.
    explicit = {
        n: w.detach().clone().where(w.detach() == 1, 1e-12).requires_grad_() for n, w in mixture.weights.items()
    }
    supernet(x, dataclasses.replace(mixture, weights=explicit)).square().sum().backward()
    for place in space.mixed_places():
        ours, theirs = mixture.weights[place.name].grad, explicit[place.name].grad
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)
    for name, parameter in supernet.named_parameters():
        grad, other = parameters[name], parameter.grad
        if grad is None:
            assert other is None or other.abs().max() < 1e-6
        else:
            assert other is not None
            torch.testing.assert_close(grad, other, atol=1e-6, rtol=1e-5)


def test_silent_candidate_leaves_no_gradient_in_its_own_weights():
    space = spaces.get("nas_bench_201", "tiny")
    supernet, (x,) = space.supernet(seed=0), space.example_inputs(2)
    one, three = (space.mixed_places()[0].choices.index(name) for name in ("nor_conv_1x1", "nor_conv_3x3"))
    weights = {place.name: torch.zeros(5).index_fill_(0, torch.tensor(one), 1.0) for place in space.mixed_places()}
    for each in weights.values():
        each.requires_grad_()
    mixture = Mixture(weights=weights, active=dict.fromkeys(weights, (one, three)))
    supernet(x, mixture).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        assert (parameter.grad is None) == ("nor_conv_3x3" in name)
    assert all(each.grad[three] != 0 for each in weights.values())
    assert all(each.grad[[0, 1, 4]].eq(0).all() for each in weights.values())


def test_inactive_candidate_is_never_run():
    space = spaces.get("nas_bench_201", "tiny")
    supernet, (x,) = space.supernet(seed=0), space.example_inputs(2)
    ran = []
    for name, module in supernet.named_modules():
        if name.endswith(("nor_conv_1x1", "nor_conv_3x3")):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    mixture = drawn(space)
    supernet(x, dataclasses.replace(mixture, active={place.name: (0, 1, 3) for place in space.mixed_places()}))
    assert ran
    assert all(name.endswith("nor_conv_3x3") for name in ran)
    ran.clear()
    constant = {
        name: weights.detach().clone().index_fill_(0, torch.tensor(3), 0.0) for name, weights in mixture.weights.items()
    }
    supernet(x, Mixture(weights=constant))
    assert all(name.endswith("nor_conv_1x1") for name in ran)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet", "ofa_proxylessnas", "mnasnet", "vit", "hat"])
def test_space_of_dependent_choices_has_no_places(name):
    space = spaces.get(name, "tiny")
    assert space.mixed_places() is None
    for ask in (lambda: space.assembled({}), lambda: space.choices_of(space.smallest())):
        with pytest.raises(SpaceError, match=f"{name}.*tiny.*has no mixtures"):
            ask()


@pytest.mark.parametrize("name", ["mobilenet", "ofa_proxylessnas"])
def test_supernet_of_dependent_choices_refuses_mixtures(name):
    space = spaces.get(name, "tiny")
    with pytest.raises(SpaceError, match="has no mixtures"):
        space.supernet(seed=0)(*space.example_inputs(1), Mixture(weights={}))


def test_mixture_that_does_not_fit_says_where(space, supernet):
    (x,) = space.example_inputs(1)
    mixture = drawn(space)
    name = space.mixed_places()[0].name
    count = len(mixture.weights[name])
    rest = {other: weights for other, weights in mixture.weights.items() if other != name}
    for wrong, message in (
        (Mixture(weights=rest), rf"only one has \['{name}'\]"),
        (Mixture(weights=rest | {name: torch.ones(count + 1)}), f"place '{name}' have shape .*must be \\({count},\\)"),
        (Mixture(weights=mixture.weights, active={name: (count,)}), f"active candidates \\[{count}\\]"),
        (Mixture(weights=mixture.weights, edges={"nowhere": torch.ones(2)}), "factors of node 'nowhere'"),
    ):
        with pytest.raises(SpaceError, match=message):
            supernet(x, wrong)


def test_choices_that_are_no_architecture_are_refused(space):
    chosen = space.choices_of(space.largest())
    name = next(name for name, index in chosen.items() if index is not None)
    for wrong, message in (
        ({**chosen, "elsewhere": 0}, "only one has .*elsewhere"),
        ({**chosen, name: None}, r"exactly 2|choose one of"),
        ({**chosen, name: 99}, r"exactly 2|choose one of"),
    ):
        with pytest.raises(SpaceError, match=message):
            space.assembled(wrong)


def test_mixture_that_runs_nothing_at_a_block_is_refused():
    space = spaces.get("fbnet", "tiny")
    mixture = one_hot(space.mixed_places(), dict.fromkeys(space.choices_of(space.smallest())))
    with pytest.raises(SpaceError, match=r"nothing runs at place 'stages\.0\.0'"):
        space.supernet(seed=0)(*space.example_inputs(1), mixture)


def test_cell_without_edges_is_zero_yet_joined_to_its_input():
    for name in ("darts", "nas_bench_201"):
        space = spaces.get(name, "tiny")
        supernet, (x,) = space.supernet(seed=0).eval(), space.example_inputs(2)
        nothing = one_hot(space.mixed_places(), {place.name: None for place in space.mixed_places()})
        first, second = supernet(x, nothing), supernet(-x, nothing)
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", ["darts", "nas_bench_201", "fbnet"])
def test_choices_that_are_no_superkernels_cannot_be_blended(name):
    space = spaces.get(name, "tiny")
    with pytest.raises(SpaceError, match="cannot be blended"):
        space.supernet(seed=0)(*space.example_inputs(1), dataclasses.replace(drawn(space), blended=True))
