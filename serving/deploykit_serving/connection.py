"""One HTTP connection: uvicorn's protocol with bounds on what comes before a request, and one write an answer.

uvicorn gives callers any time and any memory for a request's head, answers what is no HTTP in plain text, and writes
head and body by one system call each, which is the larger part of what a small answer costs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 10.0
_MAX_HEAD: Final = 1 << 16
_MAX_REFUSED_BODY: Final = 1 << 28
_COPIED: Final = 1 << 16  # bytes of a body that are copied behind the head; a larger one is a buffer of its own
_REFUSALS: Final = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


def use_connections() -> None:
    """Let the servers that uvicorn starts in this process use these connections."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{Connection.__module__}:{Connection.__name__}"


class _JoinedWrites:
    """A transport that holds an answer's head back until its body, or its end, comes."""

    __slots__ = ("_close", "_held", "_transport", "_write", "_writelines", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._close, self._write, self._writelines = transport.close, transport.write, transport.writelines
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            if len(data) <= _COPIED:
                self._write(held + data)
            else:
                self._writelines((held, data))
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and b"content-length" in data:
            self._held = data
        else:
            self._write(data)

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._write(held)

    def close(self) -> None:
        self.flush()
        self._close()


class Connection(HttpToolsProtocol):
    """One connection; see the module."""

    _joined: _JoinedWrites
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and see to it that somebody looks after connections that say nothing."""
        self._joined = _JoinedWrites(transport)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        keeper = _KEEPERS.get(self.loop)
        if keeper is None:
            keeper = _KEEPERS[self.loop] = _Doorkeeper(self.connections, self.loop)
        keeper.watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless a head grows too large."""
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            super().data_received(data)
            return
        # Either a head, or the rest of a body that was refused already.
        self._head += len(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._head = 0
        elif self._head > (_MAX_HEAD if cycle is None or not cycle.more_body else _MAX_REFUSED_BODY):
            self._refuse(431, f"a request's headers may have at most {_MAX_HEAD} bytes")

    def on_response_complete(self) -> None:
        """Send what was held back: an answer to HEAD has no body."""
        self._joined.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "this is no valid HTTP request")

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        content = b'{"error":"%s"}' % message.encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, _REFUSALS[status], len(content), content)
        )
        self.transport.close()

    @property
    def between_requests(self) -> bool:
        """Whether a head is expected and nothing else limits how long that may take."""
        waiting = self.cycle is None or self.cycle.response_complete
        return waiting and self.timeout_keep_alive_task is None


class _Doorkeeper:
    """Closes connections on which no request begins, by one timer for all of them."""

    def __init__(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._connections = connections
        self._loop = loop
        self._suspects: dict[Connection, object] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(HEAD_SECONDS, self._look)

    def _look(self) -> None:
        """Close what was between two requests at the last look, and is still between the same two."""
        waiting = {connection: connection.cycle for connection in self._connections if connection.between_requests}
        for connection, cycle in waiting.items():
            if connection in self._suspects and self._suspects[connection] is cycle:
                connection.transport.close()
        self._suspects = dict(waiting)
        self._timer = None
        if self._connections:
            self.watch()


_KEEPERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Doorkeeper]] = WeakKeyDictionary()
