"""CIFAR-10 and CIFAR-100 from the files of their binary version.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html: records of one label byte (CIFAR-100: coarse, then fine label) and 3,072
bytes of pixels, red, green and blue planes of 32 x 32 row by row.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, TaskError
from .images import stratified_split
from .pixels import ImageAugmentation, PixelSource, PixelTask

__all__ = ["cifar10", "cifar100"]

_SHAPE: Final = (3, 32, 32)
_PIXELS: Final = 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where the images are: files with their number of images, label bytes per record, and how many labels exist."""

    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    label_bytes: int
    classes: int


def cifar10(
    *,
    path: str,
    padding: int = 4,
    flip: bool = True,
    cutout: int = 0,
    valid_share: float = 0.1,
    images_per_file: int = 10_000,
) -> PixelTask:
    """CIFAR-10: ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.

    Args:
        path: the folder with the files (``cifar-10-batches-bin``), or the one that holds it.
        padding: black pixels on each side before a random crop.
        flip: whether half of the training images are mirrored.
        cutout: side of the square that is cut out; 0 = none.
        valid_share: share of the training images, the same of each class, that is the validation split.
        images_per_file: how many every file must hold; the official files have 10,000.

    Raises:
        TaskError: a file is missing or has another size, or a label is none; the message names the file.
    """
    folder = _folder(path, "cifar-10-batches-bin", "data_batch_1.bin")
    layout = _Layout(
        train=tuple((folder / f"data_batch_{index}.bin", images_per_file) for index in range(1, 6)),
        test=((folder / "test_batch.bin", images_per_file),),
        label_bytes=1,
        classes=10,
    )
    return _task("cifar10", layout, valid_share, ImageAugmentation(padding=padding, flip=flip, cutout=cutout))


def cifar100(
    *,
    path: str,
    padding: int = 4,
    flip: bool = True,
    cutout: int = 0,
    valid_share: float = 0.1,
    train_images: int = 50_000,
    test_images: int = 10_000,
) -> PixelTask:
    """CIFAR-100 with its 100 fine labels: ``train.bin`` and ``test.bin``.

    Args:
        path: the folder with the files (``cifar-100-binary``), or the one that holds it.
        padding: black pixels on each side before a random crop.
        flip: whether half of the training images are mirrored.
        cutout: side of the square that is cut out; 0 = none.
        valid_share: share of the training images, the same of each class, that is the validation split.
        train_images: how many ``train.bin`` must hold; the official file has 50,000.
        test_images: how many ``test.bin`` must hold; the official file has 10,000.

    Raises:
        TaskError: a file is missing or has another size, or a label is none; the message names the file.
    """
    folder = _folder(path, "cifar-100-binary", "train.bin")
    layout = _Layout(
        train=((folder / "train.bin", train_images),),
        test=((folder / "test.bin", test_images),),
        label_bytes=2,
        classes=100,
    )
    return _task("cifar100", layout, valid_share, ImageAugmentation(padding=padding, flip=flip, cutout=cutout))


def _folder(path: str, inner: str, first: str) -> Path:
    folder = Path(path).expanduser()
    return folder / inner if not (folder / first).is_file() and (folder / inner).is_dir() else folder


def _task(name: str, layout: _Layout, valid_share: float, augmentation: ImageAugmentation) -> PixelTask:
    if not 0 < valid_share < 1:
        raise ConfigError("task.options.valid_share", valid_share, "a share between 0 and 1")
    files = (*layout.train, *layout.test)
    for file, images in files:
        _check_size(file, images, layout.label_bytes)

    @functools.cache
    def train() -> tuple[PixelSource, dict[str, NDArray[np.int64]]]:
        source = _read(layout.train, layout)
        return source, stratified_split(source.labels, {"train": 1 - valid_share, "valid": valid_share})

    def load(split: str) -> PixelSource:
        if split == "test":
            return _read(layout.test, layout)
        source, members = train()
        if not len(members[split]):
            raise TaskError(f"{name}: the {split} split is empty; change valid_share, now {valid_share}.")
        return PixelSource(images=source.images[members[split]], labels=source.labels[members[split]])

    return PixelTask(
        name,
        load,
        shape=_SHAPE,
        classes=layout.classes,
        augmentation=augmentation,
        source=lambda: {"valid_share": valid_share, "digest": _digest([file for file, _ in files])},
    )


def _check_size(file: Path, images: int, label_bytes: int) -> None:
    if not file.is_file():
        raise TaskError(f"there is no file {str(file)!r}; give `path` the folder of the binary version, unpacked.")
    size, record = file.stat().st_size, label_bytes + _PIXELS
    if size != images * record:
        state = "truncated" if size < images * record else "too long"
        raise TaskError(
            f"{str(file)!r} is {state}: {size} bytes, that is {size / record:.2f} records; "
            f"needed: {images} records of {record} bytes. Fetch it again."
        )


def _read(files: Sequence[tuple[Path, int]], layout: _Layout) -> PixelSource:
    images, labels = [], []
    for file, count in files:
        records = np.fromfile(file, dtype=np.uint8).reshape(count, layout.label_bytes + _PIXELS)
        told = records[:, layout.label_bytes - 1].astype(np.int64)
        if (wrong := np.flatnonzero(told >= layout.classes)).size:
            raise TaskError(
                f"{str(file)!r}: record {wrong[0]} has label {told[wrong[0]]}; allowed: 0 to {layout.classes - 1}. "
                "The file is no such binary version, or broken."
            )
        images.append(records[:, layout.label_bytes :].reshape(count, *_SHAPE))
        labels.append(told)
    return PixelSource(images=np.concatenate(images), labels=np.concatenate(labels))


def _digest(files: Sequence[Path]) -> str:
    content = hashlib.sha256()
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()
