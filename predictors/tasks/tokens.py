"""Texts as tokens: bytes, characters or words, and the vocabulary that names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import TaskError

__all__ = ["LEVELS", "UNKNOWN", "Vocabulary", "build_vocabulary", "read_text", "split_tokens"]

LEVELS: Final = ("byte", "character", "word")
"""What a token is."""

UNKNOWN: Final = "<unknown>"
"""The token of everything that the vocabulary does not have."""

_WORD: Final = re.compile(r"\w+|[^\w\s]|\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens with their numbers.

    Attributes:
        tokens: by number; special ones first.
    """

    tokens: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Numbers of some tokens; unknown ones have the number of `UNKNOWN`."""
        numbers = {token: number for number, token in enumerate(self.tokens)}
        unknown = numbers[UNKNOWN]
        return np.asarray([numbers.get(token, unknown) for token in tokens], dtype=np.int32)


def build_vocabulary(tokens: Iterable[str], special: Sequence[str], largest: int | None) -> Vocabulary:
    """The special tokens, then the most frequent others, at most `largest` in all; equally frequent ones by name.

    >>> build_vocabulary("banana", [UNKNOWN], 3).tokens
    ('<unknown>', 'a', 'n')
    """
    ranked = sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0]))
    kept = ranked if largest is None else ranked[: max(0, largest - len(special))]
    return Vocabulary(tokens=(*special, *(token for token, _ in kept)))


def split_tokens(text: str, level: str) -> list[str]:
    """Characters, or words, signs and single spaces, which together are the text.

    >>> split_tokens("to be, or", "word")
    ['to', ' ', 'be', ',', ' ', 'or']
    """
    return list(text) if level == "character" else _WORD.findall(text)


def read_text(file: Path) -> str:
    """The UTF-8 text of a file, every line end a single newline; raises TaskError with the place of a wrong byte."""
    try:
        return file.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{str(file)!r}: byte {error.start} is no UTF-8 ({error.reason}); save the file as UTF-8."
        ) from error
    except OSError as error:
        raise TaskError(f"{str(file)!r}: cannot be read ({error}).") from error
