"""What a connection bounds before there is a request, and that joined writes change no byte."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from deploykit_serving import connection
from deploykit_serving.connection import Connection
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.threads import Threads


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer in two parts; the first looks like the head of an answer."""
    parts = (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", b"end")
    length = b"%d" % sum(map(len, parts))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": parts[0], "more_body": True})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": parts[1]})


async def _exchange(*data: bytes) -> bytes:
    """Send bytes to a server of these connections, with pauses, and return all it sends until it closes."""
    config = uvicorn.Config(_pages, http=Connection, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for part in data:
        writer.write(part)
        await asyncio.sleep(0.15)
    got = b""
    try:
        while piece := await asyncio.wait_for(reader.read(1 << 16), 5):
            got += piece
    except ConnectionResetError:
        pass  # closed while more of ours was on its way; what had come before is kept
    finally:
        writer.close()
        server.close()
    return got


def exchange(*data: bytes) -> bytes:
    return asyncio.run(_exchange(*data))


@pytest.mark.parametrize("data", [b"", b"GET /", b"GET / HTTP/1.1\r\nA: b"])
def test_who_begins_no_request_is_shown_out(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    assert exchange(data) == b""


def test_a_second_request_must_come_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    assert exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /").endswith(b"end")


def test_a_head_without_end_is_431() -> None:
    for begin in (b"GET / HTTP/1.1\r\nA: ", b"GET /"):
        answer = exchange(begin + b"a" * 65_000, b"a" * 1000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.endswith(b'{"error":"a request\'s headers may have at most 65536 bytes"}')


def test_what_is_no_http_is_400_as_json() -> None:
    assert exchange(b"\x16\x03\x01 tls?\r\n\r\n").endswith(b'{"error":"this is no valid HTTP request"}')


def test_joined_writes_change_no_byte() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 41\r\nconnection: close\r\n\r\n"
    assert exchange(request) == head + b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nend"
    assert exchange(request.replace(b"GET", b"HEAD")) == head


def test_a_full_queue_is_503_with_a_time_to_come_again() -> None:
    async def crowd() -> list[Any]:
        threads, gate = Threads(1, queue=2), asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> str:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return "done"

        calls = [asyncio.ensure_future(threads.run(work)) for _ in range(5)]
        await asyncio.sleep(0.05)
        gate.set()
        return [*await asyncio.gather(*calls, return_exceptions=True), await threads.run(lambda: "again")]

    *answers, again = asyncio.run(crowd())
    assert (answers[:3], again) == (["done"] * 3, "again")
    for fault in answers[3:]:
        assert isinstance(fault, RequestFault)
        assert (fault.status, fault.headers) == (503, ((b"retry-after", b"1"),))
