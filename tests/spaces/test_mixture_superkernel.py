from __future__ import annotations

import itertools

import pytest
import torch

from archsmith import spaces
from archsmith.spaces.elastic.mixture import Mixture, one_hot
from archsmith.spaces.elastic.superkernel import Steps, Superkernel


@pytest.fixture(scope="module", params=["proxylessnas", "single_path_nas"])
def space(request):
    return spaces.get(request.param, "tiny")


@pytest.fixture(scope="module")
def supernet(space):
    return space.supernet(seed=0).train()


def gates(kernel, present, kernels, expansions):
    """Gates of a place; a block that cannot be left out is present."""
    return Steps(
        present=torch.tensor(float(present) if kernel.optional else 1.0),
        kernels=torch.tensor(kernels, dtype=torch.float32),
        expansions=torch.tensor(expansions, dtype=torch.float32),
    )


def every_gate(kernel):
    """All gates of 0 and 1 of a place."""
    steps = len(kernel.kernels) - 1, len(kernel.hidden) - 1
    for present, *others in itertools.product((0, 1), repeat=1 + sum(steps)):
        yield gates(kernel, present, others[: steps[0]], others[steps[0] :])


def test_every_place_has_one_and_its_steps_are_its_choices(space, supernet):
    found = supernet.superkernels()
    assert list(found) == [place.name for place in space.mixed_places()]
    for place in space.mixed_places():
        kernel, _ = found[place.name]
        count = len(kernel.kernels) * len(kernel.hidden) + kernel.optional
        assert count == len(place.choices) == len(kernel.specs)
        assert kernel.optional == ("skip" in place.choices)


def test_gates_of_zero_and_one_are_exactly_the_architectures(space, supernet):
    """Gates that fail give the smallest kernel and expansion, or no block; gates that hold the largest."""
    (x,) = space.example_inputs(4)
    for place in space.mixed_places():
        kernel, _ = supernet.superkernels()[place.name]
        seen = set()
        for each in every_gate(kernel):
            weights = kernel.weights(each)
            index = int(weights.argmax())
            assert weights.tolist() == [float(i == index) for i in range(len(place.choices))]
            seen.add(index)
            chosen = space.choices_of(space.largest()) | {place.name: index}
            mixture = Mixture(
                weights={**one_hot(space.mixed_places(), chosen).weights, place.name: weights}, blended=True
            )
            expected = supernet(x, space.decode(space.assembled(chosen)))
            torch.testing.assert_close(supernet(x, mixture), expected, atol=1e-5, rtol=1e-5)
        assert seen == set(range(len(place.choices)))


def test_gates_that_all_fail_leave_the_smallest_and_all_that_hold_the_largest(space, supernet):
    for kernel, _ in supernet.superkernels().values():
        steps = len(kernel.kernels) - 1, len(kernel.hidden) - 1
        for value in (0.0, 1.0):
            spec = kernel.specs[int(kernel.weights(gates(kernel, 1, [value] * steps[0], [value] * steps[1])).argmax())]
            position = -1 if value else 0
            assert (spec.kernel, spec.hidden) == (kernel.kernels[position], kernel.hidden[position])


def test_shares_of_weights_are_the_gates_that_made_them(space, supernet):
    generator = torch.Generator().manual_seed(0)
    for kernel, _ in supernet.superkernels().values():
        random = [
            torch.rand(count, generator=generator).tolist()
            for count in (1, len(kernel.kernels) - 1, len(kernel.hidden) - 1)
        ]
        each = gates(kernel, random[0][0], *random[1:])
        weights = kernel.weights(each)
        assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
        shares = kernel.shares(weights)
        torch.testing.assert_close(shares.present, each.present)
        torch.testing.assert_close(shares.kernels, each.kernels.cumprod(0))
        torch.testing.assert_close(shares.expansions, each.expansions.cumprod(0))


def test_shares_without_a_block_have_finite_gradients(supernet):
    for kernel, _ in supernet.superkernels().values():
        if kernel.optional:
            weights = torch.tensor([float(spec is None) for spec in kernel.specs], requires_grad=True)
            shares = kernel.shares(weights)
            (shares.present + shares.kernels.sum() + shares.expansions.sum()).backward()
            assert weights.grad.isfinite().all()


def test_blended_kernel_is_the_weighted_sum_of_the_kernels(supernet):
    """By linearity of the convolution; here at one expansion."""
    for kernel, block in supernet.superkernels().values():
        weights = torch.rand(len(kernel.kernels), generator=torch.Generator().manual_seed(1))
        weights /= weights.sum()
        shares = weights.flip(0).cumsum(0).flip(0)[1:]
        full = block.depthwise.conv.weight[: kernel.hidden[-1]]
        expected = torch.zeros_like(full)
        for side, weight in zip(kernel.kernels, weights, strict=True):
            edge = (full.shape[-1] - side) // 2
            inside = slice(edge, full.shape[-1] - edge)
            expected[..., inside, inside] += weight * full[..., inside, inside]
        torch.testing.assert_close(kernel.blended(block, shares), expected)


def test_norms_are_those_of_rings_and_of_added_channels(supernet):
    for kernel, block in supernet.superkernels().values():
        full = block.depthwise.conv.weight.detach()
        squares = [
            float(full[..., e : full.shape[-1] - e, e : full.shape[-1] - e].square().sum())
            for e in [(full.shape[-1] - side) // 2 for side in kernel.kernels]
        ]
        rings = [large - small for small, large in itertools.pairwise(squares)]
        assert kernel.kernel_norms(block).tolist() == pytest.approx(rings, rel=1e-4)
        on = torch.ones(len(kernel.kernels) - 1)
        ends = (0, *kernel.hidden)
        parts = [float(full[a:b].square().sum()) for a, b in itertools.pairwise(ends)]
        assert kernel.expansion_norms(block, on).tolist() == pytest.approx(parts, rel=1e-5)
        assert float(kernel.expansion_norms(block, 0 * on).detach().sum()) == pytest.approx(squares[0], rel=1e-5)


def test_gradient_of_thresholds_reaches_weights_and_gates(space):
    """As Single-Path NAS trains: indicators of norms, with the sigmoid's gradient, are gates of the same weights."""
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(4)
    thresholds, weights = {}, {}
    for name, (kernel, block) in supernet.superkernels().items():
        on = torch.ones(len(kernel.kernels) - 1)
        norms = torch.cat([kernel.kernel_norms(block)[:1], kernel.expansion_norms(block, on)])
        thresholds[name] = (norms.detach() - 0.1).requires_grad_()
        soft = torch.sigmoid(norms - thresholds[name])
        gate = (norms > thresholds[name]).float() + soft - soft.detach()
        present = gate[1] if kernel.optional else torch.ones(())
        weights[name] = kernel.weights(Steps(present=present, kernels=gate[:1] * on, expansions=gate[2:]))
    supernet(x, Mixture(weights=weights, blended=True)).square().sum().backward()
    for name, (kernel, _) in supernet.superkernels().items():
        grad = thresholds[name].grad
        assert grad[0] != 0
        assert grad[2] != 0
        assert (grad[1] != 0) == kernel.optional


def test_choices_of_other_kinds_make_none():
    space = spaces.get("fbnet", "tiny")
    assert space.supernet(seed=0).superkernels() == {}
    specs = [
        spec
        for slots in spaces.get("mnasnet", "tiny").largest_plan().stages
        for kinds in slots
        for spec in kinds.values()
    ]
    assert any(getattr(spec, "squeezed", 0) for spec in specs)
    assert all(Superkernel.of([spec]) is None for spec in specs if getattr(spec, "squeezed", 0))
