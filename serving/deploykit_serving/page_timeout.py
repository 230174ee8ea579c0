"""A time limit for pages, as ASGI middleware, whose timer goes with the request."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Timeout:
    """Answer 504 when a page has not begun to answer in time; the timer goes with the request."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app = app
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one connection on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False
        deadline = asyncio.timeout(self._timeout)

        async def noted(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self._app(scope, receive, noted)
        except TimeoutError:
            if begun or not deadline.expired():
                raise
            await JSONResponse({"error": f"no answer within {self._timeout:g} seconds"}, 504)(scope, receive, send)
