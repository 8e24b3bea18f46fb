"""The demo: start the service, submit the digits job through the SDK, follow it, and take the deliverables home.

Run it with ``make demo``. What it leaves behind can be opened again with ``make serve``.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

import archsmith
from archsmith.service.commands.show import print_front, print_report

JOB = Path(__file__).parent.parent / "configs" / "jobs" / "digits.yaml"
START_LIMIT_S = 60.0


@contextlib.contextmanager
def service(url: str, *arguments: str) -> Iterator[None]:
    """Run ``archsmith serve`` while the block runs."""
    command = [sys.executable, "-m", "archsmith.service.cli", "serve", "--quiet", *arguments]
    server = subprocess.Popen(command)  # noqa: S603  # our own module
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _ready(url):
            if server.poll() is not None:
                sys.exit(f"The service ended with status {server.returncode}; its message is above.")
            if time.monotonic() > deadline:
                sys.exit(f"The service did not answer at {url}/readyz within {START_LIMIT_S:.0f} s.")
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait(timeout=30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False


def main() -> None:
    """Submit, wait, show, download."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=Path, default=JOB, help="job file to submit")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--output", type=Path, default=Path("runs"), help="where the deliverables go")
    options = parser.parse_args()
    url = f"http://127.0.0.1:{options.port}"
    started = time.monotonic()
    with service(url, "--port", str(options.port)):
        client = archsmith.Client(url)
        search = client.searches.create(options.job)
        print(f"Submitted {search.resource.name} (search {search.resource.number}); live at {url}/searches/{search.id}")
        try:
            search.wait(progress=True)
        except KeyboardInterrupt:
            sys.exit("Stopped waiting. The search is kept: `make serve` continues it.")
        if search.state != "succeeded":
            sys.exit(f"The search is {search.state}: {search.resource.error}")
        print_front(search.front())
        print_front(search.front(view="verified"))
        print_report(search.report or {})
        folder = options.output / f"{search.resource.name}-{search.resource.number}"
        search.download(folder)
    print(f"\nDeliverables: {folder}/ (architecture.json, weights.safetensors, model.onnx, model.pt2 per member)")
    minutes = (time.monotonic() - started) / 60
    print(f"Took {minutes:.1f} minutes. Dashboard: `make serve`, then {url}/searches/{search.id}")


if __name__ == "__main__":
    main()
