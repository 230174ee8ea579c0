"""ONNX networks of signs, written without torch, in the ways that files write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Layer:
    channels: int
    kernel: int = 3
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    stride: int = 1
    dilation: int = 1
    scale: float = 1.0
    pool: bool = False


class Graph:
    """Nodes and constants of a network under way."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [*inputs], [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def signs(self, *shape: int) -> NDArray[np.float32]:
        return np.where(self.random.random(shape) < 0.5, -1, 1).astype(np.float32)

    def model(self, x: tuple[int, int, int], y: str, batch: int | str = "batch") -> bytes:
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [y], ["y"])], "signs",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *x])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, "channels", "height", "width"])],
            initializer=self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data


def float_signs(channels: int, side: int, layers: list[Layer], *, seed: int = 0, batch: int | str = "batch") -> bytes:
    """Signs as float32: compared, chosen, convolved, a bias added that is no integer."""
    graph = Graph(seed)
    x, given = "x", channels
    one, minus, zero = graph.constant(1.0), graph.constant(-1.0), graph.constant(0.0)
    for layer in layers:
        bits = graph.node("Where", graph.node("GreaterOrEqual", x, zero), one, minus)
        weight = graph.signs(layer.channels, given, layer.kernel, layer.kernel) * np.float32(layer.scale)
        bias = graph.random.integers(-9, 9, layer.channels) + 0.5
        x = graph.node(
            "Conv", bits, graph.constant(weight), graph.constant(bias), pads=layer.pads,
            strides=[layer.stride] * 2, dilations=[layer.dilation] * 2,
        )  # fmt: skip
        if layer.pool:
            x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        given = layer.channels
    return graph.model((channels, side, side), x, batch)


def integer_signs(channels: int, side: int, depth: int, *, seed: int = 0) -> bytes:
    """Signs as uint8 {0, 2} in a chain of QLinearConv whose rounding is the threshold."""
    graph = Graph(seed)
    one, half, zero8 = graph.constant(1.0), graph.constant(0.5), graph.constant(0, np.int8)
    two, mid = graph.constant(2, np.uint8), graph.constant(1, np.uint8)
    truth = graph.node("GreaterOrEqual", "x", graph.constant(0.0))
    x = graph.node("Where", truth, two, graph.constant(0, np.uint8))
    for index in range(depth):
        weight = graph.constant(graph.signs(channels, channels, 3, 3), np.int8)
        bias = graph.constant(graph.random.integers(-5, 5, channels), np.int32)
        x = graph.node("QLinearConv", x, one, mid, weight, one, zero8, half, two, bias, pads=[1, 1, 1, 1])
        if index % 2:
            x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = graph.node("Min", x, two)
    floats = graph.node("DequantizeLinear", x, one, mid)
    y = graph.node("Conv", floats, graph.constant(graph.signs(channels, channels, 3, 3)), pads=[1, 1, 1, 1])
    return graph.model((channels, side, side), y)


def rounded_signs(channels: int, side: int, *, offset: float, seed: int = 0) -> bytes:
    """Sums of signs moved by ``offset``, their Sign through int8 and back, convolved again."""
    graph = Graph(seed)
    one, zero = graph.constant(1.0), graph.constant(0, np.int8)
    truth = graph.node("Greater", "x", graph.constant(0.25))
    x = graph.node("Where", truth, one, graph.constant(-1.0))
    for _ in range(2):
        sums = graph.node("Conv", x, graph.constant(graph.signs(channels, channels, 3, 3)), pads=[1, 1, 1, 1])
        signs = graph.node("Sign", graph.node("Add", sums, graph.constant(offset)))
        x = graph.node("DequantizeLinear", graph.node("QuantizeLinear", signs, one, zero), one, zero)
    return graph.model((channels, side, side), x)
