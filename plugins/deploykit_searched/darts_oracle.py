"""Slow, obvious reference of a derived network: numpy and float64, straight from the supernet's parameters.

Which candidate is chosen and which edges are kept is decided here a second time. Layers that are not part of a choice
or a cell are run by torch in float64; so are candidates of a user's own that hold layers unknown here.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.outputs import named_outputs
from deploykit.signature import Arrays, Signature
from deploykit_searched.cells import SearchCell
from deploykit_searched.choices import Choice
from deploykit_searched.layer_exchange import exchanged, unbound_copy
from deploykit_searched.operators import Nothing

Array = NDArray[np.float64]


def oracle_answers(soft: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> Arrays:
    """Run the model in float64 with every cell and every choice evaluated in numpy."""

    def exchange(_: str, layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, SearchCell):
            return _InNumpy(lambda before, last: cell_answer(layer, before, last))
        if isinstance(layer, Choice):
            name, _unused = favourite(layer)
            return _InNumpy(lambda *x: evaluate(layer.candidates[name], *x))
        return None

    twin = exchanged(unbound_copy(soft).eval().double(), exchange)
    doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    with torch.no_grad():
        outputs = named_outputs(twin(*doubled), signature)
    dtypes = {spec.name: spec.dtype for spec in signature.outputs}
    return {name: value.numpy().astype(dtypes[name]) for name, value in outputs.items()}


def favourite(choice: Choice) -> tuple[str, float]:
    """Return the candidate of the largest softmax weight and its odds, as a logarithm; of equal alphas the first.

    The odds against it are the sum of ``exp((alpha_k - alpha) / temperature)`` over all others.
    """
    alphas = [float(value) for value in choice.alpha.detach()]
    temperature = float(choice.temperature)
    best = -1
    for index, candidate in enumerate(choice.candidates.values()):
        if not isinstance(candidate, Nothing) and (best < 0 or alphas[index] > alphas[best]):
            best = index
    others = sorted(alphas[:best] + alphas[best + 1 :])
    log_against = -math.inf
    for alpha in others:
        log_against = float(np.logaddexp(log_against, (alpha - alphas[best]) / temperature))
    return list(choice.candidates)[best], -log_against


def cell_answer(cell: SearchCell, before: Array, last: Array) -> Array:
    """Evaluate a cell with two edges a node, those of the largest odds; of equal ones those of lower states."""
    states = [evaluate(entry, x) for entry, x in zip(cell.entries.values(), (before, last), strict=True)]
    edges = list(cell.edges)
    for node in range(cell.nodes):
        incoming = []
        for source in range(2 + node):
            edge = edges.pop(0)
            assert isinstance(edge, Choice)
            name, log_odds = favourite(edge)
            incoming.append((-log_odds, source, edge.candidates[name]))
        incoming.sort(key=lambda item: item[:2])
        answers = [evaluate(operator, states[source]) for _, source, operator in incoming[:2]]
        states.append(np.maximum(sum(answers[1:], answers[0]), 0.0))
    return np.concatenate(states[2:], axis=1)


def evaluate(layer: nn.Module, *inputs: Array) -> Array:
    """Return a layer's answer in eval mode, float64."""
    x = inputs[0]
    match layer:
        case nn.Sequential():
            for part in layer:
                x = evaluate(part, x)
            return x
        case nn.Identity():
            return x
        case nn.ReLU():
            return np.maximum(x, 0.0)
        case nn.Conv2d() if layer.padding_mode == "zeros" and layer.padding != "same":
            return _convolution(layer, x)
        case nn.BatchNorm2d() if layer.running_mean is not None and layer.running_var is not None:
            mean, variance = _array(layer.running_mean), _array(layer.running_var)
            y = (x - mean[:, None, None]) / np.sqrt(variance + layer.eps)[:, None, None]
            if layer.weight is not None:
                y = y * _array(layer.weight)[:, None, None]
            return y if layer.bias is None else y + _array(layer.bias)[:, None, None]
        case nn.MaxPool2d() if layer.dilation == 1 and not layer.ceil_mode and not layer.return_indices:
            return _pool(layer, x, np.max)
        case nn.AvgPool2d() if not layer.ceil_mode and not layer.count_include_pad and layer.divisor_override is None:
            return _pool(layer, x, np.mean)
    twin = copy.deepcopy(layer).double().eval()
    with torch.no_grad():
        answer: Array = twin(*(torch.from_numpy(value) for value in inputs)).numpy()
    return answer


def _convolution(layer: nn.Conv2d, x: Array) -> Array:
    """Convolve, one number of the answer after the other."""
    weight = _array(layer.weight)
    bias = np.zeros(len(weight)) if layer.bias is None else _array(layer.bias)
    down, right = (0, 0) if isinstance(layer.padding, str) else layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (down, down), (right, right)))
    kernel, stride, gap = weight.shape[2:], layer.stride, layer.dilation
    height, width = (
        (padded.shape[2 + axis] - gap[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1 for axis in (0, 1)
    )
    inputs = weight.shape[1]  # of one group
    outputs = len(weight) // layer.groups
    y = np.empty((len(x), len(weight), height, width))
    for channel in range(len(weight)):
        group = padded[:, channel // outputs * inputs :][:, :inputs]
        for i in range(height):
            for j in range(width):
                top, left = i * stride[0], j * stride[1]
                rows = slice(top, top + gap[0] * (kernel[0] - 1) + 1, gap[0])
                columns = slice(left, left + gap[1] * (kernel[1] - 1) + 1, gap[1])
                y[:, channel, i, j] = (group[:, :, rows, columns] * weight[channel]).sum(axis=(1, 2, 3)) + bias[channel]
    return y


def _pool(layer: nn.MaxPool2d | nn.AvgPool2d, x: Array, reduce: Any) -> Array:
    """Pool over what of each window lies inside the image."""
    size, padding = _pair(layer.kernel_size), _pair(layer.padding)
    stride = size if layer.stride is None else _pair(layer.stride)
    height, width = ((x.shape[2 + axis] + 2 * padding[axis] - size[axis]) // stride[axis] + 1 for axis in (0, 1))
    y = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
            window = x[:, :, max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
            y[:, :, i, j] = reduce(window, axis=(2, 3))
    return y


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


class _InNumpy(nn.Module):
    """A function of numpy arrays in the place of a layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        arrays = (tensor.numpy() for tensor in inputs)
        return torch.from_numpy(np.ascontiguousarray(self.function(*arrays)))
