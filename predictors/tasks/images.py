"""Small images kept in memory: split once by class, placed on a canvas, with noise."""

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
from .task import Samples, Task, step_generator

__all__ = ["ImageSource", "ImageTask", "Placement", "place_images", "stratified_split"]

SPLIT_SHARES: Final = {"train": 0.5, "valid": 0.25, "test": 0.25}
_SPLIT_SEED: Final = 1797
_AUGMENT_STREAM: Final = 0
_DRAWS: Final = {"train": 2, "valid": 3, "test": 4}
"""Stream of the fixed placements of each split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """Images as they are stored.

    Attributes:
        images: [N, C, H, W] float32 in [0, 1].
        labels: [N] int64, 0 to classes - 1.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How images are put on a canvas.

    Attributes:
        canvas: side of the square canvas in pixels; at least the image's side.
        noise: standard deviation of the Gaussian noise added to every pixel; pixels are in [0, 1].
        placements: how often each validation and test image is placed, at different positions.
    """

    canvas: int
    noise: float = 0.0
    placements: int = 1

    def check(self, side: int) -> None:
        """Raise ConfigError where images of this side cannot be placed so."""
        if self.canvas < side:
            raise ConfigError("task.options.canvas", self.canvas, f"an integer of at least {side}, the image's side")
        if not 0 <= self.noise <= 10:
            raise ConfigError("task.options.noise", self.noise, "a number from 0 to 10")
        positions = (self.canvas - side + 1) ** 2
        if not 1 <= self.placements <= positions:
            raise ConfigError(
                "task.options.placements",
                self.placements,
                f"an integer from 1 to {positions}, the positions of a {side} px image on {self.canvas} px",
            )


class ImageTask(Task):
    """Classification of images that fit in memory.

    Args:
        name: its name in the catalog.
        load: reads the images; called once, on first use.
        side: height and width of the stored images.
        channels: colour channels.
        classes: number of classes.
        placement: how images are put on the canvas.
        source: what identifies the stored images, for the identity.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], ImageSource],
        *,
        side: int,
        channels: int,
        classes: int,
        placement: Placement,
        source: Mapping[str, object] | None = None,
    ) -> None:
        placement.check(side)
        self.name = name
        self.input_shape = (channels, placement.canvas, placement.canvas)
        self.classes = classes
        self.placement = placement
        self._load = load
        self._side = side
        self._source = dict(source or {})
        self._on_device: dict[torch.device, Samples] = {}
        self._fixed: dict[str, Samples] = {}

    @property
    def options(self) -> Mapping[str, object]:
        """Canvas, noise and placements, and what identifies the stored images."""
        return asdict(self.placement) | self._source

    @functools.cached_property
    def members(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the stored images in each split: disjoint, stratified by class, the same for every seed."""
        return stratified_split(self._images.labels, SPLIT_SHARES)

    def sources(self, split: str) -> NDArray[np.int64]:
        """[N] the stored image behind each sample of a split."""
        return np.repeat(self.members[split], 1 if split == "train" else self.placement.placements)

    def batch(self, step: int, size: int, seed: int, device: torch.device = torch.device("cpu")) -> Samples:  # noqa: B008  # immutable
        """Training images in a new order each epoch, each at a fresh random position with fresh noise."""
        stored = self._stored(device)
        rows = self.rows(len(self.members["train"]), step, size, seed).to(device)
        generator = step_generator(seed, step, _AUGMENT_STREAM, device)
        span = self.placement.canvas - self._side + 1
        corners = torch.randint(span, (size, 2), generator=generator, device=device)
        return Samples(self._present(stored.inputs[rows], corners, generator), stored.labels[rows])

    @functools.cached_property
    def _images(self) -> ImageSource:
        return self._load()

    @functools.cached_property
    def _scale(self) -> tuple[float, float]:
        """Mean and standard deviation of canvas pixels over the training images."""
        images = self._images.images[self.members["train"]].astype(np.float64)
        fill = (self._side / self.placement.canvas) ** 2
        mean = float(images.mean()) * fill
        variance = float((images**2).mean()) * fill - mean**2 + self.placement.noise**2
        return mean, max(variance, 1e-12) ** 0.5

    def _stored(self, device: torch.device) -> Samples:
        """The training images, unplaced, cached on each device that asked for them."""
        if device not in self._on_device:
            rows = self.members["train"]
            images = torch.from_numpy(self._images.images[rows])
            self._on_device[device] = Samples(images, torch.from_numpy(self._images.labels[rows])).to(device)
        return self._on_device[device]

    def _present(self, images: Tensor, corners: Tensor, generator: torch.Generator) -> Tensor:
        placed = place_images(images, corners, self.placement.canvas)
        if self.placement.noise:
            noise = torch.randn(placed.shape, generator=generator, device=placed.device)
            placed = placed.add_(noise, alpha=self.placement.noise)
        mean, deviation = self._scale
        return placed.sub_(mean).div_(deviation)

    def _samples(self, split: str) -> Samples:
        if split not in self._fixed:
            rows = self.sources(split)
            generator = step_generator(_SPLIT_SEED, 0, _DRAWS[split])
            repeats = len(rows) // len(self.members[split])
            span = self.placement.canvas - self._side + 1
            # The first `repeats` of a shuffled list of all positions: no image stands twice at the same place.
            ranks = torch.rand((len(rows) // repeats, span**2), generator=generator).argsort(dim=1)[:, :repeats]
            corners = torch.stack([ranks.flatten() // span, ranks.flatten() % span], dim=1)
            images = torch.from_numpy(self._images.images[rows])
            labels = torch.from_numpy(self._images.labels[rows])
            self._fixed[split] = Samples(self._present(images, corners, generator), labels)
        return self._fixed[split]


def place_images(images: Tensor, corners: Tensor, canvas: int) -> Tensor:
    """Put each image on a black canvas.

    Args:
        images: [N, C, H, W].
        corners: [N, 2] row and column of the top left pixel.
        canvas: side of the canvas.

    Returns:
        [N, C, canvas, canvas].
    """
    count, channels, height, width = images.shape
    rows = corners[:, 0, None] + torch.arange(height, device=images.device)
    columns = corners[:, 1, None] + torch.arange(width, device=images.device)
    placed = images.new_zeros(count, canvas, canvas, channels)
    sample = torch.arange(count, device=images.device)[:, None, None]
    placed[sample, rows[:, :, None], columns[:, None, :]] = images.permute(0, 2, 3, 1)
    return placed.permute(0, 3, 1, 2).contiguous()


def stratified_split(labels: NDArray[np.int64], shares: Mapping[str, float]) -> dict[str, NDArray[np.int64]]:
    """Split rows into named parts, every class in the given shares (rounded), by a generator of its own.

    >>> parts = stratified_split(np.array([0] * 4 + [1] * 8), {"a": 0.75, "b": 0.25})
    >>> {name: len(rows) for name, rows in parts.items()}
    {'a': 9, 'b': 3}
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    edges = np.cumsum([0.0, *shares.values()])
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in shares}
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(edges * len(rows)).astype(int)
        for name, start, end in zip(shares, cuts[:-1], cuts[1:], strict=True):
            parts[name].append(rows[start:end])
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
