"""Slow, obvious reference of layers in blocks of four bits: numpy, one weight at a time, float64 from then on."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.outputs import named_outputs
from deploykit.signature import Arrays, Signature
from deploykit_quantized.block_layers import FakeQuantizedLinear, put

_LARGEST = 7


def oracle_answers(soft: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> Arrays:
    """Run the model in float64 with every layer in blocks replaced by what :func:`rounded_weight` leaves of it."""
    rounded = {
        path: rounded_weight(layer.weight.numpy(), layer.block)[1] for path, layer in _layers(soft).items()
    }  # fmt: skip
    twin = copy.deepcopy(soft).eval().double()
    for path, layer in _layers(twin).items():
        bias = None if layer.bias is None else layer.bias.numpy()
        put(twin, path, _OracleLayer(rounded[path], bias))
    doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    outputs = named_outputs(twin(*doubled), signature)
    dtypes = {spec.name: spec.dtype for spec in signature.outputs}
    return {name: value.numpy().astype(dtypes[name]) for name, value in outputs.items()}


def rounded_weight(weight: NDArray[np.float32], block: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a layer's codes and what they stand for, both (out, in), from its latent weights.

    Scales are float32, as a file holds them.
    """
    codes = np.zeros(weight.shape, np.int64)
    values = np.zeros(weight.shape, np.float64)
    features_out, features_in = weight.shape
    for row in range(features_out):
        for start in range(0, features_in, block):
            columns = range(start, min(start + block, features_in))
            largest = max(abs(float(weight[row, column])) for column in columns)
            scale = float(np.float32(largest) / np.float32(_LARGEST)) or 1.0
            for column in columns:
                code = round(float(weight[row, column]) / scale)  # half to even, as Python rounds
                codes[row, column] = min(max(code, -_LARGEST), _LARGEST)
                values[row, column] = codes[row, column] * scale
    return codes, values


def _layers(form: nn.Module) -> dict[str, FakeQuantizedLinear]:
    found = form.named_modules(remove_duplicate=False)
    return {path: module for path, module in found if isinstance(module, FakeQuantizedLinear)}


class _OracleLayer(nn.Module):
    def __init__(self, weight: NDArray[np.float64], bias: NDArray[Any] | None) -> None:
        super().__init__()
        self.matrix = weight
        self.offset = np.zeros(len(weight)) if bias is None else bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() @ self.matrix.T + self.offset)
