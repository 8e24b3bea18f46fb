"""Definitions in the gene language that come with the catalog: examples, and what the tests run on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PRESETS"]

_TINY = """
name: tiny
input: {channels: 1, resolution: 11}
genes:
  width: {one_of: [8, 16]}
body:
  - conv: {out: 8, stride: 2}
    name: stem
  - choose:
      plain:
        - conv: {out: {gene: width}, kernel: {one_of: [3, 5]}, activation: {one_of: [relu, silu]}}
      bottleneck:
        - inverted_bottleneck: {out: {gene: width}, expansion: {one_of: [1, 2]}, squeeze: {one_of: [0, 0.25]}}
    name: entry
  - repeat:
      - branches:
          - choose: {skip: identity, none: zero, pool: avg_pool, conv: {conv: {kernel: 3, activation: ""}}}
          - choose: {skip: identity, pool: avg_pool, depthwise: {depthwise: {kernel: {one_of: [3, 5]}}}}
        name: cell
    times: {one_of: [0, 1, 2]}
    name: cells
  - global_pool
  - linear: {out: 10}
    name: classifier
"""

_STAGES = """
name: stages
input: {channels: 3, resolution: 32}
genes:
  width: {one_of: [16, 24, 32]}
body:
  - conv: {out: {gene: width}, kernel: 3}
    name: stem
  - inverted_bottleneck: {out: {gene: width}, stride: 2, kernel: {one_of: [3, 5, 7]}, expansion: {one_of: [2, 3, 4]}}
    name: down1
  - repeat:
      - inverted_bottleneck: {kernel: {one_of: [3, 5, 7]}, expansion: {one_of: [2, 3, 4]}, squeeze: {one_of: [0, 0.25]}}
    times: {one_of: [0, 1, 2, 3]}
    name: stage1
  - inverted_bottleneck:
      out: {gene: width, times: 2}
      stride: 2
      kernel: {one_of: [3, 5, 7]}
      expansion: {one_of: [2, 3, 4]}
    name: down2
  - repeat:
      - inverted_bottleneck: {kernel: {one_of: [3, 5, 7]}, expansion: {one_of: [2, 3, 4]}, squeeze: {one_of: [0, 0.25]}}
    times: {one_of: [0, 1, 2, 3]}
    name: stage2
  - conv: {out: 128, kernel: 1}
    name: features
  - global_pool
  - linear: {out: 10}
    name: classifier
"""

PRESETS: Final[Mapping[str, str]] = MappingProxyType({"stages": _STAGES, "tiny": _TINY})
"""YAML texts by name."""
