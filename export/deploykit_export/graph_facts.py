"""What can be read off an ONNX graph without running it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx


def walk_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node, those of subgraphs (``If``, ``Loop``, ``Scan``) included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from walk_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from walk_nodes(inner)


def walk_initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant tensor; see :func:`named_constants`."""
    yield from (tensor for _, tensor in named_constants(graph))


def named_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield every constant tensor under the name by which nodes refer to it, subgraphs included.

    That is initializers, dense or sparse (the values are yielded), and what ``Constant`` nodes hold in whichever
    attribute, under their output's name. Weights can also be attributes of any other node (tree ensembles): tensors
    and lists of numbers too long to be settings are yielded as ``node.attribute``.
    """
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
    for node in graph.node:
        constant = node.op_type == "Constant" and node.domain in _STANDARD
        for attribute in node.attribute:
            name = node.output[0] if constant else f"{node.name or node.op_type}.{attribute.name}"
            for tensor in _tensors(attribute):
                if constant or math.prod(tensor.dims) > _SETTING:
                    yield name, tensor
            if attribute.HasField("g"):
                yield from named_constants(attribute.g)
            for inner in attribute.graphs:
                yield from named_constants(inner)


_STANDARD: Final = ("", "ai.onnx")
_SETTING: Final = 16
"""Attributes with at most this many numbers are settings (strides, axes), not weights."""


def _tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    kind = onnx.AttributeProto
    if attribute.type == kind.TENSOR:
        yield attribute.t
    elif attribute.type == kind.SPARSE_TENSOR:
        yield attribute.sparse_tensor.values
    elif attribute.type == kind.TENSORS:
        yield from attribute.tensors
    elif attribute.type in (kind.FLOATS, kind.FLOAT):
        values = attribute.floats if attribute.type == kind.FLOATS else [attribute.f]
        yield onnx.numpy_helper.from_array(np.array(values, np.float32), attribute.name)
    elif attribute.type in (kind.INTS, kind.INT):
        numbers = attribute.ints if attribute.type == kind.INTS else [attribute.i]
        yield onnx.numpy_helper.from_array(np.array(numbers, np.int64), attribute.name)


def operator_histogram(model: onnx.ModelProto) -> dict[str, int]:
    """Return how often each operator occurs, as ``domain::Type`` outside the standard domain."""
    names = (f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in walk_nodes(model.graph))
    return dict(sorted(Counter(names).items()))
