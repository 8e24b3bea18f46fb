"""Every proxy against a second computation, on networks small enough for loops; and what all of them must hold to."""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

from archsmith import spaces
from archsmith.errors import PredictorError, SpaceError
from archsmith.predictors.proxies import PROXIES, ProxyQuantity, as_features, names, probe, score
from archsmith.predictors.proxies.activations import ZEN_NOISE, ZEN_REPEATS, activation_kernel
from archsmith.predictors.proxies.contract import UNDEFINED, frozen_state, weight_names
from archsmith.predictors.proxies.sample_gradients import sample_gradients, tangent_kernel
from archsmith.predictors.tasks import catalog as tasks
from archsmith.predictors.tasks.task import Samples
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.spaces.layers.pool import GlobalAvgPool

FAMILIES = ("nas_bench_201", "mobilenet", "mobilenetv3", "vit", "hybrid", "mobileone", "regnet", "starnet", "custom")
"""Cells, squeeze-excite, hard activations, attention (windowed and plain), branches, strided chains, user's blocks."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cells():
    return spaces.get("nas_bench_201", "tiny")


@pytest.fixture
def small():
    """A network with a norm, two activations and all kinds of layers that count, and six samples for it."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1, bias=False), nn.SiLU(),
        GlobalAvgPool(), nn.Linear(2, 3),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return network, torch.randn(6, 1, 4, 4, generator=generator), torch.arange(6) % 3


def weights_of(network):
    return [network.get_parameter(name) for name in weight_names(network)]


def frozen(network, inputs):
    """The network with the statistics of `inputs`, in evaluation mode."""
    network.load_state_dict(frozen_state(network, inputs))
    return network.eval()


def looped_gradients(network, inputs, labels, readout):
    """[N, P] gradients, one sample and one backward pass at a time."""
    network = frozen(network, inputs)
    return torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(readout(network(x[None]), y[None]), weights_of(network))]
            )
            for x, y in zip(inputs, labels, strict=True)
        ]
    )


# --- shared parts -----------------------------------------------------------------------------------------------------


def test_weights_are_those_of_convolutions_and_linear_layers(small):
    assert weight_names(small[0]) == ("0.weight", "3.weight", "6.weight")


def test_frozen_norms_give_what_training_mode_gives_on_the_batch(small):
    network, inputs, _ = small
    expected = network.train()(inputs)
    # The running variance is the unbiased one: n / (n - 1) with n = 6 · 16 values per channel.
    torch.testing.assert_close(frozen(network, inputs)(inputs), expected, rtol=0.02, atol=0.02)
    assert network[1].momentum == 0.1


@pytest.mark.parametrize("elements", [1 << 25, 60, 1])
def test_vectorised_sample_gradients_equal_a_loop_in_pieces_of_any_size(small, monkeypatch, elements):
    monkeypatch.setattr("archsmith.predictors.proxies.sample_gradients.GRADIENT_ELEMENTS", elements)
    network, inputs, labels = small
    pieces = list(sample_gradients(network, inputs, labels))
    assert len(pieces) == {1 << 25: 1, 60: 6, 1: 6}[elements]
    expected = looped_gradients(network, inputs, labels, cross_entropy)
    torch.testing.assert_close(torch.cat(pieces), expected, rtol=1e-4, atol=1e-6)


# --- batch gradients --------------------------------------------------------------------------------------------------


def test_snip_and_grad_norm_equal_autograd_in_training_mode(small):
    network, inputs, labels = small
    snip, norm = (PROXIES[name](network, inputs, labels) for name in ("snip", "grad_norm"))
    gradients = torch.autograd.grad(cross_entropy(network.train()(inputs), labels), weights_of(network))
    assert snip == pytest.approx(
        sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights_of(network), gradients, strict=True)), rel=1e-5
    )
    assert norm == pytest.approx(sum(float(g.norm()) for g in gradients), rel=1e-5)


def test_grasp_equals_the_full_hessian():
    generator = torch.Generator().manual_seed(1)
    network = nn.Linear(3, 2, bias=False)
    inputs, labels = torch.randn(5, 3, generator=generator), torch.tensor([0, 1, 1, 0, 1])
    weight = network.weight.detach().clone()

    def loss(flat):
        return cross_entropy(inputs @ flat.reshape(2, 3).T, labels)

    hessian = torch.autograd.functional.hessian(loss, weight.flatten())
    gradient = torch.autograd.functional.jacobian(loss, weight.flatten())
    assert isinstance(hessian, torch.Tensor)
    expected = -float(weight.flatten() @ hessian @ gradient)
    assert PROXIES["grasp"](network, inputs, labels) == pytest.approx(expected, rel=1e-4)


def test_grasp_of_hard_sigmoids_equals_that_of_their_definition():
    class Gate(nn.Module):
        def forward(self, x):
            return (x + 3).clamp(0, 6) / 6

    inputs, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 0, 1])
    layers = nn.Linear(3, 4), nn.Linear(4, 2)
    given, defined = (nn.Sequential(layers[0], gate, layers[1]) for gate in (nn.Hardsigmoid(), Gate()))
    value = PROXIES["grasp"](given, inputs, labels)
    assert value == pytest.approx(PROXIES["grasp"](defined, inputs, labels), rel=1e-5)
    assert value != 0


def test_fisher_equals_a_loop_over_layers_channels_and_samples(small):
    network, inputs, labels = small
    value = PROXIES["fisher"](network, inputs, labels)
    network.train()
    x, outputs = inputs, []
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            outputs.append(x)
    gradients = torch.autograd.grad(cross_entropy(x, labels), outputs)
    expected = 0.0
    for output, gradient in zip(outputs, gradients, strict=True):
        for channel in range(output.shape[1]):
            saliency = [float((output[n, channel] * gradient[n, channel]).detach().sum()) for n in range(6)]
            expected += sum(s * s for s in saliency) / 6 / 2
    assert value == pytest.approx(expected, rel=1e-4)


# --- sample gradients -------------------------------------------------------------------------------------------------


def test_gradsign_equals_counting_signs_of_samples_that_go_through_alone(small):
    network, inputs, labels = small
    value = PROXIES["gradsign"](network, inputs, labels)
    network.train()  # a batch of one: norms use its statistics
    total = torch.zeros(())
    for weight in weights_of(network):
        gradients = [
            torch.autograd.grad(cross_entropy(network(x[None]), y[None]), weight)[0]
            for x, y in zip(inputs, labels, strict=True)
        ]
        total += sum(gradient.sign() for gradient in gradients).abs().sum()
    assert value == float(total)


def test_gradsign_uses_the_statistics_of_the_batch_where_a_sample_has_one_position(small):
    _, _, labels = small
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    value = PROXIES["gradsign"](network, inputs, labels)
    gradients = looped_gradients(network, inputs, labels, cross_entropy)
    assert value == float(gradients.sign().sum(dim=0).abs().sum())


def test_gradsign_of_one_sample_counts_the_gradients_that_are_not_zero():
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    x, y = torch.tensor([[1.0, 0.0, -2.0]]), torch.tensor([1])
    value = PROXIES["gradsign"](network, x, y)
    gradients = torch.autograd.grad(cross_entropy(network(x), y), weights_of(network))
    assert value == sum(int((g != 0).sum()) for g in gradients)
    assert 0 < value < 20  # the input's zero silences a column


def test_jacov_equals_numpy_on_looped_jacobians(small):
    network, inputs, labels = small
    value = PROXIES["jacov"](network, inputs, labels)
    network = frozen(network, inputs)
    rows = []
    for sample in inputs:
        x = sample[None].clone().requires_grad_()
        rows.append(torch.autograd.grad(network(x).sum(), x)[0].flatten().double().numpy())
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(np.stack(rows))) + 1e-5
    # Six samples, and Jacobians of rank five or less: the smallest eigenvalue is a difference of rounded numbers.
    assert value == pytest.approx(-(np.log(eigenvalues) + 1 / eigenvalues).sum(), rel=1e-2)


def test_ntk_equals_the_condition_number_of_looped_gradients(small):
    network, inputs, labels = small
    value = PROXIES["ntk"](network, inputs[:3], labels[:3])
    gradients = looped_gradients(network, inputs[:3], labels[:3], lambda logits, _: logits.sum()).double()
    kernel = tangent_kernel(network, inputs[:3], labels[:3])
    torch.testing.assert_close(kernel, gradients @ gradients.T, rtol=1e-4, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh((gradients @ gradients.T).numpy())
    assert value == pytest.approx(math.log(eigenvalues[0] / eigenvalues[-1]), rel=1e-3)


# --- activations and flow ---------------------------------------------------------------------------------------------


def test_naswot_kernel_equals_comparing_units_one_by_one(small):
    network, inputs, labels = small
    kernel = activation_kernel(network, inputs)
    value = PROXIES["naswot"](network, inputs, labels)
    network = frozen(network, inputs)
    codes = torch.cat([(network[:2](inputs) > 0).flatten(1), (network[:4](inputs) > 0).flatten(1)], dim=1).tolist()
    expected = [[sum(p == q for p, q in zip(a, b, strict=True)) for b in codes] for a in codes]
    assert kernel.tolist() == expected
    assert value == pytest.approx(math.log(np.linalg.det(np.array(expected, dtype=float))), rel=1e-6)


@pytest.mark.parametrize("name", ["naswot", "ntk"])
def test_kernel_proxies_of_one_image_twice_are_undefined(small, name):
    network, inputs, labels = small
    twice = torch.cat([inputs[:2], inputs[:1]])
    assert PROXIES[name](network, twice, labels[[0, 1, 0]]) == UNDEFINED


def test_zen_equals_its_formula_on_one_convolution_and_norm():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), GlobalAvgPool(), nn.Linear(2, 2))
    value = PROXIES["zen"](network, torch.zeros(5, 1, 4, 4), torch.zeros(5, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(ZEN_REPEATS):
        weight = torch.randn(2, 1, 3, 3, generator=generator)
        torch.randn(2, 2, generator=generator)  # the classifier's, which comes after the features
        x, noise = (torch.randn(5, 1, 4, 4, generator=generator) for _ in range(2))
        clean, moved = (conv2d(image, weight) for image in (x, x + ZEN_NOISE * noise))
        normed = [
            (f - f.mean((0, 2, 3), True)) / (f.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
            for f in (clean, moved)
        ]
        distance = (normed[0] - normed[1]).abs().sum((1, 2, 3)).mean()
        scores.append(float(distance.log() + clean.var((0, 2, 3)).mean().sqrt().log()))
    assert value == pytest.approx(sum(scores) / len(scores), rel=1e-3)


def test_synflow_of_a_linear_net_is_layers_times_flow():
    widths = (3, 4, 5, 2)
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    flow = np.ones(3)
    for layer in layers:
        flow = np.abs(layer.weight.detach().double().numpy()) @ flow
    value = PROXIES["synflow"](network, torch.zeros(7, 3), torch.zeros(7, dtype=torch.long))
    assert value == pytest.approx(3 * flow.sum(), rel=1e-9)


def test_synflow_of_two_weights_by_hand():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(-2.0)
        network[1].weight.fill_(3.0)
    assert PROXIES["synflow"](network, torch.zeros(2, 1), torch.zeros(2, dtype=torch.long)) == 2 * 6


def test_synflow_sees_through_norms(small):
    network, inputs, labels = small
    without = nn.Sequential(*(layer for layer in network if not isinstance(layer, nn.BatchNorm2d)))
    assert PROXIES["synflow"](network, inputs, labels) == PROXIES["synflow"](without, inputs, labels)


# --- what all of them hold to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_proxies_of_a_family_are_finite_repeatable_and_leave_the_network_as_it_was(family):
    space = spaces.get(family, "tiny")
    samples = probe(space, batch_size=6)
    # The largest: every cell and block of it has a path.
    network = space.network(space.decode(space.largest()), seed=0)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    once = {name: proxy(network, samples.inputs, samples.labels) for name, proxy in PROXIES.items()}
    again = {name: proxy(network, samples.inputs, samples.labels) for name, proxy in PROXIES.items()}
    assert once == again
    assert all(math.isfinite(value) for value in once.values()), once
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_scores_of_a_cell_without_a_path_are_said_to_be_undefined(cells, caplog):
    dead = cells.encode(cells.architecture({gene.name: "none" for gene in cells.genes}))
    genomes = np.stack([dead, cells.largest()])
    with caplog.at_level(logging.WARNING):
        scores = score(cells, genomes, batch_size=6)
    assert {name for name, values in scores.items() if values[0] == UNDEFINED} == {"jacov", "naswot", "ntk", "zen"}
    assert all(np.isfinite(values[1]) for values in scores.values())
    assert not any(np.isnan(values).any() for values in scores.values())
    assert "proxy jacov is not defined for 1 of 2 architectures" in caplog.text


def test_score_is_equal_for_equal_keys_and_follows_the_order_of_genomes(cells):
    genomes = cells.sample(6, np.random.default_rng(0))
    scores = score(cells, genomes, ["snip", "params"], batch_size=6)
    turned = score(cells, genomes[::-1].copy(), ["params", "snip"], batch_size=6)
    assert list(turned) == ["params", "snip"]
    for name, values in scores.items():
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, turned[name][::-1])
    np.testing.assert_array_equal(scores["params"], cells.params(genomes))
    twins = cells.key_form(genomes)
    np.testing.assert_array_equal(score(cells, twins, ["snip"], batch_size=6)["snip"], scores["snip"])
    alone = [score(cells, genome[None], ["snip"], batch_size=6)["snip"][0] for genome in genomes]
    np.testing.assert_array_equal(alone, scores["snip"])


def test_seed_changes_the_weights_and_the_batch(cells):
    genomes = cells.largest()[None]
    assert score(cells, genomes, ["snip"], batch_size=6) != score(cells, genomes, ["snip"], batch_size=6, seed=1)


def test_score_takes_a_task_and_gives_what_the_proxy_gives_on_its_batch():
    space, task = spaces.get("nas_bench_201", "digits"), tasks.get("digits_shifted", canvas=12)
    scores = score(space, space.largest()[None], ["gradsign"], task, seed=3, batch_size=5)
    batch = task.batch(0, 5, 3)
    network = space.network(space.decode(space.largest()), seed=3)
    assert scores["gradsign"].tolist() == [PROXIES["gradsign"](network, batch.inputs, batch.labels)]


def test_baselines_need_no_images():
    space = spaces.get("decoder", "tiny")
    genomes = space.sample(4, np.random.default_rng(0))
    np.testing.assert_array_equal(score(space, genomes, ["macs"])["macs"], space.macs(genomes))


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("decoder", {}, "one image tensor"),
        ("nas_bench_201", {"batch_size": 1}, "at least 2"),
        ("nas_bench_201", {"task": tasks.get("digits_shifted")}, r"shape \[1, 11, 11\].*\[1, 8, 8\]"),
        (
            "nas_bench_201",
            {"task": Samples(torch.zeros(2, 1, 8, 8), torch.tensor([0, 77]))},
            "label is 77.*10 classes",
        ),
        ("nas_bench_201", {"chosen": ["gradsing"]}, "Did you mean 'gradsign'"),
        ("nas_bench_201", {"chosen": ["snip", "snip"]}, "each of them once"),
    ],
)
def test_bad_requests_are_refused_with_the_remedy(family, arguments, message):
    space = spaces.get(family, "tiny")
    with pytest.raises(PredictorError, match=message):
        score(space, space.smallest()[None], **{"chosen": ["snip"], **arguments})


def test_genomes_of_another_space_are_refused(cells):
    with pytest.raises(SpaceError):
        score(cells, np.full((1, 6), 9, dtype=np.int16), ["macs"])


def test_a_proxy_is_a_known_quantity_of_a_problem(cells):
    quantity = ProxyQuantity(cells, "jacov", probe(cells, batch_size=6))
    dead = cells.encode(cells.architecture({gene.name: "none" for gene in cells.genes}))
    genomes = np.stack([dead, cells.largest(), dead])
    values = quantity(genomes)
    np.testing.assert_array_equal(values, score(cells, genomes, ["jacov"], batch_size=6)["jacov"])
    np.testing.assert_array_equal(quantity(genomes[::-1]), values[::-1])
    assert quantity(genomes[:0]).shape == score(cells, genomes[:0], ["jacov"], batch_size=6)["jacov"].shape == (0,)
    bound = Constraint(name="jacov", bound=values[1] - 1, operator=">=")
    problem = Problem(
        space=cells,
        objectives=(Objective(name="accuracy", direction="max"),),
        constraints=(bound,),
        known={"jacov": quantity},
    )
    np.testing.assert_array_equal(problem.known_violations(genomes)[:, 0], [np.inf, 0.0, np.inf])


def test_features_are_finite_and_keep_the_order():
    columns = as_features({"a": np.array([-np.inf, -5.0, 0.0, 1e30]), "b": np.full(4, -np.inf)})
    assert columns.shape == (4, 2)
    assert columns[0, 0] == columns[1, 0] < columns[2, 0] < columns[3, 0] < 100
    assert (columns[:, 1] == 0).all()


def test_names_lists_proxies_and_baselines():
    assert set(names()) == {*PROXIES, "params", "macs"}
