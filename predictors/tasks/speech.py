"""Your own sounds in folders of WAV files: spoken commands, or speakers; told apart by their log-mel spectrograms.

Clips are read once and kept as 16-bit samples; each batch's spectrograms are computed on the device.

Source: Warden, Speech Commands, 2018, https://arxiv.org/abs/1804.03209 (lists of files, ``_background_noise_``); Davis
and Mermelstein, IEEE TASSP 28(4), 1980 (mel bands; here of a power spectrum, as log energies without the cosine
transform); Park et al., SpecAugment, 2019, https://arxiv.org/abs/1904.08779.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, TaskError
from .augment import mask_stripes
from .folders import ClassFolders, read_folders
from .task import Samples, Task, step_generator
from .wav import read_wav

__all__ = ["Sounds", "SpeechSettings", "SpeechTask", "log_mel", "mel_filters", "speech_folder"]

_AUGMENT_STREAM: Final = 0
_SCALE_CLIPS: Final = 512
"""Training clips, evenly spread, that mean and deviation of each band are taken of."""
_CHUNK: Final = 256
"""Clips whose spectrograms are computed at a time."""
_LISTS: Final = {"valid": "validation_list.txt", "test": "testing_list.txt"}
WINDOW_SECONDS: Final = 0.025
HOP_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """How sounds become spectrograms.

    Attributes:
        sample_rate: of all clips, in hertz.
        resample: whether clips of another rate are brought to this one; else they are refused.
        mels: bands of the spectrogram, up to half the sample rate.
        frames: of 25 ms, one every 10 ms; shorter clips are padded with silence, of longer ones a part is heard.
        shift: milliseconds by which training clips are moved at most, to either side.
        band_mask: training spectrograms lose up to so many neighbouring bands.
        frame_mask: and up to so many neighbouring frames.
    """

    sample_rate: int = 16_000
    resample: bool = False
    mels: int = 80
    frames: int = 98
    shift: int = 100
    band_mask: int = 0
    frame_mask: int = 0

    def __post_init__(self) -> None:
        limits = {"sample_rate": (1000, 384_000), "mels": (1, 512), "frames": (1, 100_000), "shift": (0, 60_000)}
        limits |= {"band_mask": (0, self.mels), "frame_mask": (0, self.frames)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"task.options.{name}", getattr(self, name), f"an integer from {low} to {high}")

    @property
    def window(self) -> int:
        """Samples per frame."""
        return round(WINDOW_SECONDS * self.sample_rate)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(HOP_SECONDS * self.sample_rate)

    @property
    def length(self) -> int:
        """Samples that give exactly `frames` frames."""
        return (self.frames - 1) * self.hop + self.window


class Sounds(Protocol):
    """Where sounds with their classes come from."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes; a label is a place among them."""
        ...

    def read(self, split: str) -> Iterable[tuple[NDArray[np.int16], int]]:
        """Samples and label of every sound of ``train``, ``valid`` or ``test``."""
        ...

    def digest(self) -> str:
        """Stable name of exactly these sounds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clips:
    """Clips of one split, one after the other.

    Attributes:
        sound: [total] int16.
        starts: [N] int64 first sample of each.
        lengths: [N] int64 samples of each.
        labels: [N] int64.
    """

    sound: Tensor
    starts: Tensor
    lengths: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> _Clips:
        return _Clips(
            sound=self.sound.to(device),
            starts=self.starts.to(device),
            lengths=self.lengths.to(device),
            labels=self.labels.to(device),
        )

    def cut(self, rows: Tensor, offsets: Tensor, length: int) -> Tensor:
        """[R, length] float32 in [-1, 1): each clip from its offset [R] on, silent where there is none of it."""
        place = offsets[:, None] + torch.arange(length, device=self.sound.device)
        heard = (place >= 0) & (place < self.lengths[rows, None])
        samples = self.sound[self.starts[rows, None] + place.where(heard, torch.zeros_like(place))]
        return samples.float().div_(32768.0) * heard


def speech_folder(
    *,
    path: str,
    sample_rate: int = 16_000,
    resample: bool = False,
    mels: int = 80,
    frames: int = 98,
    shift: int = 100,
    band_mask: int = 0,
    frame_mask: int = 0,
) -> SpeechTask:
    """Sounds of class folders: one per command or per speaker, with WAV files at any depth.

    Args:
        path: a folder with one folder per class, or with ``train``, ``valid`` and ``test``; lists of files as Speech
            Commands has them (``validation_list.txt``, ``testing_list.txt``) decide the splits where they are there.
        sample_rate: of all clips, in hertz.
        resample: whether clips of another rate are brought to this one; else they are refused.
        mels: bands of the spectrogram.
        frames: of 25 ms, one every 10 ms; 98 are a second.
        shift: milliseconds by which training clips are moved at most.
        band_mask: most bands that a training spectrogram loses (SpecAugment).
        frame_mask: most frames that a training spectrogram loses.

    Raises:
        TaskError: no such folder, an empty class, a broken file, a wrong sample rate; the message names it.
    """
    settings = SpeechSettings(
        sample_rate=sample_rate,
        resample=resample,
        mels=mels,
        frames=frames,
        shift=shift,
        band_mask=band_mask,
        frame_mask=frame_mask,
    )
    folders = read_folders(path, (".wav",), what="sound", listed=_lists(Path(path).expanduser()))
    return SpeechTask(_FolderSounds(folders, settings), settings)


@dataclass(frozen=True, slots=True)
class _FolderSounds:
    """The WAV files of class folders."""

    folders: ClassFolders
    settings: SpeechSettings

    @property
    def classes(self) -> Sequence[str]:
        return self.folders.classes

    def read(self, split: str) -> Iterator[tuple[NDArray[np.int16], int]]:
        for file, label in self.folders.files[split]:
            yield read_wav(file, self.settings.sample_rate, resample=self.settings.resample), label

    def digest(self) -> str:
        return self.folders.digest()


class SpeechTask(Task):
    """Classification of sounds.

    Args:
        sounds: with their classes, from files or wherever else.
        settings: how they become spectrograms.
        name: in the catalog.
    """

    def __init__(self, sounds: Sounds, settings: SpeechSettings, *, name: str = "speech_folder") -> None:
        self.name = name
        self.sounds, self.settings = sounds, settings
        self.input_shape = (settings.mels, settings.frames)
        self.classes = len(sounds.classes)
        self._clips: dict[str, _Clips] = {}
        self._resident: dict[torch.device, _Clips] = {}

    @functools.cached_property
    def options(self) -> Mapping[str, object]:  # type: ignore[override]  # a property that is computed once
        """Settings, and what identifies the sounds."""
        return asdict(self.settings) | {"digest": self.sounds.digest()}

    @property
    def sizes(self) -> Mapping[str, int]:
        """Networks tell a class by their output, which some spaces call an embedding."""
        return {"classes": self.classes, "embedding": self.classes}

    def batch(self, step: int, size: int, seed: int, device: torch.device = torch.device("cpu")) -> Samples:  # noqa: B008  # immutable
        """Training clips in a new order each epoch, from a random place, moved and masked at random."""
        clips = self._on_device(device)
        rows = self.rows(len(clips.labels), step, size, seed).to(device)
        generator = step_generator(seed, step, _AUGMENT_STREAM, device)
        spare = clips.lengths[rows] - self.settings.length
        drawn = torch.rand((6, size), generator=generator, device=device)
        shift = self.settings.shift * self.settings.sample_rate / 1000 * (drawn[0] * 2 - 1)
        offsets = torch.where(spare > 0, drawn[1] * (spare + 1), spare / 2 + shift).floor().long()
        spectra = self._spectra(clips.cut(rows, offsets, self.settings.length))
        for dim, most, (width, place) in (
            (1, self.settings.band_mask, drawn[2:4]),
            (2, self.settings.frame_mask, drawn[4:]),
        ):
            if most:
                widths = (width * (most + 1)).long()
                starts = (place * (spectra.shape[dim] - widths + 1)).long()
                spectra = mask_stripes(spectra, dim, starts, widths)
        return Samples(spectra, clips.labels[rows])

    def _spectra(self, sound: Tensor) -> Tensor:
        mean, deviation = (value.to(sound.device)[:, None] for value in self._scale)
        return log_mel(sound, self.settings).sub_(mean).div_(deviation)

    @functools.cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """[mels] mean and standard deviation of each band over the middles of training clips."""
        clips = self._split("train")
        rows = torch.linspace(0, len(clips.labels) - 1, min(_SCALE_CLIPS, len(clips.labels))).long().unique()
        bands = self._middles(clips, rows).transpose(0, 1).flatten(1).double()
        return bands.mean(dim=1).float(), bands.std(dim=1).clamp(min=1e-3).float()

    def _middles(self, clips: _Clips, rows: Tensor) -> Tensor:
        offsets = ((clips.lengths[rows] - self.settings.length) / 2).floor().long()
        chunks = zip(rows.split(_CHUNK), offsets.split(_CHUNK), strict=True)
        return torch.cat([log_mel(clips.cut(*chunk, self.settings.length), self.settings) for chunk in chunks])

    def _samples(self, split: str) -> Samples:
        clips = self._split(split)
        mean, deviation = (value[:, None] for value in self._scale)
        spectra = self._middles(clips, torch.arange(len(clips.labels)))
        return Samples(spectra.sub_(mean).div_(deviation), clips.labels)

    def _split(self, name: str) -> _Clips:
        if name not in self._clips:
            self._clips[name] = _gather_clips(self.sounds.read(name))
        return self._clips[name]

    def _on_device(self, device: torch.device) -> _Clips:
        if device not in self._resident:
            self._resident[device] = self._split("train").to(device)
        return self._resident[device]


def log_mel(sound: Tensor, settings: SpeechSettings) -> Tensor:
    """Log energies in mel bands.

    Args:
        sound: [N, settings.length] float32 in [-1, 1).
        settings: frames, bands and sample rate.

    Returns:
        [N, mels, frames] float32, natural logarithm of the energy plus 1e-6.
    """
    size = 2 ** math.ceil(math.log2(settings.window))
    window = torch.hann_window(settings.window, device=sound.device)
    frames = sound.unfold(1, settings.window, settings.hop) * window
    power = torch.fft.rfft(frames, n=size).abs().square()
    filters = torch.from_numpy(mel_filters(settings.mels, size, settings.sample_rate)).to(sound.device)
    return (power @ filters).add_(1e-6).log_().transpose(1, 2).contiguous()


@functools.lru_cache(maxsize=8)
def mel_filters(mels: int, size: int, sample_rate: int) -> NDArray[np.float32]:
    """[size // 2 + 1, mels] triangles, evenly spaced on the mel scale 2595 log10(1 + f / 700) up to half the rate.

    A band narrower than two bins of the transform takes the bin nearest to its centre, so that none stays silent.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, size // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    silent = np.flatnonzero(filters.sum(axis=0) == 0)
    filters[np.abs(bins - edges[1:-1]).argmin(axis=0)[silent], silent] = 1.0
    return filters.astype(np.float32)


def _gather_clips(labelled: Iterable[tuple[NDArray[np.int16], int]]) -> _Clips:
    sounds, labels = zip(*labelled, strict=True)
    lengths = np.asarray([len(sound) for sound in sounds], dtype=np.int64)
    return _Clips(
        sound=torch.from_numpy(np.concatenate(sounds)),
        starts=torch.from_numpy(np.cumsum(lengths) - lengths),
        lengths=torch.from_numpy(lengths),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def _lists(folder: Path) -> dict[str, frozenset[str]]:
    """The files that Speech Commands' lists put into a split; empty where there are no lists."""
    listed: dict[str, frozenset[str]] = {}
    for split, name in _LISTS.items():
        if (folder / name).is_file():
            names = frozenset((folder / name).read_text(encoding="utf-8").split())
            if gone := sorted(item for item in names if not (folder / item).is_file()):
                raise TaskError(
                    f"{str(folder / name)!r} lists {gone[0]!r}, which is not there ({len(gone)} such files)."
                )
            listed[split] = names
    return listed
