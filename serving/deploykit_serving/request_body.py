"""Take a request's body from the wire: content type, size, time and compression, all bounded."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from starlette.types import Receive

from deploykit_serving.patience import Patience
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.settings import ServingSettings

CONTENT_TYPES: Final = frozenset({b"application/json", b"application/octet-stream"})
_READ: Final = frozenset({b"content-type", b"content-length", b"content-encoding", b"inference-header-content-length"})
_LONGEST_TYPE: Final = 256  # what is accepted is also remembered, so its size is bounded
_ZLIB_WINDOWS: Final = {b"gzip": 31, b"deflate": 15}


class DisconnectedError(Exception):
    """The caller went away; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class BodyHeaders:
    """What the headers say about the body.

    Attributes:
        header_length: ``Inference-Header-Content-Length``; ``None`` if absent.
        encoding: ``gzip``, ``deflate`` or empty.
    """

    header_length: int | None = None
    encoding: bytes = b""


def read_headers(headers: Iterable[tuple[bytes, bytes]], max_body: int) -> BodyHeaders:
    """Read and check the headers that describe the body; callers send the same ones over and over.

    Raises:
        RequestFault: 415 for a content type or encoding that is not offered, 413 for a declared length beyond the
            limit, 400 for a malformed or repeated header.
    """
    return _read(tuple([header for header in headers if header[0] in _READ]), max_body)


@lru_cache(maxsize=256)
def _read(headers: tuple[tuple[bytes, bytes], ...], max_body: int) -> BodyHeaders:
    header_length: int | None = None
    encoding = b""
    seen: set[bytes] = set()
    for name, value in headers:
        match name:
            case b"content-type":
                check_content_type(value)
            case b"content-length":
                if not value.isdigit():
                    raise RequestFault(f"Content-Length must be a number, got {shown(value.decode('latin-1'))}")
                if len(value) > 18 or int(value) > max_body:
                    raise _too_large(max_body)
            case b"inference-header-content-length":
                # isdigit() of bytes is ASCII only; more digits than this are beyond any body.
                if not value.isdigit() or len(value) > 18:
                    raise RequestFault(
                        "Inference-Header-Content-Length must be the JSON header's length in bytes, "
                        f"got {shown(value.decode('latin-1'))}"
                    )
                header_length = int(value)
            case b"content-encoding":
                encoding = value.strip().lower().replace(b"identity", b"")
                if encoding not in (b"", *_ZLIB_WINDOWS):
                    raise RequestFault(
                        f"Content-Encoding {shown(value.decode('latin-1'))} is not offered; wanted gzip or deflate", 415
                    )
        if name in seen:
            raise RequestFault(f"the header {name.decode('latin-1')} is given twice")
        seen.add(name)
    return BodyHeaders(header_length, encoding)


def check_content_type(value: bytes) -> None:
    """Check a content type.

    Raises:
        RequestFault: 415, unless it is JSON or octet-stream.
    """
    if value in CONTENT_TYPES:
        return
    if len(value) > _LONGEST_TYPE or value.partition(b";")[0].strip().lower() not in CONTENT_TYPES:
        raise RequestFault(
            f"Content-Type {shown(value.decode('latin-1'))} is not accepted; "
            "wanted application/json or application/octet-stream",
            415,
        )


class BodyReader:
    """Takes bodies from the wire, none larger or slower than the settings allow."""

    def __init__(self, settings: ServingSettings) -> None:
        self._max_body = settings.max_body
        self._seconds = settings.body_timeout
        self._patience = Patience(settings.body_timeout)

    async def read(self, receive: Receive) -> bytes:
        """Return the whole body, as it was sent.

        Raises:
            RequestFault: 413 when it grows beyond the limit, 408 when it does not come in time.
            DisconnectedError: the caller went away.
        """
        try:
            return await self._patience.wait(_receive_all(receive, self._max_body))
        except TimeoutError:
            raise RequestFault(
                f"the body did not arrive within {self._seconds:g} seconds", 408, ((b"connection", b"close"),)
            ) from None


async def _receive_all(receive: Receive, max_body: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= max_body:
        return body
    # One buffer, not a list of parts: a part may be as small as one byte.
    whole = bytearray(body)
    while True:
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        if len(whole) > max_body:
            raise _too_large(max_body)
        if not message.get("more_body", False):
            return bytes(whole)
        message = await receive()
        whole += message.get("body", b"")


def decompressed(body: bytes, encoding: bytes, max_body: int) -> bytes:
    """Return what a compressed body holds; takes 50 milliseconds for 16 MiB.

    Raises:
        RequestFault: 413 when it is larger than ``max_body``, 400 when it is not compressed as it says.
    """
    machine = zlib.decompressobj(_ZLIB_WINDOWS[encoding])
    try:
        plain = machine.decompress(body, max_body + 1)
    except zlib.error as error:
        raise RequestFault(f"the body is not {encoding.decode()}: {error}") from error
    if len(plain) > max_body:
        raise _too_large(max_body)
    if not machine.eof or machine.unused_data:
        raise RequestFault(f"the body is not one complete {encoding.decode()} stream")
    return plain


def _too_large(max_body: int) -> RequestFault:
    return RequestFault(f"the body may have at most {max_body} bytes, decompressed too", 413)
