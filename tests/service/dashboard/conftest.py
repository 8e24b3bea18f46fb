"""A real server over a real store with seeded searches, and Debian's Chromium to look at it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from archsmith.service.api.app import create_app, create_server
from archsmith.service.settings import Settings
from archsmith.service.store.records import SearchRecord
from archsmith.service.store.store import Store

from .seed import finished_search

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--enable-unsafe-swiftshader",  # WebGL in software
]


@dataclass
class Served:
    """A running server, its store, one finished search, and the key that signs sessions."""

    url: str
    store: Store
    finished: SearchRecord
    signing_key: bytes


@dataclass
class Seen:
    """What a page asked for and complained about."""

    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path, **more: object) -> Iterator[Served]:
    """The service on a free port, with one finished search, until the block ends."""
    settings = Settings(
        store_url=f"sqlite:///{folder}/archsmith.db",
        artifacts_dir=folder / "artifacts",
        runs_dir=folder,
        port=0,
        event_poll_s=0.05,
        log_level="warning",
        **more,  # type: ignore[arg-type]  # checked by pydantic
    )
    with Store.open(settings.store_url, settings.artifacts_dir) as store:
        finished = finished_search(store)
        server = create_server(create_app(settings, store), settings)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started, "the server did not start within 30 s"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", store, finished, settings.signing_key())
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service as it is on loopback; tests add their own searches and leave the finished one alone."""
    with serving(tmp_path_factory.mktemp("dashboard")) as running:
        yield running


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service where it asks for API keys."""
    with serving(tmp_path_factory.mktemp("guarded"), require_api_key=True) as running:
        yield running


@pytest.fixture(scope="package")
def chromium():
    """The system's Chromium, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here; install it with: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def seen() -> Seen:
    """Filled by `page`; a test that expects a clean page looks here at its end."""
    return Seen()


@pytest.fixture
def page(chromium, served: Served, seen: Seen):
    """A page at the dashboard's address that remembers requests to elsewhere and complaints."""
    context = chromium.new_context(base_url=served.url, viewport={"width": 1440, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on(
        "request", lambda request: request.url.startswith((served.url, "data:")) or seen.foreign.append(request.url)
    )
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("console", lambda message: _note(message, seen))
    yield page
    context.close()


def _note(message, seen: Seen) -> None:
    # Software WebGL tells about its own speed; everything else is a complaint about the page.
    if message.type in ("error", "warning") and "GPU stall" not in message.text:
        seen.complaints.append(message.text)
