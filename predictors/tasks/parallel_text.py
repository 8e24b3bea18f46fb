"""Your own translations: two files of lines, each line in one language the translation of that line in the other.

Networks get the source and the target so far, and tell the next target token at every place (teacher forcing). Lines
are padded at their end; padding has a token of its own, which the source shows and the labels leave out.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError, TaskError
from .task import IGNORED, Samples, Task
from .tokens import UNKNOWN, Vocabulary, build_vocabulary, read_text

__all__ = ["BEGIN", "END", "PAD", "LinePairs", "Lines", "PairFiles", "ParallelTextTask", "cut_rows", "parallel_text"]

PAD: Final = "<pad>"
BEGIN: Final = "<begin>"
END: Final = "<end>"
_SPECIAL: Final = (PAD, BEGIN, END, UNKNOWN)
"""Tokens 0 to 3 of every vocabulary."""
_LEVELS: Final = ("character", "word")
_SPLIT_SEED: Final = 1797
_SPLITS: Final = {"train": ("train",), "valid": ("valid", "val", "dev"), "test": ("test",)}
_CUT_SHARE: Final = 0.1

_Files = tuple[Path, Path]
Lines = tuple[list[str], list[str]]
"""Of the source and of the target."""


class LinePairs(Protocol):
    """Where lines with their translations come from."""

    def read(self, split: str) -> Lines:
        """Those of ``train``, ``valid`` or ``test``."""
        ...

    def named(self, split: str) -> str:
        """What holds them, for messages."""
        ...

    def digest(self) -> str:
        """Stable name of exactly these lines."""
        ...


def cut_rows(count: int, missing: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Which of `count` pairs are in each of the `missing` splits, a tenth in each, and in ``train``; always alike."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    cut = max(1, round(count * _CUT_SHARE))
    parts = {split: np.sort(order[cut * index : cut * (index + 1)]) for index, split in enumerate(missing)}
    return parts | {"train": np.sort(order[cut * len(missing) :])}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFiles:
    """Where the lines of each split are.

    Attributes:
        files: source and target file of ``train``, and of ``valid`` and ``test`` where they have files of their own.
    """

    files: Mapping[str, _Files]

    def read(self, split: str) -> Lines:
        """Lines of the source and the target of a split; those without files are cut from the training lines."""
        if split in self.files and split != "train":
            return _read_pair(self.files[split])
        source, target = _read_pair(self.files["train"])
        rows = cut_rows(len(source), [split for split in ("valid", "test") if split not in self.files])[split]
        return [source[row] for row in rows], [target[row] for row in rows]

    def named(self, split: str) -> str:
        """The files that hold a split."""
        return ", ".join(repr(str(file)) for file in self.files.get(split, self.files["train"]))

    def digest(self) -> str:
        """Stable name of the files' contents."""
        content = hashlib.sha256()
        for split in sorted(self.files):
            for file in self.files[split]:
                content.update(f"{split} {file.stat().st_size}\n".encode())
                content.update(file.read_bytes())
        return content.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """Encoded lines: [N, S] sources with `END`, [N, T + 1] targets from `BEGIN` to `END`, padded; the smallest type."""

    source: torch.Tensor
    target: torch.Tensor


def parallel_text(
    *,
    path: str,
    source: str,
    target: str,
    level: str = "word",
    source_length: int = 30,
    target_length: int = 30,
    vocabulary: int | None = None,
    joined: bool = False,
) -> ParallelTextTask:
    """Translation from one file of lines to the other.

    Args:
        path: the folder with ``train.<source>`` and ``train.<target>``; ``valid.`` (or ``val.``, ``dev.``) and
            ``test.`` likewise, or a tenth of the training lines each.
        source: ending of the source files, such as ``de``.
        target: ending of the target files, such as ``en``.
        level: ``word``: tokens stand between spaces, as byte-pair encoders write them; or ``character``.
        source_length: tokens of a source with its end mark; pairs with longer lines are left out.
        target_length: tokens of a target with its end mark; pairs with longer lines are left out.
        vocabulary: the largest number of tokens of each language; None = all of the training lines.
        joined: whether both languages share one vocabulary.

    Raises:
        TaskError: a file is missing, files have different numbers of lines, a line is empty, or no pair is short
            enough; the message names the file and the line.
    """
    if level not in _LEVELS:
        raise ConfigError("task.options.level", level, ", ".join(_LEVELS))
    for name, value in (("source_length", source_length), ("target_length", target_length)):
        if value < 2:
            raise ConfigError(f"task.options.{name}", value, "an integer of at least 2: a token and the end mark")
    if vocabulary is not None and vocabulary <= len(_SPECIAL):
        raise ConfigError(
            "task.options.vocabulary", vocabulary, f"an integer above {len(_SPECIAL)}, the special tokens"
        )
    for name, value in (("source", source), ("target", target)):
        if not value or Path(value).name != value:
            raise ConfigError(f"task.options.{name}", value, "the ending of a file's name, such as de")
    if source == target:
        raise ConfigError("task.options.target", target, "another ending than that of the source")
    return ParallelTextTask(
        PairFiles(files=_find(Path(path).expanduser(), source, target)),
        level=level,
        lengths=(source_length, target_length),
        largest=vocabulary,
        joined=joined,
    )


class ParallelTextTask(Task):
    """Telling the next token of a translation.

    Samples have the inputs source [S] and target so far [T], and labels [T], `IGNORED` after the end mark.

    Args:
        files: the lines, in files or wherever else.
        level: what a token is.
        lengths: tokens of source and target, S and T.
        largest: of each vocabulary; None = no limit.
        joined: whether both languages share one vocabulary.
        name: in the catalog.
    """

    def __init__(
        self,
        files: LinePairs,
        *,
        level: str,
        lengths: tuple[int, int],
        largest: int | None = None,
        joined: bool = False,
        name: str = "parallel_text",
    ) -> None:
        self.name = name
        self.files, self.level, self.lengths, self.largest, self.joined = files, level, lengths, largest, joined
        self.input_shape = (lengths[0],)
        self._stored: dict[str, _Pairs] = {}
        self._resident: dict[torch.device, _Pairs] = {}

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Source and target so far."""
        return tuple((length,) for length in self.lengths)

    @functools.cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Tokens of the source and of the target, of the training lines alone."""
        lines = self.files.read("train")
        sides = [[token for line in side for token in self._split_line(line)] for side in lines]
        if self.joined:
            both = build_vocabulary([*sides[0], *sides[1]], _SPECIAL, self.largest)
            return both, both
        source, target = (build_vocabulary(side, _SPECIAL, self.largest) for side in sides)
        return source, target

    @property
    def classes(self) -> int:  # type: ignore[override]  # known when the lines were read
        """Size of the target's vocabulary."""
        return len(self.vocabularies[1])

    @property
    def sizes(self) -> Mapping[str, int]:
        """Both vocabularies."""
        source, target = self.vocabularies
        return {"source_vocabulary": len(source), "target_vocabulary": len(target)}

    @functools.cached_property
    def options(self) -> Mapping[str, object]:  # type: ignore[override]  # a property that is computed once
        """Level, lengths and vocabulary, and what identifies the lines."""
        return {
            "level": self.level,
            "source_length": self.lengths[0],
            "target_length": self.lengths[1],
            "vocabulary": self.largest,
            "joined": self.joined,
            "digest": self.files.digest(),
        }

    def batch(self, step: int, size: int, seed: int, device: torch.device = torch.device("cpu")) -> Samples:  # noqa: B008  # immutable
        """Training pairs in a new order each epoch."""
        if device not in self._resident:
            pairs = self._pairs("train")
            self._resident[device] = _Pairs(source=pairs.source.to(device), target=pairs.target.to(device))
        pairs = self._resident[device]
        rows = self.rows(len(pairs.source), step, size, seed).to(device)
        return _present(pairs.source[rows], pairs.target[rows])

    def _samples(self, split: str) -> Samples:
        pairs = self._pairs(split)
        return _present(pairs.source, pairs.target)

    def _pairs(self, split: str) -> _Pairs:
        if split not in self._stored:
            self._stored[split] = self._encode(split)
        return self._stored[split]

    def _encode(self, split: str) -> _Pairs:
        lines = self.files.read(split)
        sources, targets = ([self._split_line(line) for line in side] for side in lines)
        limits = self.lengths
        kept = [row for row, pair in enumerate(zip(sources, targets, strict=True)) if _fits(pair, limits)]
        if not kept:
            raise TaskError(
                f"{self.files.named(split)}: none of the {len(sources)} pairs of the {split} split has at most "
                f"{limits[0] - 1} source and {limits[1] - 1} target tokens; raise source_length and target_length."
            )
        vocabularies = self.vocabularies
        return _Pairs(
            source=_padded([[*sources[row], END] for row in kept], limits[0], vocabularies[0]),
            target=_padded([[BEGIN, *targets[row], END] for row in kept], limits[1] + 1, vocabularies[1]),
        )

    def _split_line(self, line: str) -> list[str]:
        return list(line) if self.level == "character" else line.split()


def _fits(pair: tuple[Sequence[str], Sequence[str]], limits: tuple[int, int]) -> bool:
    return all(len(tokens) < limit for tokens, limit in zip(pair, limits, strict=True))


def _padded(lines: Sequence[Sequence[str]], length: int, vocabulary: Vocabulary) -> torch.Tensor:
    """[N, length]: numbers of the tokens, then those of `PAD`, which is 0."""
    numbers = np.zeros((len(lines), length), dtype=np.int32)
    encoded = vocabulary.encode(token for line in lines for token in line)
    counts = np.asarray([len(line) for line in lines])
    numbers[np.arange(length) < counts[:, None]] = encoded
    return torch.from_numpy(numbers.astype(np.int16) if len(vocabulary) <= 32767 else numbers)


def _present(source: torch.Tensor, target: torch.Tensor) -> Samples:
    told = target[:, 1:].long()
    return Samples(source.long(), told.masked_fill(told == 0, IGNORED), (target[:, :-1].long(),))


def _find(folder: Path, source: str, target: str) -> dict[str, _Files]:
    """The pairs of files by split; raises TaskError where one of a pair is missing."""
    found: dict[str, _Files] = {}
    for split, names in _SPLITS.items():
        for name in names:
            pair = (folder / f"{name}.{source}", folder / f"{name}.{target}")
            there = [file.is_file() for file in pair]
            if any(there) and not all(there):
                raise TaskError(
                    f"there is no file {str(pair[there.index(False)])!r} to go with {name}.*; both are needed."
                )
            if all(there):
                found[split] = pair
    if "train" not in found:
        raise TaskError(f"there are no files {str(folder / f'train.{source}')!r} and train.{target}; see `path`.")
    for pair in found.values():
        _check_counts(pair)
    return found


def _check_counts(pair: _Files) -> None:
    """Refuse pairs of unequal numbers of lines before anything is trained."""
    counts = [len(_lines(file)) for file in pair]
    if counts[0] != counts[1]:
        raise TaskError(
            f"{str(pair[0])!r} has {counts[0]} lines and {str(pair[1])!r} has {counts[1]}; "
            "every line needs its translation at the same place."
        )
    if counts[0] < 3:
        raise TaskError(f"{str(pair[0])!r} has {counts[0]} lines; at least 3 are needed.")


def _lines(file: Path) -> list[str]:
    return read_text(file).removesuffix("\n").split("\n")


def _read_pair(pair: _Files) -> Lines:
    sides = tuple(_lines(file) for file in pair)
    for file, lines in zip(pair, sides, strict=True):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise TaskError(f"{str(file)!r}: line {number} is empty; remove it from both files or fill it.")
    return sides[0], sides[1]
