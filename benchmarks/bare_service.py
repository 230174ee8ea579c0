"""The least a Starlette service can do: read a body, answer with as many bytes as the model would; no model, no checks.

Run: python -m benchmarks.bare_service PORT BYTES
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(size: int) -> Starlette:
    """Return an application whose every answer has ``size`` bytes."""
    content = bytes(size)

    async def infer(request: Request) -> Response:
        await request.body()
        return Response(content, media_type="application/octet-stream")

    return Starlette(routes=[Route("/v2/models/{name}/infer", infer, methods=["POST"])])


if __name__ == "__main__":
    port, size = (int(argument) for argument in sys.argv[1:])
    uvicorn.run(application(size), port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")
