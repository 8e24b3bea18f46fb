"""Published networks as points of staged spaces: block by block, as the values of the genes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..space import SearchSpace
from .staged import StagedSpace
from .staged_spec import StagedSpec

__all__ = ["Reference", "block_choices", "point"]

Reference = Callable[[int | None], tuple[SearchSpace, Architecture]]
"""Builds a published network at a resolution, None = its own."""


def point(spec: StagedSpec, choices: Mapping[str, Value], *, name: str, preset: str, resolution: int) -> Reference:
    """The architecture with these choices in the space of `spec`, at `resolution` unless told otherwise.

    Args:
        spec: of the preset.
        choices: value by gene name; genes left out take their defaults; one that the preset fixes must
            be fixed to the value given.
        name: of the family.
        preset: its name.
        resolution: side of the image the network was published with.

    Returns:
        A builder, which raises SpaceError where the preset does not hold the network.
    """

    def build(wanted: int | None) -> tuple[SearchSpace, Architecture]:
        fixed = dataclasses.replace(spec, resolutions=(resolution if wanted is None else wanted,))
        space = StagedSpace(fixed, name=name, preset=preset)
        open_choices = {}
        for gene, value in choices.items():
            if gene in space.table.position:
                open_choices[gene] = value
            elif space.layout.fixed.get(gene) != value:
                raise SpaceError(
                    f"{name} {preset}: the network needs {gene} = {value!r}, but the preset fixes "
                    f"{space.layout.fixed.get(gene)!r}; allow the value in its stage."
                )
        return space, space.architecture(open_choices)

    return build


def block_choices(stages: Sequence[Sequence[Mapping[str, Value]]]) -> dict[str, Value]:
    """Choices by gene name (``stages.<stage>.depth``, ``stages.<stage>.<block>.<choice>``) from those of every block.

    >>> block_choices([[{"kernel": 3}, {"kernel": 5}]])
    {'stages.0.depth': 2, 'stages.0.0.kernel': 3, 'stages.0.1.kernel': 5}
    """
    choices: dict[str, Value] = {}
    for stage, blocks in enumerate(stages):
        choices[f"stages.{stage}.depth"] = len(blocks)
        for index, block in enumerate(blocks):
            choices |= {f"stages.{stage}.{index}.{choice}": value for choice, value in block.items()}
    return choices
