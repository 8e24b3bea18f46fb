"""Scoring populations by proxies: each distinct architecture is built once, and all its proxies read that network.

Baselines are computed for the whole population at once. Networks of different architectures share no shapes, so that
proxies go from one to the next and vectorise over samples instead; architectures with equal keys are scored once.

Notation: B candidates, G genes, P proxies, N samples.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import PredictorError
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from ..tasks.task import Samples, Task
from .catalog import BASELINES, PROXIES, check_names, names
from .contract import UNDEFINED, Proxy

__all__ = ["ProxyQuantity", "as_features", "probe", "score"]

Scores = dict[str, NDArray[np.float64]]

BATCH_SIZE: Final = 64

_LOG = logging.getLogger(__name__)


def probe(
    space: SearchSpace, task: Task | Samples | None = None, *, batch_size: int = BATCH_SIZE, seed: int = 0
) -> Samples:
    """The samples that proxies look at.

    Args:
        space: its networks take one tensor of images.
        task: where samples come from: a task's training batch, given samples (the first `batch_size`), or None for
            standard normal images with labels in turn.
        batch_size: how many, at most.
        seed: of what is drawn.

    Raises:
        PredictorError: networks of the space take something else, or images or labels other than the task's.
    """
    if batch_size < 2:
        raise PredictorError(f"proxies: batch_size is {batch_size}; norms need at least 2 samples.")
    example = space.example_inputs(2)
    if len(example) != 1 or not example[0].is_floating_point():
        raise PredictorError(
            f"proxies read networks of one image tensor; those of {space.name} take "
            f"{', '.join(f'{tensor.dtype} {list(tensor.shape)}' for tensor in example)}. Use params or macs instead."
        )
    shape = example[0].shape[1:]
    option = space.options.get("classes")
    classes = option if isinstance(option, int) else 2
    if isinstance(task, Samples):
        samples = Samples(task.inputs[:batch_size], task.labels[:batch_size])
    elif task is not None:
        samples = task.batch(0, batch_size, seed)
    else:
        images = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(seed))
        samples = Samples(images, torch.arange(batch_size) % classes)
    if samples.inputs.shape[1:] != shape:
        raise PredictorError(
            f"proxies: samples have shape {list(samples.inputs.shape[1:])}, networks of {space.name} take "
            f"{list(shape)}; build the space or the task with the other's resolution and channels."
        )
    if isinstance(option, int) and int(samples.labels.max()) >= classes:
        raise PredictorError(
            f"proxies: a label is {int(samples.labels.max())}, but networks of {space.name} tell {classes} classes "
            "apart; build the space with the task's number of classes."
        )
    return samples


def score(
    space: SearchSpace,
    genomes: Population,
    chosen: Sequence[str] | None = None,
    task: Task | Samples | None = None,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Scores:
    """Scores of every architecture by every proxy; larger promises better.

    Args:
        space: of the genomes.
        genomes: [B, G] canonical.
        chosen: names of proxies and baselines; None = all.
        task: what `probe` takes samples from.
        seed: of the initial weights, equal for all architectures, and of the samples.
        batch_size: samples.

    Returns:
        Per name [B] float64; -inf where a proxy is not defined for an architecture (a warning counts them), never NaN.
        Equal arguments give equal scores.

    Raises:
        PredictorError: unknown proxy, or samples that do not fit.
        SpaceError: genomes that are not canonical.

    >>> from archsmith import spaces
    >>> tiny = spaces.get("nas_bench_201", "tiny")
    >>> scores = score(tiny, tiny.sample(3, np.random.default_rng(0)), ["gradsign", "macs"], batch_size=8)
    >>> {name: values.shape for name, values in scores.items()}
    {'gradsign': (3,), 'macs': (3,)}
    """
    chosen = names() if chosen is None else check_names(chosen)
    genomes = space.check(genomes)
    proxies = {name: PROXIES[name] for name in chosen if name in PROXIES}
    scores = (
        _by_network(space, genomes, proxies, probe(space, task, batch_size=batch_size, seed=seed), seed)
        if proxies
        else {}
    )
    scores |= {name: BASELINES[name](space, genomes).astype(np.float64) for name in chosen if name in BASELINES}
    for name in chosen:
        if count := int(np.isneginf(scores[name]).sum()):
            _LOG.warning(
                "proxy %s is not defined for %d of %d architectures; they rank last", name, count, len(genomes)
            )
    return {name: scores[name] for name in chosen}


def _by_network(
    space: SearchSpace, genomes: Population, proxies: Mapping[str, Proxy], samples: Samples, seed: int
) -> Scores:
    _, first, group = np.unique(space.keys(genomes), axis=0, return_index=True, return_inverse=True)
    distinct = np.empty((len(first), len(proxies)))
    for row, genome in zip(distinct, genomes[first], strict=True):
        network = space.network(space.decode(genome), seed=seed)
        row[:] = [proxy(network, samples.inputs, samples.labels) for proxy in proxies.values()]
    return {name: distinct[group.ravel(), column] for column, name in enumerate(proxies)}


class ProxyQuantity:
    """One proxy as a quantity of genomes, remembered by key.

    As an objective or a constraint that needs no evaluation it stands among a problem's known quantities::

        quantity = ProxyQuantity(space, "naswot", probe(space, task))
        Problem(space=space, objectives=(Objective(name="naswot", direction="max"), …), known={"naswot": quantity})

    Undefined scores are -inf: worse than any bound, and dominated by all else.

    Args:
        space: of the genomes.
        name: a proxy or a baseline.
        samples: what `probe` gives.
        seed: of the initial weights.
    """

    def __init__(self, space: SearchSpace, name: str, samples: Samples, *, seed: int = 0) -> None:
        (self.name,) = check_names([name])
        self.space = space
        self.samples = samples
        self.seed = seed
        self._known: dict[bytes, float] = {}

    def __call__(self, genomes: Population) -> NDArray[np.float64]:
        """[B] scores of canonical genomes [B, G]."""
        digests = [digest.tobytes() for digest in self.space.keys(genomes)]
        fresh = {digest: row for row, digest in enumerate(digests) if digest not in self._known}
        if fresh:
            new = genomes[list(fresh.values())]
            size = len(self.samples)
            values = score(self.space, new, [self.name], self.samples, seed=self.seed, batch_size=size)[self.name]
            self._known.update(zip(fresh, values.tolist(), strict=True))
        return np.array([self._known[digest] for digest in digests])


def as_features(scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """[B, P] finite columns for a regressor, beside those of `Features`.

    Scores spread over orders of magnitude, so that sign(s) · ln(1 + abs(s)) stands for s. Where a proxy is undefined
    the column takes its least other value; a column without any other is 0. As the least value depends on the
    population, fitting and predicting must see columns made by one call::

        columns = np.column_stack([features(genomes), as_features(score(space, genomes, ["synflow", "naswot"], task))])
        regressor.fit(columns[known], targets)
        mean, std = regressor.predict(columns[~known])
    """
    columns = []
    for values in scores.values():
        there = values > UNDEFINED
        squeezed = np.sign(values) * np.log1p(np.abs(np.where(there, values, 0.0)))
        columns.append(np.where(there, squeezed, squeezed[there].min() if there.any() else 0.0))
    return np.column_stack(columns)
