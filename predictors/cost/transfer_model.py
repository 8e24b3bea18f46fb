"""The latency model that few-shot transfer gives for one new device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...hwmodels.cost import Prediction
from ...spaces.space import SearchSpace
from .transfer_features import FORMS, Codes, Design, Encoding, Form, in_forms
from .transfer_posterior import Mixture
from .transfer_prior import Kernel
from .transfer_sources import Sources

__all__ = ["TransferModel"]

FORMAT: Final = 1
CHUNK: Final = 4096
FLOOR: Final = 0.02
"""Share of the median measurement below which no latency is predicted; approached smoothly, so that order is kept."""

MARGIN: Final = 0.1
"""How far beyond the known devices' own range, relative to it, a genome may lie and still be in range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferModel:
    """Latency of a population on a device of which a few architectures were measured. A `CostModel`.

    Attributes:
        quantity: ``latency_ms``.
        device: the device's name.
        space: identity of the space it was fitted on.
        kernel: the prior over devices.
        mixture: the posterior of this one.
        forms: the forms of a genome that are weighed.
        measured: [N, G] the measured genomes.
        known_range: [2] smallest and largest mean of the source devices' standardised latencies.
        calibration: factor on the stated uncertainty, from source devices treated as new ones.
        errors: what `report` says.
        details: how it was fitted; JSON-able.
    """

    quantity: str = "latency_ms"
    device: str
    space: str
    kernel: Kernel
    mixture: Mixture
    forms: tuple[Form, ...]
    measured: NDArray[np.int16]
    known_range: NDArray[np.float64]
    calibration: float
    errors: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate latency_ms of every row of `genomes` ([B, G], canonical).

        The standard deviation is that of a new measurement, noise included.

        Raises:
            PredictorError: the model was fitted on another space.
        """
        if space.identity != self.space:
            raise PredictorError(
                f"the transfer model of {self.device} was fitted on space {self.space}, not on {space.identity}; fit "
                "one for this space."
            )
        genomes = np.asarray(genomes, dtype=np.int16)
        measured = in_forms(space, self.measured, self.forms)
        mean, std = np.empty(len(genomes)), np.empty(len(genomes))
        in_range = np.empty(len(genomes), dtype=np.bool_)
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            asked = in_forms(space, genomes[rows], self.forms)
            mean[rows], std[rows] = self.mixture.predict(self.kernel, measured, asked)
            in_range[rows] = self._in_range(asked["as_is"])
        floor = FLOOR * self.mixture.center
        return Prediction(
            quantity=self.quantity,
            mean=floor * np.logaddexp(0.0, mean / floor),
            std=std * self.calibration,
            source="predicted:transfer",
            in_range=in_range,
        )

    def report(self) -> dict[str, float]:
        """Errors on every measurement predicted from the others, and on source devices treated as new ones.

        The latter, mean over the devices, are named ``sources_…``. See `held_out_report` for the names.
        """
        return dict(self.errors)

    def _in_range(self, codes: Codes) -> NDArray[np.bool_]:
        level = self.kernel.sources.standardised(codes).mean(axis=1)
        low, high = self.known_range
        margin = MARGIN * (high - low)
        return self.kernel.encoding.seen(codes) & (level >= low - margin) & (level <= high + margin)

    # --- storage --------------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write ``model.json`` and ``arrays.npz`` into a folder, making it if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        kernel, encoding, sources = self.kernel, self.kernel.encoding, self.kernel.sources
        arrays = {
            "measured": self.measured,
            "known_range": self.known_range,
            "hypothetical": kernel.hypothetical,
            "variances": kernel.variances,
            "design_columns": sources.design.columns,
            "design_products": sources.design.products,
            "source_weights": sources.weights,
            "source_offset": sources.offset,
            "source_noise": sources.noise,
            "levels": encoding.levels,
            "frequencies": np.concatenate(encoding.frequencies),
            "count_mean": encoding.count_mean,
            **{f"mixture_{name}": getattr(self.mixture, name) for name in _MIXTURE_ARRAYS},
        }
        np.savez_compressed(directory / "arrays.npz", **arrays)  # type: ignore[arg-type]  # names are known
        content = {
            "format": FORMAT,
            "device": self.device,
            "space": self.space,
            "forms": self.forms,
            "source_forms": sources.forms,
            "shared": encoding.shared,
            "count_scale": encoding.count_scale,
            "center": self.mixture.center,
            "scale": self.mixture.scale,
            "calibration": self.calibration,
            "errors": self.errors,
            "details": self.details,
        }
        (directory / "model.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> TransferModel:
        """Read what `save` wrote; raises PredictorError for a missing, foreign or newer folder."""
        try:
            content = json.loads((directory / "model.json").read_text(encoding="utf-8"))
            with np.load(directory / "arrays.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if content["format"] != FORMAT:
                raise PredictorError(f"{directory}: written by another version of archsmith; fit the model again.")
            return cls._restore(content, arrays)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise PredictorError(f"{directory}: no readable transfer model ({error}); fit it again.") from error

    @classmethod
    def _restore(cls, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TransferModel:
        splits = np.cumsum(arrays["levels"])[:-1]
        encoding = Encoding(
            levels=arrays["levels"],
            frequencies=tuple(np.split(arrays["frequencies"], splits)),
            shared=tuple(tuple(genes) for genes in content["shared"]),
            count_mean=arrays["count_mean"],
            count_scale=content["count_scale"],
        )
        sources = Sources(
            design=Design(columns=arrays["design_columns"], products=arrays["design_products"]),
            weights=arrays["source_weights"],
            offset=arrays["source_offset"],
            noise=arrays["source_noise"],
            forms=_forms(content["source_forms"]),
        )
        mixture = Mixture(
            center=content["center"],
            scale=content["scale"],
            **{name: arrays[f"mixture_{name}"] for name in _MIXTURE_ARRAYS},
        )
        return cls(
            device=content["device"],
            space=content["space"],
            kernel=Kernel(
                encoding=encoding,
                sources=sources,
                hypothetical=arrays["hypothetical"],
                variances=arrays["variances"],
            ),
            mixture=mixture,
            forms=_forms(content["forms"]),
            measured=arrays["measured"],
            known_range=arrays["known_range"],
            calibration=content["calibration"],
            errors=content["errors"],
            details=content["details"],
        )


_MIXTURE_ARRAYS: Final = tuple(item.name for item in fields(Mixture) if item.name not in {"center", "scale"})


def _forms(names: list[str]) -> tuple[Form, ...]:
    return tuple(FORMS[FORMS.index(name)] for name in names)  # type: ignore[arg-type]  # refused where unknown
