"""The command line: `archsmith <command>`, each a thin door to a module of `commands`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from .. import __version__
from ..errors import ArchsmithError, ConfigError, InfeasibleError
from .commands.output import errors

__all__ = ["app", "main"]

app = typer.Typer(
    name="archsmith",
    help="Hardware-aware neural architecture search: from a job file to a verified Pareto front and deployable models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ServerOption = Annotated[
    str | None,
    typer.Option("--server", envvar="ARCHSMITH_SERVER", help="Address of a server; left out: this folder's store."),
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="ARCHSMITH_API_KEY", help="Key, where the server asks for one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the deliverables; default runs/<name>-<number>.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")]
SearchArgument = Annotated[str, typer.Argument(metavar="SEARCH", help="Number or id of a search.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Database URL; default the ARCHSMITH_STORE_URL setting.")
]
JobArgument = Annotated[Path, typer.Argument(metavar="JOB", help="Job file (YAML).")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"archsmith {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version  # shown before any command runs


@app.command()
def run(
    job: JobArgument,
    output: OutputOption = None,
    quiet: QuietOption = False,
    store: StoreOption = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try the job out at the size its file lists under smoke.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder or file of the task's data, in place of the job's task.path.")
    ] = None,
) -> None:
    """Do a whole job in this process, against the embedded store."""
    from .commands.local import run as run_job

    raise typer.Exit(run_job(_settings(store_url=store), job, output, quiet=quiet, smoke=smoke, data=data))


@app.command()
def compare(
    job: JobArgument,
    strategies: Annotated[
        str, typer.Option(help="Separated by spaces, with options where wanted: 'nsga2(population=20) random'.")
    ] = "nsga2 regularized_evolution",
    seeds: Annotated[int, typer.Option(min=1, help="Searches per strategy.")] = 10,
    trials: Annotated[int | None, typer.Option(min=1, help="Evaluations per search; default the job's budget.")] = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Vary each strategy's own settings too.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the table and the plot.")] = None,
) -> None:
    """Compare strategies on a job's problem: equal budgets, several seeds, and what is noise."""
    from .commands.comparing import compare_strategies

    code = compare_strategies(
        _settings(), job, strategies.split(), seeds=seeds, trials=trials, sensitivity=sensitivity, output=output
    )
    raise typer.Exit(code)


@app.command()
def resume(
    search: SearchArgument, output: OutputOption = None, quiet: QuietOption = False, store: StoreOption = None
) -> None:
    """Continue an interrupted or paused search."""
    from .commands.local import resume as resume_search

    raise typer.Exit(resume_search(_settings(store_url=store), search, output, quiet=quiet))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run the service: REST API, dashboard and worker."""
    from .commands.serving import serve as serve_store

    settings = _settings(host=host, port=port, store_url=store, log_level="warning" if quiet else None)
    _log(settings.log_level)
    raise typer.Exit(serve_store(settings, quiet=quiet))


@app.command()
def worker(
    store: StoreOption = None,
    lock_fd: Annotated[int | None, typer.Option(hidden=True, help="Inherited ownership of a SQLite file.")] = None,
    server_pid: Annotated[int | None, typer.Option(hidden=True, help="The server whose child this is.")] = None,
) -> None:
    """Run a worker on a store that several may share (PostgreSQL)."""
    from .commands.serving import work

    settings = _settings(store_url=store)
    _log(settings.log_level)
    raise typer.Exit(work(settings, lock_fd, server_pid))


@app.command()
def submit(
    job: JobArgument,
    server: ServerOption = None,
    api_key: KeyOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
) -> None:
    """Submit a job to a server."""
    from .commands.remote import submit as submit_job

    raise typer.Exit(submit_job(_settings(), job, server, api_key, wait=wait))


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only searches in this state.")] = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List searches, newest first."""
    from .commands.connection import connect
    from .commands.show import list_searches

    with connect(_settings(), server, api_key) as client:
        list_searches(client, state, as_json=as_json)


@app.command()
def show(
    search: SearchArgument, server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Show a search: where it stands, its front and its report."""
    from .commands.connection import connect
    from .commands.show import show_search

    with connect(_settings(), server, api_key) as client:
        show_search(client.searches.get(search), as_json=as_json)


@app.command()
def front(
    search: SearchArgument,
    view: Annotated[str, typer.Option(help="believed or verified.")] = "believed",
    form: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; default the standard output.")] = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Write the Pareto front of a search."""
    from .commands.connection import connect
    from .commands.show import write_front

    for name, value, allowed in (("--view", view, ("believed", "verified")), ("--format", form, ("csv", "json"))):
        if value not in allowed:
            raise ConfigError(name, value, " or ".join(allowed))
    with connect(_settings(), server, api_key) as client:
        write_front(client.searches.get(search).front(view=view), form, output)  # type: ignore[arg-type]  # just checked


@app.command()
def export(
    search: SearchArgument, output: OutputOption = None, server: ServerOption = None, api_key: KeyOption = None
) -> None:
    """Fetch the deliverables of a search: per verified member, architecture, weights, ONNX and PyTorch models."""
    from .commands.connection import connect
    from .commands.local import default_output

    settings = _settings()
    with connect(settings, server, api_key) as client:
        handle = client.searches.get(search)
        folder = output or default_output(settings, handle)
        files = handle.download(folder)
    errors.print(f"{len(files)} files in {folder}/")


@app.command("export-optuna")
def export_optuna(
    search: SearchArgument,
    storage: Annotated[str | None, typer.Option(help="Optuna storage; default sqlite:///<name>-<number>.db.")] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; default <name>-<number>.")] = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Write the trials of a search as an Optuna study, which optuna-dashboard opens."""
    from .commands.connection import connect
    from .commands.exporting import write_study

    with connect(_settings(), server, api_key) as client:
        handle = client.searches.get(search)
        storage = storage or f"sqlite:///{handle.resource.name}-{handle.resource.number}.db"
        name, count = write_study(handle, storage, study)
    errors.print(f"{count} trials in study {name!r}; look at them with: optuna-dashboard {storage}")


@app.command()
def agent(
    server: Annotated[str | None, typer.Option(envvar="ARCHSMITH_SERVER", help="Address of the server.")] = None,
    device: Annotated[str | None, typer.Option(help="Name of this device.")] = None,
    key: Annotated[str | None, typer.Option(envvar="ARCHSMITH_API_KEY", help="API key.")] = None,
    tasks: Annotated[Path | None, typer.Option("--tasks", "--from", help="Measure this task file instead.")] = None,
    results: Annotated[Path | None, typer.Option(help="File for the results of --tasks.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for unsent results.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the server has no more tasks.")] = False,
) -> None:
    """Measure on this machine as a device of a server; the same file as the server's /agent.py."""
    from .agent import main as run_agent

    given = {"server": server, "device": device, "key": key, "tasks": tasks, "results": results, "state": state}
    arguments = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    raise typer.Exit(run_agent([*arguments, *(["--once"] if once else [])]))


devices_app = typer.Typer(invoke_without_command=True, help="List the devices that jobs may name, or bring one.")
app.add_typer(devices_app, name="devices")
DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Name of a device.")]


@devices_app.callback()
def devices(
    context: typer.Context, server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """List the devices that jobs may name, or bring one."""
    if context.invoked_subcommand is not None:
        return
    from .commands.connection import connect
    from .commands.show import show_devices

    with connect(_settings(), server, api_key) as client:
        show_devices(client.devices.list(), as_json=as_json)


@devices_app.command("add")
def add_device(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Device file (YAML).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of a device without a file.")] = None,
    title: Annotated[str | None, typer.Option(help="One line for people.")] = None,
    kind: Annotated[str, typer.Option(help="cpu, gpu, accelerator or microcontroller.")] = "cpu",
    server: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Register a device, or describe it anew; prints how to start its agent, with a key of its own."""
    from .commands.connection import connect
    from .commands.devices import add

    if (file is None) == (name is None):
        raise ConfigError("FILE", file, "either a device file or --name")
    with connect(_settings(), server, api_key) as client:
        raise typer.Exit(add(client, file, name, title, kind))


@devices_app.command("key")
def make_device_key(device: DeviceArgument, server: ServerOption = None, api_key: KeyOption = None) -> None:
    """Make a key with which an agent may measure as this device, and do nothing else; it is shown once."""
    from .commands.connection import connect
    from .commands.output import console

    with connect(_settings(), server, api_key) as client:
        console.print(client.devices.make_key(device))


@devices_app.command("show")
def show_device(
    device: DeviceArgument, server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Show a device: its figures, its agent, and how far it has measured."""
    from .commands.connection import connect
    from .commands.devices import show as show_one

    with connect(_settings(), server, api_key) as client:
        raise typer.Exit(show_one(client.devices.get(device), as_json=as_json))


@devices_app.command("probe")
def probe_device(
    device: DeviceArgument,
    space: Annotated[
        str | None, typer.Option(help="Measure this search space alone; default: the kernels of every space.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="One of the space's presets; default its first.")] = None,
    data_type: Annotated[str, typer.Option(help="float32, float16 or int8.")] = "float32",
    kernels: Annotated[int | None, typer.Option(help="Kernels to measure at most.")] = None,
    calibration_networks: Annotated[int | None, typer.Option(help="With --space: networks the fit sees.")] = None,
    networks: Annotated[int | None, typer.Option(help="Without --space: networks per space the fit sees.")] = None,
    held_out_networks: Annotated[int | None, typer.Option(help="Other networks that tell its error.")] = None,
    visits: Annotated[int | None, typer.Option(help="How often each network is measured at most.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Without --space: of more where the error is largest.")] = None,
    offline: Annotated[Path | None, typer.Option(help="Write the tasks into this file (zip) instead.")] = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Measure a device through its agent, and fit its latency model: of one space, or of the kernels of all."""
    from .commands.devices import ProbeOptions, probe, reached

    sizes = {
        "kernels": kernels,
        "calibration_networks": calibration_networks,
        "networks": networks,
        "held_out_networks": held_out_networks,
        "visits": visits,
        "rounds": rounds,
    }
    given = {name: value for name, value in sizes.items() if value is not None}
    options = ProbeOptions(sizes=given, data_type=data_type)
    with reached(_settings(), server, api_key) as found:
        raise typer.Exit(probe(found, device, space, preset, settings=options, offline=offline))


@devices_app.command("upload")
def upload_results(
    device: DeviceArgument,
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Result file of the agent.")],
    server: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Hand in what an agent has measured from a file."""
    from .commands.devices import reached, upload

    with reached(_settings(), server, api_key) as found:
        raise typer.Exit(upload(found, device, results))


@devices_app.command("report")
def report_device(
    device: DeviceArgument, server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Show the error of a device's latency models on networks that no fit has seen."""
    from .commands.connection import connect
    from .commands.devices import report

    with connect(_settings(), server, api_key) as client:
        raise typer.Exit(report(device, client.devices.models(device), as_json=as_json))


@devices_app.command("cancel")
def cancel_device(device: DeviceArgument, server: ServerOption = None, api_key: KeyOption = None) -> None:
    """Cancel what a device still has to measure, and the probes that wait for it."""
    from .commands.connection import connect
    from .commands.devices import cancel

    with connect(_settings(), server, api_key) as client:
        raise typer.Exit(cancel(client, device))


spaces_app = typer.Typer(invoke_without_command=True, help="List the search spaces that jobs may name, or check one.")
app.add_typer(spaces_app, name="spaces")


@spaces_app.callback()
def spaces(
    context: typer.Context, server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """List the search spaces that jobs may name, or check one."""
    if context.invoked_subcommand is not None:
        return
    from .commands.connection import connect
    from .commands.show import show_spaces

    with connect(_settings(), server, api_key) as client:
        show_spaces(client.spaces.list(), as_json=as_json)


@spaces_app.command("check")
def check_space(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Name in the catalog, or a file (YAML).")],
    preset: Annotated[str | None, typer.Option(help="One of the space's presets; default its first.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Architectures to look at.")] = 48,
    as_json: JsonOption = False,
) -> None:
    """Look for what would mislead a search: dead genes, duplicates, broken and poisoned operations."""
    from .commands.checking import check

    raise typer.Exit(check(space, preset, samples=samples, as_json=as_json))


def _settings(**overrides: object) -> Any:
    from .settings import load_settings

    return load_settings(**overrides)


def _log(level: str) -> None:
    """Log from this level on to the standard error; a command with a progress display logs warnings only."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def _exit_code(error: ArchsmithError) -> int:
    """2 for what the user can mend in what was given, else 1."""
    status = getattr(error, "status", None)  # of an ApiError; its module is not imported for commands that need none
    return 2 if isinstance(error, ConfigError | InfeasibleError) or status in (400, 422) else 1


def main() -> None:
    """Run a command; what archsmith raises on purpose, and a file that cannot be written, is one message."""
    _log("warning")
    try:
        app()
    except ArchsmithError as error:
        errors.print(f"error: {error}", style="red")
        sys.exit(_exit_code(error))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        errors.print(f"error: {place}{error.strerror or error}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
