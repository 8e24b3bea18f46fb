"""Numbers spelled out in English words: translation that needs no files, with one right answer for every line.

The source is a number's digits, the target its words: ``4 0 7`` and ``four hundred seven``. A network must learn which
place a digit stands at, where zeros are silent, and that some tens have words of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError
from .parallel_text import Lines, ParallelTextTask, cut_rows

__all__ = ["NumberLines", "numbers", "spelled"]

_LIMITS: Final = (99, 999_999)
_UP_TO_NINETEEN: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def numbers(*, largest: int = 9999) -> ParallelTextTask:
    """Translation of numbers from 0 to `largest` into words; a tenth of them each is for validation and test.

    Args:
        largest: the largest number, 99 to 999,999. Up to 9,999 sources have 5 tokens and targets 7, with their end
            marks, of vocabularies of 14 and 34.
    """
    if not _LIMITS[0] <= largest <= _LIMITS[1]:
        raise ConfigError("task.options.largest", largest, f"an integer from {_LIMITS[0]} to {_LIMITS[1]}")
    lines = NumberLines(largest=largest)
    lengths = len(str(largest)) + 1, max(len(spelled(number)) for number in range(largest + 1)) + 1
    return ParallelTextTask(lines, level="word", lengths=lengths, name="numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLines:
    """Numbers from 0 to `largest` as lines of digits, and their words."""

    largest: int

    def read(self, split: str) -> Lines:
        """Digits and words of the numbers of a split."""
        rows = cut_rows(self.largest + 1, ("valid", "test"))[split].tolist()
        return [" ".join(str(number)) for number in rows], [" ".join(spelled(number)) for number in rows]

    def named(self, split: str) -> str:
        """What holds them, for messages."""
        return f"numbers up to {self.largest} ({split})"

    def digest(self) -> str:
        """They follow from the largest."""
        return str(self.largest)


def spelled(number: int) -> list[str]:
    """The words of a number below a million.

    >>> " ".join(spelled(40_718))
    'forty thousand seven hundred eighteen'
    """
    if number >= 1000:
        return [*spelled(number // 1000), "thousand", *_rest(number % 1000)]
    if number >= 100:
        return [_UP_TO_NINETEEN[number // 100], "hundred", *_rest(number % 100)]
    if number >= 20:
        return [_TENS[number // 10 - 2], *_rest(number % 10)]
    return [_UP_TO_NINETEEN[number]]


def _rest(number: int) -> list[str]:
    return spelled(number) if number else []
