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

__all__ = ["DENSITIES", "FAMILIES", "Family", "get", "names", "presets"]

DENSITIES: Final = "densities"
"""The option of every family that makes its largest network the backbone of sparse ones: ``0.2,0.5,1``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How to make the spaces of one family.

    Attributes:
        presets: their names, the default one first.
        options: what `get` may adapt to a task; a subset of the preset's fields.
        build: (preset, options) -> space; imports the family.
        supernet: whether its networks share weights: at least the preset `tiny` has a supernet.
    """

    presets: tuple[str, ...]
    options: tuple[str, ...]
    build: Callable[[str, Mapping[str, Value]], SearchSpace]
    supernet: bool = True


def _mobilenet(preset: str, options: Mapping[str, Value]) -> SearchSpace:
    import dataclasses

    from .families.mobilenet import PRESETS, MobileNetSpace

    # The spec checks the values; the catalog has checked the names.
    return MobileNetSpace(dataclasses.replace(PRESETS[preset], **options), preset=preset)  # type: ignore[arg-type]


def _custom(preset: str, options: Mapping[str, Value]) -> SearchSpace:
    from .definition import read_definition
    from .families.user_defined import UserSpace
    from .families.user_presets import PRESETS

    if "definition" in options:
        return UserSpace(read_definition(str(options["definition"]) + "\n"))
    return UserSpace(read_definition(PRESETS[preset]), preset=preset)


def _staged(family: str) -> Callable[[str, Mapping[str, Value]], SearchSpace]:
    """The builder of a staged family, whose module `families.<family>` holds presets alone."""

    def build(preset: str, options: Mapping[str, Value]) -> SearchSpace:
        import importlib

        from .families.staged import StagedSpace
        from .families.staged_genes import with_task

        specs = importlib.import_module(f".families.{family}", __package__).PRESETS
        return StagedSpace(with_task(specs[preset], options), name=family, preset=preset)

    return build


def _chain(family: str) -> Callable[[str, Mapping[str, Value]], SearchSpace]:
    """The builder of a family of chains, whose module `families.<family>` describes slots."""

    def build(preset: str, options: Mapping[str, Value]) -> SearchSpace:
        import dataclasses
        import importlib

        from .families.chain import ChainSpace

        specs = importlib.import_module(f".families.{family}", __package__).PRESETS
        return ChainSpace(dataclasses.replace(specs[preset], **options), name=family, preset=preset)

    return build


def _regnet(preset: str, options: Mapping[str, Value]) -> SearchSpace:
    import dataclasses

    from .families.regnet import PRESETS, RegNetSpace

    # The specification checks the values; the catalog has checked the names.
    return RegNetSpace(dataclasses.replace(PRESETS[preset], **options), preset=preset)  # type: ignore[arg-type]


def _steps(family: str, space: str) -> Callable[[str, Mapping[str, Value]], SearchSpace]:
    """The builder of a family whose module `families.<family>` holds presets and a class `space` of one spec."""

    def build(preset: str, options: Mapping[str, Value]) -> SearchSpace:
        import dataclasses
        import importlib

        module = importlib.import_module(f".families.{family}", __package__)
        return getattr(module, space)(dataclasses.replace(module.PRESETS[preset], **options), preset=preset)

    return build


_IMAGES: Final = ("in_channels", "resolution", "classes")
"""What families of image classifiers adapt to a task."""

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({
    "custom": Family(presets=("stages", "tiny"), options=("definition",), build=_custom),
    "darts": Family(
        presets=("cifar10", "search", "imagenet", "sharp_cifar10", "sharp_search", "digits", "tiny"), options=_IMAGES,
        build=_steps("darts", "DartsSpace"),
    ),
    "decoder": Family(
        presets=("small", "phone", "tiny"), options=("vocabulary", "length"), build=_steps("decoder", "DecoderSpace")
    ),
    "efficientnet": Family(presets=("imagenet", "tiny"), options=_IMAGES, build=_staged("efficientnet")),
    "fbnet": Family(presets=("imagenet", "digits", "tiny"), options=_IMAGES, build=_staged("fbnet")),
    "fbnetv3": Family(presets=("b", "d", "g", "tiny"), options=_IMAGES, build=_staged("fbnetv3")),
    "genet": Family(
        presets=("published", "edge64", "tiny"), options=_IMAGES, build=_chain("genet"), supernet=False
    ),
    "hat": Family(
        presets=("wmt", "iwslt", "tiny"),
        options=("source_vocabulary", "target_vocabulary", "source_length", "target_length"),
        build=_steps("hat", "HatSpace"),
    ),
    "hierarchical": Family(
        presets=("cifar10", "digits", "tiny"), options=_IMAGES, build=_steps("hierarchical", "HierarchicalSpace")
    ),
    "hybrid": Family(
        presets=("edge64", "ascan", "tiny"), options=_IMAGES, build=_steps("hybrid", "HybridSpace")
    ),
    "mnasnet": Family(presets=("imagenet", "tiny"), options=_IMAGES, build=_staged("mnasnet")),
    "mobilenet": Family(
        presets=("digits", "edge64", "tiny"), options=("in_channels", "resolution", "classes"), build=_mobilenet
    ),
    "mobilenetv2": Family(presets=("imagenet", "tiny"), options=_IMAGES, build=_staged("mobilenetv2")),
    "mobilenetv3": Family(presets=("large", "small", "tiny"), options=_IMAGES, build=_staged("mobilenetv3")),
    "mobilenetv4": Family(
        presets=("conv_medium", "conv_small", "conv_large", "hybrid_medium", "tiny"), options=_IMAGES,
        build=_staged("mobilenetv4"),
    ),
    "mobileone": Family(
        presets=("published", "edge64", "tiny"), options=(*_IMAGES, "deploy"), build=_chain("mobileone"),
        supernet=False,
    ),
    "nas_bench_101": Family(
        presets=("cifar10", "digits", "tiny"), options=_IMAGES, build=_steps("nas_bench_101", "NasBench101Space")
    ),
    "nas_bench_201": Family(
        presets=("cifar10", "cifar100", "imagenet16", "digits", "tiny"), options=_IMAGES,
        build=_steps("nas_bench_201", "NasBench201Space"),
    ),
    "nas_bench_macro": Family(presets=("cifar10", "digits", "tiny"), options=_IMAGES, build=_chain("nas_bench_macro")),
    "ofa_mobilenetv3": Family(presets=("w1.0", "w1.2", "tiny"), options=_IMAGES, build=_staged("ofa_mobilenetv3")),
    "ofa_proxylessnas": Family(presets=("w1.3", "w1.0", "tiny"), options=_IMAGES, build=_staged("ofa_proxylessnas")),
    "proxylessnas": Family(presets=("imagenet", "digits", "tiny"), options=_IMAGES, build=_staged("proxylessnas")),
    "regnet": Family(presets=("published", "edge64", "tiny"), options=_IMAGES, build=_regnet, supernet=False),
    "resnet": Family(presets=("ofa_resnet50", "plain", "edge64", "tiny"), options=_IMAGES, build=_chain("resnet")),
    "rexnet": Family(
        presets=("published", "edge64", "tiny"), options=_IMAGES, build=_chain("rexnet"), supernet=False
    ),
    "shufflenetv2": Family(presets=("spos", "edge64", "tiny"), options=_IMAGES, build=_chain("shufflenetv2")),
    "single_path_nas": Family(
        presets=("imagenet", "digits", "tiny"), options=_IMAGES, build=_staged("single_path_nas")
    ),
    "starnet": Family(presets=("published", "edge64", "tiny"), options=_IMAGES, build=_chain("starnet")),
    "tdnn": Family(
        presets=("published", "coarse", "tiny"), options=("mels", "frames", "embedding"),
        build=_steps("tdnn", "TdnnSpace"),
    ),
    "vit": Family(
        presets=("autoformer_t", "autoformer_s", "autoformer_b", "tiny"), options=_IMAGES,
        build=_steps("vit", "VitSpace"),
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
        **options: what adapts the preset to a task, e.g. `in_channels`, `resolution`, `classes`; and `densities`.

    Raises:
        SpaceError: unknown family, preset or option, or a value that the family rejects.
    """
    family = _family(name)
    chosen = family.presets[0] if preset is None else preset
    if chosen not in family.presets:
        raise SpaceError(f"space {name!r} has no preset {preset!r}; choose one of {list(family.presets)}.")
    if unknown := sorted(set(options) - {*family.options, DENSITIES}):
        allowed = [*family.options, DENSITIES]
        raise SpaceError(f"space {name!r}: unknown options {unknown}; allowed: {allowed}.")
    densities = options.pop(DENSITIES, None)
    space = family.build(chosen, options)
    return space if densities is None else _sparse(space, densities)


def _sparse(space: SearchSpace, densities: Value) -> SearchSpace:
    from .families.sparse import SparseSpace, read_densities

    return SparseSpace(space, read_densities(str(densities)))


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise SpaceError(f"search space {name!r} is unknown; choose one of {list(names())}.")
    return FAMILIES[name]
