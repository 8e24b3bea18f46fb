"""What agents, and users who bring devices, say to the API and hear from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .resources import Resource

__all__ = [
    "AgentHello",
    "ClaimRequest",
    "DeviceKey",
    "DeviceModel",
    "LeaseRequest",
    "LeaseState",
    "MeasuredEnergy",
    "MeasuredResult",
    "NewDevice",
    "Packed",
    "ProbeRequest",
    "Refusal",
    "Task",
    "TaskFailure",
    "TaskResult",
    "Upload",
    "UploadAnswer",
    "UploadedResult",
]

Scalar = Annotated[str, Field(max_length=300)] | bool | int | float
Scalars = Annotated[dict[Annotated[str, Field(max_length=40)], Scalar], Field(max_length=40)]
Positive = Annotated[float, Field(gt=0)]


class Request(BaseModel):
    """Base of what is sent: unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class NewDevice(Request):
    """A device to be registered: the content of a device file, as YAML text or as data."""

    definition: str | dict[str, Any]


class ProbeRequest(Request):
    """What is to be measured on a device: one search space, or, without any, the kernels that all are made of.

    `settings` are those of a job's `cost_model` for a space, else the fields of
    `predictors.cost.kernel_fitting.KernelSettings`.
    """

    space: str | None = None
    preset: str | None = None
    options: dict[str, bool | int | float | str] = {}
    settings: dict[str, int] = {}
    data_type: Literal["float32", "float16", "int8"] = "float32"
    seed: int = Field(default=0, ge=0)


class AgentHello(Request):
    """An agent and what it tells about its device."""

    worker: str = Field(min_length=1, max_length=120)
    info: Scalars


class ClaimRequest(Request):
    """A request for a task, answered as soon as there is one, or after `wait_s` without one."""

    worker: str = Field(min_length=1, max_length=120)
    wait_s: float = Field(default=0.0, ge=0, le=30)


class LeaseRequest(Request):
    """Who holds a task, and the number of the lease."""

    worker: str = Field(min_length=1, max_length=120)
    epoch: int = Field(ge=1)


class MeasuredEnergy(Request):
    """The energy of one run above the idle power, which is told beside it."""

    value_mj: Positive
    iqr_mj: float = Field(ge=0)
    runs: int = Field(ge=1)
    idle_power_w: float = Field(ge=0)
    meter: Literal["rapl"]


class MeasuredResult(Request):
    """A measured latency, with everything that decides what it is worth; energy and memory where the device tells."""

    format: Literal[1]
    latency_ms: Positive
    iqr_ms: float = Field(ge=0)
    repeats: int = Field(ge=1)
    precision: float = Field(ge=0, description="Half width of the median's 95 % interval, relative.")
    noisy: bool
    reference_ms: Positive = Field(description="Nominal time of the reference kernel in this process.")
    slowdown: Positive = Field(description="Median slow-down of the reference kernel, by which the latency is divided.")
    conditions: Scalars
    energy: MeasuredEnergy | None = None
    no_energy: str = Field(default="", max_length=300, description="Why the energy that was asked for is missing.")
    resident_memory_bytes: int | None = Field(
        default=None, ge=1, description="Growth of the process's resident memory by the model and its runs."
    )


class TaskResult(LeaseRequest):
    """The result of a task."""

    result: MeasuredResult


class TaskFailure(LeaseRequest):
    """Why a task cannot be done on this device."""

    message: str = Field(max_length=2000)


class UploadedResult(Request):
    """One line of a result file: the result of a task, or why there is none."""

    id: str = Field(max_length=64)
    result: MeasuredResult | None = None
    message: str = Field(default="", max_length=2000)


class Upload(Request):
    """Results that were measured from a file."""

    results: list[UploadedResult] = Field(max_length=500)


class DeviceKey(Resource):
    """A new API key of a device's agent."""

    device: str
    key: str


class Refusal(Resource):
    """A result that was not taken, and why."""

    id: str
    reason: str


class UploadAnswer(Resource):
    """What became of uploaded results."""

    accepted: int
    refused: list[Refusal]


class LeaseState(Resource):
    """A lease that still holds; `cancel` where nobody wants the result any more."""

    cancel: bool


class Packed(Resource):
    """An ONNX model without its weights: see `hwmodels/measure/packing.py`."""

    data: str
    fills: list[tuple[int, int, float, float] | tuple[int, int, float, float, str]]


class Task(Resource):
    """A model to be timed, and how. `epoch` and `ttl_s` are those of the lease; 0 where none was taken."""

    format: int
    id: str
    device: str
    epoch: int
    ttl_s: float
    model: Packed
    reference: Packed
    timing: dict[str, Any]


Errors = dict[str, float | None]


class DeviceModel(Resource):
    """A latency model fitted to a device's measurements, and its error on networks that no fit saw.

    One of kernels, which serves every space, has the empty space, and the error in each space that was measured.
    """

    device: str
    space: str
    identity: str
    report: Errors
    spaces: dict[str, Errors]
    conditions: dict[str, Any]
    created: datetime
