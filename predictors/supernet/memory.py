"""Running out of memory: told from other errors, explained, and answered by smaller parts of the same batch.

The paths of a step run on a few samples at a time and their gradients add up, so that the step is that of the whole
batch; only batch norms that take the batch's own statistics see the difference, since theirs are those of a part.
"""

from __future__ import annotations

from typing import Final

from ...errors import PredictorError

__all__ = ["LEAST_SAMPLES", "is_out_of_memory", "more_parts"]

LEAST_SAMPLES: Final = 2
"""Samples of a part: a batch norm needs more than one value."""

_SIGNS: Final = (
    "out of memory",  # CUDA, and most others
    "can't allocate memory",  # torch on Linux
    "not enough memory",  # torch on Windows
    "could not create a memory",  # oneDNN
    "could not create a primitive",  # oneDNN, which compiles kernels; of what it does not know, "... descriptor"
    "bad_alloc",
    "bad allocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a forward or backward pass says that memory ran out.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    message = str(error).lower()
    return any(sign in message for sign in _SIGNS) and "primitive descriptor" not in message


def more_parts(parts: int, samples: int, *, automatic: bool, cause: str) -> int:
    """Into how many parts to split a batch that did not fit as `parts`: twice as many.

    Args:
        parts: what was tried.
        samples: in the batch.
        automatic: whether more parts may be tried.
        cause: of the failure, in the words of torch.

    Raises:
        PredictorError: more may not be tried, or not even the smallest parts fit.
    """
    tried = f"supernet training: out of memory with supernet.batch_size {samples}"
    tried += f" in {parts} parts" if parts > 1 else ""
    first_line = cause.partition("\n")[0]
    if not automatic:
        raise PredictorError(
            f"{tried} ({first_line}). Set supernet.accumulate to auto, which runs the same batch in smaller parts, or "
            "lower supernet.batch_size."
        )
    if samples // (2 * parts) < LEAST_SAMPLES:
        raise PredictorError(
            f"{tried} ({first_line}); parts of fewer than {LEAST_SAMPLES} samples cannot be normalised. "
            "Take a smaller space, or a machine with more memory."
        )
    return 2 * parts
