"""Proof of physical size, read off the written file: bytes, dtypes, leftovers of the relaxation, dead weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx.inliner
from onnx import TensorProto

from deploykit.manifest import PromiseEntry
from deploykit_export.constant_values import scopes
from deploykit_export.graph_facts import named_constants, operator_histogram, walk_initializers
from deploykit_export.leftovers import leftover_faults

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
    if model.functions:  # a model's own functions can hold weights as any graph can
        model = onnx.inliner.inline_local_functions(model)
    by_dtype: dict[str, int] = {}
    for tensor in walk_initializers(model.graph):
        name = dtype_name(tensor.data_type)
        by_dtype[name] = by_dtype.get(name, 0) + tensor_bytes(tensor)
    total = sum(by_dtype.values())
    faults = [
        *_weight_faults(model, promise, total), *_leftovers(model, promise), *_dead_weight(model.graph),
        *(fault for scope in scopes(model) for fault in leftover_faults(scope, sized=_sized(promise))),
    ]  # fmt: skip
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
    for name, _ in named_constants(model.graph):
        for part in promise.absent:
            if part in name:
                yield f"tensor {name!r} is a leftover of training: names with {part!r} were promised to be absent"
    histogram = operator_histogram(model)
    for operator in promise.forbidden_operators:
        if operator in histogram:
            yield f"operator {operator} occurs {histogram[operator]} times; promised was none"


def _sized(promise: PromiseEntry) -> bool:
    return promise.weight_bytes is not None or promise.macs is not None


def _dead_weight(graph: onnx.GraphProto) -> Iterator[str]:
    """Name the constants from which no path leads to an output, also by way of nodes that lead nowhere."""
    used = _needed(graph)
    names = [tensor.name for tensor in graph.initializer]
    names += [node.output[0] for node in graph.node if node.op_type == "Constant"]
    for name in names:
        if name not in used:
            yield f"tensor {name!r} is used by nothing"
    for inner in _subgraphs(graph):
        yield from _dead_weight(inner)


def _needed(graph: onnx.GraphProto) -> set[str]:
    needed = {output.name for output in graph.output}
    for node in reversed(graph.node):  # in a valid graph, what is used stands before its user
        if needed & set(node.output):
            needed |= set(node.input)
            for attribute in node.attribute:
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    needed |= _needed(inner)
    return needed


def _subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
