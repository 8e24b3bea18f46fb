"""Few-shot sharing: which values are split, that every architecture has one part, and that runs resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsmith import spaces
from archsmith.errors import ConfigError, PredictorError
from archsmith.predictors.supernet.parts import Part, limited, read_parts, write_parts
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.sharing import FewShotTrainer, supernet_trainer
from archsmith.predictors.supernet.splitting import (
    MOST_VALUES,
    choose_split,
    gradient_distances,
    pair_distances,
    two_groups,
)
from archsmith.predictors.supernet.trainer import SupernetTrainer, TrainedSupernet, TrainingInterrupted
from archsmith.predictors.tasks import catalog as tasks
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace
from archsmith.spaces.subspace import SubSpace

SETTINGS = SupernetSettings(
    steps=3,
    batch_size=16,
    random_paths=1,
    sharing="gradient_matching",
    splits=1,
    split_steps=2,
    calibration_batch_size=16,
    scoring_samples=50,
)
SPACE = SubSpace(
    spaces.get("mobilenet", "tiny"),
    {
        f"stages.{stage}.0.{kind}": values
        for stage in (0, 1)
        for kind, values in (("kernel", (3,)), ("expansion", (2,)))
    },
)
"""With few genes to compare gradients for."""
TASK = tasks.get("digits_shifted", placements=1)


def trainer(directory: Path, settings: SupernetSettings = SETTINGS) -> FewShotTrainer:
    return FewShotTrainer(SPACE, TASK, settings, seed=3, directory=directory, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSupernet:
    return trainer(tmp_path_factory.mktemp("few_shot")).run()


# --- which values go together -------------------------------------------------------------------------------------


def test_opposed_gradients_are_split_and_equal_ones_stay_together():
    direction = torch.tensor([1.0, -2.0, 3.0])
    gradients = {"a": direction, "b": -direction, "a'": direction.clone(), "b'": -direction}
    space = GeneSpace([Gene("op", tuple(gradients)), Gene("other", (1, 2))], name="toy")

    def gradient(architecture):
        return [gradients[architecture.choices["op"]], None]

    distances = pair_distances(space, 0, np.zeros(2, dtype=np.int16), gradient)
    np.testing.assert_allclose(distances, [[0, 2, 0, 2], [2, 0, 2, 0], [0, 2, 0, 2], [2, 0, 2, 0]], atol=1e-12)
    split = choose_split(space, {"op": distances, "other": np.full((2, 2), 0.5)}, exhaustive=False)
    assert split.gene == "op"
    assert split.groups == (("a", "a'"), ("b", "b'"))
    assert split.distance == pytest.approx(2.0)


def test_only_weights_that_both_values_use_are_compared():
    own = {"a": [torch.tensor([1.0, 0.0, 5.0]), None], "b": [torch.tensor([1.0, 7.0, 0.0]), torch.ones(2)]}
    space = GeneSpace([Gene("op", ("a", "b"))], name="toy")
    distances = pair_distances(space, 0, np.zeros(1, dtype=np.int16), lambda item: own[str(item.choices["op"])])
    assert distances[0, 1] == pytest.approx(0.0)


def test_values_that_share_nothing_do_not_disagree():
    own = {"a": [torch.ones(2), None], "b": [None, torch.ones(2)]}
    space = GeneSpace([Gene("op", ("a", "b"))], name="toy")
    distances = pair_distances(space, 0, np.zeros(1, dtype=np.int16), lambda item: own[str(item.choices["op"])])
    assert not distances.any()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_groups_has_the_least_distance_within_of_all_partitions(count):
    rng = np.random.default_rng(count)
    half = rng.random((count, count))
    distances = half + half.T
    np.fill_diagonal(distances, 0)

    def within(mask: int) -> float:
        sides = [(mask >> value) & 1 for value in range(count)]
        return sum(distances[a, b] for a in range(count) for b in range(count) if sides[a] == sides[b])

    groups = two_groups(distances)
    assert within(sum(int(group) << value for value, group in enumerate(groups))) == pytest.approx(
        min(within(mask) for mask in range(1, 2**count - 1))
    )
    assert groups[0] == 0


def test_two_groups_with_too_many_values_says_how_many_are_allowed():
    with pytest.raises(PredictorError, match=rf"{MOST_VALUES + 1} values; at most {MOST_VALUES}"):
        two_groups(np.zeros((MOST_VALUES + 1, MOST_VALUES + 1)))


def test_exhaustive_gives_every_value_a_part():
    space = GeneSpace([Gene("op", ("a", "b", "c")), Gene("other", (1, 2))], name="toy")
    distances = {"op": 1.5 * (1 - np.eye(3)), "other": 1.0 - np.eye(2)}
    assert choose_split(space, distances, exhaustive=True).groups == (("a",), ("b",), ("c",))


def test_space_without_a_gene_to_split_says_so():
    with pytest.raises(PredictorError, match="no gene left"):
        choose_split(GeneSpace([Gene("op", ("a",))], name="toy"), {}, exhaustive=True)


def test_gradient_distances_covers_genes_that_are_always_active_and_leaves_the_supernet_alone():
    supernet = SPACE.supernet(seed=0)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    distances = gradient_distances(supernet, SPACE, TASK, batch_size=8, seed=0, batches=2)
    assert set(distances) == {gene.name for gene in SPACE.genes if not gene.when and gene.cardinality > 1}
    for name, matrix in distances.items():
        assert matrix.shape == (SPACE.genes[SPACE.table.find(name)].cardinality,) * 2
        np.testing.assert_array_equal(matrix, matrix.T)
        assert not matrix.diagonal().any()
        assert (matrix[~np.eye(len(matrix), dtype=bool)] > 0).all()
    assert supernet.training
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


# --- training the parts -------------------------------------------------------------------------------------------


def test_parts_together_hold_every_architecture_once(trained):
    parts = read_parts(trained.weights)
    assert len(parts) == 2
    genomes = SPACE.sample(500, np.random.default_rng(0))
    inside = np.array([part.subspace(SPACE).contains(genomes) for part in parts])
    assert (inside.sum(axis=0) == 1).all()
    assert sum(part.subspace(SPACE).size for part in parts) == SPACE.size


def test_steps_and_history_count_all_supernets(trained):
    assert trained.steps == SETTINGS.steps + 2 * SETTINGS.split_steps
    steps = [point["step"] for point in trained.history]
    assert steps == sorted(steps)
    assert steps[-1] == trained.steps


def test_part_goes_on_from_the_weights_of_the_whole(trained):
    whole = load_file(trained.weights.parent / "whole" / "weights.safetensors")
    for part in read_parts(trained.weights):
        assert part.weights.keys() == whole.keys()
        moved = [float((part.weights[name] - whole[name]).abs().max()) for name in whole if "conv" in name]
        fresh = SPACE.supernet(seed=0).state_dict()
        far = [float((fresh[name] - whole[name]).abs().max()) for name in whole if "conv" in name]
        assert 0 < max(moved) < max(far)


def test_scorer_takes_the_weights_of_the_architectures_own_part(trained):
    scorer = SupernetScorer(SPACE, TASK, trained.weights, SETTINGS, device="cpu")
    parts = read_parts(trained.weights)
    x = TASK.split("valid").inputs[:4]
    for part in parts:
        subspace = part.subspace(SPACE)
        genome = subspace.lift(subspace.sample(1, np.random.default_rng(1)))[0]
        supernet = SPACE.supernet(seed=0)
        supernet.load_state_dict(part.weights)
        scorer.calibration.apply(supernet, SPACE.decode(genome))
        expected = supernet.eval()(x, SPACE.decode(genome))
        torch.testing.assert_close(scorer.extract(genome)(x), expected, atol=1e-5, rtol=1e-5)
        assert 0 <= scorer.score(genome) <= 1


def test_stopped_run_resumes_to_the_same_bits(trained, tmp_path):
    for _ in range(2):  # in the whole, and in the first part
        asked = iter(range(2))
        with pytest.raises(TrainingInterrupted):
            trainer(tmp_path).run(should_stop=lambda asked=asked: next(asked, None) is None)
    resumed = trainer(tmp_path).run()
    for part, expected in zip(read_parts(resumed.weights), read_parts(trained.weights), strict=True):
        assert part.choices == expected.choices
        assert all(torch.equal(part.weights[name], expected.weights[name]) for name in expected.weights)


def test_two_splits_make_parts_of_parts(tmp_path):
    settings = dataclasses.replace(SETTINGS, steps=1, splits=2, split_steps=1)
    told: list[tuple[int, int]] = []
    done = trainer(tmp_path, settings).run(progress=lambda step, steps, _: told.append((step, steps)))
    parts = read_parts(done.weights)
    assert len(parts) == 4
    assert told[-1] == (done.steps, 1 + 2 + 4)
    genomes = SPACE.sample(200, np.random.default_rng(0))
    assert (np.sum([part.subspace(SPACE).contains(genomes) for part in parts], axis=0) == 1).all()


def test_sharing_decides_the_trainer(tmp_path):
    for sharing, kind in (("one_shot", SupernetTrainer), ("exhaustive", FewShotTrainer)):
        settings = dataclasses.replace(SETTINGS, sharing=sharing)
        assert type(supernet_trainer(SPACE, TASK, settings, seed=0, directory=tmp_path)) is kind


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sharing": "twice"}, "exhaustive, gradient_matching, one_shot"),
        ({"splits": 0}, "at least 1"),
        ({"sharing": "exhaustive", "workers": 2}, "with several workers"),
    ],
)
def test_settings_of_sharing_are_checked(changed, message):
    with pytest.raises(ConfigError, match=message):
        SupernetSettings(**changed)


# --- the file of parts --------------------------------------------------------------------------------------------


def test_parts_survive_their_file(tmp_path):
    parts = [
        Part(choices={"stages.0.depth": (0,)}, weights={"a.b": torch.arange(3.0)}),
        Part(choices={"stages.0.depth": (1,), "stages.1.width": (0, 2)}, weights={"a.b": torch.ones(2)}),
    ]
    write_parts(tmp_path / "parts.safetensors", parts)
    for part, read in zip(parts, read_parts(tmp_path / "parts.safetensors"), strict=True):
        assert part.choices == read.choices
        assert all(torch.equal(part.weights[name], read.weights[name]) for name in part.weights)


def test_parts_of_a_broken_file_name_it(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PredictorError, match=r"broken\.safetensors"):
        read_parts(tmp_path / "broken.safetensors")


def test_limited_space_keeps_conditions():
    space = GeneSpace(
        [Gene("depth", (1, 2), kind="ordered"), Gene("kernel", (3, 5), when=(When("depth", (2,)),))], name="toy"
    )
    assert limited(space, {"depth": (0,)}).size == 1
    assert limited(space, {"depth": (1,)}).size == 2
    assert limited(space, {"kernel": (1,)}).size == 2
