"""Several processes that train one supernet: each runs a part of every batch, and all take the same steps.

Nothing has to be agreed on but sums. Batches and paths are pure functions of (seed, step), so every process knows the
whole batch and the same paths; it runs its rows, the gradients are added up, and the optimisers, which see the same
gradients, keep the weights equal. Batch norms take the statistics of the whole batch. What comes out is what one
process computes from the same batch, up to the order of sums.

Only `torch.distributed` is used; who starts the processes, and with which back end, is not this module's business.

Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, https://arxiv.org/abs/1706.02677 (synchronous data
parallelism); Chan et al., 1983, https://doi.org/10.1080/00031305.1983.10483115 (moments of parts put together).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...errors import PredictorError
from ...spaces.elastic.layers import ElasticBatchNorm2d
from ...spaces.elastic.supernet import Supernet
from ..tasks.task import IGNORED, Samples

__all__ = ["ALONE", "Group", "ProcessGroup"]

_BUCKET_BYTES: Final = 25 * 2**20
"""Gradients that are added up in one go: few large messages, without a second copy of all gradients."""


class Group:
    """The processes that train together; this one is a process that trains alone.

    Attributes:
        rank: of this process; rank 0 writes checkpoints and tells the progress.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def join(self, supernet: Supernet) -> None:
        """Let the supernet's batch norms take the statistics of whole batches."""

    def part(self, batch: Samples) -> Samples:
        """This process's rows of a batch."""
        return batch

    def share(self, part: Samples) -> Tensor | float:
        """What the mean loss over this part counts in that over the batch: its part of all labels."""
        del part  # it is the batch
        return 1.0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; no gradient passes."""
        return values

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes."""

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        del device  # nobody to ask
        return flag


ALONE: Final = Group()
"""No other process."""


class ProcessGroup(Group):
    """All processes of torch's default group, which must have been initialised: gloo on CPUs, nccl on CUDA.

    Raises:
        PredictorError: torch has no process group.
    """

    def __init__(self) -> None:
        if not dist.is_initialized():
            raise PredictorError(
                "distributed supernet training: torch.distributed has no process group in this process; "
                "call init_process_group first, or start the training by supernet.workers."
            )
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def join(self, supernet: Supernet) -> None:
        """Let the supernet's batch norms take the statistics of whole batches.

        Raises:
            PredictorError: a batch norm of the supernet is not elastic, and would normalise by the part's statistics.
        """
        for name, module in supernet.named_modules():
            if isinstance(module, ElasticBatchNorm2d):
                module.gather = self._gather
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):  # the only common base
                raise PredictorError(
                    f"distributed supernet training: {name} is a {type(module).__name__}, which would see a part of "
                    "the batch only; allowed: ElasticBatchNorm2d and norms of single samples. Use one worker."
                )

    def part(self, batch: Samples) -> Samples:
        """Every `size`-th row, from the rank's on, so that parts differ by at most one row."""
        if len(batch) < self.size:
            raise PredictorError(
                f"distributed supernet training: {len(batch)} samples cannot be split among {self.size} processes; "
                "raise supernet.batch_size or ask for fewer supernet.workers."
            )
        return batch.take(slice(self.rank, None, self.size))

    def share(self, part: Samples) -> Tensor:
        """Labels of this part among those of the batch; sequences of unequal length weigh by their tokens."""
        labels = (part.labels != IGNORED).sum().double()
        return labels / self.total(labels).clamp(min=1)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; no gradient passes."""
        summed = values.detach().clone()
        dist.all_reduce(summed)
        return summed

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes, bucket by bucket.

        The paths are the same everywhere, so the same parameters have gradients.
        """
        bucket: list[Tensor] = []
        filled = 0
        for parameter in parameters:
            if parameter.grad is None:
                continue
            if bucket and (filled >= _BUCKET_BYTES or parameter.grad.dtype != bucket[0].dtype):
                _add_bucket(bucket)
                bucket, filled = [], 0
            bucket.append(parameter.grad)
            filled += parameter.grad.nbytes
        if bucket:
            _add_bucket(bucket)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.total(torch.tensor(float(flag), device=device)) > 0)

    def _gather(self, values: Tensor) -> Tensor:
        """[C] -> [size, C], the values of every process; gradients find their way back to each."""
        gathered: Tensor = _Gather.apply(values, self.rank, self.size)  # type: ignore[assignment]  # torch's is untyped
        return gathered


def _add_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


class _Gather(torch.autograd.Function):
    """All processes' values. What each of them computed from mine comes back to me: the backward pass adds up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rank: int, size: int) -> Tensor:  # type: ignore[override]
        ctx.rank = rank
        rows = values.new_zeros((size, *values.shape))
        rows[rank] = values
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rank], None, None
