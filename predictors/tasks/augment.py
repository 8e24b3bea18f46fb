"""Augmentation of whole batches on their device: pure functions of the samples and of what was drawn for each.

Source: DeVries and Taylor, Cutout, 2017, https://arxiv.org/abs/1708.04552; Szegedy et al., Going Deeper with
Convolutions, CVPR 2015, https://arxiv.org/abs/1409.4842 (crops of random area and aspect); Park et al., SpecAugment,
Interspeech 2019, https://arxiv.org/abs/1904.08779 (masks over bands and frames; no time warping here).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor

__all__ = ["crop_padded", "cut_out", "draw_boxes", "flip_some", "mask_stripes", "resize_boxes"]


def crop_padded(images: Tensor, corners: Tensor, padding: int) -> Tensor:
    """Pad with zeros on all sides and crop back to the old size.

    Args:
        images: [N, C, H, W] of any type.
        corners: [N, 2] int64 row and column of the crop in the padded image, 0 to 2 * padding.
        padding: pixels on each side.

    Returns:
        [N, C, H, W].
    """
    count, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    rows = corners[:, 0, None] + torch.arange(height, device=images.device)
    columns = corners[:, 1, None] + torch.arange(width, device=images.device)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def draw_boxes(count: int, min_area: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Boxes of random area, aspect and place for `resize_boxes`.

    Returns:
        [count, 4] float32: height and width as shares of the image, then the row and column of the centre in [-1, 1].
    """
    drawn = torch.rand((count, 4), generator=generator, device=device)
    area = min_area + (1.0 - min_area) * drawn[:, 0]
    aspect = torch.exp((drawn[:, 1] * 2 - 1) * math.log(4 / 3))  # 3/4 to 4/3
    sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=1).clamp(max=1.0)
    centres = (drawn[:, 2:] * 2 - 1) * (1 - sides)
    return torch.cat([sides, centres], dim=1)


def resize_boxes(images: Tensor, boxes: Tensor) -> Tensor:
    """What each box of `draw_boxes` [N, 4] shows of its image [N, C, H, W] float, bilinearly at the full size."""
    zero = torch.zeros_like(boxes[:, 0])
    maps = torch.stack([boxes[:, 1], zero, boxes[:, 3], zero, boxes[:, 0], boxes[:, 2]], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def flip_some(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror left and right where `chosen` [N] bool says so; images [N, C, H, W]."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def cut_out(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Zero a square of this side around each centre.

    Args:
        images: [N, C, H, W], normalised, so that zero is the mean.
        centres: [N, 2] int64 row and column; the square may reach over the edge.
        side: of the square, in pixels.
    """
    height, width = images.shape[2:]
    top = centres - side // 2
    rows = torch.arange(height, device=images.device)[None] - top[:, :1]
    columns = torch.arange(width, device=images.device)[None] - top[:, 1:]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)


def mask_stripes(spectra: Tensor, dim: int, starts: Tensor, widths: Tensor) -> Tensor:
    """Zero `widths` [N] bands (dim 1) or frames (dim 2) from `starts` [N] of each spectrum [N, mels, frames]."""
    place = torch.arange(spectra.shape[dim], device=spectra.device)[None] - starts[:, None]
    inside = (place >= 0) & (place < widths[:, None])
    return spectra.masked_fill(inside.unsqueeze(3 - dim), 0.0)
