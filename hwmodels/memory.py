"""Memory by model: live activations at their peak, plus all weights; and the two apart, as microcontrollers hold them.

A tensor is live from the Op that writes it to the last Op that reads it; an Op's inputs and output are live together.
Batch norms and activations work in place where nothing else reads their input, as every inference runtime does.

`memory_bytes` is what a processor or GPU needs for both. A microcontroller keeps activations in SRAM and weights in
flash, so that `sram_bytes` and `flash_bytes` are bounded separately; the program itself, its stack and a kernel's
scratch space come on top and are the runtime's. Quantised weights are all counted at the data type, biases included.

Notation: B candidates, T configurations of all sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, PredictorError
from ..spaces.op import Op, Tensor, total_params
from ..spaces.space import SearchSpace
from .cost import Prediction
from .device import BYTES_PER_VALUE, check_data_type
from .traffic import tensor_bytes

__all__ = ["QUANTITIES", "MemoryModel", "MemoryUse", "memory_use"]

QUANTITIES: Final = ("memory_bytes", "sram_bytes", "flash_bytes")
"""Activations and weights together, activations alone, weights alone."""

_CHECKED_NETWORKS: Final = 16


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Peak of live activations and all weights, per sample at batch 1."""

    activation_bytes: int
    weight_bytes: int

    @property
    def total_bytes(self) -> int:
        """What a run needs in all."""
        return self.activation_bytes + self.weight_bytes

    def of(self, quantity: str) -> int:
        """One of `QUANTITIES`."""
        parts = {"memory_bytes": self.total_bytes, "sram_bytes": self.activation_bytes}
        return parts.get(quantity, self.weight_bytes)


def memory_use(ops: tuple[Op, ...], data_type: str = "float32") -> MemoryUse:
    """Memory of one run of these Ops, in this order.

    >>> from archsmith.spaces.op import Tensor, make_op
    >>> relu = make_op("relu", "activation", Tensor("x", (4, 8, 8)), function="relu")
    >>> linear = make_op("linear", "linear", Tensor("y", (10,)), out_features=5)
    >>> memory_use((relu,)), memory_use((linear,))
    (MemoryUse(activation_bytes=1024, weight_bytes=0), MemoryUse(activation_bytes=60, weight_bytes=220))
    >>> memory_use((linear,), "int8")
    MemoryUse(activation_bytes=15, weight_bytes=55)
    """
    weight_bytes = BYTES_PER_VALUE[check_data_type(data_type)] * total_params(ops)
    last_read: dict[str, int] = {}
    for position, op in enumerate(ops):
        for tensor in op.inputs:
            last_read[tensor.name] = position
    # What nothing here writes is an input and live from the start.
    live = {tensor.name: tensor_bytes(tensor, data_type) for tensor in _read_from_outside(ops).values()}
    peak = now = sum(live.values())
    for position, op in enumerate(ops):
        if op.kind in ("batch_norm", "activation") and last_read[op.inputs[0].name] == position:
            now -= live.pop(op.inputs[0].name)
        live[op.output.name] = tensor_bytes(op.output, data_type)
        now += live[op.output.name]
        peak = max(peak, now)
        for tensor in op.inputs:
            if last_read[tensor.name] == position:
                now -= live.pop(tensor.name, 0)
    return MemoryUse(activation_bytes=peak, weight_bytes=weight_bytes)


def _read_from_outside(ops: tuple[Op, ...]) -> dict[str, Tensor]:
    written = {op.output.name for op in ops}
    return {tensor.name: tensor for op in ops for tensor in op.inputs if tensor.name not in written}


class MemoryModel:
    """Memory of a population, for every architecture exactly that of `memory_use`. A `CostModel`.

    Where the sites form a chain, each reading only what the one before wrote, weights add up over sites and activations
    peak at one of them: table look-ups, a million architectures in seconds. Where tensors cross several sites, each
    distinct genome is looked through once and remembered, which takes milliseconds each.

    Args:
        space: whose architectures are asked about.
        device: the name predictions carry; memory by model depends on the data type alone.
        quantity: one of `QUANTITIES`.
        data_type: what weights and activations are stored in.

    Attributes:
        tabled: whether the sites form a chain; this is checked on their Ops and on some networks.

    Raises:
        ConfigError: an unknown quantity or data type.
    """

    def __init__(
        self, space: SearchSpace, device: str = "any", *, quantity: str = "memory_bytes", data_type: str = "float32"
    ) -> None:
        if quantity not in QUANTITIES:
            raise ConfigError("quantity", quantity, f"one of {', '.join(QUANTITIES)}")
        self.quantity = quantity
        self.device = device
        self.data_type = check_data_type(data_type)
        self._space = space.identity
        self._known: dict[bytes, int] = {}
        self._table: NDArray[np.float64] | None = None
        if space.sites() is not None:
            self._table = self._tabulate(space)
        self.tabled = self._table is not None

    def _tabulate(self, space: SearchSpace) -> NDArray[np.float64] | None:
        """[T, 2] peak activations and weights of every site configuration; None where sites form no chain."""
        crossing = False

        def row(ops: tuple[Op, ...]) -> tuple[float, float]:
            nonlocal crossing
            crossing = crossing or len(_read_from_outside(ops)) > 1
            use = memory_use(ops, self.data_type)
            return float(use.activation_bytes), float(use.weight_bytes)

        table = space.site_index.table(row, 2)
        rng = np.random.default_rng(0)
        genomes = np.concatenate([space.smallest()[None], space.largest()[None], space.sample(_CHECKED_NETWORKS, rng)])
        if crossing or not np.array_equal(self._looked_up(space, table, genomes), self._looked_through(space, genomes)):
            return None
        return table

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Bytes of every row of `genomes` ([B, G], canonical), without error within the model."""
        if space.identity != self._space:
            raise PredictorError(f"the memory model was made for space {self._space}, not for {space.identity}.")
        if self._table is not None:
            mean = self._looked_up(space, self._table, genomes)
        else:
            mean = self._looked_through(space, genomes)
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=np.zeros(len(mean)),
            source="predicted:liveness",
            in_range=np.ones(len(mean), dtype=np.bool_),
        )

    def _looked_up(
        self, space: SearchSpace, table: NDArray[np.float64], genomes: NDArray[np.int16]
    ) -> NDArray[np.float64]:
        rows = space.site_index.index(genomes)
        weights = table[:, 1][rows].sum(axis=1)
        if self.quantity == "flash_bytes":
            return weights
        peaks = table[:, 0][rows].max(axis=1)
        return peaks if self.quantity == "sram_bytes" else peaks + weights

    def _looked_through(self, space: SearchSpace, genomes: NDArray[np.int16]) -> NDArray[np.float64]:
        out = np.empty(len(genomes))
        for position, genome in enumerate(genomes):
            key = genome.tobytes()
            if key not in self._known:
                self._known[key] = memory_use(space.ops(space.decode(genome)), self.data_type).of(self.quantity)
            out[position] = self._known[key]
        return out

    def report(self) -> dict[str, float]:
        """Empty: nothing was measured."""
        return {}
