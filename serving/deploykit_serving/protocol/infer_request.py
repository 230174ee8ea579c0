"""The infer request: from a body to named arrays and wishes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploykit.signature import Signature
from deploykit_serving.protocol.binary_tensors import binary_size, read_binary_tensor
from deploykit_serving.protocol.budget import PARAMETER, budget_parameter
from deploykit_serving.protocol.datatypes import numpy_dtype
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.protocol.json_document import parse_object
from deploykit_serving.protocol.json_tensors import read_json_tensor
from deploykit_serving.protocol.raw import read_raw_tensor

_MAX_RANK: Final = 32
_MAX_SIZE: Final = 1 << 40
_REMEMBERED: Final = 2048


@dataclass(frozen=True, slots=True)
class OutputWish:
    """An output that was asked for by name, and whether as binary data."""

    name: str
    binary: bool


@dataclass(slots=True)
class InferRequest:
    """What a caller wants.

    Attributes:
        inputs: arrays by name, as sent; not yet checked against the signature.
        id: echoed; ``None`` if there was none.
        variant: which variant should answer; empty for the default.
        decode: whether the bundle's decoder is applied to the outputs.
        outputs: what was asked for by name; empty for all.
        binary: whether outputs without a wish of their own are sent as binary data.
        budget_ms: milliseconds within which the answer shall be ready; ``None`` if the body names no budget.
    """

    inputs: dict[str, NDArray[Any]]
    id: str | None = None
    variant: str = ""
    decode: bool = False
    outputs: tuple[OutputWish, ...] = ()
    binary: bool = False
    budget_ms: float | None = None


def parse_infer_request(body: bytes, header_length: int | None, signature: Signature) -> InferRequest:
    """Read an infer request.

    Args:
        body: the whole body, decompressed.
        header_length: length of the JSON header if binary data may follow; 0 for a raw request; ``None`` if the
            whole body is JSON.

    Raises:
        RequestFault: anything is not as the protocol says; the message tells what was wanted.
    """
    if header_length == 0:
        return InferRequest(read_raw_tensor(body, signature), binary=True)
    if header_length is None:
        header, offset = _read_header(body), len(body)
    else:
        if header_length > len(body):
            raise RequestFault(
                f"Inference-Header-Content-Length says {header_length} bytes, the body has only {len(body)}"
            )
        read = _known_header if header_length <= _REMEMBERED else _read_header
        header, offset = read(body[:header_length]), header_length
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in header.tensors:
        where = f"input {shown(tensor.name)}"
        if tensor.size is None:
            inputs[tensor.name] = read_json_tensor(tensor.data, tensor.dtype, tensor.shape, where)
            continue
        inputs[tensor.name] = read_binary_tensor(body, offset, tensor.size, tensor.dtype, tensor.shape, where)
        offset += tensor.size
    if offset != len(body):
        raise RequestFault(f"the body has {len(body) - offset} bytes more than the inputs' 'binary_data_size' say")
    return InferRequest(
        inputs, header.id, header.variant, header.decode, header.outputs, header.binary, header.budget_ms
    )


class _Tensor(NamedTuple):
    """An input as the header tells of it; without ``size`` its numbers are in ``data``."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int | None
    data: object


class _Header(NamedTuple):
    """The JSON of a request; what it says of the rest of the body is not yet compared with it."""

    tensors: list[_Tensor]
    id: str | None
    variant: str
    decode: bool
    outputs: tuple[OutputWish, ...]
    binary: bool
    budget_ms: float | None


def _read_header(text: bytes) -> _Header:
    document = parse_object(text)
    identity = _identity(document.get("id"))
    variant, decode, binary, budget_ms = "", False, False, None
    if (parameters := document.get("parameters")) is not None:
        variant, decode, binary, budget_ms = _read_parameters(_flat(parameters, "the request"))
    tensors = _read_tensors(document.get("inputs"))
    outputs = document.get("outputs")
    wishes = _wishes(outputs, binary) if outputs else ()
    return _Header(tensors, identity, variant, decode, wishes, binary, budget_ms)


# Callers send the same header with other numbers behind it over and over.
_known_header = lru_cache(maxsize=512)(_read_header)


def _identity(value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    raise RequestFault(f"'id' must be a string, got {shown(value)}")


def _flat(parameters: object, where: str) -> dict[str, Any]:
    if type(parameters) is not dict:
        raise RequestFault(f"{where}: 'parameters' must be an object, got {shown(parameters)}")
    for name, value in parameters.items():
        if not isinstance(value, (str, int, float)):
            raise RequestFault(
                f"{where}: parameter {shown(name)} must be a string, number or boolean, got {shown(value)}"
            )
    return parameters


def _boolean(parameters: dict[str, Any], name: str, where: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise RequestFault(f"{where}: parameter {name!r} must be true or false, got {shown(value)}")
    return value


def _read_parameters(parameters: dict[str, Any]) -> tuple[str, bool, bool, float | None]:
    """Return variant, decode, binary and the budget in milliseconds."""
    binary = _boolean(parameters, "binary_data_output", "the request", False)
    decode = _boolean(parameters, "decode", "the request", False)
    variant = parameters.get("variant", "")
    if type(variant) is not str:
        raise RequestFault(f"parameter 'variant' must be a variant's name, got {shown(variant)}")
    if parameters.get("sequence_id"):
        raise RequestFault("parameter 'sequence_id': the models here keep no state; leave it out")
    budget_ms = budget_parameter(parameters[PARAMETER]) if PARAMETER in parameters else None
    return variant, decode, binary, budget_ms


def _read_tensors(inputs: object) -> list[_Tensor]:
    if type(inputs) is not list or not inputs:
        raise RequestFault(f"'inputs' must be a list of tensors, got {shown(inputs)}")
    tensors: dict[str, _Tensor] = {}
    for number, tensor in enumerate(inputs):
        if type(tensor) is not dict:
            raise RequestFault(f"input {number} must be an object, got {shown(tensor)}")
        name = tensor.get("name")
        if type(name) is not str:
            raise RequestFault(f"input {number}: 'name' must be a string, got {shown(name)}")
        where = f"input {shown(name)}"
        if name in tensors:
            raise RequestFault(f"{where} is given twice")
        dtype = numpy_dtype(tensor.get("datatype"), where)
        shape = _shape(tensor.get("shape"), where)
        size = None
        if (parameters := tensor.get("parameters")) is not None:
            parameters = _flat(parameters, where)
            if "shared_memory_region" in parameters:
                raise RequestFault(f"{where}: shared memory is not offered; send the data")
            size = parameters.get("binary_data_size")
        if size is not None:
            if "data" in tensor:
                raise RequestFault(f"{where}: has both 'data' and 'binary_data_size'; send one of them")
            size = binary_size(size, where)
        tensors[name] = _Tensor(name, dtype, shape, size, tensor.get("data"))
    return list(tensors.values())


def _shape(shape: object, where: str) -> tuple[int, ...]:
    if type(shape) is not list or len(shape) > _MAX_RANK:
        raise RequestFault(f"{where}: 'shape' must be a list of at most {_MAX_RANK} sizes, got {shown(shape)}")
    elements = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise RequestFault(f"{where}: sizes in 'shape' must be whole numbers from 0, got {shown(size)}")
        elements *= max(size, 1)
        if elements > _MAX_SIZE:
            raise RequestFault(f"{where}: shape {shown(shape)} is larger than any request may be")
    return tuple(shape)


def _wishes(outputs: object, binary: bool) -> tuple[OutputWish, ...]:
    if type(outputs) is not list:
        raise RequestFault(f"'outputs' must be a list of objects with 'name', got {shown(outputs)}")
    wishes: dict[str, OutputWish] = {}
    for number, output in enumerate(outputs):
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str:
            raise RequestFault(f"output {number} must be an object with a string 'name', got {shown(output)}")
        where = f"output {shown(name)}"
        if name in wishes:
            raise RequestFault(f"{where} is asked for twice")
        own = binary
        if (parameters := output.get("parameters")) is not None:
            parameters = _flat(parameters, where)
            for unsupported in ("classification", "shared_memory_region"):
                if unsupported in parameters:
                    raise RequestFault(f"{where}: parameter {unsupported!r} is not offered")
            own = _boolean(parameters, "binary_data", where, binary)
        wishes[name] = OutputWish(name, own)
    return tuple(wishes.values())
