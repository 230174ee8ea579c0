"""How the canary's file was made; nothing needs it to run, a test makes the file again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

CANARY_FILE: Final = Path(__file__).with_name("canary.onnx")
INPUT: Final = "x"
CHANNELS: Final = 16
SIZE: Final = 24
_ROUNDS: Final = 3


def canary_bytes() -> bytes:
    """Return the ONNX file: three rounds of depthwise and pointwise convolution and ReLU, then softmax.

    Multiply-adds, exponentials and tensors of 36 KiB, that overflow the first cache, so that a neighbour on the core,
    in the caches or at the clock shows. The weights are fixed fractions, so that numbers stay ordinary,
    and shared by the rounds, so that the file stays small.
    """
    from onnx import TensorProto, helper, numpy_helper

    point = (np.arange(CHANNELS * CHANNELS) * 37 % 101 / 101 - 0.5).astype(np.float32) * 2
    depth = (np.arange(CHANNELS * 9) * 53 % 97 / 97 - 0.5).astype(np.float32)
    weights = [
        numpy_helper.from_array(point.reshape(CHANNELS, CHANNELS, 1, 1), "point"),
        numpy_helper.from_array(depth.reshape(CHANNELS, 1, 3, 3), "depth"),
    ]
    nodes, last = [], INPUT
    for index in range(_ROUNDS):
        nodes += [
            helper.make_node("Conv", [last, "depth"], [f"d{index}"], group=CHANNELS, pads=[1, 1, 1, 1]),
            helper.make_node("Conv", [f"d{index}", "point"], [f"p{index}"]),
            helper.make_node("Relu", [f"p{index}"], [f"r{index}"]),
        ]
        last = f"r{index}"
    nodes.append(helper.make_node("Softmax", [last], ["y"], axis=1))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]) for name in (INPUT, "y")]
    graph = helper.make_graph(nodes, "canary", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def canary_input() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return the one input it is run on."""
    flat = np.linspace(-1.0, 1.0, CHANNELS * SIZE * SIZE, dtype=np.float32)
    return {INPUT: flat.reshape(1, CHANNELS, SIZE, SIZE)}
