"""Published networks as points of our spaces, by the names they have in pytorch-image-models.

Parameters are exactly those of the pytorch-image-models network of that name, in its training form with 1000 classes;
the AutoFormers, which it lacks, are the networks that their authors released. Families are imported when asked for.

>>> space, architecture = reference("mobilenetv2_100")
>>> int(space.params(space.encode(architecture)[None])[0])
3504872
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..errors import SpaceError
from .architecture import Architecture
from .space import SearchSpace

__all__ = ["MODULES", "reference", "reference_names"]

MODULES: Final[Mapping[str, str]] = MappingProxyType({
    "autoformer_base_patch16_224": "vit",
    "autoformer_small_patch16_224": "vit",
    "autoformer_tiny_patch16_224": "vit",
    "deit_small_patch16_224": "vit",
    "deit_tiny_patch16_224": "vit",
    "efficientnet_b0": "efficientnet",
    "efficientnet_b1": "efficientnet",
    "efficientnet_b2": "efficientnet",
    "efficientnet_b3": "efficientnet",
    "fbnetc_100": "fbnet",
    "fbnetv3_b": "fbnetv3",
    "fbnetv3_d": "fbnetv3",
    "fbnetv3_g": "fbnetv3",
    "gernet_l": "genet",
    "gernet_m": "genet",
    "gernet_s": "genet",
    "mnasnet_100": "mnasnet",
    "mobilenetv2_100": "mobilenetv2",
    "mobilenetv3_large_100": "mobilenetv3",
    "mobilenetv3_small_100": "mobilenetv3",
    "mobilenetv4_conv_large": "mobilenetv4",
    "mobilenetv4_conv_medium": "mobilenetv4",
    "mobilenetv4_conv_small": "mobilenetv4",
    "mobilenetv4_hybrid_medium": "mobilenetv4",
    "mobileone_s0": "mobileone",
    "mobileone_s1": "mobileone",
    "mobileone_s2": "mobileone",
    "mobileone_s3": "mobileone",
    "mobileone_s4": "mobileone",
    "regnetx_002": "regnet",
    "regnetx_004": "regnet",
    "regnetx_006": "regnet",
    "regnetx_008": "regnet",
    "regnetx_016": "regnet",
    "regnetx_032": "regnet",
    "regnetx_040": "regnet",
    "regnetx_064": "regnet",
    "regnetx_080": "regnet",
    "regnetx_120": "regnet",
    "regnetx_160": "regnet",
    "regnetx_320": "regnet",
    "regnety_002": "regnet",
    "regnety_004": "regnet",
    "regnety_006": "regnet",
    "regnety_008": "regnet",
    "regnety_016": "regnet",
    "regnety_032": "regnet",
    "regnety_040": "regnet",
    "regnety_064": "regnet",
    "resnet101": "resnet",
    "resnet18": "resnet",
    "resnet26": "resnet",
    "resnet50": "resnet",
    "rexnet_100": "rexnet",
    "rexnet_130": "rexnet",
    "rexnet_150": "rexnet",
    "rexnet_200": "rexnet",
    "rexnet_300": "rexnet",
    "semnasnet_100": "mnasnet",
    "spnasnet_100": "single_path_nas",
    "starnet_s1": "starnet",
    "starnet_s2": "starnet",
    "starnet_s3": "starnet",
    "starnet_s4": "starnet",
})  # fmt: skip
"""Module in `families` by network: its `REFERENCES` maps the name to a builder."""


def reference_names() -> tuple[str, ...]:
    """Names of the published networks, sorted."""
    return tuple(sorted(MODULES))


def reference(name: str, resolution: int | None = None) -> tuple[SearchSpace, Architecture]:
    """A published network as a point of one of our spaces.

    Args:
        name: one of `reference_names()`.
        resolution: side of the image; None = the network's own.

    Returns:
        The space, with its resolution fixed, and the network's architecture in it.

    Raises:
        SpaceError: an unknown name, or a resolution too small for the network's strides.
    """
    if name not in MODULES:
        close = difflib.get_close_matches(name, MODULES, n=3) or list(reference_names())
        raise SpaceError(f"reference network {name!r} is unknown; did you mean one of {close}?")
    module = importlib.import_module(f".families.{MODULES[name]}", __package__)
    return module.REFERENCES[name](resolution)
