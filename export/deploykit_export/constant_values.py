"""What a graph's constants come to: values that nodes compute from constants alone, before any input is seen.

A mask that is cast, compared or reshaped on its way to the ``Mul`` is the same mask; so is a constant condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

_RANDOM: Final = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
_WHOLE: Final = {
    TensorProto.INT64, TensorProto.UINT64, TensorProto.INT32, TensorProto.UINT32, TensorProto.INT16,
    TensorProto.UINT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """One graph, its nodes and every constant its nodes can name, those of the graphs around it included.

    Attributes:
        constants: tensors as they stand in the file, by name.
        computed: names of values computed from constants alone, with the nodes that lead to each, in order.
    """

    graph: onnx.GraphProto
    constants: Mapping[str, TensorProto]
    computed: Mapping[str, tuple[onnx.NodeProto, ...]]
    opsets: tuple[onnx.OperatorSetIdProto, ...]

    def value(self, name: str) -> NDArray[Any] | None:
        """Return a constant's value, computed if need be; ``None`` if it depends on inputs or cannot be computed."""
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name])
        nodes = self.computed.get(name)
        if nodes is None:
            return None
        used = {item for node in nodes for item in node.input}
        graph = onnx.helper.make_graph(
            list(nodes), "constants", [], [onnx.helper.make_empty_tensor_value_info(name)],
            [_named(tensor, key) for key, tensor in self.constants.items() if key in used],
        )  # fmt: skip
        model = onnx.helper.make_model(graph, opset_imports=self.opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            value: NDArray[Any] = session.run([name], {})[0]
        except Exception:
            return None  # a kernel that exists only in its fused form; nothing can be said of the value
        return value

    def is_quantised(self, name: str) -> bool:
        """Whether a value is, or is computed from, integers of several elements: zeros are then no sign of a mask."""
        used = {name} | {item for node in self.computed.get(name, ()) for item in node.input}
        return any(
            self.constants[item].data_type in _WHOLE and len(self.constants[item].dims) > 1
            for item in used & set(self.constants)
        )


def scopes(model: onnx.ModelProto) -> Iterator[Scope]:
    """Yield the scope of the graph and of every subgraph."""
    yield from _scopes(model.graph, {}, {}, tuple(model.opset_import))


def _scopes(
    graph: onnx.GraphProto,
    constants: dict[str, TensorProto],
    computed: dict[str, tuple[onnx.NodeProto, ...]],
    opsets: tuple[onnx.OperatorSetIdProto, ...],
) -> Iterator[Scope]:
    constants = {**constants, **{tensor.name: tensor for tensor in graph.initializer}}
    computed = dict(computed)
    for node in graph.node:
        tensor = next((item.t for item in node.attribute if item.type == onnx.AttributeProto.TENSOR), None)
        if node.op_type == "Constant" and tensor is not None:
            constants[node.output[0]] = tensor
        elif _is_constant(node, constants, computed):
            before = [step for item in node.input for step in computed.get(item, ())]
            steps = {step.output[0]: step for step in before}
            for output in node.output:
                computed[output] = (*steps.values(), node)
    yield Scope(graph, constants, computed, opsets)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _scopes(inner, constants, computed, opsets)


def _is_constant(node: onnx.NodeProto, constants: Mapping[str, Any], computed: Mapping[str, Any]) -> bool:
    if node.op_type in _RANDOM or any(item.HasField("g") or item.graphs for item in node.attribute):
        return False
    return all(not name or name in constants or name in computed for name in node.input)


def _named(tensor: TensorProto, name: str) -> TensorProto:
    copied = TensorProto()
    copied.CopyFrom(tensor)
    copied.name = name
    return copied
