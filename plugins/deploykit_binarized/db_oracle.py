"""The detector's probability map computed in numpy, float64, straight from the soft form's parameters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit_binarized.db_network import SmallBackbone, SoftDetector

Array = NDArray[np.float64]


def probability_oracle(soft: SoftDetector, image: NDArray[Any]) -> NDArray[np.float32]:
    """Return P for levels 0 to 255, [batch, 3, height, width].

    Our own layers are computed here. A backbone of the user's own can hold anything, so it is evaluated by torch in
    float64; everything after it is computed here.
    """
    pixels = image.astype(np.float64) / 127.5 - 1.0
    maps = _backbone(soft.backbone, pixels)
    merged = _merged(soft, maps)
    return (1.0 / (1.0 + np.exp(-_apply(soft.probability_head.layers, merged)))).astype(np.float32)


def _backbone(backbone: nn.Module, pixels: Array) -> list[Array]:
    if not isinstance(backbone, SmallBackbone):
        with torch.no_grad():
            returned = copy.deepcopy(backbone).eval().double()(torch.from_numpy(pixels))
        return [tensor.numpy() for tensor in returned]
    x = _apply(backbone.stem, pixels)
    maps = []
    for stage in backbone.stages:
        x = _apply(stage, x)
        maps.append(x)
    return maps


def _merged(soft: SoftDetector, maps: list[Array]) -> Array:
    laterals = [_apply(layer, level) for layer, level in zip(soft.pyramid.lateral, maps, strict=True)]
    for index in range(len(maps) - 2, -1, -1):
        laterals[index] = laterals[index] + _enlarged(laterals[index + 1], 2)
    smooth = [_apply(layer, level) for layer, level in zip(soft.pyramid.smooth, laterals, strict=True)]
    return np.concatenate([_enlarged(smooth[index], 2**index) for index in range(len(maps) - 1, -1, -1)], axis=1)


def _apply(module: nn.Module, x: Array) -> Array:
    match module:
        case nn.Sequential():
            for child in module:
                x = _apply(child, x)
            return x
        case nn.Conv2d():
            return _convolution(x, _numbers(module.weight), module.bias, module.stride[0], int(module.padding[0]))
        case nn.ConvTranspose2d():
            return _transposed(x, _numbers(module.weight), module.bias)
        case nn.BatchNorm2d(running_mean=Tensor() as mean, running_var=Tensor() as variance):
            scale = _numbers(module.weight) / np.sqrt(_numbers(variance) + module.eps)
            shift = _numbers(module.bias) - _numbers(mean) * scale
            return x * scale[:, None, None] + shift[:, None, None]
        case nn.ReLU():
            return np.maximum(x, 0.0)
    raise TypeError(f"the oracle knows no {type(module).__name__}")


def _convolution(x: Array, weight: Array, bias: Tensor | None, stride: int, padding: int) -> Array:
    """Slide windows over the padded maps and contract them with the kernels."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    result: Array = np.einsum("bihwkl,oikl->bohw", windows, weight, optimize=True)
    return result if bias is None else result + _numbers(bias)[:, None, None]


def _transposed(x: Array, weight: Array, bias: Tensor | None) -> Array:
    """Spread each pixel over its own 2 x 2 patch; kernel 2 and stride 2, so patches do not overlap."""
    batch, _, height, width = x.shape
    patches = np.einsum("bihw,iokl->bohkwl", x, weight, optimize=True)
    result: Array = patches.reshape(batch, weight.shape[1], 2 * height, 2 * width)
    return result if bias is None else result + _numbers(bias)[:, None, None]


def _enlarged(x: Array, times: int) -> Array:
    return x.repeat(times, axis=2).repeat(times, axis=3)


def _numbers(tensor: Tensor) -> Array:
    numbers: Array = tensor.detach().double().numpy()
    return numbers
