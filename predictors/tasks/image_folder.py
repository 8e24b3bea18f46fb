"""Your own images in folders: one folder per class, or ``train``, ``val`` and ``test`` with such folders in them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, TaskError
from .folders import read_folders
from .pixels import ImageAugmentation, PixelSource, PixelTask

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_CHUNK: Final = 1024
"""Images that are given out to threads at a time."""
_MODES: Final = {1: "L", 3: "RGB"}


def image_folder(
    *,
    path: str,
    resolution: int,
    channels: int = 3,
    padding: int = 0,
    flip: bool = True,
    cutout: int = 0,
    min_area: float = 1.0,
    val: str = "valid",
    valid_images: int = 10_000,
    cache: str | None = None,
) -> PixelTask:
    """Images of class folders, ImageNet's layout included.

    Every image is decoded once: the middle square of it, resized to the resolution (bicubic).

    Args:
        path: a folder with one folder per class, or with ``train`` and, as there are, ``val`` and ``test``.
        resolution: side of the decoded images in pixels.
        channels: 3 for colour, 1 for grey.
        padding: black pixels on each side before a random crop.
        flip: whether half of the training images are mirrored.
        cutout: side of the square that is cut out; 0 = none.
        min_area: smallest share of the area that a random crop shows, 0.08 to 0.25 on ImageNet; 1 = no such crops.
        val: what a folder ``val`` is: ``valid``, or ``test`` where it is what is reported, as on ImageNet.
        valid_images: validation images at most, evenly spread over the files: they are held as numbers of 4 bytes.
        cache: a folder for the decoded images, for more than fits in memory; None = they are kept in memory.

    Raises:
        TaskError: no such folder, an empty class, a broken image; the message names it.
    """
    _check_options(channels, resolution, val, valid_images)
    folders = read_folders(path, SUFFIXES, what="image", val_as=val)
    shape = (channels, resolution, resolution)

    def load(split: str) -> PixelSource:
        files = folders.files[split]
        if split == "valid" and len(files) > valid_images:
            files = [files[index * len(files) // valid_images] for index in range(valid_images)]
        labels = np.asarray([label for _, label in files], dtype=np.int64)
        paths = [file for file, _ in files]
        return PixelSource(images=_images(paths, shape, None if cache is None else Path(cache)), labels=labels)

    return PixelTask(
        "image_folder",
        load,
        shape=shape,
        classes=len(folders.classes),
        augmentation=ImageAugmentation(padding=padding, flip=flip, cutout=cutout, min_area=min_area),
        source=lambda: {
            "resolution": resolution,
            "channels": channels,
            "val": val,
            "valid_images": valid_images,
            "digest": folders.digest(),
        },
    )


def _check_options(channels: int, resolution: int, val: str, valid_images: int) -> None:
    if channels not in _MODES:
        raise ConfigError("task.options.channels", channels, "3 (colour) or 1 (grey)")
    if not 1 <= resolution <= 4096:
        raise ConfigError("task.options.resolution", resolution, "pixels from 1 to 4096")
    if val not in ("valid", "test"):
        raise ConfigError("task.options.val", val, "valid or test")
    if valid_images < 1:
        raise ConfigError("task.options.valid_images", valid_images, "an integer of at least 1")


def _images(files: Sequence[Path], shape: tuple[int, int, int], cache: Path | None) -> NDArray[np.uint8]:
    """[N, *shape] uint8: decoded into memory, or mapped from the cache, which is written where it is not there yet."""
    if cache is None:
        images = np.empty((len(files), *shape), dtype=np.uint8)
        _decode_all(files, images)
        return images
    folder = cache.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / f"images-{_cache_key(files, shape)}.npy"
    if not stored.is_file():
        draft = stored.with_suffix(f".{os.getpid()}.draft")
        try:
            images = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=(len(files), *shape))
            _decode_all(files, images)
            images.flush()
            draft.replace(stored)  # whole or not at all
        finally:
            draft.unlink(missing_ok=True)
    return np.lib.format.open_memmap(stored, mode="r")


def _cache_key(files: Sequence[Path], shape: tuple[int, int, int]) -> str:
    content = hashlib.sha256(repr(shape).encode())
    for file in files:
        state = file.stat()
        content.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return content.hexdigest()[:24]


def _decode_all(files: Sequence[Path], images: NDArray[np.uint8]) -> None:
    """Decode on all cores: Pillow lets other threads run meanwhile."""
    decode = functools.partial(_decode, channels=images.shape[1], side=images.shape[2])
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, len(files), _CHUNK):  # in pieces, so that a broken image is told soon
            for row, image in enumerate(pool.map(decode, files[start : start + _CHUNK]), start):
                images[row] = image


def _decode(file: Path, channels: int, side: int) -> NDArray[np.uint8]:
    """[C, side, side] uint8: the middle square of an image."""
    try:
        from PIL import Image  # only this task needs Pillow
    except ImportError as error:
        raise TaskError(
            "task 'image_folder' decodes images by Pillow, which is not installed: pip install pillow."
        ) from (error)
    try:
        with Image.open(file) as image:
            image.draft(_MODES[channels], (2 * side, 2 * side))  # a JPEG is decoded no larger than needed
            pixels = np.asarray(_middle(image.convert(_MODES[channels])).resize((side, side), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TaskError(f"{str(file)!r}: this image cannot be decoded ({error}); replace or remove it.") from error
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _middle(image: Image) -> Image:
    side = min(image.size)
    left, top = ((extent - side) // 2 for extent in image.size)
    return image.crop((left, top, left + side, top + side))
