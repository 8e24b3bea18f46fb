"""Supernets of choices: every candidate has its own weights, and an architecture runs the ones it chose.

Nothing is sliced here, so a supernet's modules are those of the standalone networks; only their batch norms must not
average over the choices that run through them.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from .layers import ElasticBatchNorm2d

__all__ = ["share_norms"]

M = TypeVar("M", bound=nn.Module)


def share_norms(module: M) -> M:
    """`module` with every `nn.BatchNorm2d` inside replaced by an `ElasticBatchNorm2d` of the same size, in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                norm = ElasticBatchNorm2d(child.num_features, eps=child.eps, affine=child.affine)
                setattr(parent, name, norm)
    return module
