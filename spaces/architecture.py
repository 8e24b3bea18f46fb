"""Architecture: one decoded, immutable point of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["Architecture", "Value"]

Value = bool | int | float | str | tuple["Value", ...]
"""What a gene may choose: JSON scalars, or tuples of them."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One point of a space: the values of its active genes, and what identifies its computation.

    Attributes:
        space: identity of the space it belongs to (`SearchSpace.identity`).
        genome: canonical choice indices, one per gene, 0 where the gene is inactive.
        choices: value by gene name, active genes only.
        key: 32 hexadecimal digits; equal keys mean the same computation with the same shared weights.
    """

    space: str
    genome: tuple[int, ...]
    choices: Mapping[str, Value] = field(compare=False)
    key: str = field(compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", MappingProxyType(dict(self.choices)))

    def to_json(self) -> dict[str, object]:
        """A JSON-able form: space, genome, choices and key."""
        return {
            "space": self.space,
            "genome": list(self.genome),
            "choices": dict(self.choices),
            "key": self.key,
        }
