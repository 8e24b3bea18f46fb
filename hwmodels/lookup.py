"""The look-up latency model: one table over the configurations of all sites, summed for a whole population at once.

Source: look-up tables over layers go back to ProxylessNAS (Cai et al., ICLR 2019, https://arxiv.org/abs/1812.00332) and
FBNet (Wu et al., CVPR 2019, https://arxiv.org/abs/1812.03443). Here kernels measured alone are calibrated on whole
networks (`calibration.py`), and the error on other whole networks is part of the model.

Notation: B candidates, K kernels, T configurations of all sites.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.space import SearchSpace
from .calibration import calibrate, held_out_report
from .cost import Prediction
from .kernels import Kernels, fill_unmeasured
from .probing import Probes

__all__ = ["LookupModel", "model_identity"]

FORMAT: Final = 2

_LEAST_STD: Final = 1e-12
"""Relative; a device of exact numbers is known to rounding errors."""


def model_identity(space: SearchSpace, device: str, inputs: dict[str, Any]) -> str:
    """Stable name of a fitted model's inputs: equal identities mean the same space, device, conditions and settings."""
    content = json.dumps({"space": space.identity, "device": device, "format": FORMAT, **inputs}, sort_keys=True)
    return f"lookup-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupModel:
    """Latency of a population by table look-up. A `CostModel`.

    Attributes:
        quantity: ``latency_ms``.
        device: the device's name.
        space: identity of the space it was fitted on.
        identity: hash of what it was fitted from.
        overhead_ms: per-run cost on top of the sites.
        table_ms: [T] cost of every site configuration inside a network; 0 where nothing stands.
        covered: [T] bool, False where the cost is an estimate outside what was measured.
        relative_std: one standard deviation of the relative error of a network, of networks left out of the fit.
        errors: `held_out_report` of the held-out networks.
        extra_std_ms: [T] uncertainty of a site configuration on top of `relative_std`, of one sign throughout a network
            and so summed; None for 0.
        method: how the table came about: ``lookup`` or ``kernels``.
        details: how it was fitted (calibration, counts, conditions); JSON-able.
    """

    quantity: str = "latency_ms"
    device: str
    space: str
    identity: str
    overhead_ms: float
    table_ms: NDArray[np.float64]
    covered: NDArray[np.bool_]
    relative_std: float
    errors: dict[str, float]
    extra_std_ms: NDArray[np.float64] | None = None
    method: str = "lookup"
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        space: SearchSpace,
        kernels: Kernels,
        probes: Probes,
        *,
        device: str,
        identity: str = "",
        conditions: dict[str, Any] | None = None,
    ) -> LookupModel:
        """Fit from what was measured.

        Raises:
            PredictorError: too few networks or kernels, or a measurement that is not finite and positive.
            SpaceError: a measured network is none of this space.
        """
        _check(space, kernels, probes)
        fill = fill_unmeasured(kernels.features, probes.kernel_ms)
        counts = kernels.counts(probes.genomes)
        fitted = slice(0, len(counts) - probes.held_out)
        calibration = calibrate(fill.times_ms, counts[fitted], probes.network_ms[fitted])
        kernel_ms = calibration.kernels_ms(fill.times_ms)
        held_out = slice(len(counts) - probes.held_out, None)
        predicted = calibration.overhead_ms + counts[held_out] @ kernel_ms
        # Not the held-out networks' own error: what is stated is to be held against them.
        relative_std = max(calibration.loo_relative_rmse, _LEAST_STD)
        errors = held_out_report(predicted, probes.network_ms[held_out], relative_std * predicted)
        details = {
            "kernels": len(kernels.ops),
            "kernels_measured": int(np.isfinite(probes.kernel_ms).sum()),
            "kernel_fill_relative_rmse": fill.relative_rmse if math.isfinite(fill.relative_rmse) else None,
            "calibration_networks": len(counts) - probes.held_out,
            "calibration_relative_rmse": calibration.loo_relative_rmse,
            "calibration_networks_disturbed": calibration.disturbed,
            "overhead_ms": calibration.overhead_ms,
            "scale": calibration.scale,
            "entry_ms": calibration.entry_ms,
            "correction_strength": calibration.strength if math.isfinite(calibration.strength) else None,
            "noisy_measurements": probes.noisy,
            "conditions": dict(conditions or {}),
        }
        return cls(
            device=device,
            space=space.identity,
            identity=identity or model_identity(space, device, details),
            overhead_ms=calibration.overhead_ms,
            table_ms=kernels.spread(kernel_ms),
            covered=kernels.spread(1.0 - fill.in_range.astype(np.float64)) == 0.0,
            relative_std=relative_std,
            errors=errors,
            details=details,
        )

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate latency_ms of every row of `genomes` ([B, G], canonical).

        Raises:
            PredictorError: the model was fitted on another space.
        """
        if space.identity != self.space:
            raise PredictorError(
                f"the look-up model of {self.device} was fitted on space {self.space}, not on {space.identity}; "
                "fit one for this space."
            )
        index = space.site_index
        mean = self.overhead_ms + index.total(self.table_ms, genomes)
        std = np.abs(self.relative_std * mean)
        if self.extra_std_ms is not None:
            std = np.hypot(std, index.total(self.extra_std_ms, genomes))
        if self.covered.all():
            in_range = np.ones(len(genomes), dtype=np.bool_)
        else:
            in_range = index.total((~self.covered).astype(np.float64), genomes) == 0.0
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=std,
            source=f"predicted:{self.method}",
            in_range=in_range,
        )

    def report(self) -> dict[str, float]:
        """Errors on the held-out networks: `kendall_tau`, `within_10_percent`, `within_5_percent`, `rmse`, `n`, ….

        With them: the per-run overhead and how much was measured.
        """
        numbers = {key: float(value) for key, value in self.details.items() if isinstance(value, int | float)}
        return numbers | self.errors

    def save(self, directory: Path) -> None:
        """Write ``model.json`` and ``table.npz`` into a folder, making it if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        arrays = {name: content.pop(name) for name in ("table_ms", "covered", "extra_std_ms")}
        if arrays["extra_std_ms"] is None:
            del arrays["extra_std_ms"]
        np.savez_compressed(directory / "table.npz", **arrays)
        text = json.dumps({"format": FORMAT, **content}, indent=2, sort_keys=True, allow_nan=True)
        (directory / "model.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> LookupModel:
        """Read what `save` wrote; raises PredictorError for a missing, foreign or newer folder."""
        try:
            content = json.loads((directory / "model.json").read_text(encoding="utf-8"))
            with np.load(directory / "table.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in ("table_ms", "covered")}
                arrays["extra_std_ms"] = stored.get("extra_std_ms")
        except (OSError, ValueError, KeyError) as error:
            raise PredictorError(f"{directory}: no readable look-up model ({error}); fit it again.") from error
        if content.pop("format", None) != FORMAT:
            raise PredictorError(f"{directory}: written by another version of archsmith; fit the model again.")
        return cls(**content, **arrays)


def _check(space: SearchSpace, kernels: Kernels, probes: Probes) -> None:
    """Refuse measurements that cannot be this space's."""
    space.check(probes.genomes)
    if len(probes.kernel_ms) != len(kernels.ops):
        raise PredictorError(
            f"{len(probes.kernel_ms)} kernel latencies for the {len(kernels.ops)} kernels of {space.name}: they "
            "were measured for another space; measure this one's."
        )
    if not (np.isfinite(probes.network_ms).all() and (probes.network_ms > 0).all()):
        raise PredictorError("network latencies must be finite and positive; drop the others and measure again.")
    if not (np.nan_to_num(probes.kernel_ms, nan=1.0) > 0).all():
        raise PredictorError("kernel latencies must be positive, or nan where not measured.")
