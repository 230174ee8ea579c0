"""The oracle of ``pruned.gate``: the unpruned network, channels zeroed, walked in numpy node by node.

Operators outside a small set are run by torch in float64: for these the oracle proves that removing equals masking, not
what the operator computes.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from deploykit.errors import ContractError
from deploykit.signature import Arrays, Signature
from deploykit_pruned.gate_layers import GatedInput, GatedNet

Array = NDArray[Any]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, GatedInput) or super().is_leaf_module(m, module_qualified_name)


def masked_outputs(soft: GatedNet, inputs: tuple[Tensor, ...], signature: Signature) -> Arrays:
    """Return the outputs with the channels that the budget does not keep set to zero, as float32 by name.

    Raises:
        ContractError: the network cannot be traced, or holds an operator that torch does not run in
            float64 either.
    """
    try:
        graph = _Tracer().trace(soft.network)
    except Exception as error:
        # torch.fx raises whatever the traced code raises when it is fed a proxy.
        raise ContractError(
            f"pruned.gate: the oracle cannot trace {type(soft.network).__name__}: {type(error).__name__}: {error}"
        ) from error
    kept = np.append(soft.chosen(), True)
    modules = dict(soft.network.named_modules())
    values: dict[fx.Node, Any] = {}
    given = iter(inputs)
    for node in graph.nodes:
        arguments = fx.map_arg(node.args, values.__getitem__)
        options = fx.map_arg(node.kwargs, values.__getitem__)
        match node.op:
            case "placeholder":
                values[node] = _array(next(given))
            case "get_attr":
                values[node] = _array(operator.attrgetter(str(node.target))(soft.network))
            case "call_module":
                values[node] = _layer(modules[str(node.target)], kept, *arguments, **options)
            case "call_function" | "call_method":
                function = _FUNCTIONS.get(node.target)
                if function is None:
                    function = _by_torch(node.target)
                values[node] = function(*arguments, **options)
            case "output":
                returned = arguments[0]
    answers = returned if isinstance(returned, (tuple, list)) else (returned,)
    return {
        spec.name: np.asarray(answer).astype(spec.dtype)
        for spec, answer in zip(signature.outputs, answers, strict=True)
    }


def _layer(layer: nn.Module, kept: NDArray[np.bool_], x: Array, *more: Any, **options: Any) -> Any:
    match layer:
        case GatedInput():
            mask = kept[layer.source.cpu().numpy()].astype(np.float64)
            return _layer(layer.layer, kept, x * (mask if isinstance(layer.layer, nn.Linear) else mask[:, None, None]))
        case nn.Conv2d() if layer.padding_mode == "zeros" and layer.padding != "same":
            return convolution(x, layer)
        case nn.Linear():
            y = x @ _array(layer.weight).T
            return y if layer.bias is None else y + _array(layer.bias)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if layer.running_mean is not None and layer.running_var is not None:
            shape = (-1, *[1] * (x.ndim - 2))
            scale = 1.0 / np.sqrt(_array(layer.running_var) + layer.eps)
            y = (x - _array(layer.running_mean).reshape(shape)) * scale.reshape(shape)
            if layer.affine:
                y = y * _array(layer.weight).reshape(shape) + _array(layer.bias).reshape(shape)
            return y
        case nn.MaxPool2d() if layer.dilation == 1 and not layer.ceil_mode and not layer.return_indices:
            return _pool(x, layer.kernel_size, layer.stride, layer.padding, -np.inf, np.maximum.reduce)
        case nn.AvgPool2d() if not layer.ceil_mode and layer.count_include_pad and layer.divisor_override is None:
            return _pool(x, layer.kernel_size, layer.stride, layer.padding, 0.0, _mean_of)
        case nn.AdaptiveAvgPool2d() if layer.output_size in (1, (1, 1)):
            return _means(x, (2, 3), keepdim=True)
        case nn.Flatten():
            return _flatten(x, layer.start_dim, layer.end_dim)
        case nn.Identity() | nn.Dropout() | nn.Dropout2d():
            return x
    for known, function in _ACTIVATIONS.items():
        if type(layer) is known:
            return function(x)
    return _by_torch(copy.deepcopy(layer).double().eval())(x, *more, **options)


def _by_torch(target: Any) -> Callable[..., Any]:
    """Return a function, layer or tensor method as one that takes and gives numpy arrays, in float64."""

    def run(*arguments: Any, **options: Any) -> Any:
        given, named = tree_map(_tensor, (arguments, options))
        try:
            answer = target(*given, **named) if callable(target) else getattr(given[0], target)(*given[1:], **named)
        except Exception as error:
            raise ContractError(
                f"pruned.gate: the oracle does not know {getattr(target, '__name__', target)}, and torch does not run "
                f"it in float64: {error}"
            ) from error
        return tree_map(lambda part: _array(part) if isinstance(part, Tensor) else part, answer)

    return run


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def convolution(x: Array, layer: nn.Conv2d) -> Array:
    """Return the convolution of ``x`` (batch, channels, height, width), one kernel tap after the other."""
    rows, columns = (0, 0) if isinstance(layer.padding, str) else layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    weight = _array(layer.weight)
    outputs, inputs, height, width = weight.shape
    (down, right), (gap_down, gap_right) = layer.stride, layer.dilation
    out_height = (padded.shape[2] - gap_down * (height - 1) - 1) // down + 1
    out_width = (padded.shape[3] - gap_right * (width - 1) - 1) // right + 1
    y = np.zeros((len(x), outputs, out_height, out_width))
    per_group = outputs // layer.groups
    for group in range(layer.groups):
        source = padded[:, group * inputs : (group + 1) * inputs]
        target = slice(group * per_group, (group + 1) * per_group)
        for i in range(height):
            for j in range(width):
                top, left = i * gap_down, j * gap_right
                seen = source[:, :, top : top + down * out_height : down, left : left + right * out_width : right]
                seen = seen[:, :, :out_height, :out_width]
                y[:, target] += np.einsum("nchw,oc->nohw", seen, weight[target, :, i, j])
    return y if layer.bias is None else y + _array(layer.bias)[:, None, None]


def _pool(
    x: Array, size: Any, stride: Any, padding: Any, filler: float, reduce: Callable[[list[Array]], Array]
) -> Array:
    (height, width), (rows, columns) = _pair(size), _pair(padding)
    down, right = (height, width) if stride is None else _pair(stride)
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), constant_values=filler)
    out_height, out_width = (padded.shape[2] - height) // down + 1, (padded.shape[3] - width) // right + 1
    taps = [
        padded[:, :, i : i + down * out_height : down, j : j + right * out_width : right][:, :, :out_height, :out_width]
        for i in range(height)
        for j in range(width)
    ]
    return reduce(taps)


def _mean_of(taps: list[Array]) -> Array:
    return np.asarray(sum(taps) / len(taps))


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _array(tensor: Tensor | None) -> Array:
    if tensor is None:
        raise ContractError("pruned.gate: the oracle met a layer without the tensor it needs")
    values = tensor.detach().cpu().numpy()
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _means(x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return np.asarray(x.mean(axis=tuple(dim) if isinstance(dim, list) else dim, keepdims=keepdim))


def _relu(x: Array, inplace: bool = False) -> Array:
    return np.maximum(x, 0.0)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _join(parts: Any, dim: int = 0) -> Array:
    return np.concatenate(parts, axis=dim)


_ACTIVATIONS: dict[type[nn.Module], Callable[[Array], Array]] = {
    nn.ReLU: _relu,
    nn.ReLU6: lambda x: np.clip(x, 0.0, 6.0),
    nn.Sigmoid: _sigmoid,
    nn.SiLU: lambda x: x * _sigmoid(x),
    nn.Tanh: np.tanh,
    nn.Hardtanh: lambda x: np.clip(x, -1.0, 1.0),
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: operator.add, operator.iadd: operator.add, torch.add: operator.add, "add": operator.add,
    operator.mul: operator.mul, torch.mul: operator.mul, "mul": operator.mul,
    operator.sub: operator.sub, torch.sub: operator.sub, "sub": operator.sub,
    torch.cat: _join, torch.flatten: _flatten, "flatten": _flatten,
    torch.relu: _relu, F.relu: _relu, "relu": _relu,
    torch.sigmoid: _sigmoid, "sigmoid": _sigmoid, torch.tanh: np.tanh, "tanh": np.tanh,
    torch.mean: _means, "mean": _means,
}  # fmt: skip
