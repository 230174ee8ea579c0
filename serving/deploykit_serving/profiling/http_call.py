"""A call that goes through HTTP, so that a server is measured by the same loops as a session."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np

from deploykit.errors import ServingError
from deploykit.signature import Arrays, Signature
from deploykit_serving.protocol.datatypes import datatype_of

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_MOST_HEAD: Final = 65_536
_PIECE: Final = 1 << 18


class HttpCall:
    """One kept connection that sends ready-made requests in turn; call it to wait for one answer.

    A stream needs one of its own. Requests are bytes before the first one is sent, and of an answer only the status and
    the length are looked at: the client's work is not the server's latency.

    Args:
        url: base URL, ``http://127.0.0.1:3000``; no TLS.
        requests: whole requests, head and body.
        timeout: seconds to wait for the connection and for each answer.

    Raises:
        ServingError: the URL is not of that form, or the server cannot be reached.
    """

    def __init__(self, url: str, requests: Sequence[bytes], timeout: float = 60.0) -> None:
        host, port, _ = _parts(url)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._turns = itertools.cycle(requests)
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise ServingError(f"{self._url}: cannot be reached: {error}; is the server running?") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self) -> bytes:
        """Send the next request and return the body of the answer.

        Raises:
            ServingError: the server cannot be reached, or answers something other than 200; with its words. The
                connection is closed then.
        """
        try:
            self._socket.sendall(next(self._turns))
            status, body = self._answer()
        except TimeoutError as error:
            self.close()
            raise ServingError(f"{self._url}: no answer within {self._timeout:g} s") from error
        except OSError as error:
            self.close()
            raise ServingError(f"{self._url}: no answer: {error or type(error).__name__}") from error
        if status != 200:
            self.close()
            raise ServingError(f"{self._url} answered {status}: {_words(body)}")
        return body

    def close(self) -> None:
        """Close the connection; it may be closed already."""
        self._socket.close()

    def __enter__(self) -> HttpCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> tuple[int, bytes]:
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            if len(got) > _MOST_HEAD:
                raise ConnectionError("an answer whose head does not end")
            got += self._piece()
        head = got[: end + 2]
        status, length = head.split(b" ", 2)[1:2], _LENGTH.search(head)
        if not status or not status[0][:3].isdigit() or length is None:
            raise ConnectionError(f"an answer without status or length: {head[:80]!r}")
        parts, missing = [got[end + 4 :]], int(length[1]) - (len(got) - end - 4)
        while missing > 0:
            parts.append(self._piece())
            missing -= len(parts[-1])
        return int(status[0][:3]), b"".join(parts)

    def _piece(self) -> bytes:
        piece = self._socket.recv(_PIECE)
        if not piece:
            raise ConnectionError("the server closed the connection")
        return piece


def http_call(
    url: str,
    model: str,
    variant: str | None,
    inputs: Sequence[Arrays],
    signature: Signature,
    *,
    timeout: float = 60.0,
) -> HttpCall:
    """Connect to a V2 server and make ready to ask one variant of a model, over and over.

    Tensors travel as bytes both ways (binary tensor extension); Nagle's delay is off.

    Args:
        url: base URL, ``http://127.0.0.1:3000``; no TLS.
        variant: ``None`` for the server's default.
        inputs: taken in turn.
        timeout: seconds to wait for the connection and for each answer.

    Raises:
        ValueError: there are no inputs.
        ServingError: the URL is not of that form, or the server cannot be reached.
        SignatureError: inputs do not fit the signature.
    """
    if not inputs:
        raise ValueError("wanted at least one input to ask with, got none")
    for arrays in inputs:
        signature.check_inputs(arrays)
    host, port, path = _parts(url)
    target = f"{path}/v2/models/{quote(model, safe='')}/infer"
    return HttpCall(url, [_request(f"{host}:{port}", target, variant, arrays) for arrays in inputs], timeout)


def _request(host: str, target: str, variant: str | None, arrays: Arrays) -> bytes:
    content = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(array.dtype),
            "parameters": {"binary_data_size": len(content[name])},
        }
        for name, array in arrays.items()
    ]
    parameters: dict[str, Any] = {"binary_data_output": True}
    if variant is not None:
        parameters["variant"] = variant
    header = json.dumps({"inputs": tensors, "parameters": parameters}).encode()
    body = b"".join((header, *content.values()))
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\n{_HEADER_LENGTH}: {len(header)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _parts(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ServingError(f"wanted a base URL as http://127.0.0.1:3000, got {url!r}")
    return parts.hostname, port, parts.path.rstrip("/")


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or "nothing"
