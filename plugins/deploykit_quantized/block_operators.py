"""The torch operator of a linear layer in blocks of four-bit codes; translated to ONNX by :mod:`onnx_lowering`."""

from __future__ import annotations

import torch
from torch import Tensor

from deploykit_relaxations.fake_quantizers import dequantize


@torch.library.custom_op("deploykit::linear_in_blocks", mutates_args=())
def linear_in_blocks(x: Tensor, codes: Tensor, scales: Tensor, block: int) -> Tensor:
    """Return ``x @ w.T`` for ``w = codes * scales``, with one scale for each block of inputs of each output.

    Shapes:
        x: (..., in), float32.
        codes: (out, in), int8, from -8 to 7.
        scales: (out, ceil(in / block)), float32; the last block of a row may be short.
        returns: (..., out), float32.
    """
    return torch.nn.functional.linear(x, dequantize(codes, scales, axis=1, block=block))


@linear_in_blocks.register_fake
def _(x: Tensor, codes: Tensor, scales: Tensor, block: int) -> Tensor:
    return x.new_empty([*x.shape[:-1], codes.shape[0]])
