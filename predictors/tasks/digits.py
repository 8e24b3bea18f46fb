"""Handwritten digits: the 1,797 real 8x8 images that scikit-learn ships.

Plain, they are nearly solved by anything. Shifted, each stands at a random place of a larger canvas with noise, and
every validation and test image is placed several times, so that accuracies differ between architectures and resolve
0.1 %. (Placements of one image are not independent: the standard error is that of the images, about 1 %.)

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, https://doi.org/10.24432/C50P49.
"""

from __future__ import annotations

import functools

import numpy as np

from .images import ImageSource, ImageTask, Placement

__all__ = ["digits", "digits_shifted"]

_SIDE = 8


def digits(*, canvas: int = _SIDE, noise: float = 0.0) -> ImageTask:
    """The plain images, once each; on a larger canvas they are placed at random, once each."""
    return _task("digits", Placement(canvas=canvas, noise=noise))


def digits_shifted(*, canvas: int = 11, noise: float = 0.15, placements: int = 3) -> ImageTask:
    """Images at random places of a larger canvas, with noise.

    Args:
        canvas: side of the canvas.
        noise: standard deviation of pixel noise, where ink is 1 and paper 0.
        placements: how often each validation and test image is placed; 3 or more resolve 0.1 %.
    """
    return _task("digits_shifted", Placement(canvas=canvas, noise=noise, placements=placements))


def _task(name: str, placement: Placement) -> ImageTask:
    return ImageTask(name, _load, side=_SIDE, channels=1, classes=10, placement=placement)


@functools.cache
def _load() -> ImageSource:
    from sklearn.datasets import load_digits  # slow to import, and only this task needs it

    images, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    pixels = images.reshape(-1, 1, _SIDE, _SIDE) / 16.0  # stored as counts from 0 to 16
    return ImageSource(images=pixels.astype(np.float32), labels=labels.astype(np.int64))
