"""Colour images kept as bytes, read once per split, augmented on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError
from .augment import crop_padded, cut_out, draw_boxes, flip_some, resize_boxes
from .task import Samples, Task, step_generator

__all__ = ["ImageAugmentation", "PixelSource", "PixelTask"]

_AUGMENT_STREAM: Final = 0
_SCALE_IMAGES: Final = 4096
"""Training images, evenly spread, that mean and deviation are taken of."""
_RESIDENT_BYTES: Final = 8 * 2**30
"""Training images of at most so much are kept on an accelerator; more are sent batch by batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSource:
    """Images of one split as they are stored.

    Attributes:
        images: [N, C, H, W] uint8; may be mapped from a file.
        labels: [N] int64, 0 to classes - 1.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAugmentation:
    """How training images are varied; validation and test images never are.

    Attributes:
        padding: black pixels on each side before a random crop back to the size.
        flip: whether every second image, on average, is mirrored left and right.
        cutout: side of the square that is set to the mean; 0 = none.
        min_area: smallest share of the area that a random crop, resized to the size, shows; 1 = no such crops.
    """

    padding: int = 0
    flip: bool = False
    cutout: int = 0
    min_area: float = 1.0

    def check(self, side: int) -> None:
        """Raise ConfigError where images of this side cannot be varied so."""
        for name in ("padding", "cutout"):
            if not 0 <= getattr(self, name) <= side:
                raise ConfigError(f"task.options.{name}", getattr(self, name), f"pixels from 0 to {side}, the side")
        if not 0 < self.min_area <= 1:
            raise ConfigError("task.options.min_area", self.min_area, "a share above 0 and up to 1")


class PixelTask(Task):
    """Classification of colour images.

    Args:
        name: its name in the catalog.
        load: reads a split, ``train``, ``valid`` or ``test``; called once for each, when it is first needed.
        shape: (C, H, W) of the images.
        classes: number of classes.
        augmentation: of training images.
        source: tells what identifies the stored images; called when the identity is first asked for.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[str], PixelSource],
        *,
        shape: tuple[int, int, int],
        classes: int,
        augmentation: ImageAugmentation,
        source: Callable[[], Mapping[str, object]],
    ) -> None:
        augmentation.check(min(shape[1:]))
        self.name, self.input_shape, self.classes = name, shape, classes
        self.augmentation = augmentation
        self._load, self._source = load, source
        self._stored: dict[str, PixelSource] = {}
        self._resident: dict[torch.device, Samples] = {}

    @functools.cached_property
    def options(self) -> Mapping[str, object]:  # type: ignore[override]  # a property that is computed once
        """Augmentation, and what identifies the stored images."""
        return asdict(self.augmentation) | dict(self._source())

    def batch(self, step: int, size: int, seed: int, device: torch.device = torch.device("cpu")) -> Samples:  # noqa: B008  # immutable
        """Training images in a new order each epoch, freshly augmented."""
        rows = self.rows(len(self._split("train").labels), step, size, seed)
        stored = self._rows(rows, device)
        generator = step_generator(seed, step, _AUGMENT_STREAM, device)
        return Samples(self._augment(stored.inputs, generator), stored.labels)

    def _augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """[N, C, H, W] uint8 -> float32, varied and normalised."""
        how, (count, _, height, width) = self.augmentation, pixels.shape
        device = pixels.device
        if how.padding:
            corners = torch.randint(2 * how.padding + 1, (count, 2), generator=generator, device=device)
            pixels = crop_padded(pixels, corners, how.padding)
        images = self._normalise(pixels)
        if how.min_area < 1:
            images = resize_boxes(images, draw_boxes(count, how.min_area, generator, device))
        if how.flip:
            images = flip_some(images, torch.rand(count, generator=generator, device=device) < 0.5)
        if how.cutout:
            drawn = torch.rand((count, 2), generator=generator, device=device)
            centres = (drawn * torch.tensor([height, width], device=device)).long()
            images = cut_out(images, centres, how.cutout)
        return images

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean, deviation = (torch.from_numpy(value).to(pixels.device)[:, None, None] for value in self._scale)
        return pixels.float().sub_(mean).div_(deviation)

    @functools.cached_property
    def _scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[C] mean and standard deviation of the bytes of each channel over training images."""
        images = self._split("train").images
        rows = np.unique(np.linspace(0, len(images) - 1, min(_SCALE_IMAGES, len(images))).astype(np.int64))
        counts = np.stack(
            [np.bincount(channel.ravel(), minlength=256) for channel in images[rows].transpose(1, 0, 2, 3)]
        )
        levels, shares = np.arange(256), counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        deviation = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 1e-6))
        return mean.astype(np.float32), deviation.astype(np.float32)

    def _rows(self, rows: Tensor, device: torch.device) -> Samples:
        """Stored training images and labels, on the device."""
        source = self._split("train")
        if device.type != "cpu" and source.images.nbytes <= _RESIDENT_BYTES:
            if device not in self._resident:
                self._resident[device] = _as_samples(source.images, source.labels).to(device)
            return self._resident[device].take(rows.to(device))
        return _as_samples(source.images[rows.numpy()], source.labels[rows.numpy()]).to(device)

    def _split(self, name: str) -> PixelSource:
        if name not in self._stored:
            self._stored[name] = self._load(name)
        return self._stored[name]

    def _samples(self, split: str) -> Samples:
        source = self._split(split)
        samples = _as_samples(source.images, source.labels)
        return Samples(self._normalise(samples.inputs), samples.labels)


def _as_samples(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Samples:
    # A copy where the array is mapped read-only from a file, which torch would warn about.
    return Samples(torch.from_numpy(images if images.flags.writeable else images.copy()), torch.from_numpy(labels))
