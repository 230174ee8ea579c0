"""ONNX for linear layers in blocks of four-bit codes; importing this module registers their operator.

Two writings of one layer. :func:`qdq` is standard ONNX: an INT4 tensor, two codes a byte, behind ``DequantizeLinear``
with a block size, which TensorRT and ONNX Runtime take. :func:`matmulnbits` is ONNX Runtime's own operator, which
unpacks the codes inside the matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxscript import opset21 as op
from onnxscript.values import Opset
from torch import Tensor

from deploykit_quantized import block_operators as _registers_operators
from deploykit_relaxations.fake_quantizers import pack_int4

__all__ = ["OPSET", "matmulnbits", "qdq"]

OPSET: Final = 21
"""The first operator set with INT4 and with ``DequantizeLinear`` in blocks; read by the exporting process."""

Table = dict[Any, Callable[..., Any]]
_MICROSOFT: Final = "com.microsoft"
_FLOAT32_SUMS: Final = 1


def qdq() -> Table:
    """Return the translation to ``DequantizeLinear``, ``Transpose`` and ``MatMul``.

    The codes are written as (out, in) and transposed once they are floats. Written the other way round, as
    ``DequantizeLinear`` with axis 0 straight into ``MatMul``, a session of ONNX Runtime with default settings fuses
    the two to ``MatMulNBits`` with accuracy level 4, which rounds the activations to eight bits.
    """
    return {_operator(): _dequantize_transpose_matmul}


def matmulnbits() -> Table:
    """Return the translation to ``com.microsoft.MatMulNBits`` with float32 sums (accuracy level 1), pinned."""
    _register_matmulnbits()
    return {_operator(): _matmulnbits}


def _operator() -> Any:
    assert _registers_operators is not None
    return torch.ops.deploykit.linear_in_blocks.default


def _dequantize_transpose_matmul(x: Any, codes: Any, scales: Any, block: int) -> Any:
    features_out, features_in = codes.shape
    whole = -(-features_in // block) * block
    four_bits = _constant_of(
        codes, lambda values: _int4(_in_whole_blocks(values, block)), ir.DataType.INT4, (features_out, whole)
    )
    weight = op.DequantizeLinear(four_bits, scales, axis=1, block_size=block)
    if whole != features_in:
        # ONNX lets the last block be short, TensorRT does not.
        first, last, axis = (op.Constant(value_ints=[number]) for number in (0, features_in, 1))
        weight = op.Slice(weight, first, last, axis)
    return op.MatMul(x, op.Transpose(weight, perm=[1, 0]))


def _matmulnbits(x: Any, codes: Any, scales: Any, block: int) -> Any:
    features_out, features_in = codes.shape
    blocks = -(-features_in // block)
    packed = _constant_of(
        codes, lambda values: _bytes_of_blocks(_in_whole_blocks(values, block), block), ir.DataType.UINT8,
        (features_out, blocks, block // 2),
    )  # fmt: skip
    return Opset(_MICROSOFT, 1).MatMulNBits(
        x, packed, scales, K=features_in, N=features_out, bits=4, block_size=block, accuracy_level=_FLOAT32_SUMS
    )


def _in_whole_blocks(codes: Tensor, block: int) -> Tensor:
    return torch.nn.functional.pad(codes, (0, -codes.shape[1] % block))


def _int4(codes: Tensor) -> ir.TensorProtocol:
    return ir.PackedTensor(pack_int4(codes).numpy(), ir.DataType.INT4, shape=ir.Shape(codes.shape))


def _bytes_of_blocks(codes: Tensor, block: int) -> ir.TensorProtocol:
    # Without a zero point of its own the operator takes 8 for zero, where DequantizeLinear takes 0. In four bits, 8
    # more is the highest bit turned.
    return ir.tensor((pack_int4(codes) ^ 0x88).view(len(codes), -1, block // 2).numpy())


def _constant_of(value: Any, make: Callable[[Tensor], ir.TensorProtocol], dtype: ir.DataType, shape: Any) -> Any:
    # torch gives a buffer its numbers only when the graph stands, so they are read when the file is written; the
    # buffer itself then has no user left, and goes.
    tensor = ir.LazyTensor(
        lambda: make(torch.from_numpy(np.array(value.const_value.numpy()))), dtype=dtype, shape=ir.Shape(shape),
        cache=True,
    )  # fmt: skip
    return op.Constant(value=tensor)


def _register_matmulnbits() -> None:
    # onnxscript calls no operator without a schema, and onnx knows none of ONNX Runtime's own.
    if onnx.defs.has("MatMulNBits", _MICROSOFT):
        return
    schema = onnx.defs.OpSchema
    integers = ("K", "N", "bits", "block_size", "accuracy_level")
    onnx.defs.register_schema(
        schema(
            "MatMulNBits", _MICROSOFT, 1,
            inputs=[schema.FormalParameter(name, kind) for name, kind in (("A", "T"), ("B", "TB"), ("scales", "T"))],
            outputs=[schema.FormalParameter("Y", "T")],
            type_constraints=[("T", ["tensor(float)"], "real numbers"), ("TB", ["tensor(uint8)"], "packed codes")],
            attributes=[schema.Attribute(name, schema.AttrType.INT, name, required=True) for name in integers],
        )
    )  # fmt: skip
