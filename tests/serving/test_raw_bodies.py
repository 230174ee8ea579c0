"""Bodies that lie, through sockets: compressed, as JSON, and of other types than are taken."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploykit_serving.launch import running
from tests.serving.wire import GOOD, GROWTH_MIB, HELD_UP, INFER, Wire, ask, error, request, worker_mib


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


def _gzip(data: bytes) -> bytes:
    # Without a time: the bytes are part of the tests' names, which must be the same in every worker.
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", _gzip(b" " * (17 << 20)), "at most"),
        ("gzip", _gzip(_gzip(b" " * (64 << 20))), "malformed JSON"),
        ("gzip", _gzip(GOOD)[:-4], "not one complete gzip stream"),
        ("gzip", _gzip(GOOD) + b"more", "not one complete gzip stream"),
        ("gzip", _gzip(GOOD) + _gzip(GOOD), "not one complete gzip stream"),
        ("gzip", b"", "not one complete gzip stream"),
        ("gzip", GOOD, "is not gzip"),
        ("deflate", zlib.compress(GOOD)[:-5], "not one complete deflate stream"),
        ("deflate", zlib.compress(GOOD)[2:], "is not deflate"),
        ("gzip, gzip", _gzip(GOOD), "is not offered"),
        ("GZIP,", _gzip(GOOD), "is not offered"),
        ("zstd", GOOD, "is not offered"),
    ],
)
def test_compressed_lies(url: str, encoding: str, body: bytes, words: str) -> None:
    assert words in error(ask(url, request(body, f"Content-Encoding: {encoding}")))


def test_many_bombs_at_once_hold_up_nobody(url: str) -> None:
    bomb = request(gzip.compress(b" " * (16 << 20)), "Content-Encoding: gzip")
    wires = [Wire(url) for _ in range(12)]
    try:
        for wire in wires:
            wire.send(bomb)
        before = time.monotonic()
        assert ask(url, request())[0] == 200
        assert time.monotonic() - before < HELD_UP
        for wire in wires:
            assert wire.answer()[0] in (400, 503)
    finally:
        for wire in wires:
            wire.socket.close()


def tensor(**changes: Any) -> bytes:
    return json.dumps({"inputs": [{**json.loads(GOOD)["inputs"][0], **changes}]}).encode()


MILLION: Final = [0] * 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 250_000,
        b'{"inputs":' * 250_000,
        b'{"a":"' + b"[" * 100 + b'","inputs":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"inputs":"' + b'\\"[' * 250_000,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b'"x"', b'"\\ud800"'),
        GOOD.replace(b'"x"', b'"\xed\xa0\x80"'),
        GOOD.replace(b'"x"', b'"\\u0000x"'),
        GOOD.replace(b'"x"', b'"\x00"'),
        GOOD.replace(b"[1,4]", b"[1," + b"9" * 400 + b"]"),
        GOOD.replace(b"[1,4]", b"[4294967296,4294967296]"),
        GOOD.replace(b"[1,4]", b"[9223372036854775807,2]"),
        GOOD.replace(b"[1,4]", b"[1e2,4]"),
        GOOD.replace(b"[1,4]", b"[true,4]"),
        GOOD.replace(b"[1,4]", b"[" + b"1," * 40_000 + b"4]"),
        GOOD.replace(b"[1,1,1,1]", b"[" + b"9" * 10_000 + b",1,1,1]"),
        GOOD.replace(b"[1,1,1,1]", b"[18446744073709551615,-9223372036854775808,1,1]"),
        GOOD.replace(b"[1,1,1,1]", b"[1e400,1,1,1]"),
        GOOD.replace(b"[1,1,1,1]", b"[Infinity,1,1,1]"),
        GOOD.replace(b"[1,1,1,1]", b"[" * 60 + b"1" + b"]" * 60),
        GOOD.replace(b"[1,1,1,1]", b'[{"a":1},1,1,1]'),
        GOOD + b"x",
        GOOD + b"\x00",
        GOOD * 2,
        tensor(data=MILLION),
        tensor(shape=[1_000_000, 4], data=[0.0]),
        tensor(shape=[1_000_000, 4], data=[[0, 0, 0, 0]] * 1_000_000),
        tensor(data=[[0]] * 1_000_000),
        b'{"inputs":[' + b",".join([b"{}"] * 100_000) + b"]}",
        b'{"inputs":[],"parameters":{' + b",".join(b'"k%d":1' % number for number in range(200_000)) + b"}}",
    ],
    ids=range(31),
)
def test_json_that_lies(url: str, body: bytes) -> None:
    assert error(ask(url, request(body)))


def test_the_last_of_two_equal_keys_counts(url: str) -> None:
    status, body = ask(url, request(GOOD.replace(b'"data"', b'"data":[9,9,9,9],"data"')))
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [22.5, 25.5, 30.25])


def test_an_id_comes_back_as_it_was(url: str) -> None:
    for identity in ("", "\u0000", "\U0001f600", '"}', "a" * 10_000):
        status, body = ask(url, request(json.dumps({"id": identity, **json.loads(GOOD)}).encode()))
        assert (status, json.loads(body)["id"]) == (200, identity)


REFUSED: Final = (
    "application/vnd.bentoml+pickle", "application/pickle", "application/x-python-pickle", "application/octet-streams",
    "multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "text/plain", "text/html", "text/json",
    "application/vnd.bentoml.stream+pickle", "application/json+pickle", "json", "*/*", "", "application /json",
    "application/json, application/pickle", ";application/json", "application/vnd.apache.arrow.file", "image/jpeg",
)  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_other_content_types_are_415(url: str, kind: str) -> None:
    for path in (INFER, "/", "/metrics"):
        answer = ask(url, request(GOOD, f"Content-Type: {kind}", path=path))
        assert (answer[0], "wanted application/json or" in error(answer)) == (415, True)


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8", " application/Octet-Stream ;a"]
)
def test_allowed_content_types_in_any_writing(url: str, kind: str) -> None:
    assert ask(url, request(GOOD, f"Content-Type:{kind}"))[0] == 200
