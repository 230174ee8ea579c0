"""The infer response: from named arrays to headers and a body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from deploykit_serving.protocol.datatypes import datatype_of
from deploykit_serving.protocol.faults import RequestFault

Headers = list[tuple[bytes, bytes]]
JSON_TYPE: Final = (b"content-type", b"application/json")
_BINARY_TYPE: Final = (b"content-type", b"application/octet-stream")


class Answer(NamedTuple):
    """One output on its way to the caller."""

    name: str
    array: NDArray[Any]
    binary: bool


def write_infer_response(
    model: str, version: str, identity: str | None, answers: Sequence[Answer], parameters: dict[str, Any] | None = None
) -> tuple[Headers, bytes]:
    """Return headers and body of an infer response.

    As JSON, floats are written with the fewest digits that give the same number back, flat and row-major; NaN and
    infinity, which JSON cannot say, become ``null``. Binary data carries every bit.

    Raises:
        RequestFault: an FP16 output was asked for as JSON.
    """
    if identity is None and not parameters and all(answer.binary for answer in answers):
        kinds = tuple([(answer.name, answer.array.shape, answer.array.dtype) for answer in answers])
        return _binary_response(_binary_header(model, version, kinds), [answer.array.tobytes() for answer in answers])
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, array, binary in answers:
        output: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype_of(array.dtype)}
        if binary:
            data = array.tobytes()
            output["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        elif array.dtype == np.float16:
            raise RequestFault(f"output {name!r} is FP16, which has no JSON form; ask for it with 'binary_data': true")
        else:
            output["data"] = np.ascontiguousarray(array).reshape(-1)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if identity is not None:
        document["id"] = identity
    if parameters:
        document["parameters"] = parameters
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return [JSON_TYPE, (b"content-length", b"%d" % len(header))], header
    return _binary_response(header, tail)


def _binary_response(header: bytes, tail: list[bytes]) -> tuple[Headers, bytes]:
    body = b"".join((header, *tail))
    return [
        _BINARY_TYPE,
        (b"content-length", b"%d" % len(body)),
        (b"inference-header-content-length", b"%d" % len(header)),
    ], body


@lru_cache(maxsize=512)
def _binary_header(model: str, version: str, kinds: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]) -> bytes:
    """Return the JSON before nothing but binary data, which depends on names, shapes and dtypes alone."""
    outputs = [
        {
            "name": name, "shape": shape, "datatype": datatype_of(dtype),
            "parameters": {"binary_data_size": math.prod(shape) * dtype.itemsize},
        }
        for name, shape, dtype in kinds
    ]  # fmt: skip
    return orjson.dumps({"model_name": model, "model_version": version, "outputs": outputs})
