"""CIFAR's binary files and image folders: made of the real digits, read back exactly, faults named with their file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from archsmith import spaces
from archsmith.errors import ConfigError, TaskError
from archsmith.predictors.evaluation import measure_accuracy
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.augment import crop_padded, cut_out, draw_boxes, flip_some, mask_stripes, resize_boxes

PIL_Image = pytest.importorskip("PIL.Image", reason="image folders are decoded by Pillow")

PER_FILE = 40


def colour_digits(count: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[count, 3, 32, 32] uint8 digits, each channel of another brightness, and their labels."""
    digits = load_digits()
    grey = digits.images[start : start + count].repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([grey * 15, grey * 10, grey * 5], axis=1).astype(np.uint8), digits.target[start : start + count]


@pytest.fixture
def cifar10_folder(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for index, name in enumerate([*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]):
        images, labels = colour_digits(PER_FILE, index * PER_FILE)
        records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(PER_FILE, -1)], axis=1)
        records.tofile(folder / f"{name}.bin")
    return folder


@pytest.fixture
def image_folders(tmp_path):
    root = tmp_path / "images"
    images, labels = colour_digits(120)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / f"digit{label}").mkdir(parents=True, exist_ok=True)
        PIL_Image.fromarray(image.transpose(1, 2, 0)).save(root / f"digit{label}" / f"{row:03}.png")
    return root


def cifar10(folder, **options):
    return catalog.get("cifar10", path=str(folder), images_per_file=PER_FILE, **options)


def test_cifar10_test_split_holds_the_stored_pixels(cifar10_folder):
    task = cifar10(cifar10_folder.parent)
    images, labels = colour_digits(PER_FILE, 5 * PER_FILE)
    train, _ = colour_digits(5 * PER_FILE)
    samples = task.test_split()
    assert task.input_shape == (3, 32, 32)
    assert samples.labels.tolist() == labels.tolist()
    shown = samples.inputs - samples.inputs.amin(dim=(0, 2, 3), keepdim=True)
    scaled = shown / shown.amax(dim=(0, 2, 3), keepdim=True)
    expected = images / images.max(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-6)
    assert len(task.split("train")) + len(task.split("valid")) == len(train)


def test_cifar10_valid_is_cut_from_train_by_class(cifar10_folder):
    task = cifar10(cifar10_folder, valid_share=0.2)
    assert len(task.split("valid")) == pytest.approx(0.2 * 5 * PER_FILE, abs=5)
    rows = [task.split(name).inputs.flatten(1).numpy() for name in ("train", "valid")]
    assert not {row.tobytes() for row in rows[0]} & {row.tobytes() for row in rows[1]}


def test_cifar10_inputs_are_normalised_by_channel(cifar10_folder):
    inputs = cifar10(cifar10_folder).split("train").inputs
    np.testing.assert_allclose(inputs.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(inputs.std(dim=(0, 2, 3)), 1, atol=1e-3)


def test_cifar10_batch_is_a_function_of_seed_and_step(cifar10_folder):
    task, other = cifar10(cifar10_folder, cutout=8), cifar10(cifar10_folder, cutout=8)
    task.batch(0, 16, seed=1)
    first, again = task.batch(3, 16, seed=1), other.batch(3, 16, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.inputs, task.batch(4, 16, seed=1).inputs)
    assert not torch.equal(first.inputs, task.batch(3, 16, seed=2).inputs)


def test_cifar10_without_augmentation_shows_every_training_image_once_an_epoch(cifar10_folder):
    task = cifar10(cifar10_folder, padding=0, flip=False)
    stored = task.split("train").inputs.flatten(1).numpy()
    shown = task.batch(0, len(stored), seed=5).inputs.flatten(1).numpy()
    assert np.array_equal(np.unique(shown, axis=0), np.unique(stored, axis=0))


def test_cifar100_reads_fine_labels(tmp_path):
    images, labels = colour_digits(200)
    coarse = np.full((200, 1), 19, np.uint8)
    records = np.concatenate([coarse, labels[:, None].astype(np.uint8) + 90, images.reshape(200, -1)], axis=1)
    records[:150].tofile(tmp_path / "train.bin")
    records[150:].tofile(tmp_path / "test.bin")
    task = catalog.get("cifar100", path=str(tmp_path), train_images=150, test_images=50)
    assert task.classes == 100
    assert task.test_split().labels.tolist() == (labels[150:] + 90).tolist()


def test_cifar10_truncated_file_is_named(cifar10_folder):
    file = cifar10_folder / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TaskError, match=r"data_batch_3\.bin' is truncated"):
        cifar10(cifar10_folder)


def test_cifar10_wants_the_official_size_by_default(cifar10_folder):
    with pytest.raises(TaskError, match="needed: 10000 records of 3073 bytes"):
        catalog.get("cifar10", path=str(cifar10_folder))


def test_cifar10_missing_file_is_named(cifar10_folder):
    (cifar10_folder / "test_batch.bin").unlink()
    with pytest.raises(TaskError, match=r"test_batch\.bin"):
        cifar10(cifar10_folder)


def test_cifar10_wrong_label_is_named_with_its_record(cifar10_folder):
    file = cifar10_folder / "data_batch_2.bin"
    content = bytearray(file.read_bytes())
    content[3073 * 7] = 10
    file.write_bytes(content)
    with pytest.raises(TaskError, match=r"data_batch_2\.bin': record 7 has label 10"):
        cifar10(cifar10_folder).split("train")


def test_image_folder_splits_are_disjoint_and_cover_all_files(image_folders):
    task = catalog.get("image_folder", path=str(image_folders), resolution=32)
    sizes = [len(task.split("train")), len(task.split("valid")), len(task.test_split())]
    assert sum(sizes) == 120
    assert sizes == pytest.approx([60, 30, 30], abs=5)
    assert task.classes == 10


def test_image_folder_decodes_the_exact_pixels(image_folders):
    task = catalog.get("image_folder", path=str(image_folders), resolution=32)
    images, _ = colour_digits(120)
    shown = task.test_split().inputs
    levels = [np.unique(shown[:, channel].numpy()) for channel in range(3)]
    assert [len(level) for level in levels] == [len(np.unique(images[:, channel])) for channel in range(3)]


def test_image_folder_with_train_and_val_folders_uses_them(image_folders):
    for name in ("train", "val"):
        (image_folders / name).mkdir()
    for folder in sorted(image_folders.glob("digit*")):
        (image_folders / "val" / folder.name).mkdir()
        next(iter(sorted(folder.glob("*.png")))).rename(image_folders / "val" / folder.name / "one.png")
        folder.rename(image_folders / "train" / folder.name)
    task = catalog.get("image_folder", path=str(image_folders), resolution=16)
    assert task.split("valid").labels.tolist() == list(range(10))
    assert len(task.split("train")) + len(task.test_split()) == 110
    reported = catalog.get("image_folder", path=str(image_folders), resolution=16, val="test")
    assert reported.test_split().labels.tolist() == list(range(10))
    assert len(reported.split("train")) + len(reported.split("valid")) == 110


def test_image_folder_cache_gives_the_same_samples(image_folders, tmp_path):
    plain = catalog.get("image_folder", path=str(image_folders), resolution=8, channels=1)
    options = {"resolution": 8, "channels": 1, "cache": str(tmp_path / "cache")}
    cached = catalog.get("image_folder", path=str(image_folders), **options)
    assert torch.equal(plain.split("valid").inputs, cached.split("valid").inputs)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # train, for the scale, and valid; test was not touched
    assert torch.equal(
        plain.batch(2, 8, 0).inputs,
        catalog.get("image_folder", path=str(image_folders), **options).batch(2, 8, 0).inputs,
    )
    assert plain.identity == cached.identity


def test_image_folder_test_images_are_decoded_only_by_test_split(image_folders):
    task = catalog.get("image_folder", path=str(image_folders), resolution=8)
    task.split("train")
    task.split("valid")
    for file in image_folders.rglob("*.png"):
        file.write_bytes(b"broken")
    assert len(task.split("train")) > 50  # read once
    with pytest.raises(TaskError, match="cannot be decoded"):
        task.test_split()


def test_image_folder_limits_validation_images_evenly(image_folders):
    task = catalog.get("image_folder", path=str(image_folders), resolution=8, valid_images=10)
    assert len(task.split("valid").labels.unique()) >= 8  # of ten classes of unequal sizes
    assert len(task.split("valid")) == 10
    assert task.identity != catalog.get("image_folder", path=str(image_folders), resolution=8).identity


def test_image_folder_broken_image_is_named(image_folders):
    for file in (image_folders / "digit3").glob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    task = catalog.get("image_folder", path=str(image_folders), resolution=8)
    with pytest.raises(TaskError, match=r"digit3/\d+\.png': this image cannot be decoded"):
        task.split("train")


def test_image_folder_empty_class_is_named(image_folders):
    (image_folders / "empty").mkdir()
    (image_folders / "empty" / "readme.txt").write_text("no image")
    with pytest.raises(TaskError, match=r"class folder '.*empty' is empty"):
        catalog.get("image_folder", path=str(image_folders), resolution=8)


def test_image_folder_missing_path_is_named(tmp_path):
    with pytest.raises(TaskError, match="gone"):
        catalog.get("image_folder", path=str(tmp_path / "gone"), resolution=8)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"channels": 2}, "task.options.channels"),
        ({"resolution": 0}, "task.options.resolution"),
        ({"flip": 1}, "task.options.flip"),
        ({"val": "train"}, "task.options.val"),
        ({"min_area": 0.0}, "task.options.min_area"),
        ({"cutout": 9}, "task.options.cutout"),
    ],
)
def test_image_folder_bad_option_is_named(image_folders, options, place):
    with pytest.raises(ConfigError) as caught:
        catalog.get("image_folder", **({"path": str(image_folders), "resolution": 8} | options))
    assert caught.value.place == place


def test_supernet_trains_and_scores_on_an_image_folder(image_folders, tmp_path):
    task = catalog.get("image_folder", path=str(image_folders), resolution=11, channels=1)
    space = spaces.get("mobilenet", "tiny")
    settings = SupernetSettings(steps=3, batch_size=8, calibration_batches=1, calibration_batch_size=8)
    trained = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path).run()
    scorer = SupernetScorer(space, task, trained.weights, settings)
    genome = space.largest()
    assert scorer.score(genome) == pytest.approx(measure_accuracy(scorer.extract(genome), scorer.valid), abs=0.04)


def test_crop_padded_equals_slicing_the_padded_image():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.uint8).view(2, 3, 5, 5)
    corners = torch.tensor([[0, 4], [3, 1]])
    cropped = crop_padded(images, corners, 2)
    for image, (row, column), crop in zip(images, corners.tolist(), cropped, strict=True):
        padded = np.pad(image.numpy(), [(0, 0), (2, 2), (2, 2)])
        assert np.array_equal(crop.numpy(), padded[:, row : row + 5, column : column + 5])


def test_resize_boxes_of_the_whole_image_changes_nothing_and_draws_stay_inside():
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    whole = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).repeat(4, 1)
    torch.testing.assert_close(resize_boxes(images, whole), images)
    boxes = draw_boxes(500, 0.25, torch.Generator().manual_seed(1), torch.device("cpu"))
    assert (boxes[:, 2:].abs() + boxes[:, :2] <= 1 + 1e-6).all()
    assert float((boxes[:, 0] * boxes[:, 1]).min()) > 0.2


def test_resize_boxes_of_a_quarter_shows_that_quarter():
    image = torch.zeros(1, 1, 8, 8)
    image[:, :, :4, 4:] = 1.0
    shown = resize_boxes(image, torch.tensor([[0.5, 0.5, -0.5, 0.5]]))
    assert float(shown[:, :, :-1, 1:].min()) == 1.0  # all but the pixels that mix with the next quarter
    assert float(shown.min()) > 0.5


def test_flip_some_mirrors_the_chosen():
    images = torch.arange(12.0).view(2, 1, 2, 3)
    flipped = flip_some(images, torch.tensor([True, False]))
    assert torch.equal(flipped[0], images[0].flip(-1))
    assert torch.equal(flipped[1], images[1])


def test_cut_out_zeroes_one_square():
    cut = cut_out(torch.ones(2, 1, 6, 6), torch.tensor([[3, 3], [0, 5]]), 2)
    assert (cut[0, 0] == 0).nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert (cut[1, 0] == 0).nonzero().tolist() == [[0, 4], [0, 5]]


def test_mask_stripes_zeroes_bands_or_frames():
    spectra = torch.ones(2, 4, 5)
    bands = mask_stripes(spectra, 1, torch.tensor([1, 0]), torch.tensor([2, 0]))
    assert bands[0].sum(dim=1).tolist() == [5, 0, 0, 5]
    assert bands[1].sum() == 20
    frames = mask_stripes(spectra, 2, torch.tensor([0, 3]), torch.tensor([1, 2]))
    assert frames[1].sum(dim=0).tolist() == [4, 4, 4, 0, 0]
