"""Recipes as genes: a gene called ``recipe.<setting>`` says how its architecture is trained alone.

Such genes are no part of the network, so architectures that differ in them alone share a key; whoever remembers or
compares evaluations takes the recipe into account beside it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..spaces.architecture import Architecture
from ..spaces.digest import digest_rows
from ..spaces.gene import Population
from ..spaces.space import SearchSpace

if TYPE_CHECKING:
    from .training import StandaloneSettings

__all__ = ["PREFIX", "check_recipe", "evaluation_keys", "recipe_genes", "recipe_of"]

PREFIX: Final = "recipe."


def recipe_genes(space: SearchSpace) -> tuple[int, ...]:
    """Positions of the genes that say how to train."""
    return tuple(index for index, gene in enumerate(space.genes) if gene.name.startswith(PREFIX))


def check_recipe(space: SearchSpace, settings: StandaloneSettings) -> None:
    """Raise ConfigError for a recipe gene that standalone training cannot follow, or a value that it refuses."""
    known = {field.name for field in dataclasses.fields(settings)}
    for index in recipe_genes(space):
        gene = space.genes[index]
        setting = gene.name.removeprefix(PREFIX)
        if setting not in known:
            raise ConfigError(
                f"gene {gene.name}", setting, f"a setting of standalone training: {', '.join(sorted(known))}",
                "Score such a space by its supernet, or leave the gene out of it.",
            )  # fmt: skip
        for value in gene.values:
            dataclasses.replace(settings, **{setting: value})


def recipe_of(settings: StandaloneSettings, architecture: Architecture) -> StandaloneSettings:
    """The settings with those that the architecture's recipe genes choose.

    Raises:
        ConfigError: a recipe gene that is no setting.
    """
    chosen = {
        name.removeprefix(PREFIX): value for name, value in architecture.choices.items() if name.startswith(PREFIX)
    }
    return type(settings).from_json(settings.to_json() | chosen) if chosen else settings


def evaluation_keys(space: SearchSpace, genomes: Population) -> NDArray[np.uint64]:
    """[B, 2] digests: equal where two genomes are the same network trained by the same recipe."""
    keys = space.keys(genomes)
    columns = list(recipe_genes(space))
    if not columns:
        return keys
    words = np.ascontiguousarray(keys).view(np.int16)
    return digest_rows(np.concatenate([words, genomes[:, columns]], axis=1), f"{space.identity} with recipe")
