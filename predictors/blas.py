"""One thread for the linear algebra of small matrices."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

import scipy.linalg  # noqa: F401  # loads scipy's own BLAS, which the controller must find
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[object]:
    """While it lasts, linear algebra of numpy and scipy runs on one thread.

    Matrices of a few hundred rows gain little from more, and where other processes keep the cores busy the threads wait
    for each other: proposals from a Gaussian process took 1 to 7 s on two threads, 0.3 to 0.5 s on one. One thread also
    gives the same last bits whatever the number of cores.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
