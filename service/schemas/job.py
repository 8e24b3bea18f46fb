"""The job: what a user asks for, in the same words by YAML file, REST and SDK.

The models here check types, ranges and keys; names are checked against the catalogs in `check.py`, which every door of
the service goes through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...search.problem import label

__all__ = [
    "BudgetSection",
    "ChoicesSection",
    "ConstraintSection",
    "CostModelSection",
    "CostTermSection",
    "DerivationSection",
    "EvaluatorSection",
    "ExportSection",
    "GradientSection",
    "JobSpec",
    "ObjectiveSection",
    "PoolSection",
    "RelaxationSection",
    "ScheduleSection",
    "Section",
    "SpaceSection",
    "StrategySection",
    "SupernetSection",
    "SystemSection",
    "TaskSection",
    "VerifySection",
]

Scalar = bool | int | float | str
_CONSTRAINT = re.compile(
    r"\s*(?P<name>[a-z_][a-z0-9_]*)\s*(?:@\s*(?P<device>[\w.-]+))?\s*(?P<operator><=|>=)\s*(?P<bound>[-+.\d][-+.\w]*)\s*"
)


class Section(BaseModel):
    """A part of a job: unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SpaceSection(Section):
    """The search space, by catalog name."""

    name: str
    preset: str | None = Field(default=None, description="One of the space's presets; its first one if left out.")
    options: dict[str, Scalar] = Field(default={}, description="What adapts the preset, e.g. classes.")

    @model_validator(mode="before")
    @classmethod
    def _from_definition(cls, value: Any) -> Any:
        """`{definition: {...}}`, a space in the gene language, is the catalog's `custom` with that option."""
        if not isinstance(value, Mapping) or "definition" not in value:
            return value
        if set(value) != {"definition"}:
            raise ValueError("either a definition alone, or name, preset and options")
        definition = value["definition"]
        text = definition if isinstance(definition, str) else json.dumps(definition)
        return {"name": "custom", "options": {"definition": text}}


class TaskSection(Section):
    """The data set and its loss, by catalog name."""

    name: str
    path: str | None = Field(
        default=None, description="Folder of the data, where the task needs one; only for jobs run locally."
    )
    options: dict[str, Scalar] = {}


class ObjectiveSection(Section):
    """A quantity to optimise; direction and device are filled in where only one is possible."""

    name: str
    direction: Literal["min", "max"] | None = None
    device: str | None = None

    @property
    def label(self) -> str:
        """`name@device`, or the name alone."""
        return label(self.name, self.device)


class ConstraintSection(Section):
    """A hard limit, also written in one line.

    >>> ConstraintSection.model_validate("latency_ms@host <= 0.2").bound
    0.2
    """

    name: str
    operator: Literal["<=", ">="] = "<="
    bound: float
    device: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _CONSTRAINT.fullmatch(value)
        try:
            bound = float(match["bound"]) if match else None
        except ValueError:
            bound = None
        if match is None or bound is None:
            raise ValueError("'<quantity> <= <number>' or '<quantity>@<device> >= <number>', e.g. params <= 200000")
        return {"name": match["name"], "device": match["device"], "operator": match["operator"], "bound": bound}

    @property
    def label(self) -> str:
        """`name@device`, or the name alone."""
        return label(self.name, self.device)


class StrategySection(Section):
    """The proposer, by catalog name."""

    name: str = Field(default="auto", description="`auto` leaves the choice to archsmith, which states it.")
    options: dict[str, Scalar] = {}
    reason: str | None = Field(default=None, description="Why this one; filled in where the choice was left open.")


class EvaluatorSection(Section):
    """Where the accuracy of a candidate comes from."""

    kind: Literal["supernet", "standalone", "table"] = Field(
        default="supernet",
        description="Shared weights, every candidate trained alone by the recipe of `verify`, or a benchmark table.",
    )
    path: str | None = Field(default=None, description="Of the table; only for jobs run locally.")
    columns: dict[str, str] = Field(
        default={}, description="Quantity -> name of the table's column, where they differ."
    )

    @model_validator(mode="after")
    def _path_of_a_table(self) -> Self:
        if (self.kind == "table") != (self.path is not None):
            raise ValueError("kind table with a path, or another kind without one")
        return self


class BudgetSection(Section):
    """What ends the search stage, whichever comes first; at least one must be given."""

    trials: int | None = Field(default=None, ge=1, le=100_000_000)
    minutes: float | None = Field(default=None, gt=0)
    watt_hours: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.trials is None and self.minutes is None and self.watt_hours is None:
            raise ValueError("at least one of trials, minutes, watt_hours")
        return self


class SupernetSection(Section):
    """How the weight-sharing supernet is trained and scored; left out = the default, written out when resolved.

    The fields are those of `predictors.supernet.settings.SupernetSettings`, which explains them.
    """

    sharing: Literal["exhaustive", "gradient_matching", "one_shot"] | None = None
    splits: int | None = Field(default=None, ge=1)
    split_steps: int | None = Field(default=None, ge=1)
    split_learning_rate: float | None = Field(default=None, gt=0)
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="Processes that share the training, started by Ray Train."
    )
    precision: Literal["auto", "float32", "float64"] | None = None
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    sampler: str | None = None
    random_paths: int | None = Field(default=None, ge=0)
    rivals: int | None = Field(default=None, ge=1)
    predictor_fits: int | None = Field(default=None, ge=1)
    predictor_scores: int | None = Field(default=None, ge=5)
    size_power: float | None = Field(default=None, ge=0)
    smallest_share: float | None = Field(default=None, ge=0, le=1)
    warmup_largest: float | None = Field(default=None, ge=0, lt=1)
    optimizer: Literal["adamw", "rmsprop", "sgd"] | None = None
    learning_rate: float | None = Field(default=None, gt=0)
    schedule: str | None = None
    warmup: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    decay_norms: bool | None = None
    affine_norms: bool | None = None
    norm_statistics: Literal["batch", "calibrated", "tracked"] | None = None
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    distillation: str | None = None
    teacher: str | None = Field(
        default=None, description="first_path, largest, or the file of a network; a file only for jobs run locally."
    )
    label_weight: float | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, gt=0)
    accumulate: int | str | None = Field(
        default=None, description="none, a number of parts of every batch, or auto: more parts when memory runs out."
    )
    initial: str | None = Field(
        default=None, description="random, or the file of a network; a file only for jobs run locally."
    )
    max_grad_norm: float | None = Field(default=None, ge=0)
    checkpoint_every: int | None = Field(default=None, ge=1)
    calibration_batches: int | None = Field(default=None, ge=1)
    calibration_batch_size: int | None = Field(default=None, ge=2)
    scoring_samples: int | None = Field(default=None, ge=1)


class RelaxationSection(Section):
    """How architecture parameters become a mixture."""

    name: str | None = None
    start: float | None = Field(default=None, gt=0, description="Temperature at the beginning.")
    end: float | None = Field(default=None, gt=0, description="Temperature at the end.")
    annealing: Literal["exponential", "linear"] | None = None
    edges: Literal["equal", "sampled", "softmax"] | None = Field(
        default=None, description="How the edges of a node of a cell compete."
    )
    partial: int | None = Field(default=None, ge=1, description="Only 1 in so many channels pass through operations.")


class CostTermSection(Section):
    """What a network may cost, and how that enters the loss of the choices."""

    quantity: str = Field(default="macs", description="As in objectives: `latency_ms@host`, `macs`, `params`.")
    penalty: Literal["add_linear", "add_log", "fbnet", "mul_log", "none"] | None = None
    strength: float | None = Field(default=None, ge=0, description="Of the penalty; left out = as published.")
    exponent: float | None = Field(default=None, ge=0, description="Of the penalty; left out = as published.")
    bound: Literal["lagrangian", "none", "projection", "target"] | None = None
    limit: float | None = Field(default=None, gt=0, description="Left out = the constraint on the quantity.")
    rate: float | None = Field(default=None, ge=0, description="Of the multiplier's ascent.")
    project_every: int | None = Field(default=None, ge=1)


class ScheduleSection(Section):
    """What is learned when, and from which samples."""

    name: Literal["bilevel", "single_level"] | None = None
    order: Literal[1, 2] | None = Field(default=None, description="2 looks one step of the weights ahead.")
    weights_share: float | None = Field(default=None, gt=0, lt=1, description="Of the training samples.")
    warmup: float | None = Field(default=None, ge=0, lt=1, description="Share of the steps with frozen choices.")
    every: int | None = Field(default=None, ge=1, description="Steps of the weights for one of the choices.")
    samples: int | None = Field(default=None, ge=1, description="Mixtures per update; gradients are averaged.")


class DerivationSection(Section):
    """How a network is derived at the end."""

    name: Literal["argmax", "feasible", "sampled", "top_edges"] | None = None
    least_use: float | None = Field(default=None, ge=0, lt=1, description="Share of the limit to be used.")


class ChoicesSection(Section):
    """How architecture parameters are trained, by Adam."""

    learning_rate: float | None = Field(default=None, gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)


class GradientSection(Section):
    """Gradient-based search in place of supernet training; left out = the default, written out when resolved.

    The fields are those of `search.gradient.settings.GradientSettings`, which explains them.
    """

    relaxation: RelaxationSection = RelaxationSection()
    cost: CostTermSection | None = None
    schedule: ScheduleSection = ScheduleSection()
    derivation: DerivationSection = DerivationSection()
    choices: ChoicesSection = ChoicesSection()
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    optimizer: Literal["adamw", "rmsprop", "sgd"] | None = None
    learning_rate: float | None = Field(default=None, gt=0)
    annealing: Literal["constant", "cosine", "cosine_power", "linear", "step"] | None = None
    rate_warmup: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    max_grad_norm: float | None = Field(default=None, ge=0)
    checkpoint_every: int | None = Field(default=None, ge=1)


class CostModelSection(Section):
    """How much is measured to fit the latency model; left out = the default, written out when resolved.

    The fields are those of `hwmodels.probing.ProbeSettings`, and the data type that networks run in.
    """

    data_type: Literal["float32", "float16", "bfloat16", "int16", "int8"] | None = Field(
        default=None,
        description="What networks compute in on every device; left out, what each device does by default.",
    )
    kernels: int | None = Field(default=None, ge=20, description="Distinct kernels measured alone, at most.")
    calibration_networks: int | None = Field(default=None, ge=12, description="Whole networks the fit sees.")
    held_out_networks: int | None = Field(default=None, ge=2, description="Whole networks that only check it.")
    visits: int | None = Field(default=None, ge=1, description="How often each network is measured; the median counts.")
    energy_networks: int | None = Field(
        default=None, ge=0, description="Whole networks whose energy is measured where there is a meter; 0 for none."
    )


class VerifySection(Section):
    """What is retrained and measured at the end.

    The training fields are those of `predictors.training.StandaloneSettings`; left out = the default.
    """

    members: int = Field(default=5, ge=5, description="Front members trained alone and measured.")
    audit: int = Field(default=10, ge=0, description="Random architectures that test the supernet's ranking.")
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    optimizer: Literal["adamw", "rmsprop", "sgd"] | None = None
    learning_rate: float | None = Field(default=None, gt=0)
    warmup: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    mixup: float | None = Field(default=None, ge=0)
    ema: bool | None = None
    initial: Literal["scratch", "supernet"] | None = Field(
        default=None, description="Train members from scratch, or on from the supernet's weights."
    )


class ExportSection(Section):
    """Which verified members become model files."""

    top: int | None = Field(
        default=None, ge=1, description="How many, those best in one objective first; left out = all."
    )


class PoolSection(Section):
    """Where candidates are evaluated by a local run; the service decides it by its settings."""

    kind: Literal["serial", "local", "ray"] = "local"
    workers: int = Field(default=2, ge=1, le=4096)


class SystemSection(Section):
    """Which published method a job composes; says where it comes from and where ours differs."""

    title: str
    source: str = Field(description="Authors, title, venue and address of the publication.")
    deviations: str = Field(description="In a line or two, where this composition differs from what was published.")


class JobSpec(Section):
    """One search, as submitted; `check_job` returns it with every default filled in."""

    name: str = Field(min_length=1, max_length=120)
    system: SystemSection | None = None
    space: SpaceSection
    task: TaskSection | None = Field(default=None, description="Left out only where accuracy comes from a table.")
    devices: list[str] = Field(default=["host"], min_length=1, max_length=16)
    objectives: list[ObjectiveSection] = Field(min_length=1, max_length=8)
    constraints: list[ConstraintSection] = Field(default=[], max_length=32)
    evaluator: EvaluatorSection = EvaluatorSection()
    strategy: StrategySection = StrategySection()
    budget: BudgetSection
    warm_start: list[int | str] = Field(
        default=[],
        max_length=32,
        description="Numbers or ids of earlier searches of the same space and evaluation, known from the start.",
    )
    supernet: SupernetSection = SupernetSection()
    gradient: GradientSection | None = Field(
        default=None, description="Learn the architecture by gradients, beside the weights; see strategy `derived`."
    )
    cost_model: CostModelSection = CostModelSection()
    verify: VerifySection = VerifySection()
    export: ExportSection = ExportSection()
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    pool: PoolSection | None = None

    def to_json(self) -> dict[str, Any]:
        """The job as plain data, without what was not given."""
        return self.model_dump(mode="json", exclude_none=True)
