"""Candidates: operations of a space that can be tried alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .op import Shape

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Candidate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An operation that can be built and run alone.

    Attributes:
        place: the gene whose options it belongs to, or the block that always does it.
        label: the option, or the block with its parameters.
        choice: whether it is one option of a choice.
        shape: what it reads, without the batch.
        build: a network that does it, freshly initialised from a seed.
    """

    place: str
    label: str
    choice: bool
    shape: Shape
    build: Callable[[int], nn.Module]
