"""The ASGI application a worker runs: the data plane first, then BentoML's pages behind bounds.

BentoML keeps workers, build, health, metrics and its own pages; nothing of its middleware lies on the data plane's
way. Everything is decided by ``scope["path"]``; a request's Host header is never looked at.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploykit_serving.catalogue import Catalogue
from deploykit_serving.data_plane import ROOT, DataPlane, fault_reply
from deploykit_serving.metrics import OTHER, PAGES, SCRAPE, Metrics
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.request_body import read_headers
from deploykit_serving.settings import ServingSettings


class Front:
    """Dispatches each connection; starts loading the models when the server starts.

    Args:
        pages: BentoML's application; may be anything that speaks ASGI.
    """

    def __init__(self, pages: ASGIApp, catalogue: Catalogue, settings: ServingSettings, metrics: Metrics) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._settings = settings
        self._metrics = metrics
        self._data_plane = DataPlane(catalogue, settings, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "http":
            path = scope["path"]
            if path.startswith(ROOT) and (len(path) == len(ROOT) or path[len(ROOT)] == "/"):
                await self._data_plane(scope, receive, send)
            else:
                await self._page(scope, receive, send)
            return
        if scope["type"] == "lifespan":
            if self._settings.workers == 1:
                self._catalogue.load_in_background(self._settings)
            else:
                # A worker that is not ready must take no connections from those that are, and ends if it never will be.
                try:
                    await asyncio.to_thread(self._catalogue.load, self._settings)
                except Exception:
                    await receive()
                    await send({"type": "lifespan.startup.failed", "message": "the models cannot be served"})
                    return
        await self._pages(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 500
        route = scope["path"] if scope["path"] in PAGES else OTHER

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            read_headers(scope["headers"], self._settings.max_body)
        except RequestFault as fault:
            reply = fault_reply(fault)
            await counted({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await counted({"type": "http.response.body", "body": reply.body})
        else:
            if route == SCRAPE:
                self._metrics.flush()
            await self._pages(scope, receive, counted)
        finally:
            self._metrics.answered(route, "", status, time.perf_counter() - started)
