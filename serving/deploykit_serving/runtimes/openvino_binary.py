"""Convolutions of -1 and +1 in OpenVINO, packed into bits: 32 products in a few instructions, and the same numbers.

A convolution is rewritten to ``BinaryConvolution`` where its weights are -s or +s and its input is proven to hold
nothing but -c and +c. The proof follows what stands between: operators that keep order (adding, scaling by a positive
number, quantising, limiting, pooling a maximum) on numbers whose grid is known, because they are levels of a quantiser
or sums of integers. A value that depends on a sum in such a way is a threshold on that sum, found by bisection, and
the threshold is what makes the bits; the operators between fall away.

Only what is exact in float32, whatever the order of adding, is rewritten: the answers are equal bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.runtimes.openvino_values import Traced, Values, constant_of, key_of, trace

# The kernel counts bits by whole bytes: with other numbers of channels it reads beyond them.
_CHANNELS_OF_A_BYTE: Final = 8


def pack_convolutions(model: Any) -> int:
    """Rewrite what can be rewritten, in place.

    Args:
        model: an ``openvino.Model`` whose shapes are fixed: the kernel takes no others.

    Returns:
        how many convolutions are packed now.
    """
    from openvino.passes import ConstantFolding, Manager

    by_name = {node.get_friendly_name(): node for node in model.get_ops()}
    if len(by_name) != len(model.get_ops()):
        return 0  # what is proven on the copy could not be told apart in the original
    # Weights are folded on a copy: in the original OpenVINO must still see integers to compute with integers.
    folded = model.clone()
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(folded)
    values: Values = {}
    sums: dict[str, Any] = {}
    for node in folded.get_ordered_ops():
        name = node.get_friendly_name()
        found = _signs(node, values) if node.get_type_name() == "Convolution" and name in by_name else None
        if found is None:
            trace(node, values)
            continue
        packed = _pack(by_name[name], found, sums, by_name)
        sums[name] = packed
        grid = Traced(root=name, step=1.0, low=-float(found.count), high=float(found.count))
        values[name, 0] = grid.then(partial(np.multiply, found.scale[:, None]))
    return len(sums)


@dataclass(frozen=True, slots=True)
class _Signs:
    """A convolution of signs.

    Attributes:
        positive: bool [O, I, H, W], which weights are above zero.
        scale: float64 [O], what one product of two signs is worth.
        count: products of one sum.
        data: where the input's signs come from.
        thresholds: float64 [I] or [1]: an input is +1 where the root of ``data`` is above.
    """

    positive: NDArray[np.bool_]
    scale: NDArray[np.float64]
    count: int
    data: Traced
    thresholds: NDArray[np.float64]


def _signs(node: Any, values: Values) -> _Signs | None:
    weights = constant_of(node.input_value(1))
    data = values.get(key_of(node.input_value(0)))
    if weights is None or data is None or weights.ndim != 4 or weights.shape[1] % _CHANNELS_OF_A_BYTE:
        return None
    if node.get_output_element_type(0).get_type_name() != "f32":
        return None
    size = np.abs(weights.reshape(len(weights), -1)).astype(np.float64)
    found = data.two_values()
    if found is None or not (size == size[:, :1]).all() or not (size > 0).all():
        return None
    (low, high), thresholds = found
    count = size.shape[1]
    scale = size[:, 0] * high
    # Every sum is a multiple of the scale; all of them must be float32 numbers, or rounding would come in.
    multiples = np.arange(1, count + 1) * scale[:, None]
    if low != -high or not (multiples.astype(np.float32) == multiples).all():
        return None
    return _Signs(weights > 0, scale, count, data, thresholds)


def _pack(node: Any, found: _Signs, sums: dict[str, Any], by_name: dict[str, Any]) -> Any:
    """Put the packed convolution in a convolution's place; return the node that gives its sums."""
    from openvino import opset1

    attributes = node.get_attributes()
    source, thresholds = _source(node, found, sums, by_name)
    level = opset1.constant(thresholds.astype(np.float32).reshape(1, -1, 1, 1))
    zero, one = opset1.constant(np.float32(0)), opset1.constant(np.float32(1))
    bits = opset1.fake_quantize(source, level, level, zero, one, 2)
    packed = opset1.binary_convolution(
        bits, _bits(found.positive), attributes["strides"], attributes["pads_begin"], attributes["pads_end"],
        attributes["dilations"], "xnor-popcount", 0.0, attributes["auto_pad"],
    )  # fmt: skip
    result = packed
    if not (found.scale == 1).all():
        scale = opset1.constant(found.scale.astype(np.float32).reshape(1, -1, 1, 1))
        result = opset1.multiply(packed, scale)
    node.output(0).replace(result.output(0))
    return packed


def _source(node: Any, found: _Signs, sums: dict[str, Any], by_name: dict[str, Any]) -> tuple[Any, NDArray[np.float64]]:
    """Return what the bits are made from, and from where on they are one."""
    data = found.data
    root = sums.get(data.root, by_name.get(data.root))
    if root is None or root.get_type_name() not in ("Convolution", "BinaryConvolution"):
        low, high = data.ends()
        return node.input_value(0), np.array([(low + high) / 2])
    tensor = root.output(0)
    for pool in data.pools:
        tensor = _pooled(tensor, by_name[pool].get_attributes())
    return tensor, found.thresholds


def _pooled(tensor: Any, given: dict[str, Any]) -> Any:
    from openvino import opset1

    return opset1.max_pool(
        tensor, given["strides"], given["pads_begin"], given["pads_end"], given["kernel"], given["rounding_type"],
        given["auto_pad"],
    ).output(0)  # fmt: skip


def _bits(positive: NDArray[np.bool_]) -> Any:
    import openvino

    data = np.packbits(positive.ravel(), bitorder="little")
    tensor = openvino.Tensor(openvino.Type.u1, openvino.Shape(positive.shape))
    tensor.data.ravel()[:] = data
    return openvino.op.Constant(tensor, shared_memory=False)
