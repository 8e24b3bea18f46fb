"""Memory: the peak of live activations plus all weights, by model over Ops.

A tensor is live from the Op that writes it to the last Op that reads it; an Op's inputs and output are live together.
Batch norms and activations work in place where nothing else reads their input, as every inference runtime does.

Notation: B candidates, T configurations of all sites.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.op import Op
from ..spaces.space import SearchSpace
from .cost import Prediction

__all__ = ["MemoryModel", "MemoryUse", "memory_use"]

_CHECKED_NETWORKS = 8


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Peak of live activations and all weights, per sample at batch 1."""

    activation_bytes: int
    weight_bytes: int

    @property
    def total_bytes(self) -> int:
        """What a run needs in all."""
        return self.activation_bytes + self.weight_bytes


def memory_use(ops: tuple[Op, ...]) -> MemoryUse:
    """Memory of one run of these Ops, in this order.

    >>> from archsmith.spaces.op import Tensor, make_op
    >>> relu = make_op("relu", "activation", Tensor("x", (4, 8, 8)), function="relu")
    >>> linear = make_op("linear", "linear", Tensor("y", (10,)), out_features=5)
    >>> memory_use((relu,)), memory_use((linear,))
    (MemoryUse(activation_bytes=1024, weight_bytes=0), MemoryUse(activation_bytes=60, weight_bytes=220))
    """
    last_read: dict[str, int] = {}
    for position, op in enumerate(ops):
        for tensor in op.inputs:
            last_read[tensor.name] = position
    written = {op.output.name for op in ops}
    # What nothing here writes is an input and live from the start.
    live = {tensor.name: tensor.bytes for op in ops for tensor in op.inputs if tensor.name not in written}
    peak = sum(live.values())
    for position, op in enumerate(ops):
        in_place = op.kind in ("batch_norm", "activation") and last_read[op.inputs[0].name] == position
        if in_place:
            del live[op.inputs[0].name]
        live[op.output.name] = op.output.bytes
        peak = max(peak, sum(live.values()))
        for tensor in op.inputs:
            if last_read[tensor.name] == position:
                live.pop(tensor.name, None)
    return MemoryUse(activation_bytes=peak, weight_bytes=sum(op.weight_bytes for op in ops))


class MemoryModel:
    """Memory of a population: weights add up over sites, activations peak at one of them. A `CostModel`.

    Exact where the sites form a chain, each reading only what the one before wrote; this is checked on some networks.

    Args:
        space: a space with sites.
        device: the name predictions carry; memory by model is the same on all.

    Raises:
        PredictorError: tensors cross several sites, so that the peak is not one site's.
    """

    quantity = "memory_bytes"

    def __init__(self, space: SearchSpace, device: str = "any") -> None:
        self.device = device
        self._space = space.identity
        uses = space.site_index.table(_row, 2)
        self._activations, self._weights = uses[:, 0], uses[:, 1]
        genomes = np.concatenate(
            [
                np.stack([space.smallest(), space.largest()]),
                space.sample(_CHECKED_NETWORKS, np.random.default_rng(0)),
            ]
        )
        exact = [memory_use(space.ops(space.decode(genome))).total_bytes for genome in genomes]
        if not np.array_equal(self.predict(space, genomes).mean, np.array(exact, dtype=np.float64)):
            raise PredictorError(
                f"space {space.name!r}: tensors cross several sites, so the peak memory is not that of one site; use "
                "memory_use(space.ops(architecture)) for single architectures."
            )

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """memory_bytes of every row of `genomes` ([B, G], canonical), without error within the model."""
        if space.identity != self._space:
            raise PredictorError(f"the memory model was made for space {self._space}, not for {space.identity}.")
        peak = self._activations[space.site_index.index(genomes)].max(axis=1)
        mean = peak + space.site_index.total(self._weights, genomes)
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=np.zeros(len(mean)),
            source="predicted:liveness",
            in_range=np.ones(len(mean), dtype=np.bool_),
        )

    def report(self) -> dict[str, float]:
        """Empty: nothing was measured."""
        return {}


def _row(ops: tuple[Op, ...]) -> tuple[float, float]:
    if not ops:
        return 0.0, 0.0
    use = memory_use(ops)
    return float(use.activation_bytes), float(use.weight_bytes)
