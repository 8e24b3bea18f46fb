"""Fusion: which neighbouring Ops a runtime performs as one kernel, found by timing them together and apart.

A chain of Ops is one kernel where it takes clearly another time than its parts::

    |(T_A - e) + (T_B - e) - (T_AB - e)| > ALPHA * min(T_A - e, T_B - e)

with e the time of an empty run, which every measurement pays. Fusion is meant to save time; a runtime that replaces two
Ops by a slower one is to be modelled all the same. Chains grow: only where A is a kernel already is A + B
tried. Two Ops with MACs are never merged, for what a runtime saves between them (a change of layout) is no fusion.

Source: Zhang et al., nn-Meter, MobiSys 2021, https://doi.org/10.1145/3458864.3467882, section 4.1 (the rule, ALPHA =
0.5, and that an Op with several consumers is not fused into one of them). We subtract e, which matters for kernels of
microseconds, take the difference both ways, and grow chains instead of matching pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import DeviceError
from ..spaces.op import Op, Tensor, make_op

__all__ = ["ALPHA", "Chain", "FusionRules", "chain_of", "empty_kernel", "find_chains", "is_fused", "label"]

ALPHA: Final = 0.5
"""Share of the cheaper part's time that must be saved."""

NEGLIGIBLE: Final = 0.02
"""An Op below this share of its producer's time is counted to it, fused or not: its own time cannot be measured."""

NOISE: Final = 0.03
"""Share of the whole's time below which a difference may be the error of three measurements."""

_LONGEST: Final = 6

Chain = tuple[str, ...]
"""Labels of the Ops of a kernel, in order: ``("conv2d", "batch_norm", "activation:relu")``."""


def label(op: Op) -> str:
    """What an Op is for fusion and for regression: its kind, with what decides its implementation.

    >>> label(make_op("a", "activation", Tensor("x", (4,)), function="relu"))
    'activation:relu'
    """
    if op.kind in ("conv1d", "conv2d"):
        groups = op.attributes["groups"]
        if groups == 1:
            return op.kind
        return f"{op.kind}:{'depthwise' if groups == op.inputs[0].shape[0] else 'grouped'}"
    return f"activation:{op.attributes['function']}" if op.kind == "activation" else op.kind


def chain_of(ops: Sequence[Op]) -> Chain:
    """The labels of a kernel's Ops."""
    return tuple(label(op) for op in ops)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionRules:
    """The chains that one device performs as one kernel.

    Attributes:
        chains: of two Ops or more; every single Op is a kernel anyway.
    """

    chains: frozenset[Chain]

    def kernels(self, ops: Sequence[Op]) -> tuple[tuple[Op, ...], ...]:
        """Split Ops into kernels, in order of their first Op; every Op is in exactly one.

        >>> conv = make_op("c", "conv2d", Tensor("x", (4, 8, 8)), out_channels=4, kernel=1)
        >>> relu = make_op("r", "activation", conv.output, function="relu")
        >>> rules = FusionRules(chains=frozenset({("conv2d", "activation:relu")}))
        >>> [len(kernel) for kernel in rules.kernels((conv, relu))]
        [2]
        """
        uses = _uses(ops)
        kernels: list[list[Op]] = []
        ends: dict[str, list[Op]] = {}
        for op in ops:
            joined = None
            for tensor in reversed(op.inputs):
                kernel = ends.get(tensor.name)
                if kernel and uses[tensor.name] == 1 and (*chain_of(kernel), label(op)) in self.chains:
                    joined = ends.pop(tensor.name)
                    break
            if joined is None:
                joined = []
                kernels.append(joined)
            joined.append(op)
            ends[op.output.name] = joined
        return tuple(tuple(kernel) for kernel in kernels)

    def to_json(self) -> list[list[str]]:
        """Sorted lists of labels."""
        return [list(chain) for chain in sorted(self.chains)]

    @classmethod
    def from_json(cls, values: Iterable[Iterable[str]]) -> FusionRules:
        """What `to_json` gave."""
        return cls(chains=frozenset(tuple(chain) for chain in values))


def _uses(ops: Sequence[Op]) -> Counter[str]:
    return Counter(tensor.name for op in ops for tensor in op.inputs)


def empty_kernel() -> tuple[Op, ...]:
    """The least work there is: its time is what a run costs on top of its kernels."""
    return (make_op("empty", "activation", Tensor("empty.input", (1,)), function="relu"),)


def find_chains(networks: Iterable[Sequence[Op]], rules: FusionRules) -> Mapping[Chain, list[tuple[Op, ...]]]:
    """Every chain that `rules` do not hold yet but that one more Op would make, with its distinct examples.

    Args:
        networks: Ops whose wiring is complete, for whole networks or whole sites.
        rules: what is known to fuse.

    Returns:
        Chain -> examples, each the Ops of the chain; the last Op is the one to be fused.
    """
    found: dict[Chain, dict[object, tuple[Op, ...]]] = {}
    for ops in networks:
        uses = _uses(ops)
        ends = {kernel[-1].output.name: kernel for kernel in rules.kernels(ops)}
        for kernel in list(ends.values()):
            op = kernel[0]  # a kernel that already fuses on has its consumers inside
            for tensor in op.inputs:
                producer = ends.get(tensor.name)
                if producer is None or uses[tensor.name] != 1 or op.macs or len(producer) >= _LONGEST:
                    continue
                example = (*producer, op)
                shapes = tuple((item.kind, tuple(t.shape for t in item.inputs), item.output.shape) for item in example)
                found.setdefault(chain_of(example), {})[shapes] = example
    return {chain: list(examples.values()) for chain, examples in found.items()}


def is_fused(whole_ms: Sequence[float], first_ms: Sequence[float], last_ms: Sequence[float], empty_ms: float) -> bool:
    """Whether A + B is one kernel, by the median over examples.

    Args:
        whole_ms: time of A + B, per example.
        first_ms: time of A.
        last_ms: time of B.
        empty_ms: time of an empty run.

    Raises:
        DeviceError: no example, or lists of unequal length.
    """
    if not whole_ms or not len(whole_ms) == len(first_ms) == len(last_ms):
        raise DeviceError(
            f"fusion test: got {len(whole_ms)}, {len(first_ms)} and {len(last_ms)} times; one of each is needed per "
            "example."
        )
    whole, first, last = (np.maximum(np.array(part) - empty_ms, 1e-9) for part in (whole_ms, first_ms, last_ms))
    if np.median(last / first) < NEGLIGIBLE:
        return True
    saved = np.abs(first + last - whole)
    return bool(np.median(saved / np.minimum(first, last)) > ALPHA and np.median(saved / whole) > NOISE)
