"""Devices: registered by users, measured by agents; the agent itself; and the models fitted to what was measured.

An agent claims a task, renews its lease and posts its result; every write names the lease's epoch, and one whose lease
was lost is answered with 409 and changes nothing.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from ...errors import ConfigError, LeaseLostError
from ...hwmodels import catalog as device_catalog
from ...hwmodels.device import load_device
from ...hwmodels.latency import LatencySettings
from ...predictors.cost.kernel_fitting import KernelSettings
from ..auth import create_key
from ..measuring import FORMAT, check_device_name, describe
from ..schemas import devices, resources
from ..schemas.check import unknown_name
from ..store.device_tasks import DeviceTask
from ..store.faults import Conflict, NotFound
from ..store.records import DeviceRecord, JobKind, JobState, Lease, Role
from ..store.store import Store
from . import convert
from .catalogue import space_of
from .context import API, Context, ContextDep, CursorParam, Limit, authorize
from .problems import ProblemError

__all__ = ["AGENT", "router"]

router = APIRouter(tags=["devices"], dependencies=[Depends(authorize)])

AGENT: Final = Path(__file__).resolve().parent.parent / "agent.py"
LOOK_S: Final = 0.5
"""Between two looks for a task while an agent waits."""
UPLOADER: Final = "result file"


@router.get("/agent.py", summary="The device agent", response_class=Response)
def agent_file() -> Response:
    """One self-contained Python file; run it on the device."""
    return Response(AGENT.read_bytes(), media_type="text/x-python")


# --- devices -------------------------------------------------------------------------------------------------------


@router.get(f"{API}/devices", summary="List devices")
def list_devices(context: ContextDep) -> resources.Page[resources.Device]:
    """Every device that jobs may name: the catalog's and the registered ones."""
    stored = {record.name: record for record in context.store.devices()}
    names = sorted({*device_catalog.names(), *stored})
    return resources.Page(items=[_device(context.store, name, stored.get(name)) for name in names])


@router.get(f"{API}/devices/{{name}}", summary="Show a device")
def show_device(name: str, context: ContextDep) -> resources.Device:
    """A device's figures, each with its source, its agent, and how far it has measured."""
    return _device(context.store, name, _record(context.store, name))


@router.post(f"{API}/devices", status_code=201, summary="Register a device, or describe it anew")
def add_device(new: devices.NewDevice, context: ContextDep) -> resources.Device:
    """The device file is checked as those of the catalog are; name, title and kind are enough."""
    text = new.definition if isinstance(new.definition, str) else _yaml(new.definition)
    device = load_device(text, place="definition")
    check_device_name(device.name)
    record = context.store.put_device(device.name, device.to_json())
    return _device(context.store, device.name, record)


@router.post(f"{API}/devices/{{name}}/keys", status_code=201, summary="Make a key for a device's agent")
def make_key(name: str, context: ContextDep) -> devices.DeviceKey:
    """It lets an agent measure as this device, and do nothing else; it is told here and never again."""
    check_device_name(name)
    _record(context.store, name)
    key = create_key(context.store, context.signing_key, name=f"agent of {name}", role=Role.DEVICE, device=name)
    return devices.DeviceKey(device=name, key=key)


@router.get(f"{API}/devices/{{name}}/models", summary="List the models fitted to a device's measurements")
def list_models(name: str, context: ContextDep) -> resources.Page[devices.DeviceModel]:
    """Newest first, each with its error on networks that no fit has seen."""
    _record(context.store, name)
    return resources.Page(
        items=[
            devices.DeviceModel(
                device=model.device,
                space=model.space,
                identity=model.identity,
                report=_errors(model.summary.get("report", {})),
                spaces={name: _errors(report) for name, report in model.summary.get("spaces", {}).items()},
                conditions=dict(model.summary.get("conditions", {})),
                created=model.created,
            )
            for model in context.store.tasks.models(name)
        ]
    )


@router.post(f"{API}/devices/{{name}}/probes", status_code=202, summary="Measure kernels and networks on a device")
def probe_device(name: str, request: devices.ProbeRequest, context: ContextDep) -> resources.Job:
    """Queue kernels and some whole networks for the device; the job ends with a fitted latency model."""
    check_device_name(name)
    payload = {"device": name, **request.model_dump()}
    if request.space is None:
        check_kernel_settings(request)
    else:
        space = space_of(request.space, request.preset, request.options)
        LatencySettings.from_json(request.settings)
        assert space.site_index.size  # raises SpaceError where costs do not add up over sites
        payload["preset"] = space.preset
    if _record(context.store, name) is None:
        context.store.put_device(name, {})
    context.store.tasks.forget_failed(name)
    return convert.job(context.store.enqueue(JobKind.PROBE, payload))


@router.post(f"{API}/devices/{{name}}/cancel", summary="Cancel what a device still has to measure")
def cancel_measuring(name: str, context: ContextDep) -> dict[str, int]:
    """Its open tasks, and the probes that wait for them; what is measured is kept."""
    return {"cancelled": context.store.tasks.cancel(name)}


# --- agents --------------------------------------------------------------------------------------------------------


@router.post(f"{API}/devices/{{name}}/agent", summary="An agent says hello")
def hello(name: str, request: devices.AgentHello, context: ContextDep) -> dict[str, str]:
    """A device that nobody has registered is registered under this name."""
    check_device_name(name)
    context.store.tasks.hello(name, {**request.info, "worker": request.worker})
    return {"device": name}


@router.post(
    f"{API}/devices/{{name}}/tasks/claim",
    response_model=devices.Task,
    responses={204: {"description": "There is no task now."}},
    summary="Claim a task",
)
async def claim_task(name: str, body: devices.ClaimRequest, request: Request, context: ContextDep) -> Response:
    """The device's oldest task, under a lease that must be renewed; 204 where none came up in time."""
    check_device_name(name)
    tasks = context.store.tasks
    await run_in_threadpool(tasks.hello, name)
    deadline = time.monotonic() + body.wait_s
    while True:
        if await run_in_threadpool(tasks.waiting, name):
            claimed = await run_in_threadpool(tasks.claim, name, body.worker, context.settings.lease_ttl_s)
            if claimed is not None:
                lease, task = claimed
                return JSONResponse(_task(task, lease).model_dump(mode="json"))
        if time.monotonic() >= deadline or request.app.state.stopping or await request.is_disconnected():
            return Response(status_code=204)
        await anyio.sleep(LOOK_S)


@router.post(f"{API}/devices/{{name}}/tasks/{{task_id}}/renew", summary="Renew a task's lease")
def renew_task(name: str, task_id: str, body: devices.LeaseRequest, context: ContextDep) -> devices.LeaseState:
    """409 once the lease is lost."""
    lease = _lease(context, name, task_id, body)
    asked = _fenced(lambda: context.store.renew(lease))
    context.store.tasks.hello(name)
    return devices.LeaseState(cancel=asked.cancel)


@router.post(f"{API}/devices/{{name}}/tasks/{{task_id}}/result", summary="Post a task's result")
def post_result(name: str, task_id: str, body: devices.TaskResult, context: ContextDep) -> dict[str, str]:
    """Taken once, from whoever holds the lease; 409 from anyone else."""
    lease = _lease(context, name, task_id, body)
    _fenced(lambda: context.store.tasks.finish(lease, body.result.model_dump()))
    context.store.tasks.hello(name)
    return {"state": JobState.SUCCEEDED}


@router.post(f"{API}/devices/{{name}}/tasks/{{task_id}}/fail", summary="Give a task up")
def fail_task(name: str, task_id: str, body: devices.TaskFailure, context: ContextDep) -> dict[str, str]:
    """The model cannot be run on this device, however often it is tried."""
    lease = _lease(context, name, task_id, body)
    _fenced(lambda: context.store.fail(lease, {"reason": "device", "message": body.message}))
    return {"state": JobState.FAILED}


@router.post(f"{API}/devices/{{name}}/tasks/{{task_id}}/release", summary="Hand a task back")
def release_task(name: str, task_id: str, body: devices.LeaseRequest, context: ContextDep) -> dict[str, str]:
    """The agent stops; the next one takes the task."""
    lease = _lease(context, name, task_id, body)
    _fenced(lambda: context.store.release(lease, JobState.QUEUED))
    return {"state": JobState.QUEUED}


# --- from a file ---------------------------------------------------------------------------------------------------


@router.get(f"{API}/devices/{{name}}/tasks", summary="List a device's open tasks with their models")
def list_tasks(
    name: str, context: ContextDep, limit: Limit = 50, cursor: CursorParam = None
) -> resources.Page[devices.Task]:
    """For a device without a line to this server, which measures from a file; no lease is taken."""
    scope = {"list": "tasks", "device": name}
    after = context.cursors.read(cursor, scope) or ""
    tasks = context.store.tasks.open(name, after=after, limit=limit + 1)
    return resources.Page(
        items=[_task(task) for task in tasks[:limit]],
        next_cursor=context.cursors.make(tasks[limit - 1].id, scope) if len(tasks) > limit else None,
    )


@router.post(f"{API}/devices/{{name}}/results", summary="Upload results measured from a file")
def upload_results(name: str, upload: devices.Upload, context: ContextDep) -> devices.UploadAnswer:
    """Each is taken once; those of tasks that are measured already, or are being measured, are refused."""
    refused = []
    for item in upload.results:
        try:
            result = None if item.result is None else item.result.model_dump()
            context.store.tasks.take(name, item.id, worker=UPLOADER, result=result, message=item.message)
        except (Conflict, NotFound) as error:
            refused.append(devices.Refusal(id=item.id, reason=str(error)))
    return devices.UploadAnswer(accepted=len(upload.results) - len(refused), refused=refused)


# --- parts ---------------------------------------------------------------------------------------------------------


def _record(store: Store, name: str) -> DeviceRecord | None:
    """A registered device; None for one of the catalog alone; 404 for a name that is neither."""
    try:
        return store.device(name)
    except NotFound as error:
        if name in device_catalog.names():
            return None
        known = sorted({*device_catalog.names(), *(record.name for record in store.devices())})
        unknown = unknown_name("device", name, known)
        raise ProblemError(404, "not-found", str(unknown), errors=[unknown]) from error


def _device(store: Store, name: str, record: DeviceRecord | None) -> resources.Device:
    device = device_catalog.get(name) if record is None else describe(record)
    return resources.Device(
        name=name,
        title=device.title,
        kind=device.kind,
        description=device.to_json(),
        registered=record is not None,
        agent=None if record is None or record.agent is None else dict(record.agent),
        seen=None if record is None else record.seen,
        silent_s=None if record is None else record.silent_s,
        tasks={} if record is None else {state.value: count for state, count in store.tasks.counts(name).items()},
    )


def check_kernel_settings(request: devices.ProbeRequest) -> None:
    """Refuse what belongs to a space, and unknown or impossible settings of the kernel suite."""
    if request.preset is not None or request.options:
        raise ConfigError("preset", request.preset or request.options, "nothing without a space", "Name the space.")
    KernelSettings.from_json(request.settings)


def _yaml(definition: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(definition), sort_keys=False)


def _errors(report: Mapping[str, object]) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in report.items()}


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


@functools.cache
def _reference() -> devices.Packed:
    from ...hwmodels.measure.packing import pack_ops
    from ...hwmodels.measure.timer import reference_ops

    return devices.Packed.model_validate(pack_ops(reference_ops()).to_json())


def _task(task: DeviceTask, lease: Lease | None = None) -> devices.Task:
    return devices.Task(
        format=FORMAT,
        id=task.id,
        device=task.device,
        epoch=0 if lease is None else lease.epoch,
        ttl_s=0.0 if lease is None else lease.ttl_s,
        model=devices.Packed.model_validate(task.model),
        reference=_reference(),
        timing=dict(task.timing),
    )


def _lease(context: Context, name: str, task_id: str, body: devices.LeaseRequest) -> Lease:
    return context.store.tasks.lease(
        name, task_id, worker=body.worker, epoch=body.epoch, ttl_s=context.settings.lease_ttl_s
    )


def _fenced(write: Any) -> Any:
    try:
        return write()
    except LeaseLostError as error:
        raise ProblemError(409, "lease-lost", str(error)) from error
