"""The search spaces that exist, by name; families are imported only when asked for.

>>> get("mobilenet", "tiny").name
'mobilenet'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..errors import SpaceError
from .architecture import Value
from .space import SearchSpace

__all__ = ["FAMILIES", "Family", "get", "names", "presets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How to make the spaces of one family.

    Attributes:
        presets: their names, the default one first.
        options: what `get` may adapt to a task; a subset of the preset's fields.
        build: (preset, options) -> space; imports the family.
    """

    presets: tuple[str, ...]
    options: tuple[str, ...]
    build: Callable[[str, Mapping[str, Value]], SearchSpace]


def _mobilenet(preset: str, options: Mapping[str, Value]) -> SearchSpace:
    import dataclasses

    from .families.mobilenet import PRESETS, MobileNetSpace

    # The spec checks the values; the catalog has checked the names.
    return MobileNetSpace(dataclasses.replace(PRESETS[preset], **options), preset=preset)  # type: ignore[arg-type]


FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({
    "mobilenet": Family(
        presets=("digits", "edge64", "tiny"), options=("in_channels", "resolution", "classes"), build=_mobilenet
    ),
})  # fmt: skip
"""Every family, by name."""


def names() -> tuple[str, ...]:
    """Names of the families, sorted."""
    return tuple(sorted(FAMILIES))


def presets(name: str) -> tuple[str, ...]:
    """Names of a family's presets, the default one first; raises SpaceError for an unknown family."""
    return _family(name).presets


def get(name: str, preset: str | None = None, **options: Value) -> SearchSpace:
    """Build a search space.

    Args:
        name: the family, one of `names()`.
        preset: one of `presets(name)`; None = the first of them.
        **options: what adapts the preset to a task, e.g. `in_channels`, `resolution`, `classes`.

    Raises:
        SpaceError: unknown family, preset or option, or a value that the family rejects.
    """
    family = _family(name)
    chosen = family.presets[0] if preset is None else preset
    if chosen not in family.presets:
        raise SpaceError(f"space {name!r} has no preset {preset!r}; choose one of {list(family.presets)}.")
    if unknown := sorted(set(options) - set(family.options)):
        raise SpaceError(f"space {name!r}: unknown options {unknown}; allowed: {list(family.options)}.")
    return family.build(chosen, options)


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise SpaceError(f"search space {name!r} is unknown; choose one of {list(names())}.")
    return FAMILIES[name]
