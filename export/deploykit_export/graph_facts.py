"""What can be read off an ONNX graph without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

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
    """Yield every constant tensor: initializers and the values of ``Constant`` nodes, subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from walk_initializers(attribute.g)
            for inner in attribute.graphs:
                yield from walk_initializers(inner)


def named_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield every constant tensor under the name by which nodes refer to it; a ``Constant``'s is its output's."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield node.output[0], attribute.t
            if attribute.HasField("g"):
                yield from named_constants(attribute.g)
            for inner in attribute.graphs:
                yield from named_constants(inner)


def operator_histogram(model: onnx.ModelProto) -> dict[str, int]:
    """Return how often each operator occurs, as ``domain::Type`` outside the standard domain."""
    names = (f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in walk_nodes(model.graph))
    return dict(sorted(Counter(names).items()))
