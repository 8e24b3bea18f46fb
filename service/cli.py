"""The command line: `archsmith <command>`, each a thin door to a module of `commands`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

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


@app.command()
def run(job: JobArgument, output: OutputOption = None, quiet: QuietOption = False, store: StoreOption = None) -> None:
    """Do a whole job in this process, against the embedded store."""
    from .commands.local import run as run_job

    raise typer.Exit(run_job(_settings(store_url=store), job, output, quiet=quiet))


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
) -> None:
    """Run a worker on a store that several may share (PostgreSQL)."""
    from .commands.serving import work

    settings = _settings(store_url=store)
    _log(settings.log_level)
    raise typer.Exit(work(settings, lock_fd))


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


@app.command()
def devices(server: ServerOption = None, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the devices that jobs may name."""
    from .commands.connection import connect
    from .commands.show import show_devices

    with connect(_settings(), server, api_key) as client:
        show_devices(client.devices.list(), as_json=as_json)


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
