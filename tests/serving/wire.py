"""A connection as bytes, and what came back; shared by the tests that write no client library's requests."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np

INFER: Final = "/v2/models/affine/infer"
GOOD: Final = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,1,1,1]}]}'
HEADER: Final = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
NUMBERS: Final = np.ones(4, np.float32).tobytes()
PATIENCE: Final = 30.0  # a hang is for ever; a busy machine only seems to hang
HELD_UP: Final = 4.0  # who waits for another caller waits for its body's five seconds
GROWTH_MIB: Final = 128  # what two threads need to look at 16 MiB each, and keep


class Wire:
    """One connection, and the answers that come over it."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=patience)
        self._left = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, head: bool = False) -> tuple[int, bytes]:
        """Return status and body of the next final answer; a TimeoutError is a hang."""
        while True:
            while b"\r\n\r\n" not in self._left:
                self._more()
            top, _, self._left = self._left.partition(b"\r\n\r\n")
            status = int(top.split()[1])
            if status == 100:
                continue
            match = re.search(rb"(?im)^content-length: (\d+)", top)
            length = 0 if head else int(match[1]) if match else -1
            while len(self._left) < length:
                self._more()
            if length < 0:
                raise AssertionError(f"an answer without a length: {top!r}")
            body, self._left = self._left[:length], self._left[length:]
            return status, body

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError(f"closed after {self._left[:200]!r}")
        self._left += data


def request(
    body: bytes = GOOD, *headers: str | bytes, method: str = "POST", path: str | bytes = INFER, length: bool = True
) -> bytes:
    """Return a request as bytes; ``length`` adds Content-Length."""
    lines = [f"{method} ".encode() + (path if isinstance(path, bytes) else path.encode()) + b" HTTP/1.1", b"Host: a"]
    lines += [header if isinstance(header, bytes) else header.encode() for header in headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def ask(url: str, data: bytes, *, head: bool = False) -> tuple[int, bytes]:
    with Wire(url) as wire:
        wire.send(data)
        return wire.answer(head=head)


def error(answer: tuple[int, bytes]) -> str:
    """Return what an answer says, which must be a 4xx as JSON."""
    status, body = answer
    assert 400 <= status < 500, answer
    text = json.loads(body)["error"]
    assert isinstance(text, str)
    return text


def worker_mib(url: str) -> int:
    """Return the memory that the worker of a server holds, in MiB."""
    port = f'"port":{urlsplit(url).port},'.encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if port in (process / "cmdline").read_bytes():
                children = [pid for file in process.glob("task/*/children") for pid in file.read_text().split()]
                return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in children) >> 20
    raise AssertionError("no server has this port")
