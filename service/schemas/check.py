"""The one check of a job that YAML, REST and SDK all go through: types and keys first, then names and their fit.

Every mistake is reported with its dotted place, the value, what is allowed and, where a name is close to a known one,
what was probably meant. All mistakes of a job are found in one go.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from ...errors import ConfigError, SpaceError
from .job import ConstraintSection, JobSpec, ObjectiveSection

__all__ = [
    "QUANTITIES",
    "InvalidJobError",
    "QuantityKind",
    "check_job",
    "check_names",
    "explain",
    "place_of",
    "unknown_name",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityKind:
    """What a job may say about a quantity."""

    direction: Literal["min", "max"]
    needs_device: bool
    may_constrain: bool = True


QUANTITIES: Final[Mapping[str, QuantityKind]] = MappingProxyType({
    "accuracy": QuantityKind(direction="max", needs_device=False),
    "energy_mj": QuantityKind(direction="min", needs_device=True),
    "flash_bytes": QuantityKind(direction="min", needs_device=True),
    "latency_ms": QuantityKind(direction="min", needs_device=True),
    "macs": QuantityKind(direction="min", needs_device=False),
    "memory_bytes": QuantityKind(direction="min", needs_device=True),
    "params": QuantityKind(direction="min", needs_device=False),
    "sram_bytes": QuantityKind(direction="min", needs_device=True),
})  # fmt: skip
"""Every quantity that objectives and constraints may name."""


class InvalidJobError(ConfigError):
    """A job that cannot run; `errors` holds every mistake, the first of them being this error itself.

    Args:
        errors: at least one.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.place, first.value, first.allowed, first.hint)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors) if len(self.errors) > 1 else super().__str__()


def check_job(data: Mapping[str, Any] | JobSpec, *, local: bool = False, registered: Collection[str] = ()) -> JobSpec:
    """Validate a job against the catalogs and fill in its defaults.

    Args:
        data: the job as plain data, or already parsed.
        local: whether it runs in this process, where it may name a path and a pool.
        registered: names of devices beside those of the catalog.

    Returns:
        The resolved job.

    Raises:
        InvalidJobError: a ConfigError that lists every mistake.
    """
    if isinstance(data, JobSpec):
        job = data
    else:
        try:
            job = JobSpec.model_validate(data)
        except ValidationError as error:
            raise InvalidJobError(explain(error.errors(include_url=False))) from error
    return check_names(job, local=local, registered=registered)


def check_names(job: JobSpec, *, local: bool = False, registered: Collection[str] = ()) -> JobSpec:
    """The part of `check_job` that needs the catalogs; same arguments, result and error."""
    from .resolve import resolve

    resolved = job.model_copy(
        update={
            "objectives": [_with_defaults(objective, job) for objective in job.objectives],
            "constraints": [_with_device(constraint, job) for constraint in job.constraints],
        }
    )
    errors = [
        *_check_space(job),
        *_check_task(job, local),
        *(_check_devices(job, registered) if job.evaluator.kind != "table" else ()),
        *_check_evaluator(job, local),
        *_check_gradient(job),
        *_check_training(job, local),
        *_check_objectives(resolved),
        *_check_constraints(resolved),
        *_check_strategy(job),
    ]
    if job.pool is not None and not local:
        errors.append(
            ConfigError("pool", job.pool.kind, "nothing here", "The service chooses its pool by ARCHSMITH_POOL.")
        )
    if errors:
        raise InvalidJobError(errors)
    return resolve(resolved)


# --- from pydantic's errors to ours --------------------------------------------------------------------------------


def explain(errors: Iterable[Any], model: type[BaseModel] = JobSpec) -> list[ConfigError]:
    """Pydantic's errors as ours: one per place, in their order.

    Args:
        errors: `ValidationError.errors()`, locations relative to `model`.
        model: what was validated.
    """
    out: dict[str, ConfigError] = {}
    for error in errors:
        loc = _strip_union_tags(tuple(error["loc"]), model)
        place = place_of(loc) or "job"
        if place not in out:
            out[place] = _explain_one(error, loc, place, model)
    return list(out.values())


def place_of(loc: Iterable[str | int]) -> str:
    """A dotted place.

    >>> place_of(("objectives", 1, "device"))
    'objectives[1].device'
    """
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_EXPECTED: Final[Mapping[str, str]] = MappingProxyType({
    "bool_type": "true or false",
    "dict_type": "a mapping of names to values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "missing": "a value; this key is required",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} characters",
    "string_type": "text",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "value_error": "{error}",
})  # fmt: skip


def _explain_one(error: Any, loc: tuple[str | int, ...], place: str, model: type[BaseModel]) -> ConfigError:
    kind = error["type"]
    if kind == "extra_forbidden":
        owner = _model_at(model, loc[:-1]) or model
        return unknown_name(place, str(loc[-1]), owner.model_fields, "the keys ")
    value = None if kind == "missing" else error.get("input")
    if kind in ("model_type", "model_attributes_type"):
        owner = _model_at(model, loc) or model
        return ConfigError(place, value, f"a mapping with the keys {', '.join(owner.model_fields)}")
    if kind.endswith("_type") and _is_scalar_place(model, loc):
        return ConfigError(place, value, "true, false, a number or text")
    expected = _EXPECTED.get(kind)
    return ConfigError(place, value, expected.format(**error.get("ctx", {})) if expected else error["msg"])


def unknown_name(place: str, value: str, allowed: Iterable[str], noun: str = "one of ") -> ConfigError:
    """The error for a name that is not among `allowed`, with the closest one as a hint."""
    names = list(allowed)
    close = difflib.get_close_matches(value, names, n=1)
    return ConfigError(place, value, noun + ", ".join(names), f"Did you mean {close[0]!r}?" if close else "")


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_inner_model(part) for part in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that the value at `loc` must be, None where it is something else."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, str):
            field = current.model_fields.get(part) if current else None
            current = _inner_model(field.annotation) if field else None
    return current


def _is_scalar_place(model: type[BaseModel], loc: tuple[str | int, ...]) -> bool:
    return len(loc) >= 2 and loc[-2] == "options" and _model_at(model, loc[:-2]) is not None


def _strip_union_tags(loc: tuple[str | int, ...], model: type[BaseModel]) -> tuple[str | int, ...]:
    """Without the member type that pydantic appends for a union (``options.classes.int``)."""
    return loc[:-1] if len(loc) >= 3 and loc[-3] == "options" and _is_scalar_place(model, loc[:-1]) else loc


# --- names and their fit -------------------------------------------------------------------------------------------


def _check_space(job: JobSpec) -> Iterator[ConfigError]:
    from ...spaces import catalog

    name, preset = job.space.name, job.space.preset
    if name not in catalog.names():
        yield unknown_name("space.name", name, catalog.names())
        return
    if preset is not None and preset not in catalog.presets(name):
        yield unknown_name("space.preset", preset, catalog.presets(name))
    allowed = (*catalog.FAMILIES[name].options, catalog.DENSITIES)
    for option in job.space.options:
        if option not in allowed:
            yield unknown_name(f"space.options.{option}", option, allowed, "the options ")
    if catalog.DENSITIES in job.space.options:
        yield from _check_densities(str(job.space.options[catalog.DENSITIES]))
    if name == "custom" and "definition" in job.space.options:
        yield from _check_definition(str(job.space.options["definition"]))


def _check_densities(text: str) -> Iterator[ConfigError]:
    from ...spaces.families.sparse import read_densities

    try:
        read_densities(text)
    except SpaceError:
        yield ConfigError("space.options.densities", text, "numbers above 0 up to 1, such as 0.2,0.5,1")


def _check_definition(text: str) -> Iterator[ConfigError]:
    from ...spaces.definition import build, read_definition

    try:
        build(read_definition(text + "\n"))
    except ConfigError as error:
        place = error.place.rpartition(": ")[2]  # the line is that of one line of JSON
        yield ConfigError(f"space.definition.{place}", error.value, error.allowed, error.hint)
    except SpaceError as error:
        yield ConfigError("space.definition", "parts that do not fit together", str(error))


def _check_task(job: JobSpec, local: bool) -> Iterator[ConfigError]:
    from ...predictors.tasks import catalog

    if job.task is None:
        if job.evaluator.kind != "table":
            yield ConfigError("task", None, "a mapping with the keys name, path, options")
        return
    name = job.task.name
    if name not in catalog.names():
        yield unknown_name("task.name", name, catalog.names())
        return
    allowed = catalog.options(name)
    for option in job.task.options:
        if option not in allowed:
            yield unknown_name(f"task.options.{option}", option, allowed, "the options ")
    path = job.task.path if job.task.path is not None else job.task.options.get("path")
    if not local and "path" in allowed:
        registered = [task for task in catalog.names() if "path" not in catalog.options(task)]
        hint = "Only a job that runs locally, by `archsmith run`, may read a file by its path."
        yield ConfigError("task.path" if path is not None else "task.name", path or name, ", ".join(registered), hint)
    elif job.task.path is not None and "path" not in allowed:
        yield ConfigError("task.path", path, f"no path: task {name!r} brings its own data")


def _check_evaluator(job: JobSpec, local: bool) -> Iterator[ConfigError]:
    if job.evaluator.path is not None and not local:
        yield ConfigError(
            "evaluator.path",
            job.evaluator.path,
            "nothing here",
            "Only a job that runs locally, by `archsmith run`, may read a file by its path.",
        )


def _check_training(job: JobSpec, local: bool) -> Iterator[ConfigError]:
    """What the settings of the supernet and of training alone say of each other, and the files that they name."""
    from ...predictors.supernet.settings import SupernetSettings
    from ...predictors.training import StandaloneSettings

    sections = (
        ("supernet", SupernetSettings, job.supernet.model_dump(exclude_none=True)),
        ("verify", StandaloneSettings, job.verify.model_dump(exclude_none=True, exclude={"members", "audit"})),
    )
    for section, settings, given in sections:
        try:
            settings.from_json(given)
        except ConfigError as error:
            place = f"{section}.{error.place.partition('.')[2]}"
            yield ConfigError(place, error.value, error.allowed, error.hint)
            return
    supernet = SupernetSettings.from_json(sections[0][2])
    files = {"supernet.initial": supernet.initial_file, "supernet.teacher": supernet.teacher_file}
    for place, file in files.items():
        if file is not None and not local:
            hint = "Only a job that runs locally, by `archsmith run`, may read a file by its path."
            allowed = "random" if place == "supernet.initial" else "first_path or largest"
            yield ConfigError(place, str(file), allowed, hint)
        elif file is not None and not file.is_file():
            yield ConfigError(place, str(file), "a file of safetensors that exists")
    if job.verify.initial == "supernet" and job.evaluator.kind != "supernet":
        yield ConfigError(
            "verify.initial", "supernet", f"scratch: with evaluator.kind {job.evaluator.kind} no supernet is trained"
        )


def _check_gradient(job: JobSpec) -> Iterator[ConfigError]:
    """What the settings of gradient-based search say of each other, and which quantity they name."""
    from ...search.gradient.settings import GradientSettings

    if job.gradient is None:
        if job.strategy.name == "derived":
            yield ConfigError("strategy.name", "derived", "another strategy in a job without `gradient`")
        return
    try:
        GradientSettings.from_json(job.gradient.model_dump(exclude_none=True))
    except ConfigError as error:
        yield error
    if job.evaluator.kind == "table":
        yield ConfigError("gradient", "settings", "nothing with a table, where no weights are trained")
    if job.gradient.cost is not None:
        name, _, device = job.gradient.cost.quantity.partition("@")
        kind = QUANTITIES.get(name)
        if kind is None or name == "accuracy":
            costs = [quantity for quantity in QUANTITIES if quantity != "accuracy"]
            yield unknown_name("gradient.cost.quantity", job.gradient.cost.quantity, costs)
        elif kind.needs_device and device not in job.devices:
            allowed = " or ".join(f"{name}@{known}" for known in job.devices)
            yield ConfigError("gradient.cost.quantity", job.gradient.cost.quantity, allowed)
        elif not kind.needs_device and device:
            yield ConfigError("gradient.cost.quantity", job.gradient.cost.quantity, name)


def _check_devices(job: JobSpec, registered: Collection[str]) -> Iterator[ConfigError]:
    from ...hwmodels import catalog

    known = sorted({*catalog.names(), *registered})
    for index, name in enumerate(job.devices):
        if name not in known:
            yield unknown_name(f"devices[{index}]", name, known)
        elif name in job.devices[:index]:
            yield ConfigError(f"devices[{index}]", name, "each device once")


_Section = TypeVar("_Section", ObjectiveSection, ConstraintSection)


def _with_device(section: _Section, job: JobSpec) -> _Section:
    kind = QUANTITIES.get(section.name)
    if kind and kind.needs_device and section.device is None and len(job.devices) == 1:
        return section.model_copy(update={"device": job.devices[0]})
    return section


def _with_defaults(objective: ObjectiveSection, job: JobSpec) -> ObjectiveSection:
    kind = QUANTITIES.get(objective.name)
    if kind and objective.direction is None:
        objective = objective.model_copy(update={"direction": kind.direction})
    return _with_device(objective, job)


def _check_objectives(job: JobSpec) -> Iterator[ConfigError]:
    for index, objective in enumerate(job.objectives):
        place = f"objectives[{index}]"
        yield from _check_quantity(place, objective, job)
        kind = QUANTITIES.get(objective.name)
        if kind and objective.direction != kind.direction:
            yield ConfigError(f"{place}.direction", objective.direction, f"{kind.direction} for {objective.name}")
        if objective.label in [earlier.label for earlier in job.objectives[:index]]:
            yield ConfigError(place, objective.label, "each objective once")


def _check_constraints(job: JobSpec) -> Iterator[ConfigError]:
    for index, constraint in enumerate(job.constraints):
        yield from _check_quantity(f"constraints[{index}]", constraint, job)


def _check_quantity(place: str, section: ObjectiveSection | ConstraintSection, job: JobSpec) -> Iterator[ConfigError]:
    kind = QUANTITIES.get(section.name)
    if kind is None:
        if job.evaluator.kind != "table":  # whose quantities its file says
            yield unknown_name(f"{place}.name", section.name, QUANTITIES)
        elif isinstance(section, ObjectiveSection) and section.direction is None:
            yield ConfigError(f"{place}.direction", None, "min or max", f"{section.name} is a quantity of the table.")
    elif not kind.needs_device and section.device is not None:
        yield ConfigError(f"{place}.device", section.device, "no device", f"{section.name} is the same on every one.")
    elif kind.needs_device and section.device is None:
        yield ConfigError(
            f"{place}.device", None, f"one of {', '.join(job.devices)}", f"{section.name} depends on the device."
        )
    elif kind.needs_device and section.device not in job.devices:
        yield unknown_name(f"{place}.device", str(section.device), job.devices)


def _check_strategy(job: JobSpec) -> Iterator[ConfigError]:
    from ...search.strategies import catalog
    from ...search.strategies.auto import AUTO

    if job.strategy.name == AUTO:
        if job.strategy.options:
            yield ConfigError("strategy.options", job.strategy.options, "none", "Name the strategy that they are of.")
        return
    if job.strategy.name not in catalog.names():
        yield unknown_name("strategy.name", job.strategy.name, [AUTO, *catalog.names()])
        return
    if catalog.multi_fidelity(job.strategy.name) and job.evaluator.kind == "supernet":
        yield ConfigError(
            "evaluator.kind",
            job.evaluator.kind,
            f"standalone or table with strategy {job.strategy.name!r}",
            "It evaluates with a part of the effort first, and an evaluation with shared weights has no such part.",
        )
    allowed = catalog.options(job.strategy.name)
    for option in job.strategy.options:
        if option not in allowed:
            yield unknown_name(f"strategy.options.{option}", option, allowed, "the options ")
