"""Requests no client library would write, through sockets: 4xx or 200 as JSON within a second, and the server lives."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploykit_serving.launch import running
from tests.serving.wire import GOOD, GROWTH_MIB, HEADER, HELD_UP, INFER, NUMBERS, Wire, ask, error, request, worker_mib


@pytest.fixture(scope="module")
def url(bundles: list[Path]) -> Iterator[str]:
    with running(bundles, body_timeout=5) as address:
        yield address


@pytest.fixture(autouse=True)
def _alive_and_no_larger(url: str) -> Iterator[None]:
    ask(url, request())
    before = worker_mib(url)
    yield
    assert ask(url, request())[0] == 200
    assert ask(url, request(b"", method="GET", path="/v2/health/ready"))[0] == 200
    assert worker_mib(url) - before < GROWTH_MIB


LENGTH: Final = "Inference-Header-Content-Length"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([f"{LENGTH}: 99999999999"], "the body has only"),
        ([f"{LENGTH}: {'9' * 5000}"], "must be the JSON header's length"),
        ([f"{LENGTH}: -1"], "must be the JSON header's length"),
        ([f"{LENGTH}: +1"], "must be the JSON header's length"),
        ([f"{LENGTH}: 1_0"], "must be the JSON header's length"),
        ([f"{LENGTH}: 0x5e"], "must be the JSON header's length"),
        ([f"{LENGTH}:"], "must be the JSON header's length"),
        ([f"{LENGTH}: \u0665".encode()], "must be the JSON header's length"),
        ([f"{LENGTH}: {len(HEADER) + 17}"], "the body has only"),
        ([f"{LENGTH}: {len(HEADER)}", f"{LENGTH}: {len(HEADER)}"], "is given twice"),
        ([f"{LENGTH}: {len(HEADER)}, {len(HEADER)}"], "must be the JSON header's length"),
        ([f"{LENGTH}: {len(HEADER) - 1}"], "malformed JSON"),
        ([f"{LENGTH}: 0"], "takes 16 bytes"),
    ],
)
def test_header_lengths_that_lie_are_400(url: str, headers: list[str | bytes], words: str) -> None:
    assert words in error(ask(url, request(HEADER + NUMBERS, *headers)))


def test_a_raw_request_to_a_model_with_several_inputs_is_400(url: str) -> None:
    text = error(ask(url, request(NUMBERS, f"{LENGTH}: 0", path="/v2/models/mixed/infer")))
    assert "a raw request needs a model with one input" in text


def test_smuggling_is_refused(url: str) -> None:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    for headers in (
        ["Transfer-Encoding: chunked", f"Content-Length: {len(chunked)}"],
        [f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked"],
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: -5"],
        ["Content-Length: 5,5"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Content-Length : 5"],
    ):
        with Wire(url) as wire:
            wire.send(request(chunked, *headers, length=False))
            assert wire.answer()[0] == 400, headers
            wire.socket.settimeout(1)
            with pytest.raises((ConnectionError, TimeoutError)):
                wire.answer()


def test_tiny_chunks_are_put_together(url: str) -> None:
    body = GOOD + b" " * (65536 - len(GOOD))
    data = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert ask(url, request(data, "Transfer-Encoding: chunked", length=False))[0] == 200


@pytest.mark.parametrize(
    "chunk", [b"-1\r\nx\r\n", b"zz\r\nx\r\n", b"f" * 40 + b"\r\nx\r\n", b"1\r\nxx\r\n", b"1;" + b"a" * 200_000]
)
def test_broken_chunks_are_refused(url: str, chunk: bytes) -> None:
    with Wire(url, patience=1.0) as wire:
        try:
            wire.send(request(chunk + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False))
            assert wire.answer()[0] == 400
        except (ConnectionError, TimeoutError):
            pass  # closed, or still waiting for the rest of it: bounded by body_timeout either way


def test_slow_callers_hold_up_nobody_and_are_ended(url: str) -> None:
    wires = [Wire(url) for _ in range(40)]
    body = request()
    times = []
    started = time.monotonic()
    try:
        for wire in wires[:20]:
            wire.send(body[: -len(GOOD)])  # all headers, and then the body byte by byte
        for position in range(len(body) - len(GOOD), len(body)):
            for wire in wires[:20]:
                wire.send(body[position : position + 1])
            for wire in wires[20:]:
                index = position - len(body) + len(GOOD)
                wire.send(body[index : index + 1])  # not even the headers
            before = time.monotonic()
            assert ask(url, request())[0] == 200
            times.append(time.monotonic() - before)
            if time.monotonic() - started > 3:
                break
            time.sleep(0.3)
        assert max(times) < HELD_UP
        for wire in wires[:20]:
            status, text = wire.answer()
            assert (status, json.loads(text)["error"]) == (408, "the body did not arrive within 5 seconds")
            with pytest.raises(ConnectionError):
                wire.answer()
    finally:
        for wire in wires:
            wire.socket.close()


def test_callers_that_go_away_leave_nothing(url: str) -> None:
    for cut in (10, 60, len(request()) - 3):
        for _ in range(50):
            with Wire(url) as wire:
                wire.send(request()[:cut])
    with Wire(url) as wire:
        wire.send(request())
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer()[0] == 200


def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    numbers = [b"[%d,0,0,0]" % number for number in range(-9, 10)]
    bodies = [GOOD.replace(b"[1,1,1,1]", number) for number in numbers]
    with Wire(url) as wire:
        wire.send(b"".join(request(body) for body in bodies) + request(b"{}") + request())
        firsts = [json.loads(wire.answer()[1])["outputs"][0]["data"][0] for _ in bodies]
        assert firsts == [number + 0.5 for number in range(-9, 10)]
        assert [wire.answer()[0], wire.answer()[0]] == [400, 200]


def test_the_rest_of_a_refused_body_is_no_request(url: str) -> None:
    hidden = request(b"", method="GET", path="/v2")
    with Wire(url) as wire:
        wire.send(request(hidden * 3000, "Content-Type: text/plain"))
        assert wire.answer()[0] == 415
        wire.send(request())
        assert wire.answer()[0] == 200


@pytest.mark.parametrize("host", [b"", b"a:b:c", b"[::1", b"evil.example/v2?", b"\xff", b"a" * 5000])
def test_the_host_header_changes_nothing(url: str, host: bytes) -> None:
    assert ask(url, request().replace(b"Host: a", b"Host: " + host))[0] in (200, 400)
    assert ask(url, request().replace(b"Host: a\r\n", b""))[0] in (200, 400)


PATHS: Final = (
    "/v2/models/affine/infer/", "//v2/models/affine/infer", "/v2//models/affine/infer", "/v2/models//affine/infer",
    "/v2/models/%2e%2e/infer", "/v2/models/affine%00/infer", "/V2/models/affine/infer",
    "/v2/models/%61ffine%20/infer", "/v2/../v2/models/affine/infer/..", "/v2;/models", "/v2%2fmodels", "/%76%32/none",
    "/v2/models/" + "a" * 20_000, "/v2/" + "a/" * 5_000, "/v2/models/affine/versions//infer", "/v2/models/%ff%fe/ready",
    "/v2/models/affine/versions/1/versions/1/infer", "/metrics/../v2/none", "/livez%00", "/%2e%2e/%2e%2e/etc/passwd",
    "/static_content/../../../../etc/passwd", "/static_content/%2e%2e/%2e%2e/etc/passwd",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_strange_paths_are_4xx(url: str, path: str) -> None:
    for method in ("POST", "GET"):
        status, body = ask(url, request(method=method, path=path))
        assert 400 <= status < 500, (method, body)
        assert b"root:" not in body


def test_an_encoded_name_is_the_name(url: str) -> None:
    assert ask(url, request(path="/v2/models/%61ffine/infer?x=%00&y"))[0] == 200
    assert ask(url, request(path=f"{url}{INFER}"))[0] == 200  # the absolute form that proxies send


@pytest.mark.parametrize("path", [b"/v2/\xff\xfe", b"/v2 x", b"v2", b"*", b"/v2/\x00", b"http://[/v2"])
def test_targets_that_are_none_are_refused(url: str, path: bytes) -> None:
    status, _ = ask(url, request(b"", path=path, method="GET"))
    assert 400 <= status < 500


ROUTES: Final = (
    "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/affine", "/v2/models/affine/ready",
    "/v2/models/affine/versions/1", "/livez", "/readyz", "/metrics", "/", "/docs.json", "/schema.json",
)  # fmt: skip


@pytest.mark.parametrize("path", ROUTES)
def test_every_method_on_every_route(url: str, path: str) -> None:
    assert ask(url, request(b"", method="GET", path=path))[0] == 200
    with Wire(url) as wire:
        wire.send(request(b"", method="HEAD", path=path))
        assert wire.answer(head=True)[0] == 200
        wire.send(request(b"", method="GET", path="/v2"))
        assert json.loads(wire.answer()[1])["name"] == "deploykit"  # HEAD's answer had no body
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        status, _ = ask(url, request(b"", method=method, path=path))
        assert 400 <= status < 500, method


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_infer_takes_post_alone(url: str, method: str) -> None:
    assert ask(url, request(method=method), head=method == "HEAD")[0] == 405


def test_expect_100_continue(url: str) -> None:
    with Wire(url) as wire:
        wire.send(request(GOOD, "Expect: 100-continue")[: -len(GOOD)])
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100")
        wire.send(GOOD)
        assert wire.answer()[0] == 200
    with Wire(url) as wire:  # a body that will be refused is not asked for
        wire.send(request(GOOD, "Expect: 100-continue", "Content-Type: text/plain")[: -len(GOOD)])
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 415")


def test_upgrades_are_ignored_or_refused(url: str) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for upgrade in ("h2c", "websocket"):
        headers = ["Connection: Upgrade", f"Upgrade: {upgrade}", key, "Sec-WebSocket-Version: 13"]
        status, _ = ask(url, request(b"", *headers, method="GET", path="/v2"))
        assert status == 200 or 400 <= status < 500, upgrade


def test_headers_are_bounded(url: str) -> None:
    with Wire(url) as wire:
        try:
            wire.send(request(GOOD, "A: " + "b" * 1_000_000))
            assert "at most 65536 bytes" in error(wire.answer())
        except ConnectionError:
            pass  # closed while the rest of the header was on its way
    assert ask(url, request(GOOD, *[f"H{number}: v" for number in range(2000)]))[0] == 200
