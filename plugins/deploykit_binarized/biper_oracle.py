"""The reference for BiPer's hard form: the soft form's graph walked in numpy, integers in int64, no thresholds.

Signs are taken of the real values that batch normalisation gives, where the hard form compares integers; sums are
taken window by window. Only steps of the user's own that this module does not know run in torch.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from deploykit_binarized.biper_layers import BinaryLayer, InputLayer, OutputLayer, TwinLayer, Window
from deploykit_binarized.biper_surgery import SoftNet

Array = NDArray[Any]


def oracle_outputs(soft: SoftNet, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return what the hard form must answer, float32, in the order of the model's outputs."""
    values: dict[fx.Node, Any] = {}
    arguments = iter(inputs)
    for node in soft.body.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(arguments)
        elif node.op == "output":
            returned = fx.node.map_arg(node.args[0], lambda source: values[source])
            return tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
        else:
            values[node] = _value(soft.body, node, values)
    raise AssertionError("a traced graph ends with its output")


def _value(body: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    module = body.get_submodule(str(node.target)) if node.op == "call_module" else None
    first: Any = values[node.all_input_nodes[0]] if node.all_input_nodes else None
    if isinstance(module, OutputLayer):
        return _output_layer(module, first)
    if isinstance(module, TwinLayer):
        norms = [user for user in node.users if _is_norm(body, user)]
        if len(node.users) == 1 and norms:
            return _sums(module, first)  # the normalisation is part of the layer's scale and shift
        return _affine(_sums(module, first), *_scale_and_shift(module, None), module.window is not None)
    if _is_norm(body, node):
        source = node.all_input_nodes[0]
        layer = body.get_submodule(str(source.target)) if source.op == "call_module" else None
        joined = isinstance(layer, TwinLayer) and not isinstance(layer, OutputLayer) and len(source.users) == 1
        scale, shift = _scale_and_shift(layer if joined else None, module)
        return _affine(first, scale, shift, isinstance(module, nn.BatchNorm2d))
    if isinstance(module, nn.Hardtanh):
        return np.clip(first, module.min_val, module.max_val)
    if isinstance(module, nn.MaxPool2d) and not module.ceil_mode and not module.return_indices:
        return _max_pool(first, module)
    if isinstance(module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)):
        return first
    return _users_own_step(body, node, values)


def _is_norm(body: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        body.get_submodule(str(node.target)), (nn.BatchNorm1d, nn.BatchNorm2d)
    )


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy().astype(np.float64)
    return array


def _signs(x: Array) -> Array:
    return np.where(x >= 0, 1, -1).astype(np.int64)


def _eight_bit_steps(layer: InputLayer | OutputLayer) -> Array:
    steps = []
    for channel in _array(layer.weight):
        largest = np.abs(channel).max()
        steps.append(largest / layer.levels if largest > 0 else 1.0)
    return np.array(steps)


def _eight_bit_weight(layer: InputLayer | OutputLayer) -> Array:
    channels = zip(_array(layer.weight), _eight_bit_steps(layer), strict=True)
    return np.stack([np.rint(channel / step) for channel, step in channels]).astype(np.int64)


def _sums(layer: TwinLayer, x: Array) -> Array:
    if isinstance(layer, InputLayer):
        levels = np.rint(x.astype(np.float32) / np.float32(layer.grid.step))
        integers = np.clip(levels, -128 if layer.grid.signed else 0, 127).astype(np.int64)
        return _products(integers, _eight_bit_weight(layer), layer.window)
    assert isinstance(layer, BinaryLayer)
    weight = _signs(np.sin(_array(layer.weight) * layer.frequency))
    return _products(_signs(x), weight, layer.window)


def _output_layer(layer: OutputLayer, x: Array) -> Array:
    sums = _products(_signs(x), _eight_bit_weight(layer), layer.window)
    steps = _eight_bit_steps(layer)
    bias = np.zeros_like(steps) if layer.bias is None else np.rint(_array(layer.bias) / steps)
    spread = (-1, 1, 1) if layer.window is not None else (-1,)
    bias = np.clip(bias, -(2.0**22), 2.0**22).astype(np.int64)
    return (sums + bias.reshape(spread)).astype(np.float32) * steps.astype(np.float32).reshape(spread)


def _scale_and_shift(layer: Any, norm: Any) -> tuple[Array, Array]:
    channels = len(norm.running_var) if layer is None else len(layer.weight)
    unit, bias = np.ones(channels), np.zeros(channels)
    if layer is not None:
        unit = _eight_bit_steps(layer) * layer.grid.step if isinstance(layer, InputLayer) else _array(layer.alpha)
        if layer.bias is not None:
            bias = _array(layer.bias)
    if norm is None:
        return unit.astype(np.float32), bias.astype(np.float32)
    gain = (1.0 if norm.weight is None else _array(norm.weight)) / np.sqrt(_array(norm.running_var) + norm.eps)
    offset = 0.0 if norm.bias is None else _array(norm.bias)
    shift = offset + gain * (bias - _array(norm.running_mean))
    return (gain * unit).astype(np.float32), shift.astype(np.float32)


def _affine(x: Array, scale: Array, shift: Array, spatial: bool) -> Array:
    spread = (-1, 1, 1) if spatial else (-1,)
    return x.astype(np.float32) * scale.reshape(spread) + shift.reshape(spread)


def _products(x: Array, weight: Array, window: Window | None) -> Array:
    if window is None:
        return x @ weight.T
    (pad_y, pad_x), (step_y, step_x), (gap_y, gap_x) = window.padding, window.stride, window.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    out_channels, per_group, kernel_y, kernel_x = weight.shape
    rows = (padded.shape[2] - gap_y * (kernel_y - 1) - 1) // step_y + 1
    columns = (padded.shape[3] - gap_x * (kernel_x - 1) - 1) // step_x + 1
    sums = np.zeros((len(x), out_channels, rows, columns), dtype=np.int64)
    group_outputs = out_channels // window.groups
    for group in range(window.groups):
        source = padded[:, group * per_group : (group + 1) * per_group]
        chosen = slice(group * group_outputs, (group + 1) * group_outputs)
        for row, column in product(range(rows), range(columns)):
            top, left = row * step_y, column * step_x
            patch = source[
                :, :, top : top + gap_y * (kernel_y - 1) + 1 : gap_y, left : left + gap_x * (kernel_x - 1) + 1 : gap_x
            ]
            sums[:, chosen, row, column] = patch.reshape(len(x), -1) @ weight[chosen].reshape(group_outputs, -1).T
    return sums


def _max_pool(x: Array, pool: nn.MaxPool2d) -> Array:
    def pair(size: Any) -> tuple[int, int]:
        return (size, size) if isinstance(size, int) else size

    (height, width), (step_y, step_x) = pair(pool.kernel_size), pair(pool.stride)
    (pad_y, pad_x), (gap_y, gap_x) = pair(pool.padding), pair(pool.dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)), constant_values=-np.inf)
    rows = (padded.shape[2] - gap_y * (height - 1) - 1) // step_y + 1
    columns = (padded.shape[3] - gap_x * (width - 1) - 1) // step_x + 1
    pooled = np.empty((*x.shape[:2], rows, columns), dtype=x.dtype)
    for row, column in product(range(rows), range(columns)):
        ys = row * step_y + gap_y * np.arange(height)
        xs = column * step_x + gap_x * np.arange(width)
        pooled[:, :, row, column] = padded[:, :, ys][:, :, :, xs].max(axis=(2, 3))
    return pooled


def _users_own_step(body: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    environment = {
        source: torch.from_numpy(np.ascontiguousarray(values[source]))
        if isinstance(values[source], np.ndarray)
        else values[source]
        for source in node.all_input_nodes
    }
    interpreter = fx.Interpreter(body)
    interpreter.env = environment
    with torch.no_grad():
        result = interpreter.run_node(node)
    return result.detach().numpy() if isinstance(result, Tensor) else result
