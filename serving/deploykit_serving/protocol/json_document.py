"""JSON from strangers: bounded depth, strict syntax, and nothing but an object at the top."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson

from deploykit_serving.protocol.faults import RequestFault

MAX_DEPTH: Final = 64
_QUOTE: Final = ord('"')
_UNMARKED: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEP: Final = np.zeros(256, dtype=np.int32)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


def parse_object(text: bytes | memoryview) -> dict[str, Any]:
    """Parse a JSON object.

    NaN and Infinity are not JSON and are refused; of a key given twice the last counts.

    Raises:
        RequestFault: it is not JSON, not an object, or nested deeper than 64.
    """
    if not text:
        raise RequestFault("the body is empty; wanted a JSON object with 'inputs'")
    _check_depth(text)
    problem = ""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    if problem:  # raised outside: the parser's error holds a copy of the whole text
        raise RequestFault(f"malformed JSON: {problem}")
    if type(document) is not dict:
        raise RequestFault(f"wanted a JSON object with 'inputs', got a JSON {_kind(document)}")
    return document


def _check_depth(text: bytes | memoryview) -> None:
    raw = bytes(text)
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    # Before the parser sees it: brackets outside strings, as a running sum. Every step takes time in proportion to the
    # text, whatever is in it; a regular expression for strings would not, once a string does not end.
    marks = np.frombuffer(raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _UNMARKED), dtype=np.uint8)
    outside = ~np.logical_xor.accumulate(marks == _QUOTE)
    depth = int(np.cumsum(_STEP[marks[outside]]).max(initial=0))
    if depth > MAX_DEPTH:
        raise RequestFault(f"JSON is nested deeper than {MAX_DEPTH}; send tensors flat, or as binary data")


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
