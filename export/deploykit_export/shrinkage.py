"""Proof of physical size, read off the written file: bytes, dtypes, leftovers of the relaxation, dead weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from deploykit.manifest import PromiseEntry
from deploykit_export.graph_facts import named_constants, operator_histogram, walk_initializers, walk_nodes

_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.INT64: 64, TensorProto.UINT64: 64, TensorProto.INT32: 32, TensorProto.UINT32: 32,
    TensorProto.INT16: 16, TensorProto.UINT16: 16, TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.BOOL: 8,
    TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT2: 2, TensorProto.UINT2: 2,
}  # fmt: skip
_NAMES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """What a file weighs.

    Attributes:
        weight_bytes: bytes of all constant tensors.
        bytes_by_dtype: the same split by dtype.
        faults: what contradicts the promise, one sentence each; empty if it holds.
    """

    weight_bytes: int
    bytes_by_dtype: dict[str, int]
    faults: tuple[str, ...]


def measure_shrinkage(data: bytes, promise: PromiseEntry) -> Shrinkage:
    """Weigh a file and compare it with what the method promised of it."""
    model = onnx.load_from_string(data)
    by_dtype: dict[str, int] = {}
    for tensor in walk_initializers(model.graph):
        name = dtype_name(tensor.data_type)
        by_dtype[name] = by_dtype.get(name, 0) + tensor_bytes(tensor)
    total = sum(by_dtype.values())
    faults = [*_weight_faults(model, promise, total), *_leftovers(model, promise), *_dead_weight(model)]
    return Shrinkage(weight_bytes=total, bytes_by_dtype=dict(sorted(by_dtype.items())), faults=tuple(faults))


def dtype_name(kind: int) -> str:
    """Return numpy's name for an ONNX tensor type where it has one, else ONNX's in lower case (``int4``)."""
    return _NAMES.get(kind) or str(TensorProto.DataType.Name(kind)).lower()


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the bytes a constant takes, packed types packed."""
    bits = _BITS.get(tensor.data_type, 8)
    elements: int = math.prod(tensor.dims)
    return -(-elements * bits // 8)


def _weight_faults(model: onnx.ModelProto, promise: PromiseEntry, total: int) -> Iterator[str]:
    if promise.weight_bytes is not None and total > promise.weight_bytes:
        yield f"constants take {total:,} bytes; promised were at most {promise.weight_bytes:,}"
    if not promise.weight_dtypes:
        return
    for tensor_name, tensor in named_constants(model.graph):
        name = dtype_name(tensor.data_type)
        if math.prod(tensor.dims) > promise.small_initializer and name not in promise.weight_dtypes:
            yield (
                f"tensor {tensor_name!r} of shape {tuple(tensor.dims)} is {name}; "
                f"promised were {', '.join(promise.weight_dtypes)}"
            )


def _leftovers(model: onnx.ModelProto, promise: PromiseEntry) -> Iterator[str]:
    constants = dict(named_constants(model.graph))
    for name in constants:
        for part in promise.absent:
            if part in name:
                yield f"tensor {name!r} is a leftover of training: names with {part!r} were promised to be absent"
    histogram = operator_histogram(model)
    for operator in promise.forbidden_operators:
        if operator in histogram:
            yield f"operator {operator} occurs {histogram[operator]} times; promised was none"
    for node in walk_nodes(model.graph):
        if node.op_type != "Mul":
            continue
        for name in node.input:
            if name in constants and _is_mask(constants[name]):
                yield f"{node.name or 'a Mul'} multiplies by the mask {name!r} instead of dropping what it hides"


def _is_mask(tensor: TensorProto) -> bool:
    if math.prod(tensor.dims) < 2:
        return False
    values = np.unique(numpy_helper.to_array(tensor))
    return len(values) == 2 and bool(values[0] == 0) and bool(values[1] == 1)


def _dead_weight(model: onnx.ModelProto) -> Iterator[str]:
    used = {name for node in walk_nodes(model.graph) for name in node.input}
    used |= {output.name for output in model.graph.output}
    for node in walk_nodes(model.graph):
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                used |= {output.name for output in graph.output}
    for tensor in model.graph.initializer:
        if tensor.name not in used:
            yield f"tensor {tensor.name!r} is used by nothing"
    constants = {name for name, _ in named_constants(model.graph)}
    for node in walk_nodes(model.graph):
        if node.op_type == "If" and node.input[0] in constants:
            yield f"{node.name or 'an If'} has a constant condition, so one of its branches is dead"
