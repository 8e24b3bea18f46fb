"""A Gaussian process for tables of some hundred to some thousand measurements, robust against disturbed ones.

The covariance adds what costs are made of: a part linear in every column (tables over layers), and smooth and rough
parts (Gaussian and Matérn-3/2) that share one length scale per column, which tells relevant columns from others. The
length scales maximise the marginal likelihood of each half of the rows under weak priors, and the two are averaged; so
every row has a left-out prediction whose scales never saw it. The rows' noise follows the weights of `robust.py`, found
from leave-one-out errors in closed form.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 2.23, 2.24, 5.8 (marginal
likelihood) and 5.12 (leave-one-out); robust noise as expectation-maximisation, Jylänki et al., JMLR 12, 2011.

Notation: N rows kept, B rows asked, D derived columns (`columns.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import PredictorError
from .columns import Columns, checked_features, checked_table, part
from .robust import FREEDOM, robust_scale

__all__ = ["RobustGP"]

MAX_ROWS: Final = 2000
"""Rows the process remembers; a random choice of more."""

TUNED_ROWS: Final = 400
"""Rows of one step of the likelihood."""

STEPS: Final = (40, 20)
"""Steps before and after the disturbed rows are known."""

INDUCING: Final = 256
"""Rows that the stated uncertainty is computed from."""

CHUNK: Final = 8192


@dataclass(frozen=True, slots=True)
class _Scales:
    """Logarithms of the covariance's parameters; `smooth` holds the three variances (Gaussian, Matérn, constant)."""

    smooth: Tensor
    inverse_length: Tensor
    linear: Tensor
    noise: Tensor

    @classmethod
    def start(cls, width: int) -> _Scales:
        """Before tuning: every column a little relevant."""
        each = -0.5 * math.log(width) - 0.5
        return cls(
            torch.log(torch.tensor([0.5, 0.5, 0.1], dtype=torch.float64)),
            torch.full((width,), each, dtype=torch.float64),
            torch.full((width,), each, dtype=torch.float64),
            torch.tensor(math.log(0.05), dtype=torch.float64),
        )

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is tuned."""
        return self.smooth, self.inverse_length, self.linear, self.noise

    def covariance(self, left: Tensor, right: Tensor) -> Tensor:
        """[A, B] between the rows of `left` [A, D] and `right` [B, D]."""
        near, far = left * self.inverse_length.exp(), right * self.inverse_length.exp()
        square = (near.square().sum(1)[:, None] + far.square().sum(1)[None] - 2.0 * near @ far.T).clamp_min(0.0)
        distance = torch.sqrt(3.0 * square + 1e-12) / 3.0  # the rough part reaches three times as far
        gaussian, matern, constant = self.smooth.exp()
        linear = self.linear.exp().square()
        return (
            gaussian * torch.exp(-0.5 * square)
            + matern * (1.0 + distance) * torch.exp(-distance)
            + (left * linear) @ right.T
            + constant
        )

    def variance(self, rows: Tensor) -> Tensor:
        """[B] prior variance of the rows [B, D]."""
        return self.smooth.exp().sum() + rows.square() @ self.linear.exp().square()

    def penalty(self) -> Tensor:
        """Minus the logarithm of the weak priors."""
        return 0.02 * ((self.inverse_length + 1.5).square().sum() + (self.linear + 1.5).square().sum())


class RobustGP:
    """A Gaussian process on standardised columns. A `Regressor`.

    Args:
        robust: weight the rows as `robust.py` says; False = all alike.
        seed: of the random choices of rows.
    """

    least = 10

    def __init__(self, *, robust: bool = True, seed: int = 0) -> None:
        self._robust, self._seed = robust, seed
        self._columns: Columns | None = None
        self._level, self._unit = 0.0, 1.0
        self.left_out = np.zeros(0)
        """[N] leave-one-out predictions of the rows it was fitted on; plain predictions of rows it did not keep."""
        self.left_out_std = np.zeros(0)
        """[N] the deviation that would be stated for each of these rows, had it not been seen."""

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N]; raises PredictorError on too few or non-finite rows."""
        table, values = checked_table(features, targets, least=self.least, name="Gaussian process")
        rng = np.random.default_rng(self._seed)
        kept = rng.permutation(len(values))[:MAX_ROWS]
        self._columns = Columns.of(table)
        self._level = float(np.median(values))
        self._unit = max(robust_scale(values - self._level), 1e-3 * float(values.std()), 1e-12)
        rows = torch.from_numpy(self._columns.transform(table[kept]))
        wanted = torch.from_numpy((values[kept] - self._level) / self._unit)
        half = torch.from_numpy(rng.permutation(len(rows)) % 2)
        tuned = [self._tuned(rows[half == number], wanted[half == number], rng) for number in (0, 1)]
        scales = _Scales(*(0.5 * (one + other) for one, other in zip(*(each.tensors() for each in tuned), strict=True)))
        spread = self._spread(scales, rows, wanted)
        _, dual = _left_out(scales, rows, wanted, spread)
        # A row's left-out prediction takes the scales of the half that it is not in.
        left_out = torch.where(half == 1, *(_left_out(each, rows, wanted, spread)[0] for each in tuned))
        self._scales, self._rows, self._dual = scales, rows, dual
        inducing = rows[:INDUCING]
        noisy = scales.covariance(inducing, inducing) + torch.diag(scales.noise.exp() * spread[:INDUCING] + 1e-6)
        self._factor = torch.linalg.cholesky(noisy)
        # A row not kept was not seen either, but for the scales: its plain prediction is one from outside.
        self.left_out, self.left_out_std = self.predict(table)
        self.left_out[kept] = self._level + self._unit * left_out.numpy()
        noise = scales.noise.exp()
        alone = 1.0 / torch.cholesky_inverse(self._factor).diagonal() - noise * spread[:INDUCING] - 1e-6
        self.left_out_std[kept[:INDUCING]] = self._unit * (alone.clamp_min(0.0) + noise).sqrt().numpy()

    def _tuned(self, rows: Tensor, wanted: Tensor, rng: np.random.Generator) -> _Scales:
        """Scales found from these rows alone."""
        scales = _Scales.start(rows.shape[1])
        spread = torch.ones(len(rows), dtype=torch.float64)
        optimiser = torch.optim.Adam(scales.tensors(), lr=0.1)
        for steps in STEPS:
            chosen = torch.from_numpy(rng.permutation(len(rows))[:TUNED_ROWS])
            _tune(scales, optimiser, rows[chosen], wanted[chosen], spread[chosen], steps)
            spread = self._spread(scales, rows, wanted)
        return scales

    def _spread(self, scales: _Scales, rows: Tensor, wanted: Tensor) -> Tensor:
        """[N] noise variance of the rows over the usual one."""
        spread = torch.ones(len(rows), dtype=torch.float64)
        for _ in range(3 if self._robust else 0):
            errors = wanted - _left_out(scales, rows, wanted, spread)[0]
            spread = (FREEDOM + (errors / robust_scale(errors.numpy())).square()) / (FREEDOM + 1.0)
        return spread

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of the error of every row of `features` [B, F].

        The deviation is that of a process that saw `INDUCING` rows only, so it errs on the wide side.
        """
        if self._columns is None:
            raise PredictorError("Gaussian process: nothing was fitted yet; call fit first.")
        table = checked_features(features, self._columns.width, name="Gaussian process")
        mean, std = np.empty(len(table)), np.empty(len(table))
        for start in range(0, len(table), CHUNK):
            asked = torch.from_numpy(self._columns.transform(table[start : start + CHUNK]))
            mean[start : start + CHUNK] = (self._scales.covariance(asked, self._rows) @ self._dual).numpy()
            between = self._scales.covariance(self._rows[:INDUCING], asked)
            known = torch.linalg.solve_triangular(self._factor, between, upper=False).square().sum(0)
            variance = (self._scales.variance(asked) - known).clamp_min(0.0) + self._scales.noise.exp()
            std[start : start + CHUNK] = variance.sqrt().numpy()
        return self._level + self._unit * mean, self._unit * std

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes; the left-out predictions are not among them."""
        if self._columns is None:
            raise PredictorError("Gaussian process: nothing was fitted yet, so there is nothing to store.")
        smooth, inverse_length, linear, noise = (tensor.numpy() for tensor in self._scales.tensors())
        return {f"columns.{key}": value for key, value in self._columns.state().items()} | {
            "smooth": smooth, "inverse_length": inverse_length, "linear": linear, "noise": noise,
            "rows": self._rows.numpy(), "dual": self._dual.numpy(), "factor": self._factor.numpy(),
            "constants": np.array([self._level, self._unit, float(self._robust)]),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> RobustGP:
        """The regressor that `state` came from."""
        model = cls(robust=bool(state["constants"][2]))
        model._columns = Columns.restore(part(state, "columns"))
        model._level, model._unit = (float(value) for value in state["constants"][:2])
        names = ("smooth", "inverse_length", "linear", "noise")
        model._scales = _Scales(*(torch.from_numpy(state[name]) for name in names))
        model._rows, model._dual, model._factor = (torch.from_numpy(state[name]) for name in ("rows", "dual", "factor"))
        return model


def _tune(
    scales: _Scales, optimiser: torch.optim.Optimizer, rows: Tensor, wanted: Tensor, spread: Tensor, steps: int
) -> None:
    """Some steps up the marginal likelihood (equation 5.8)."""
    for tensor in scales.tensors():
        tensor.requires_grad_(True)
    for _ in range(steps):
        optimiser.zero_grad()
        noisy = scales.covariance(rows, rows) + torch.diag(scales.noise.exp() * spread + 1e-6)
        factor = torch.linalg.cholesky(noisy)
        dual = torch.cholesky_solve(wanted[:, None], factor)[:, 0]
        loss = 0.5 * wanted @ dual + factor.diagonal().log().sum() + scales.penalty()
        loss.backward()
        optimiser.step()
    for tensor in scales.tensors():
        tensor.requires_grad_(False)


def _left_out(scales: _Scales, rows: Tensor, wanted: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Leave-one-out means [N] (equation 5.12) and dual coefficients [N]."""
    noisy = scales.covariance(rows, rows) + torch.diag(scales.noise.exp() * spread + 1e-6)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(noisy))
    dual = inverse @ wanted
    return wanted - dual / inverse.diagonal(), dual
