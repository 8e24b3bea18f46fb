"""RegNet's quantised linear widths and the costs that follow from them: pure functions over whole populations.

Notation: B candidates, D the largest depth. Arrays are [B, D], one column per block; blocks beyond a candidate's depth
hold 0. u_j = w0 + wa j; s_j = round(log_wm(u_j / w0)); w_j = w0 wm^s_j, rounded to a multiple of 8.

Source: Radosavovic et al., Designing Network Design Spaces, CVPR 2020, https://arxiv.org/abs/2003.13678 (equations 2 to
4), and the paper's code, https://github.com/facebookresearch/pycls: a group width larger than a stage's width is that
width, and every stage strides. The paper samples networks of four stages only; here all choices of genes are networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RegNetWidths", "body_costs", "regnet_widths"]

QUANTUM = 8

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RegNetWidths:
    """The blocks of B networks.

    Attributes:
        width: [B, D] output channels, 0 beyond the depth.
        group_width: [B, D] channels per group of the 3x3 convolution, 0 beyond the depth.
        stage: [B, D] index of the stage.
        first: [B, D] whether the block is its stage's first.
    """

    width: Ints
    group_width: Ints
    stage: Ints
    first: NDArray[np.bool_]

    @property
    def stride(self) -> Ints:
        """[B, D] stride of the block's 3x3 convolution."""
        return np.where(self.first, 2, 1)

    def entries(self, stem: int) -> Ints:
        """[B, D] channels that enter each block, `stem` for the first; 0 beyond the depth."""
        before = np.concatenate([np.full((len(self.width), 1), stem), self.width[:, :-1]], axis=1)
        return np.where(self.width > 0, before, 0)

    def last(self) -> Ints:
        """[B] channels of the last block."""
        return self.width.max(axis=1)


def regnet_widths(
    depth: NDArray[np.int64],
    w0: NDArray[np.int64],
    wa: NDArray[np.float64],
    *,
    wm: NDArray[np.float64],
    group_width: NDArray[np.int64],
    max_depth: int,
) -> RegNetWidths:
    """The blocks that RegNet parameters give.

    Args:
        depth: [B] blocks, at least 1.
        w0: [B] initial width, a multiple of 8.
        wa: [B] slope, at least 0.
        wm: [B] ratio of neighbouring stages' widths, above 1.
        group_width: [B] wanted channels per group.
        max_depth: D.

    >>> one = lambda value: np.array([value])
    >>> x = regnet_widths(one(22), one(24), one(24.48), wm=one(2.54), group_width=one(16), max_depth=22)
    >>> [int(width) for width in x.width[0][x.first[0]]], [int(n) for n in np.bincount(x.stage[0])]
    ([32, 64, 160, 384], [1, 2, 7, 12])
    """
    block = np.arange(max_depth)
    exists = block < depth[:, None]
    linear = w0[:, None] + wa[:, None] * block  # equation 2
    power = np.rint(np.log(linear / w0[:, None]) / np.log(wm)[:, None])  # equation 3
    exact = w0[:, None] * np.power(wm[:, None], power)  # equation 4
    raw = (np.rint(exact / QUANTUM) * QUANTUM).astype(np.int64)
    first = np.ones(raw.shape, dtype=np.bool_)
    first[:, 1:] = raw[:, 1:] != raw[:, :-1]
    first &= exists
    groups = np.minimum(group_width[:, None], raw)
    width = (np.rint(raw / groups) * groups).astype(np.int64)
    return RegNetWidths(
        width=np.where(exists, width, 0),
        group_width=np.where(exists, groups, 0),
        stage=np.cumsum(first, axis=1) - 1,
        first=first,
    )


def body_costs(blocks: RegNetWidths, squeeze: NDArray[np.bool_], *, stem: int, side: int) -> tuple[Ints, Ints]:
    """MACs and parameters of all blocks.

    Args:
        blocks: of B networks.
        squeeze: [B] whether blocks have squeeze-excite.
        stem: channels that enter the first block.
        side: of the image that enters it.

    Returns:
        [B] MACs, [B] parameters.
    """
    width, entry, stride = blocks.width, blocks.entries(stem), blocks.stride
    sides = [side]
    for _ in range(int(blocks.stage.max()) + 1):  # rounded up, so that an image never vanishes
        sides.append(-(-sides[-1] // 2))
    area = np.array(sides, dtype=np.int64) ** 2
    out, into = area[blocks.stage + 1], area[blocks.stage + (stride == 1)]
    squeezed = np.where(squeeze[:, None], np.rint(entry / 4).astype(np.int64), 0)
    project = np.where((stride == 2) | (entry != width), entry * width, 0)
    spatial = width * blocks.group_width * 9
    excite = 2 * width * squeezed
    macs = into * entry * width + out * (spatial + width * width + project) + excite
    norms = 2 * width * (3 + (project > 0))
    biases = np.where(squeezed > 0, squeezed + width, 0)
    params = entry * width + spatial + width * width + project + excite + norms + biases
    return macs.sum(axis=1), params.sum(axis=1)
