"""ONNX for the operators of a hard binary network; importing this module registers those operators.

Two writings of one integer network. :func:`qlinear` computes on uint8 activations x int8 weights, which ONNX Runtime
runs on integer instructions; :func:`qdq` puts ``DequantizeLinear`` before float operators, symmetric and with positive
scales, which is what TensorRT fuses to int8 kernels and what any runtime computes exactly in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20 as op

from deploykit_binarized import integer_operators as _registers_operators

__all__ = ["qdq", "qlinear"]

Table = dict[Any, Callable[..., Any]]
_FLOAT: Final = int(ir.DataType.FLOAT)
_INT32: Final = int(ir.DataType.INT32)


def qlinear() -> Table:
    """Return the translations for bits in uint8 {0, 2} with zero point 1; for ONNX Runtime."""
    return {
        _operator("quantize_input"): _quantize_unsigned,
        _operator("sign_bits"): _sign_bits_unsigned,
        _operator("conv2d_bits"): _qlinear_conv2d_bits,
        _operator("conv2d_sums"): _conv2d_sums,
        _operator("linear_bits"): _qlinear_linear_bits,
        _operator("linear_sums"): _qlinear_linear_sums,
        _operator("max_pool2d_bits"): _qlinear_max_pool2d_bits,
    }


def qdq() -> Table:
    """Return the translations for bits in int8 {-1, +1} with zero point 0; for TensorRT and any other runtime."""
    return {
        _operator("quantize_input"): _quantize_symmetric,
        _operator("sign_bits"): _sign_bits_symmetric,
        _operator("conv2d_bits"): _qdq_conv2d_bits,
        _operator("conv2d_sums"): _conv2d_sums,
        _operator("linear_bits"): _qdq_linear_bits,
        _operator("linear_sums"): _qdq_linear_sums,
        _operator("max_pool2d_bits"): _qdq_max_pool2d_bits,
    }


def _operator(name: str) -> Any:
    assert _registers_operators is not None
    return getattr(torch.ops.deploykit, name).default


def _constant(value: Any, dtype: Any) -> Any:
    return op.Constant(value=ir.tensor(np.asarray(value, dtype=dtype)))


def _dequantize(x: Any, zero: int, dtype: Any) -> Any:
    return op.DequantizeLinear(x, _constant(1.0, np.float32), _constant(zero, dtype))


def _geometry(window: Sequence[int], groups: int) -> dict[str, Any]:
    strides, pads, dilations = list(window[0:2]), list(window[2:4]), list(window[4:6])
    return {"strides": strides, "pads": pads * 2, "dilations": dilations, "group": groups}


# -- uint8 activations -------------------------------------------------------------------------------------------


def _quantize_unsigned(x: Any, step: float, signed: bool, unsigned_code: bool) -> Any:
    levels = op.QuantizeLinear(x, _constant(step, np.float32), _constant(128 if signed else 0, np.uint8))
    return levels if signed else op.Min(levels, _constant(127, np.uint8))


def _sign_bits_unsigned(x: Any, unsigned_code: bool) -> Any:
    return _unsigned_bits(op.GreaterOrEqual(x, _constant(0.0, np.float32)))


def _unsigned_bits(truth: Any) -> Any:
    return op.Where(truth, _constant(2, np.uint8), _constant(0, np.uint8))


def _qlinear_conv2d_bits(x: Any, weight: Any, bias: Any, zero: int, window: Sequence[int], groups: int) -> Any:
    # Output scale 1/2 and zero point 2 send v = sums + bias to 2 v + 2: below zero saturates at 0, from zero on it is
    # at least 2, and Min leaves 2. All of it is exact, so the requantisation of QLinearConv is the threshold.
    one, half = _constant(1.0, np.float32), _constant(0.5, np.float32)
    zero_point, weight_zero, two = _constant(zero, np.uint8), _constant(0, np.int8), _constant(2, np.uint8)
    levels = op.QLinearConv(
        x, one, zero_point, weight, one, weight_zero, half, two, bias, **_geometry(window, groups)
    )  # fmt: skip
    return op.Min(levels, two)


def _qlinear_sums(x: Any, weight: Any, zero: int) -> Any:
    return op.MatMulInteger(x, weight, _constant(zero, np.uint8))


def _qlinear_linear_bits(x: Any, weight: Any, bias: Any, zero: int) -> Any:
    sums = op.Add(_qlinear_sums(x, weight, zero), bias)
    return _unsigned_bits(op.GreaterOrEqual(sums, _constant(0, np.int32)))


def _qlinear_linear_sums(x: Any, weight: Any, zero: int) -> Any:
    return op.Cast(_qlinear_sums(x, weight, zero), to=_FLOAT)


def _qlinear_max_pool2d_bits(x: Any, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Any:
    # Pooling first and limiting to 2 afterwards gives the same bits; ONNX Runtime keeps channels last only for pools
    # right behind a convolution, and these are nine times faster.
    limit = x.producer()
    if limit is None or limit.op_type != "Min":
        return _max_pool2d_bits(x, kernel, stride, padding)
    return op.Min(_max_pool2d_bits(limit.inputs[0], kernel, stride, padding), _constant(2, np.uint8))


def _max_pool2d_bits(x: Any, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Any:
    pooled, _indices = op.MaxPool(x, kernel_shape=list(kernel), strides=list(stride), pads=list(padding) * 2)
    return pooled


def _conv2d_sums(x: Any, weight: Any, zero: int, window: Sequence[int], groups: int) -> Any:
    # ConvInteger is several times slower than float32 on CPUs, and float32 is exact here.
    floats = _shift_to_real(x, zero)
    return op.Conv(floats, _dequantize(weight, 0, np.int8), **_geometry(window, groups))


def _shift_to_real(x: Any, zero: int) -> Any:
    return _dequantize(x, zero, np.uint8 if x.dtype == ir.DataType.UINT8 else np.int8)


# -- int8 activations --------------------------------------------------------------------------------------------


def _quantize_symmetric(x: Any, step: float, signed: bool, unsigned_code: bool) -> Any:
    source = x if signed else op.Relu(x)
    return op.QuantizeLinear(source, _constant(step, np.float32), _constant(0, np.int8))


def _symmetric_bits(v: Any) -> Any:
    # v is never an integer, so Sign never gives 0.
    return op.QuantizeLinear(op.Sign(v), _constant(1.0, np.float32), _constant(0, np.int8))


def _sign_bits_symmetric(x: Any, unsigned_code: bool) -> Any:
    truth = op.GreaterOrEqual(x, _constant(0.0, np.float32))
    signs = op.Where(truth, _constant(1.0, np.float32), _constant(-1.0, np.float32))
    return op.QuantizeLinear(signs, _constant(1.0, np.float32), _constant(0, np.int8))


def _half_above(bias: Any) -> Any:
    return op.Add(op.Cast(bias, to=_FLOAT), _constant(0.5, np.float32))


def _qdq_conv2d_bits(x: Any, weight: Any, bias: Any, zero: int, window: Sequence[int], groups: int) -> Any:
    floats, weights = _dequantize(x, zero, np.int8), _dequantize(weight, 0, np.int8)
    return _symmetric_bits(op.Conv(floats, weights, _half_above(bias), **_geometry(window, groups)))


def _qdq_linear_bits(x: Any, weight: Any, bias: Any, zero: int) -> Any:
    return _symmetric_bits(op.Add(_qdq_linear_sums(x, weight, zero), _half_above(bias)))


def _qdq_linear_sums(x: Any, weight: Any, zero: int) -> Any:
    return op.MatMul(_dequantize(x, zero, np.int8), _dequantize(weight, 0, np.int8))


def _qdq_max_pool2d_bits(x: Any, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Any:
    pooled = _max_pool2d_bits(_dequantize(x, 0, np.int8), kernel, stride, padding)
    return op.QuantizeLinear(pooled, _constant(1.0, np.float32), _constant(0, np.int8))
