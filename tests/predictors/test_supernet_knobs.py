"""What settings of supernet training do: norms, decay, schedules, the largest first, sparse and predicted paths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsmith import spaces
from archsmith.errors import ConfigError
from archsmith.predictors.optimization import SCHEDULES, learning_rate, make_optimizer
from archsmith.predictors.supernet.calibration import Calibration
from archsmith.predictors.supernet.path import Target
from archsmith.predictors.supernet.samplers import SAMPLERS, LargestFirst, Parallel, build_sampler
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.supernet.weighted import PredictorWeighted, sampling_chances, temperature
from archsmith.predictors.tasks import catalog as tasks
from archsmith.spaces.families.darts import PRESETS, DartsSpace
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

SETTINGS = SupernetSettings(steps=6, batch_size=16, checkpoint_every=3, calibration_batch_size=32, scoring_samples=200)

pytestmark = pytest.mark.usefixtures("one_thread")


def train(space, task, directory, **changes):
    settings = replace(SETTINGS, **changes)
    return settings, SupernetTrainer(space, task, settings, seed=0, directory=directory, device="cpu").run().weights


# --- norms ------------------------------------------------------------------------------------------------------------


def test_norms_without_affine_stay_at_one_and_zero_and_get_no_optimizer_state(space, task, tmp_path):
    _, weights = train(space, task, tmp_path, affine_norms=False)
    tensors = load_file(weights)
    norms = [path for path, _ in space.supernet(seed=0).batch_norms()]
    assert all((tensors[f"{path}.weight"] == 1).all() and (tensors[f"{path}.bias"] == 0).all() for path in norms)
    _, affine = train(space, task, tmp_path / "affine", affine_norms=True)
    assert any((load_file(affine)[f"{path}.weight"] != 1).any() for path in norms)


def test_space_whose_norms_have_no_affine_trains_without_them_too(tmp_path):
    space, task = DartsSpace(replace(PRESETS["tiny"], affine=False)), tasks.get("digits_shifted", canvas=16)
    assert any(norm.weight is None for _, norm in space.supernet(seed=0).batch_norms())
    settings, weights = train(space, task, tmp_path, affine_norms=False, steps=2, sampler="uniform")
    assert SupernetScorer(space, task, weights, settings, device="cpu").score(space.smallest()) > 0


def test_tracked_statistics_are_the_running_average_of_the_batches(space):
    supernet = space.supernet(seed=0).train()
    (x,), architecture = space.example_inputs(8), space.decode(space.largest())
    norm, seen = supernet.stem.norm, []
    norm.tracking = True
    hook = norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    expected = torch.zeros_like(norm.running_mean)
    for scale in (1.0, 2.0):
        untracked = supernet.eval().train()(scale * x, architecture)
        untracked.sum().backward()  # the statistics must not disturb the gradient
        expected = 0.9 * expected + 0.1 * seen[-1].mean(dim=(0, 2, 3))
    hook.remove()
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize("statistics", ["batch", "tracked"])
def test_other_statistics_score_without_calibration(space, task, tmp_path, statistics):
    settings, weights = train(space, task, tmp_path, norm_statistics=statistics)
    scorer = SupernetScorer(space, task, weights, settings, device="cpu")
    genome = space.smallest()
    first = scorer.score(genome)
    assert scorer.calibration.estimated == 0
    assert scorer.score(genome) == first
    stored = {name: value for name, value in load_file(weights).items() if "running" in name}
    moved = any((value != (1 if name.endswith("var") else 0)).any() for name, value in stored.items())
    assert moved == (statistics == "tracked")
    network = scorer.extract(genome)
    exact = statistics == "batch"  # a network of its own has no batch to lean on: it is calibrated
    assert scorer.calibration.estimated == exact
    assert torch.equal(network.stem.norm.running_mean, stored["stem.norm.running_mean"]) != exact


def test_calibration_is_kept_by_key_and_gives_the_same_bits(space, task):
    supernet, device = space.supernet(seed=0), torch.device("cpu")
    first, second, third = (space.decode(genome) for genome in space.sample(3, np.random.default_rng(3)))
    one = sum(tensor.nbytes for tensor in supernet.statistics().values())
    kept = Calibration(task, SETTINGS, device, cache_bytes=2 * one)
    never = Calibration(task, SETTINGS, device, cache_bytes=0)
    for architecture in (first, second, first, third, first, second):
        kept.apply(supernet, architecture)
        found = supernet.statistics()
        never.apply(supernet, architecture)
        assert all(torch.equal(found[name], value) for name, value in supernet.statistics().items())
    assert never.estimated == 6
    assert kept.estimated == 4  # `first` was found twice; `second` had been dropped for `third`
    kept.forget()
    kept.apply(supernet, first)
    assert kept.estimated == 5


def test_another_genome_of_the_same_key_is_calibrated_anew():
    space, task = spaces.get("nas_bench_201", "tiny"), tasks.get("digits")
    genomes = space.sample(200, np.random.default_rng(0))
    _, group = np.unique(space.keys(genomes), axis=0, return_inverse=True)
    alike = (np.unique(genomes[group == number], axis=0) for number in range(group.max() + 1))
    first, second = (space.decode(genome) for genome in next(rows for rows in alike if len(rows) > 1)[:2])
    assert first.key == second.key
    supernet, calibration = space.supernet(seed=0), Calibration(task, SETTINGS, torch.device("cpu"))
    for architecture, estimated in ((first, 1), (second, 2), (second, 2), (first, 3)):
        calibration.apply(supernet, architecture)  # the same sums in another order have other last bits
        assert calibration.estimated == estimated


# --- optimiser --------------------------------------------------------------------------------------------------------


def test_cosine_power_annealing_has_the_published_values():
    # Progress at which the cosine is 0.75, 0.5 and 0.25; values computed from the formula of sharpDARTS for base 10.
    shape = SCHEDULES["cosine_power"]
    values = [shape(math.acos(2 * cosine - 1) / math.pi) for cosine in (0.75, 0.5, 0.25)]
    assert values == pytest.approx([0.5137, 0.2403, 0.0865], abs=1e-4)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_start_at_the_peak_and_never_rise(name):
    rates = [learning_rate(step, 200, 0.5, 0.1, schedule=name) for step in range(200)]
    assert max(rates) == rates[19] == 0.5
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] == pytest.approx({"constant": 0.5, "step": 0.005}.get(name, 0.0), abs=1e-12)


def test_decay_of_norms_is_a_choice_and_frozen_parameters_are_left_out(space):
    supernet = space.supernet(seed=0)
    supernet.stem.norm.weight.requires_grad_(False)
    plain = make_optimizer(supernet, "sgd", weight_decay=0.1)
    whole = make_optimizer(supernet, "sgd", weight_decay=0.1, decay_norms=True)

    def decayed(optimizer):
        return {id(item) for group in optimizer.param_groups if group["weight_decay"] for item in group["params"]}

    learned = {id(item) for item in supernet.parameters() if item.requires_grad}
    assert decayed(whole) == learned
    assert decayed(plain) == {id(item) for item in supernet.parameters() if item.ndim > 1}


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_largest_trains_alone_at_first(space, name):
    settings = replace(SETTINGS, steps=20, sampler=name, warmup_largest=0.25)
    sampler = build_sampler(space, settings, 0)
    largest = space.decode(space.largest())
    for step in range(5):
        (path,) = sampler.paths(step)
        assert path.architecture == largest
        assert path.target is Target.LABELS
    assert any(len(sampler.paths(step)) > 1 or sampler.paths(step)[0].architecture != largest for step in range(5, 20))


def test_chances_are_greedy_when_cold_and_uniform_when_hot():
    accuracies = np.array([0.2, 0.9, 0.5])
    np.testing.assert_allclose(sampling_chances(accuracies, 1e9), np.full(3, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(sampling_chances(accuracies, 1e-3), [0, 1, 0], atol=1e-12)
    cooling = [temperature(fit) for fit in range(1, 11)]
    assert cooling == sorted(cooling, reverse=True)


def test_predictor_weighted_prefers_what_scored_well_and_restores_what_it_learned():
    space = GeneSpace([Gene(f"op{index}", tuple("abcd"), kind="categorical") for index in range(4)], name="ops")

    def sampler():
        return PredictorWeighted(space, random_paths=4, steps=110, fits=10, scored=60, seed=0)

    learned, fresh = sampler(), sampler()
    assert not len(learned.asks(0))
    assert not len(learned.asks(5))
    for step in range(10, 110, 10):
        genomes = learned.asks(step)
        np.testing.assert_array_equal(genomes, fresh.asks(step))
        learned.learn(step, genomes, 0.1 + 0.2 * (genomes == 2).sum(axis=1))
    fresh.restore(learned.state())
    drawn = [path for step in range(100, 160) for path in learned.paths(step)[2:]]
    assert drawn == [path for step in range(100, 160) for path in fresh.paths(step)[2:]]
    assert np.mean(np.array([path.architecture.genome for path in drawn]) == 2) > 0.5  # 0.25 by chance


def test_predictor_weighted_training_scores_and_resumes_bit_for_bit(space, task, tmp_path):
    changes = {"sampler": "predictor_weighted", "steps": 8, "predictor_fits": 3, "predictor_scores": 6}
    settings, whole = train(space, task, tmp_path / "whole", **changes)
    stops = iter([False] * 5 + [True])
    part = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path / "part", device="cpu")
    with pytest.raises(Exception, match="stopped after step 5"):  # between two fits
        part.run(should_stop=lambda: next(stops))
    assert part.run().weights.read_bytes() == whole.read_bytes()


def test_parallel_weighs_its_nested_submodels(task):
    space = spaces.get("mobilenet", "tiny", densities="0.2,0.5,1")
    paths = Parallel(space, power=1.0).paths(0)
    sizes = space.params(np.array([path.architecture.genome for path in paths], dtype=np.int16))
    assert len(paths) == 3
    assert (np.diff(sizes) > 0).all()
    np.testing.assert_allclose([path.weight for path in paths], sizes / sizes.sum())
    assert sum(path.weight for path in Parallel(space).paths(0)) == pytest.approx(1.0)

    supernet, batch = space.supernet(seed=0).train(), task.batch(0, 16, 0)
    backward(supernet, paths, batch, SETTINGS)
    together = {name: item.grad.clone() for name, item in supernet.named_parameters()}
    expected = {name: torch.zeros_like(item) for name, item in supernet.named_parameters()}
    for path in paths:
        supernet.zero_grad()
        (alone,), _ = backward(supernet, (replace(path, weight=1.0),), batch, SETTINGS)
        assert alone > 0
        for name, item in supernet.named_parameters():
            expected[name] += path.weight * item.grad
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_sparse_subnets_train_in_parallel_and_score(task, tmp_path):
    space = spaces.get("mobilenet", "tiny", densities="0.1,0.5,1")
    settings, weights = train(space, task, tmp_path, sampler="parallel", steps=50, learning_rate=0.4, batch_size=32)
    scorer = SupernetScorer(space, task, weights, settings, device="cpu")
    assert scorer.score(space.largest()) > 0.2  # ten classes
    network = scorer.extract(space.smallest())
    assert (network.get_parameter("stages.0.0.project.conv.weight") == 0).float().mean() > 0.8


# --- bad settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accumulate", "some"),
        ("accumulate", True),
        ("accumulate", 33),
        ("affine_norms", 1),
        ("initial", 3),
        ("norm_statistics", "none"),
        ("schedule", "cosinus"),
        ("teacher", "largest"),
        ("warmup_largest", 1.0),
    ],
)
def test_bad_setting_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        SupernetSettings.from_json({name: value})
    assert caught.value.place == f"supernet.{name}"


def test_samplers_that_open_step_by_step_know_their_own_beginning():
    assert SupernetSettings(steps=100, sampler="progressive_shrinking").largest_steps == 30
    assert SupernetSettings(steps=100, sampler="progressive_shrinking", warmup_largest=0.1).largest_steps == 10
    space = spaces.get("mobilenet", "tiny")
    progressive = build_sampler(space, SupernetSettings(steps=100, sampler="progressive_shrinking"), 0)
    assert not isinstance(progressive, LargestFirst)
    assert len(progressive.paths(29)) == 1
    assert len(progressive.paths(60)) > 1
