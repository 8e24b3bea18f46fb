"""Whistled tones told apart by the course of their pitch: sounds that need no files, made by arithmetic alone.

Every tone starts at a pitch of its own, moves by an interval of its own, has overtones, and noise around it: only the
course, which a network has to follow over time, tells the class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .images import SPLIT_SHARES, stratified_split
from .speech import SpeechSettings, SpeechTask

__all__ = ["COURSES", "ToneSounds", "tones"]

COURSES: Final = {
    "dip": lambda t: 4 * t * (t - 1),
    "early_step": lambda t: (t > 1 / 3) * 1.0,
    "fall": lambda t: -t,
    "hold": lambda t: 0 * t,
    "late_step": lambda t: (t > 2 / 3) * 1.0,
    "peak": lambda t: 4 * t * (1 - t),
    "rise": lambda t: t,
    "trill": lambda t: (np.floor(6 * t) % 2) * 1.0,
}
"""By class, the course of the pitch over time in [0, 1], in intervals above the pitch where it starts."""

_SAMPLE_RATE: Final = 8000
_LOWEST_HZ: Final = 400.0
_SEED: Final = 1797
_PEAK: Final = 8000
"""Of the tone alone, in 16-bit samples."""


def tones(*, clips: int = 80, mels: int = 20, frames: int = 40, noise: float = 0.3) -> SpeechTask:
    """Tones of `COURSES`, told apart by their spectrograms; half are for training, a quarter each for the rest.

    Args:
        clips: tones per class, at least 4.
        mels: bands of the spectrogram.
        frames: of 25 ms, one every 10 ms; a tone lasts as long.
        noise: standard deviation of the noise, where the tone's is 1.
    """
    if clips < 4:
        raise ConfigError("task.options.clips", clips, "an integer of at least 4, so that every split has some")
    if not 0 <= noise <= 100:
        raise ConfigError("task.options.noise", noise, "a number from 0 to 100")
    settings = SpeechSettings(sample_rate=_SAMPLE_RATE, mels=mels, frames=frames, shift=20)
    return SpeechTask(ToneSounds(clips=clips, length=settings.length, noise=noise), settings, name="tones")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToneSounds:
    """So many `clips` of each class, each of `length` samples."""

    clips: int
    length: int
    noise: float

    @property
    def classes(self) -> Sequence[str]:
        """Names of the courses."""
        return tuple(COURSES)

    def read(self, split: str) -> Iterator[tuple[NDArray[np.int16], int]]:
        """The tones of a split; always the same."""
        labels = np.repeat(np.arange(len(COURSES)), self.clips)
        for row in stratified_split(labels, SPLIT_SHARES)[split].tolist():
            rng = np.random.default_rng([_SEED, row])
            label = int(labels[row])
            yield _tone(self.classes[label], self.length, self.noise, rng), label

    def digest(self) -> str:
        """They follow from their numbers."""
        return f"{self.clips} {self.length} {self.noise!r}"


def _tone(course: str, length: int, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """[length] samples: start up to an octave above the lowest pitch, interval of three to seven semitones."""
    octaves = rng.uniform(0.0, 1.0) + rng.uniform(3, 7) / 12 * COURSES[course](np.linspace(0.0, 1.0, length))
    phase = 2 * np.pi * np.cumsum(_LOWEST_HZ * 2.0**octaves) / _SAMPLE_RATE + rng.uniform(0.0, 2 * np.pi)
    sizes = np.array([1.0, *rng.uniform(0.0, 0.5, size=2)])  # of the tone and its overtones
    sound = sizes @ np.sin(np.outer([1, 2, 3], phase))
    sound = sound / sound.std() + noise * rng.standard_normal(length)
    return np.clip(np.rint(_PEAK / np.sqrt(2) * sound), -32768, 32767).astype(np.int16)
