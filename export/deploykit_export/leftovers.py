"""What training leaves in a graph: masks in place of removed channels, chance, branches that can never be taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit_export.constant_values import Scope

_CHANCE: Final = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


def leftover_faults(scope: Scope, *, sized: bool) -> Iterator[str]:
    """Yield what of the relaxation is still in one graph, a sentence each.

    Args:
        sized: a size or an amount of work was promised, so that channels that are zero had to be removed.
    """
    for node in scope.graph.node:
        name = node.name or f"a node {node.op_type}"
        if node.op_type in _CHANCE or (node.op_type == "Dropout" and _trains(node, scope)):
            yield f"{name} ({node.op_type}) draws random numbers whenever it runs"
        if node.op_type == "If" and scope.value(node.input[0]) is not None:
            yield f"{name} has a constant condition, so one of its branches is dead"
        if node.op_type == "Mul":
            yield from _masking_product(node, name, scope, sized)
        if node.op_type == "Where":
            yield from _masking_choice(node, name, scope)
        if sized and (found := _zero_channels(node, scope)):
            yield found


def _masking_product(node: onnx.NodeProto, name: str, scope: Scope, sized: bool) -> Iterator[str]:
    values = [scope.value(item) for item in node.input]
    if len(values) == 2 and None not in [None if value is None else 0 for value in values]:
        return  # constant altogether: a mask on weights, which shows where the product is used
    for item, value in zip(node.input, values, strict=True):
        if value is None or value.size < 2 or not (value == 0).any() or not (value != 0).any():
            continue
        if bool((value[value != 0] == 1).all()):
            yield f"{name} multiplies by the mask {item!r} instead of dropping what it hides"
        elif sized and not scope.is_quantised(item):
            zeros = int((value == 0).sum())
            yield f"{name} multiplies by {item!r}, zero in {zeros} of {value.size} places, instead of dropping these"


def _masking_choice(node: onnx.NodeProto, name: str, scope: Scope) -> Iterator[str]:
    condition, *sides = (scope.value(item) for item in node.input)
    if condition is None or not condition.any() or condition.all():
        return
    # Only zeros hide a value: a constant choice of minus infinity is how attention looks back.
    if any(side is not None and not side.any() for side in sides) and any(side is None for side in sides):
        yield f"{name} puts zeros by the mask {node.input[0]!r} instead of dropping what it hides"


_OUTPUT_AXIS: Final = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}


def _zero_channels(node: onnx.NodeProto, scope: Scope) -> str:
    if node.op_type not in _OUTPUT_AXIS or scope.is_quantised(node.input[1]):
        return ""
    weight: NDArray[Any] | None = scope.value(node.input[1])
    if weight is None or weight.ndim < 2 or weight.dtype.kind != "f":
        return ""
    axis = _OUTPUT_AXIS[node.op_type]
    if node.op_type == "Gemm" and any(item.name == "transB" and item.i for item in node.attribute):
        axis = 0
    channels = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    zeros = int((~channels.any(axis=1)).sum())
    if not zeros:
        return ""
    return (
        f"{zeros} of {len(channels)} output channels of {node.input[1]!r} have no weight but zero: "
        "they were masked, not removed"
    )


def _trains(node: onnx.NodeProto, scope: Scope) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return False
    mode = scope.value(node.input[2])
    return mode is None or bool(mode.any())
