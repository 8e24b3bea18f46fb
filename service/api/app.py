"""The application: routers, middleware and error handlers around one store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool

from ... import __version__
from ...errors import StoreError
from ..auth import check_exposure
from ..dashboard.login import create_login_router
from ..dashboard.routes import create_router
from ..schemas.resources import Problem
from ..settings import Settings
from ..store.store import Store
from . import catalogue, devices, results, searches, system
from .context import Context, authorize
from .cursors import Cursors
from .middleware import BodyLimit, RequestFrame, TrustedHosts
from .problems import install_handlers

__all__ = ["Server", "create_app", "create_server"]


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: of this installation.
        store: an open store, which stays the caller's to close; None = opened from the settings and closed at the end.

    Raises:
        ConfigError: other machines could reach it without an API key.
        StoreError: the store cannot be opened.
    """
    owned = store is None
    opened = Store.open(settings.store_url, settings.artifacts_dir) if store is None else store
    check_exposure(settings, opened)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        housekeeping = asyncio.create_task(_keep_house(settings, opened))
        yield
        housekeeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping
        if owned:
            opened.close()

    app = FastAPI(
        title="archsmith",
        version=__version__,
        summary="Hardware-aware neural architecture search: submit a job, follow it, take the verified front.",
        openapi_url=None,  # served by our own route, which is authorised like every other
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={"default": {"model": Problem, "description": "An RFC 9457 problem document."}},
    )
    key = settings.signing_key()
    app.state.context = Context(settings=settings, store=opened, cursors=Cursors(key), signing_key=key)
    app.state.metrics = system.Metrics()
    app.state.stopping = False
    for router in (searches.router, results.router, catalogue.router, devices.router, system.router):
        app.include_router(router)
    # Its addresses are pages, not a part of the API; the check of who may read them is the API's.
    for pages in (create_router(opened), create_login_router(settings, opened, key)):
        app.include_router(pages, dependencies=[Depends(authorize)], include_in_schema=False)
    install_handlers(app)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(TrustedHosts, hosts=[*settings.trusted_hosts, settings.host])
    app.add_middleware(RequestFrame, metrics=app.state.metrics)
    return app


async def _keep_house(settings: Settings, store: Store) -> None:
    """Forget old idempotency keys, every hour."""
    while True:
        try:
            await run_in_threadpool(store.expire_idempotency, settings.idempotency_days)
        except StoreError as error:
            logging.getLogger("archsmith.service").warning("idempotency keys not expired: %s", error)
        await asyncio.sleep(3600)


class Server(uvicorn.Server):
    """Uvicorn that ends the event streams before it waits for open connections."""

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Stop listening, end the streams, and wait for what is still being answered."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.stopping = True
        await super().shutdown(sockets)


def create_server(app: FastAPI, settings: Settings) -> Server:
    """A server for `app` on the settings' host and port; `run()` blocks until it is asked to stop."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return Server(config)
