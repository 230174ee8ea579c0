"""Torch operators of a hard binary network: exact on integers, translated to ONNX by :mod:`onnx_lowering`.

Bits travel as eight-bit integers in one of two codes, told apart by their dtype: uint8 {0, 2} with zero point 1 (fast
in ONNX Runtime) and int8 {-1, +1} with zero point 0 (what TensorRT takes). ``zero`` is the zero point of ``x``, so the
operators compute with ``x - zero``, and padding counts as real zero. Weights are int8, biases int32; sums below 2**22
are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def code_of(dtype: torch.dtype) -> tuple[int, int]:
    """Return how -1 and +1 are written in a dtype: ``(0, 2)`` in uint8, ``(-1, 1)`` in int8."""
    return (0, 2) if dtype == torch.uint8 else (-1, 1)


def _bits(truth: Tensor, dtype: torch.dtype) -> Tensor:
    low, high = code_of(dtype)
    return torch.where(truth, high, low).to(dtype)


def _convolve(x: Tensor, weight: Tensor, zero: int, window: list[int], groups: int) -> Tensor:
    # float64 holds these sums exactly; torch has no integer convolution that is fast enough to be of use.
    stride, padding, dilation = window[0:2], window[2:4], window[4:6]
    return F.conv2d(x.double() - zero, weight.double(), None, stride, padding, dilation, groups)


def _convolved_shape(x: Tensor, weight: Tensor, window: list[int]) -> list[int]:
    sizes = [
        (x.shape[2 + axis] + 2 * window[2 + axis] - window[4 + axis] * (weight.shape[2 + axis] - 1) - 1) // window[axis]
        + 1
        for axis in (0, 1)
    ]
    return [x.shape[0], weight.shape[0], *sizes]


@torch.library.custom_op("deploykit::quantize_input", mutates_args=())
def quantize_input(x: Tensor, step: float, signed: bool, unsigned_code: bool) -> Tensor:
    """Round to ``x / step``, half to even, within 0..127, or -128..127 if ``signed``.

    Returns:
        int8, or with ``unsigned_code`` uint8 with zero point 128 if ``signed``, else 0.
    """
    levels = torch.round(x / torch.tensor(step, dtype=torch.float32)).clamp(-128 if signed else 0, 127)
    if unsigned_code:
        return (levels + (128 if signed else 0)).to(torch.uint8)
    return levels.to(torch.int8)


@quantize_input.register_fake
def _(x: Tensor, step: float, signed: bool, unsigned_code: bool) -> Tensor:
    return torch.empty_like(x, dtype=torch.uint8 if unsigned_code else torch.int8)


@torch.library.custom_op("deploykit::sign_bits", mutates_args=())
def sign_bits(x: Tensor, unsigned_code: bool) -> Tensor:
    """Return the bits of a float tensor: set where ``x >= 0``, so for 0 and -0 too."""
    return _bits(x >= 0, torch.uint8 if unsigned_code else torch.int8)


@sign_bits.register_fake
def _(x: Tensor, unsigned_code: bool) -> Tensor:
    return torch.empty_like(x, dtype=torch.uint8 if unsigned_code else torch.int8)


@torch.library.custom_op("deploykit::conv2d_bits", mutates_args=())
def conv2d_bits(x: Tensor, weight: Tensor, bias: Tensor, zero: int, window: list[int], groups: int) -> Tensor:
    """Return the bits of ``conv2d(x - zero, weight) + bias >= 0``, in the code of ``x``'s dtype.

    Shapes:
        x: (batch, in, height, width), uint8 or int8.
        weight: (out, in / groups, kernel height, kernel width), int8.
        bias: (out,), int32.

    Args:
        window: stride, padding and dilation, height before width: six numbers.
    """
    sums = _convolve(x, weight, zero, window, groups) + bias.double()[:, None, None]
    return _bits(sums >= 0, x.dtype)


@conv2d_bits.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, zero: int, window: list[int], groups: int) -> Tensor:
    return x.new_empty(_convolved_shape(x, weight, window))


@torch.library.custom_op("deploykit::conv2d_sums", mutates_args=())
def conv2d_sums(x: Tensor, weight: Tensor, zero: int, window: list[int], groups: int) -> Tensor:
    """Return ``conv2d(x - zero, weight)`` as float32; arguments as for :func:`conv2d_bits`."""
    return _convolve(x, weight, zero, window, groups).float()


@conv2d_sums.register_fake
def _(x: Tensor, weight: Tensor, zero: int, window: list[int], groups: int) -> Tensor:
    return x.new_empty(_convolved_shape(x, weight, window), dtype=torch.float32)


@torch.library.custom_op("deploykit::linear_bits", mutates_args=())
def linear_bits(x: Tensor, weight: Tensor, bias: Tensor, zero: int) -> Tensor:
    """Return the bits of ``(x - zero) @ weight + bias >= 0``, in the code of ``x``'s dtype.

    Shapes:
        x: (..., in), uint8 or int8.
        weight: (in, out), int8: the transpose of ``nn.Linear``'s, as ONNX wants it.
        bias: (out,), int32.
    """
    return _bits((x.double() - zero) @ weight.double() + bias.double() >= 0, x.dtype)


@linear_bits.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, zero: int) -> Tensor:
    return x.new_empty([*x.shape[:-1], weight.shape[1]])


@torch.library.custom_op("deploykit::linear_sums", mutates_args=())
def linear_sums(x: Tensor, weight: Tensor, zero: int) -> Tensor:
    """Return ``(x - zero) @ weight`` as float32; arguments as for :func:`linear_bits`."""
    return ((x.double() - zero) @ weight.double()).float()


@linear_sums.register_fake
def _(x: Tensor, weight: Tensor, zero: int) -> Tensor:
    return x.new_empty([*x.shape[:-1], weight.shape[1]], dtype=torch.float32)


@torch.library.custom_op("deploykit::max_pool2d_bits", mutates_args=())
def max_pool2d_bits(x: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    """Return the largest bit of each window; padding never wins. Shapes as ``torch.max_pool2d``."""
    return F.max_pool2d(x.float(), kernel, stride, padding).to(x.dtype)


@max_pool2d_bits.register_fake
def _(x: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    sizes = [(x.shape[2 + axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1)]
    return x.new_empty([x.shape[0], x.shape[1], *sizes])
