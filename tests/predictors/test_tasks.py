"""Tasks: splits share no image, placements resolve 0.1 %, batches are pure functions, bad options are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from archsmith.errors import ConfigError, TaskError
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.images import place_images


def test_digits_shifted_splits_share_no_source_image_and_cover_all():
    task = catalog.get("digits_shifted")
    parts = [set(task.members[name]) for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_digits_shifted_splits_are_stratified():
    task, labels = catalog.get("digits_shifted"), load_digits().target
    for name, share in (("train", 0.5), ("valid", 0.25), ("test", 0.25)):
        np.testing.assert_allclose(np.bincount(labels[task.members[name]]), np.bincount(labels) * share, atol=1.0)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_digits_shifted_fixed_splits_hold_a_thousand_distinct_placements(split):
    task = catalog.get("digits_shifted", noise=0.0)
    samples = task.test_split() if split == "test" else task.split(split)
    distinct = np.unique(samples.inputs.flatten(1).numpy(), axis=0)
    assert len(samples) == len(task.members[split]) * task.placement.placements >= 1000
    assert len(distinct) >= 1000


def test_fixed_split_is_the_same_in_another_instance():
    first, second = (catalog.get("digits_shifted").split("valid") for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.labels, second.labels)


def test_samples_carry_the_label_of_their_source_image():
    task, labels = catalog.get("digits_shifted"), load_digits().target
    assert task.split("valid").labels.tolist() == labels[task.sources("valid")].tolist()


def test_batch_depends_on_step_and_seed_alone():
    task, other = catalog.get("digits_shifted"), catalog.get("digits_shifted")
    task.batch(0, 32, seed=1)
    first, again = task.batch(7, 32, seed=1), other.batch(7, 32, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.inputs, task.batch(8, 32, seed=1).inputs)
    assert not torch.equal(first.inputs, task.batch(7, 32, seed=2).inputs)


def test_batches_of_one_epoch_show_every_training_image_once():
    task = catalog.get("digits")
    count = len(task.members["train"])
    shown = torch.cat([task.batch(step, count // 2, seed=3).inputs for step in range(2)]).flatten(1).numpy()
    stored = task.split("train").inputs.flatten(1).numpy()
    assert np.array_equal(np.unique(shown, axis=0), np.unique(stored, axis=0))


def test_batch_larger_than_an_epoch_keeps_its_size():
    assert len(catalog.get("digits").batch(1, 2000, seed=0)) == 2000


def test_inputs_are_normalised():
    inputs = catalog.get("digits_shifted").split("train").inputs
    assert abs(float(inputs.mean())) < 0.05
    assert abs(float(inputs.std()) - 1) < 0.05


def test_place_images_moves_pixels_and_adds_none():
    image = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    placed = place_images(image, torch.tensor([[1, 2]]), 4)
    assert torch.equal(placed[:, :, 1:3, 2:4], image)
    assert placed.sum() == image.sum()


def test_test_split_is_refused_by_name():
    with pytest.raises(TaskError, match="for verification alone"):
        catalog.get("digits").split("test")


def test_identity_follows_the_options():
    assert catalog.get("digits_shifted").identity == catalog.get("digits_shifted").identity
    assert catalog.get("digits_shifted").identity != catalog.get("digits_shifted", noise=0.05).identity


def test_unknown_task_lists_choices():
    with pytest.raises(TaskError, match="digits_shifted"):
        catalog.get("digitz")


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"nose": 1}, "task.options.nose"),
        ({"noise": "loud"}, "task.options.noise"),
        ({"noise": float("nan")}, "task.options.noise"),
        ({"canvas": 7}, "task.options.canvas"),
        ({"placements": 17}, "task.options.placements"),
    ],
)
def test_bad_option_is_named(options, place):
    with pytest.raises(ConfigError) as caught:
        catalog.get("digits_shifted", **options)
    assert caught.value.place == place


def test_image_arrays_reads_users_own_file(tmp_path):
    digits = load_digits()
    np.savez(tmp_path / "own.npz", images=(digits.images * 15).astype(np.uint8), labels=digits.target)
    task = catalog.get("image_arrays", path=str(tmp_path / "own.npz"), canvas=10, placements=2)
    assert task.input_shape == (1, 10, 10)
    assert task.classes == 10
    assert len(task.split("valid")) == 2 * len(task.members["valid"])


def test_image_arrays_missing_path_is_named(tmp_path):
    with pytest.raises(TaskError, match=r"gone\.npz"):
        catalog.get("image_arrays", path=str(tmp_path / "gone.npz"))


def test_image_arrays_broken_file_is_named(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    with pytest.raises(TaskError, match=r"broken\.npz"):
        catalog.get("image_arrays", path=str(tmp_path / "broken.npz"))


def test_image_arrays_without_path_says_so():
    with pytest.raises(ConfigError, match=r"task\.options\.path"):
        catalog.get("image_arrays")
