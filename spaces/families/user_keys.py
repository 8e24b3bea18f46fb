"""Keys of user-defined spaces: a digest of the computation itself, for a whole population at once.

Every tensor of the network gets a 128-bit digest of how it is computed: a block mixes in what it is (with its module
path where it has weights), adding is commutative, zeros vanish in a sum and the identity leaves the digest alone. Equal
digests of the output then mean one computation with the same shared weights, whatever choices led to it.

Notation: B candidates. Digests are [2, B] uint64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..gene import CHUNK, Population
from ..site import SiteIndex
from .user_blocks import BlockSpec
from .user_plan import Leaf, Loop, Merge, MergeSpec, Part, Plan, Series, Switch

__all__ = ["KeyForm"]

Digests = NDArray[np.uint64]

_MULTIPLIERS = np.array([[0x9E3779B97F4A7C15], [0xBB67AE8584CAA73B]], dtype=np.uint64)
_SHIFT = np.uint64(32)


def _constant(text: str) -> Digests:
    """[2, 1] the digest of a text."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8").astype(np.uint64).reshape(2, 1)


def _mix(state: Digests, word: Digests) -> Digests:
    """Digest of a pair, in order; full avalanche of the words (two rounds of xor, multiply, shift)."""
    for value in (word, word >> _SHIFT):
        state = (state ^ value) * _MULTIPLIERS
        state = state ^ (state >> _SHIFT)
    return state


_IMAGE, _SUM, _CONCAT, _ZEROS = (_constant(text) for text in ("image", "sum", "concat", "zeros"))


class KeyForm:
    """Digests of the computations of a plan's architectures.

    Args:
        plan: compiled definition.
        signature: (module path, spec) -> text that is equal exactly for equal computations; "" for the identity.
    """

    def __init__(self, plan: Plan, signature: Callable[[str, BlockSpec], str]) -> None:
        self._root = plan.root
        self._words: list[Digests] = []
        self._acts: list[NDArray[np.bool_]] = []
        self._live: list[NDArray[np.bool_]] = []
        for place in plan.places:
            cells = list(place.specs.cells.flat)
            texts = [signature(place.path, spec) if isinstance(spec, BlockSpec) else "" for spec in cells]
            self._words.append(np.concatenate([_constant(text) for text in texts], axis=1))
            self._acts.append(np.array([bool(text) for text in texts]))
            width = len(place.parts) if isinstance(place, Merge) else 0
            lives = [spec.live if isinstance(spec, MergeSpec) else () for spec in cells]
            self._live.append(np.array([[index in live for index in range(width)] for live in lives]))

    def __call__(self, genomes: Population, index: SiteIndex) -> NDArray[np.int16]:
        """[B, 8] int16: the 128 bits of every digest."""
        out = np.empty((len(genomes), 2), dtype="<u8")
        with np.errstate(over="ignore"):
            for start in range(0, len(genomes), CHUNK):
                part = genomes[start : start + CHUNK]
                rows = (index.index(part) - index.offsets).T
                image = np.repeat(_IMAGE, len(part), axis=1)
                out[start : start + CHUNK] = self._digest(self._root, image, np.ascontiguousarray(part.T), rows).T
        return out.view("<i2").reshape(len(genomes), 8)

    def _digest(self, part: Part, x: Digests, genes: Population, rows: NDArray[np.int64]) -> Digests:
        """Digests of what `part` makes of tensors with digests `x`; genes [G, B], site rows [S, B]."""
        if isinstance(part, Leaf):
            row = rows[part.site]
            return np.where(self._acts[part.site][row], _mix(x, self._words[part.site][:, row]), x)
        if isinstance(part, Series):
            for each in part.parts:
                x = self._digest(each, x, genes, rows)
            return x
        if isinstance(part, Switch):
            choices = genes[part.gene]
            out = x
            for number, each in enumerate(part.parts):
                out = np.where(choices == number, self._digest(each, x, genes, rows), out)
            return out
        if isinstance(part, Loop):
            return self._loop(part, x, genes, rows)
        return self._meet(part, x, genes, rows)

    def _loop(self, part: Loop, x: Digests, genes: Population, rows: NDArray[np.int64]) -> Digests:
        counts = np.array(list(part.times.cells.flat), dtype=np.int64)
        times = counts[genes[part.times.genes[0]]] if part.times.genes else counts[0]
        for number, each in enumerate(part.parts):
            x = np.where(times > number, self._digest(each, x, genes, rows), x)
        return x

    def _meet(self, part: Merge, x: Digests, genes: Population, rows: NDArray[np.int64]) -> Digests:
        live = self._live[part.site][rows[part.site]]
        count = live.sum(axis=1)
        add = part.how == "add"
        total = np.zeros_like(x) if add else np.repeat(_CONCAT, x.shape[1], axis=1)
        single = np.zeros_like(x)
        for number, each in enumerate(part.parts):
            made, here = self._digest(each, x, genes, rows), live[:, number]
            total = np.where(here, total + _mix(_SUM, made) if add else _mix(total, made), total)
            single = np.where(here, made, single)
        met = np.where(count == 1, single, _mix(np.repeat(_SUM, x.shape[1], axis=1), total))
        return np.where(count == 0, _mix(x, _ZEROS), met)
