"""Your own text: the next byte, character or word is told from those before it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, TaskError
from .task import Samples, Task, step_generator
from .tokens import LEVELS, UNKNOWN, Vocabulary, build_vocabulary, read_text, split_tokens

__all__ = ["TextSource", "TextTask", "text"]

_PHASE_STREAM: Final = 2
_SHARES: Final = {"train": 0.8, "valid": 0.1, "test": 0.1}
_SPLIT_NAMES: Final = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """Where the text of each split is: files read one after the other, and which share of it.

    Attributes:
        files: of each split.
        shares: first and last place of each split in the text of its files, as shares of it.
    """

    files: Mapping[str, tuple[Path, ...]]
    shares: Mapping[str, tuple[float, float]]

    def read(self, split: str) -> str:
        """The text of a split."""
        whole = "".join(read_text(file) for file in self.files[split])
        first, last = (round(share * len(whole)) for share in self.shares[split])
        return whole[first:last]

    def digest(self) -> str:
        """Stable name of the files' contents and the shares."""
        content = hashlib.sha256(repr(sorted(self.shares.items())).encode())
        for split in sorted(self.files):
            for file in self.files[split]:
                content.update(f"{split} {file.stat().st_size}\n".encode())
                content.update(file.read_bytes())
        return content.hexdigest()


def text(*, path: str, level: str = "character", length: int = 128, vocabulary: int | None = None) -> TextTask:
    """Language modelling on text files.

    Args:
        path: a UTF-8 file; or a folder with files for each split (``train.txt``, ``wiki.valid.tokens``: the name has
            the split's name between dots); or one of ``.txt`` files. Where there is no such name, the text is split by
            place: the first eight tenths are for training, then a tenth each for validation and test.
        level: what a token is: ``byte``, ``character`` or ``word``.
        length: tokens that a network reads at a time.
        vocabulary: the largest number of tokens, the most frequent of the training text; None = all of them.

    Raises:
        TaskError: no such file, no text, a byte that is no UTF-8, or less text than `length`; the message names it.
    """
    if level not in LEVELS:
        raise ConfigError("task.options.level", level, ", ".join(LEVELS))
    if length < 1:
        raise ConfigError("task.options.length", length, "an integer of at least 1")
    if vocabulary is not None and (vocabulary < 2 or level == "byte"):
        raise ConfigError("task.options.vocabulary", vocabulary, "an integer of at least 2; bytes are always 256")
    return TextTask(_source(Path(path).expanduser()), level=level, length=length, largest=vocabulary)


class TextTask(Task):
    """Telling the next token at every place of a window of text.

    Samples are windows [length] with labels [length], each the token after. Training windows of one epoch do not
    overlap and start at a random phase of their own; validation and test windows follow one another.

    Args:
        source: the text.
        level: what a token is.
        length: tokens of a window.
        largest: of the vocabulary; None = no limit.
    """

    def __init__(self, source: TextSource, *, level: str, length: int, largest: int | None) -> None:
        self.name = "text"
        self.source, self.level, self.length, self.largest = source, level, length, largest
        self.input_shape = (length,)
        self._tokens: dict[str, Tensor] = {}
        self._resident: dict[torch.device, Tensor] = {}

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the training text; number 0 stands for all others. Bytes are themselves."""
        if self.level == "byte":
            return Vocabulary(tokens=tuple(f"<{number}>" for number in range(256)))
        tokens = split_tokens(self.source.read("train"), self.level)
        return build_vocabulary(tokens, [UNKNOWN], self.largest)

    @functools.cached_property
    def classes(self) -> int:  # type: ignore[override]  # known when the text was read
        """Size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The vocabulary."""
        return {"vocabulary": self.classes}

    @functools.cached_property
    def options(self) -> Mapping[str, object]:  # type: ignore[override]  # a property that is computed once
        """Level, length and vocabulary, and what identifies the text."""
        return {"level": self.level, "length": self.length, "vocabulary": self.largest, "digest": self.source.digest()}

    def batch(self, step: int, size: int, seed: int, device: torch.device = torch.device("cpu")) -> Samples:  # noqa: B008  # immutable
        """Windows of the training text in a new order each epoch; every epoch cuts the text at other places."""
        if device not in self._resident:
            self._resident[device] = self._split("train").to(device)
        tokens = self._resident[device]
        windows = self._windows(tokens)
        spare = len(tokens) - 1 - windows * self.length  # tokens that an epoch leaves out, so that windows can move
        position = step * size + torch.arange(size)
        epochs = position // windows
        phases = {epoch: self._phase(seed, epoch, spare) for epoch in epochs.unique().tolist()}
        phase = torch.tensor([phases[epoch] for epoch in epochs.tolist()])
        starts = self.rows(windows, step, size, seed) * self.length + phase
        return self._cut(tokens, starts.to(device))

    def _windows(self, tokens: Tensor) -> int:
        """Windows of an epoch: one less than would fit, where there are several, to leave room for the phase."""
        fitting = (len(tokens) - 1) // self.length
        return fitting - 1 if fitting > 1 else fitting

    def _share_order(self, count: int) -> Tensor:
        """Consecutive windows: they move by less than their length, and neighbours in different shares would mix."""
        return torch.arange(count)

    def _phase(self, seed: int, epoch: int, spare: int) -> int:
        return int(torch.randint(spare + 1, (), generator=step_generator(seed, epoch, _PHASE_STREAM)))

    def _cut(self, tokens: Tensor, starts: Tensor) -> Samples:
        windows = tokens[starts[:, None] + torch.arange(self.length + 1, device=tokens.device)].long()
        return Samples(windows[:, :-1], windows[:, 1:])

    def _samples(self, split: str) -> Samples:
        tokens = self._split(split)
        return self._cut(tokens, torch.arange((len(tokens) - 1) // self.length) * self.length)

    def _split(self, name: str) -> Tensor:
        """[tokens] of a split, in the smallest type that holds them."""
        if name not in self._tokens:
            tokens = self._encode(self.source.read(name))
            if len(tokens) <= self.length:
                raise TaskError(
                    f"{', '.join(repr(str(file)) for file in self.source.files[name])}: the {name} text has "
                    f"{len(tokens)} tokens; windows of length {self.length} need at least {self.length + 1}."
                )
            self._tokens[name] = torch.from_numpy(tokens)
        return self._tokens[name]

    def _encode(self, content: str) -> NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.int32]:
        if self.level == "byte":
            return np.frombuffer(content.encode(), dtype=np.uint8).copy()
        tokens = self.vocabulary.encode(split_tokens(content, self.level))
        return tokens.astype(np.int16) if self.classes <= 32767 else tokens


def _source(path: Path) -> TextSource:
    if not path.exists():
        raise TaskError(f"there is no file or folder {str(path)!r}; give `path` a text file or a folder of them.")
    if path.is_dir():
        named = {split: _named(path, names) for split, names in _SPLIT_NAMES.items()}
        if named["train"]:
            return _named_source(named)
    files = (path,) if path.is_file() else tuple(sorted(path.glob("*.txt")))
    if not files:
        raise TaskError(f"folder {str(path)!r} has no .txt files and no file named train.")
    for file in files:
        if not file.stat().st_size:
            raise TaskError(f"{str(file)!r} is empty; remove it or fill it.")
    edges = np.cumsum([0.0, *_SHARES.values()]).tolist()
    places = zip(_SHARES, edges[:-1], edges[1:], strict=True)
    return TextSource(files=dict.fromkeys(_SHARES, files), shares={split: (low, high) for split, low, high in places})


def _named(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.iterdir() if file.is_file() and set(names) & set(file.name.split("."))))


def _named_source(named: Mapping[str, tuple[Path, ...]]) -> TextSource:
    """Named files; a split without any is a tenth of the training text, cut from its end."""
    missing = [split for split in ("valid", "test") if not named[split]]
    keep = 1.0 - 0.1 * len(missing)
    shares = dict.fromkeys(named, (0.0, 1.0)) | {"train": (0.0, keep)}
    for index, split in enumerate(missing):
        shares[split] = (keep + 0.1 * index, min(1.0, keep + 0.1 * (index + 1)))
    files = {split: named[split] or named["train"] for split in named}
    return TextSource(files=files, shares=shares)
