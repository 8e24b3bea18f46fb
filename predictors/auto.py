"""The default predictor: several regressors are cross-validated by Kendall's tau, and the best are blended.

A Gaussian process fitted on everything first learns the scale on which the targets look Gaussian; all candidates are
then compared, and averaged, on that scale. Weights come from greedy selection with replacement: start with the best
candidate, and add whichever raises the tau of the average, as long as one does. Differences within the noise of a
cross-validated tau decide nothing: candidates stand in the order of how much they are trusted beforehand.

Source: Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004 (section 2).

Notation: N fitted architectures, B candidates, G genes, F columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..hwmodels.cost import Prediction
from ..spaces.gene import Population
from ..spaces.space import SearchSpace
from .contracts import Regressor
from .cross_validation import HeldOut, folds, held_out
from .features import Features, kernel_blocks
from .ranking import kendall_tau
from .regressors.catalog import REGRESSORS, build
from .regressors.gp import GaussianProcess
from .regressors.warp import Warp
from .surrogate import FEWEST_VALIDATED, FOLDS

__all__ = ["CANDIDATES", "AutoPredictor", "auto"]

Array = NDArray[np.float64]

CANDIDATES: Final = ("gp", "gp_genes", "ridge", "forest")
"""What takes part unless told otherwise: different in kind, and fast."""

COMPARED_ROWS: Final = 300
"""Most rows that candidates are compared on."""

ROUNDS: Final = 8
LEAD: Final = 0.02
"""By how much tau must be better for a candidate to lead before those named ahead of it."""

GAIN: Final = 5e-3
"""Least rise of tau for which another member is added."""


class AutoPredictor:
    """The blend of candidates that predicts left-out architectures best. A `Predictor`.

    Args:
        quantity: what is learned, with its unit in the name.
        candidates: names of `predictors.regressors.catalog`, the most trusted first.
        seed: of the folds and of the candidates.
    """

    def __init__(self, *, quantity: str = "accuracy", candidates: Sequence[str] = CANDIDATES, seed: int = 0) -> None:
        if not candidates or set(candidates) - set(REGRESSORS):
            raise PredictorError(
                f"auto: candidates {list(candidates)!r}; give at least one of {sorted(REGRESSORS)}, and no other."
            )
        self.quantity = quantity
        self.candidates = tuple(dict.fromkeys(candidates))
        self._seed = seed
        self._weights: dict[str, float] = {}
        self._taus: dict[str, float] = {}
        self._held_out: HeldOut | None = None
        self._members: dict[str, Regressor] = {}

    # --- fitting --------------------------------------------------------------------------------------------------

    def fit(self, space: SearchSpace, genomes: Population, targets: Array) -> None:
        """Choose the blend on canonical `genomes` [N, G] and `targets` [N], and fit it on all of them.

        Raises:
            PredictorError: too few or non-finite targets.
        """
        self._features = Features(space)
        columns, latent = self._prepare(genomes, targets)
        if len(latent) < FEWEST_VALIDATED or not np.ptp(latent):
            self._weights, self._taus, self._held_out = {self.candidates[0]: 1.0}, {}, None
        else:
            self._choose(columns, latent)
        self._fit_members(columns, latent)

    def update(self, genomes: Population, targets: Array) -> None:
        """Fit the chosen blend on other rows of the same space, without choosing anew: several times faster."""
        self._fitted()
        columns, latent = self._prepare(genomes, targets)
        self._fit_members(columns, latent)

    def _prepare(self, genomes: Population, targets: Array) -> tuple[Array, Array]:
        """Columns [N, F], and targets [N] on the Gaussian scale."""
        columns = self._features(genomes)
        process = GaussianProcess(kernel_blocks(self._features))
        process.fit(columns, np.asarray(targets, dtype=np.float64))
        self._warp: Warp = process.warp
        self._range = (genomes.min(axis=0), genomes.max(axis=0))
        return columns, process.to_latent(targets)

    def _choose(self, columns: Array, latent: Array) -> None:
        rng = np.random.default_rng(self._seed)
        rows = np.sort(rng.permutation(len(latent))[:COMPARED_ROWS])
        parts = folds(len(rows), FOLDS, rng)
        found: dict[str, HeldOut] = {}
        for name in self.candidates:
            regressor = build(name, self._features, seed=self._seed)
            if len(rows) - len(parts[0]) < regressor.least:
                continue
            found[name] = held_out(
                lambda name=name: build(name, self._features, seed=self._seed), columns[rows], latent[rows], parts=parts
            )
        if not found:
            raise PredictorError(f"auto: {len(latent)} rows are too few for any of {list(self.candidates)}.")
        self._taus = {name: result.tau for name, result in found.items()}
        self._weights = _select(found, latent[rows])
        mean, std = _mix([(self._weights[name], found[name].mean, found[name].std) for name in self._weights])
        self._held_out = HeldOut(targets=latent[rows], mean=mean, std=std)

    def _fit_members(self, columns: Array, latent: Array) -> None:
        members: dict[str, Regressor] = {}
        for name in self._weights:
            members[name] = build(name, self._features, seed=self._seed)
            members[name].fit(columns, latent)
        self._members = members

    # --- answers --------------------------------------------------------------------------------------------------

    def predict_latent(self, genomes: Population) -> tuple[Array, Array]:
        """Mean [B] and standard deviation [B] of a new observation on the Gaussian scale; see `to_latent`."""
        self._fitted()
        columns = self._features(genomes)
        mean, std = _mix([(self._weights[name], *member.predict(columns)) for name, member in self._members.items()])
        return mean, std * (self._held_out.std_scale if self._held_out else 1.0)

    def predict(self, space: SearchSpace, genomes: Population) -> Prediction:
        """Estimate the quantity for every row of canonical `genomes` [B, G].

        The mean is the median, and the deviation half the width between the 16 and 84 % quantiles. `in_range` is False
        where a choice's index lies beyond those fitted on.

        Raises:
            PredictorError: nothing was fitted, or another space was.
        """
        self._fitted()
        if space.identity != self._features.space.identity:
            raise PredictorError(
                f"the predictor of {self.quantity} was fitted on space {self._features.space.identity}, not on "
                f"{space.identity}; fit one for this space."
            )
        mean, std = self.predict_latent(genomes)
        low, high = self._range
        return Prediction(
            quantity=self.quantity,
            mean=self._warp.inverse(mean),
            std=0.5 * (self._warp.inverse(mean + std) - self._warp.inverse(mean - std)),
            source="predicted:auto",
            in_range=((genomes >= low) & (genomes <= high)).all(axis=1),
        )

    def to_latent(self, targets: Array) -> Array:
        """Targets of any shape on the Gaussian scale, increasing; there, fitted ones have mean 0 and variance 1."""
        self._fitted()
        return self._warp.forward(targets)

    def to_targets(self, latent: Array) -> Array:
        """The inverse of `to_latent`, clipped to the fitted range and as much again on either side."""
        self._fitted()
        return self._warp.inverse(latent)

    @property
    def chosen(self) -> Mapping[str, float]:
        """Weight of every candidate in the blend, largest first; they add up to 1."""
        self._fitted()
        return MappingProxyType(dict(sorted(self._weights.items(), key=lambda item: -item[1])))

    def report(self) -> dict[str, float]:
        """Held-out figures of the blend, and `tau.NAME` and `weight.NAME` of every candidate compared.

        Errors are in the targets' unit; below ten rows nothing is held out and only the weights are told.
        """
        self._fitted()
        out: dict[str, float] = {}
        if self._held_out:
            held = self._held_out
            scaled = held.std * held.std_scale
            inverse = self._warp.inverse
            out |= HeldOut(
                targets=inverse(held.targets),
                mean=inverse(held.mean),
                std=0.5 * (inverse(held.mean + scaled) - inverse(held.mean - scaled)),
            ).report()
        out |= {f"tau.{name}": tau for name, tau in self._taus.items()}
        return out | {f"weight.{name}": weight for name, weight in self.chosen.items()}

    @property
    def features(self) -> Features:
        """What the candidates read."""
        self._fitted()
        return self._features

    def _fitted(self) -> None:
        if not self._weights:
            raise PredictorError(f"the predictor of {self.quantity} was asked before it was fitted; call fit() first.")


def auto(
    space: SearchSpace,
    genomes: Population,
    targets: Array,
    seed: int = 0,
    *,
    quantity: str = "accuracy",
    candidates: Sequence[str] = CANDIDATES,
) -> AutoPredictor:
    """Choose a predictor by cross-validated Kendall tau and fit it.

    Args:
        space: what genomes belong to.
        genomes: [N, G] canonical.
        targets: [N] in any unit and direction.
        seed: of the folds and of the candidates.
        quantity: what is learned, with its unit in the name.
        candidates: names of `predictors.regressors.catalog`.

    Raises:
        PredictorError: too few or non-finite targets, or an unknown candidate.

    >>> from archsmith.spaces.catalog import get
    >>> space = get("nas_bench_macro")
    >>> genomes = space.sample(40, np.random.default_rng(0))
    >>> predictor = auto(space, genomes, np.log(space.macs(genomes)), candidates=["gp", "ridge"])
    >>> set(predictor.chosen) <= {"gp", "ridge"} and predictor.report()["kendall_tau"] > 0.8
    True
    """
    predictor = AutoPredictor(quantity=quantity, candidates=candidates, seed=seed)
    predictor.fit(space, genomes, targets)
    return predictor


def _select(found: Mapping[str, HeldOut], targets: Array) -> dict[str, float]:
    """Weights by greedy selection with replacement on the held-out tau."""
    enough = max(result.tau for result in found.values()) - LEAD
    best = next(name for name, result in found.items() if result.tau >= enough)
    counts, total, tau = {best: 1}, found[best].mean.copy(), found[best].tau
    for _ in range(ROUNDS):
        trials = {name: kendall_tau(total + result.mean, targets) for name, result in found.items()}
        name = max(trials, key=lambda key: trials[key])
        if not trials[name] > tau + GAIN:
            break
        tau, total = trials[name], total + found[name].mean
        counts[name] = counts.get(name, 0) + 1
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _mix(parts: Sequence[tuple[float, Array, Array]]) -> tuple[Array, Array]:
    """Mean and standard deviation of a mixture of (weight, mean [B], std [B])."""
    mean = sum((weight * mean for weight, mean, _ in parts), np.zeros_like(parts[0][1]))
    second = sum((weight * (std**2 + (m - mean) ** 2) for weight, m, std in parts), np.zeros_like(mean))
    return mean, np.sqrt(second)
