"""Your own small images: one ``.npz`` file with `images` and `labels`."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from ...errors import TaskError
from .images import ImageSource, ImageTask, Placement

__all__ = ["image_arrays"]


def image_arrays(*, path: str, canvas: int | None = None, noise: float = 0.0, placements: int = 1) -> ImageTask:
    """Images of an ``.npz`` file: `images` [N, H, W] or [N, H, W, C], uint8 or float in [0, 1]; `labels` [N] integers.

    Args:
        path: the file.
        canvas: side of the canvas that images are placed on at random; None = the image's own side, no shifts.
        noise: standard deviation of pixel noise, for pixels in [0, 1].
        placements: how often each validation and test image is placed.

    Raises:
        TaskError: the file is missing or does not hold such arrays; the message names it.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise TaskError(
            f"task 'image_arrays': there is no file {str(file)!r}; give `path` an .npz with images, labels."
        )
    source = _load(file.resolve(), file.stat().st_mtime_ns)
    side = source.images.shape[2]
    return ImageTask(
        "image_arrays",
        lambda: source,
        side=side,
        channels=source.images.shape[1],
        classes=int(source.labels.max()) + 1,
        placement=Placement(canvas=side if canvas is None else canvas, noise=noise, placements=placements),
        source={"digest": hashlib.sha256(source.images.tobytes() + source.labels.tobytes()).hexdigest()},
    )


@functools.lru_cache(maxsize=4)
def _load(file: Path, _modified_ns: int) -> ImageSource:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise TaskError(f"{str(file)!r}: cannot read arrays 'images' and 'labels' from it ({error}).") from error
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1] != images.shape[2] or labels.shape != images.shape[:1]:
        raise TaskError(
            f"{str(file)!r}: images have shape {images.shape} and labels {labels.shape}; "
            "needed: square images [N, H, W] or [N, H, W, C], and one label for each."
        )
    pixels = images.astype(np.float32) / np.float32(255.0 if images.dtype == np.uint8 else 1.0)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise TaskError(f"{str(file)!r}: pixels must be uint8, or finite and between 0 and 1.")
    return ImageSource(images=np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels=_labels(file, labels))


def _labels(file: Path, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "iu":
        raise TaskError(f"{str(file)!r}: labels are of type {labels.dtype}; they must be integers.")
    counts = np.bincount(labels.astype(np.int64)) if labels.min(initial=0) >= 0 else np.zeros(1)
    if len(counts) < 2 or counts.min() < 4:
        raise TaskError(
            f"{str(file)!r}: images per class are {counts.astype(int).tolist()}; "
            "needed: classes 0 to K - 1 with at least 4 images each, so that every split has some of each."
        )
    return labels.astype(np.int64)
