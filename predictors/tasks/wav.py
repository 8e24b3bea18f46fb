"""WAV files as 16-bit samples of one channel."""

from __future__ import annotations

import math
import wave
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import TaskError

__all__ = ["read_wav"]

_FULL_SCALE: Final = 32768


def read_wav(file: Path, sample_rate: int, *, resample: bool = False) -> NDArray[np.int16]:
    """The sound of a file with PCM samples of 8 to 32 bits, averaged over its channels.

    Args:
        file: the file.
        sample_rate: needed, in hertz.
        resample: whether another rate is brought to this one by a polyphase filter, else it is refused.

    Returns:
        [samples] int16.

    Raises:
        TaskError: the file is broken, cut off, silent for want of samples, or of another rate; the message names it.
    """
    try:
        with wave.open(str(file), "rb") as stream:
            rate, count, width = stream.getframerate(), stream.getnframes(), stream.getsampwidth()
            channels, content = stream.getnchannels(), stream.readframes(count)
    except (wave.Error, EOFError, OSError) as error:
        raise TaskError(f"{str(file)!r}: no readable PCM WAV file ({error}); convert, replace or remove it.") from error
    if len(content) < count * width * channels:
        raise TaskError(
            f"{str(file)!r} is cut off: it holds {len(content)} of {count * width * channels} bytes of sound; "
            "fetch it again or remove it."
        )
    if not count:
        raise TaskError(f"{str(file)!r} holds no sound; remove it.")
    if rate != sample_rate and not resample:
        raise TaskError(
            f"{str(file)!r} has {rate} samples per second; needed: {sample_rate}. Set the option sample_rate to what "
            "all files have, or resample to true."
        )
    sound = _samples(content, width).reshape(-1, channels).mean(axis=1)
    if rate != sample_rate:
        from scipy.signal import resample_poly  # slow to import, and few data need it

        common = math.gcd(rate, sample_rate)
        sound = resample_poly(sound, sample_rate // common, rate // common)
    return np.clip(np.rint(sound), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _samples(content: bytes, width: int) -> NDArray[np.float64]:
    """Samples of so many bytes each, on the scale of 16 bits; those of one byte have no sign."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float64) - 128) * 256
    padded = np.zeros((len(content) // width, 4), dtype=np.uint8)
    padded[:, 4 - width :] = np.frombuffer(content, np.uint8).reshape(-1, width)
    return padded.view("<i4")[:, 0] / 65536.0
