"""Symmetric uniform quantisers with a straight-through gradient, beside their hard twins: codes, scales, packed bytes.

Where scales apply is said as ONNX's ``DequantizeLinear`` says it (operator set 21):

==========  =============  ===============================================================================
``axis``    ``block``      scales
==========  =============  ===============================================================================
``None``    ``None``       one for the tensor, shape ()
an axis     ``None``       one for each index along it, shape (size,)
an axis     B > 0          one for each B neighbours along it: the tensor's shape, with ceil(size / B) there
==========  =============  ===============================================================================

A last block that is short has the scale of the elements it holds, which is also what padding with zeros gives. Codes
lie in -(2^(bits-1) - 1) .. 2^(bits-1) - 1: the lowest number of two's complement is not used, so that -w has the code
of w with the other sign.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def symmetric_scales(w: Tensor, *, bits: int = 4, axis: int | None = None, block: int | None = None) -> Tensor:
    """Return the steps that send the largest magnitude of each group to the largest code: max|w| / (2^(bits-1) - 1).

    A group without a number other than zero gets 1, since TensorRT takes no scale that is not above 0. No gradient.

    Shapes:
        w: any, floating point.
        returns: see the module's table; the dtype of ``w``.

    Args:
        bits: from 2 to 8.

    Raises:
        ValueError: bits out of range, a block without an axis or below 1, or no such axis.

    >>> w = torch.tensor([[7.0, -3.5, 0.0, 0.0, 1.4], [0.7, 0.1, 14.0, -2.0, 0.7]])
    >>> symmetric_scales(w)
    tensor(2.)
    >>> symmetric_scales(w, axis=0)
    tensor([1., 2.])
    >>> symmetric_scales(w, axis=1, block=2)
    tensor([[1.0000, 1.0000, 0.2000],
            [0.1000, 2.0000, 0.1000]])
    """
    largest = _largest_code(bits)
    magnitude = w.detach().abs()
    if (place := _placed(w, axis, block)) is None:
        groups = magnitude.max() if magnitude.numel() else magnitude.new_zeros(())
    elif block is None:
        groups = magnitude.movedim(place, 0).flatten(1).amax(1)
    else:
        short = -w.shape[place] % block
        rows = magnitude.movedim(place, -1)
        rows = torch.nn.functional.pad(rows, (0, short))
        groups = rows.reshape(*rows.shape[:-1], -1, block).amax(-1).movedim(-1, place)
    scales = groups / largest
    return scales.masked_fill(scales == 0, 1.0)


def symmetric_codes(
    w: Tensor, scales: Tensor, *, bits: int = 4, axis: int | None = None, block: int | None = None
) -> Tensor:
    """Return the integers that stand for ``w``: the hard twin of :func:`fake_quantize`, with :func:`dequantize`.

    That is w / scale, rounded half to even and kept within the codes' range. It is divided in float64, so that two
    libraries do not round a tie differently.

    Shapes:
        w: any, floating point.
        scales: see the module's table.
        returns: the shape of ``w``, int8. No gradient.

    >>> w = torch.tensor([-9.0, -0.5, 0.5, 1.5, 2.6, 40.0])
    >>> symmetric_codes(w, torch.tensor(1.0))
    tensor([-7,  0,  0,  2,  3,  7], dtype=torch.int8)
    """
    largest = _largest_code(bits)
    steps = _steps(w, scales, axis, block)
    return torch.round(steps).clamp(-largest, largest).to(torch.int8)


def dequantize(codes: Tensor, scales: Tensor, *, axis: int | None = None, block: int | None = None) -> Tensor:
    """Return codes x scales in the dtype of the scales, as ONNX's ``DequantizeLinear`` without a zero point does.

    Shapes:
        codes: any, integers.
        scales: see the module's table.

    >>> codes = torch.tensor([[7, -4, 1], [0, 1, -7]], dtype=torch.int8)
    >>> dequantize(codes, torch.tensor([[0.5, 2.0], [1.0, 0.5]]), axis=1, block=2)
    tensor([[ 3.5000, -2.0000,  2.0000],
            [ 0.0000,  1.0000, -3.5000]])
    """
    return codes.to(scales.dtype) * _spread(scales, codes, axis, block)


def fake_quantize(
    w: Tensor,
    scales: Tensor | None = None,
    *,
    bits: int = 4,
    axis: int | None = None,
    block: int | None = None,
) -> Tensor:
    """Return what remains of ``w`` after rounding to few bits, with the gradient of the identity.

    The value is ``dequantize(symmetric_codes(w, scales), scales)``, bit for bit. The gradient is 1 where the rounded
    number is a code and 0 where it was cut off, as in PyTorch's own fake quantisers; with scales from the weights
    themselves nothing is cut off. Scales are constants to the gradient.

    Shapes:
        w: any, floating point.
        scales: see the module's table; by default :func:`symmetric_scales` of ``w``.
        returns: the shape and dtype of ``w``.

    Source: straight-through estimator of Bengio et al. 2013; blocks as in ONNX operator set 21.

    >>> w = torch.tensor([7.0, 2.4, -0.5, -9.0], requires_grad=True)
    >>> value = fake_quantize(w, torch.tensor(1.0))
    >>> value.detach()
    tensor([ 7.,  2.,  0., -7.])
    >>> value.sum().backward()
    >>> w.grad
    tensor([1., 1., 1., 0.])
    >>> fake_quantize(torch.tensor([0.2, 1.4, 0.3, 0.1]), axis=0, block=2)
    tensor([0.2000, 1.4000, 0.3000, 0.0857])
    """
    if scales is None:
        scales = symmetric_scales(w, bits=bits, axis=axis, block=block)
    value: Tensor = _FakeQuantize.apply(w, scales.detach(), bits, axis, block)  # type: ignore[no-untyped-call]
    return value


def rounding_margin(
    w: Tensor, scales: Tensor, *, bits: int = 4, axis: int | None = None, block: int | None = None
) -> Tensor:
    """Return how far each number is from getting another code, in steps: from 0 at a tie to 0.5 on a code.

    Beyond the outermost code, where nothing else can come, it is the distance to the last tie.

    Shapes:
        as for :func:`symmetric_codes`; the result is float64.

    >>> rounding_margin(torch.tensor([1.0, 1.4, 1.5, -9.0]), torch.tensor(1.0)).round(decimals=3)
    tensor([0.5000, 0.1000, 0.0000, 2.5000], dtype=torch.float64)
    """
    steps = _steps(w, scales, axis, block)
    largest = _largest_code(bits)
    between = 0.5 - (steps - torch.round(steps)).abs()
    return torch.where(steps.abs() > largest, steps.abs() - (largest - 0.5), between)


def pack_int4(codes: Tensor) -> Tensor:
    """Return four-bit codes two a byte, the first in the low half, in row-major order; an odd tail is padded with zero.

    That is how ONNX and TensorRT lay out INT4.

    Shapes:
        codes: any, integers from -8 to 7.
        returns: (ceil(count / 2),), uint8.

    Raises:
        ValueError: a code needs more than four bits.

    >>> [f"{byte:02x}" for byte in pack_int4(torch.tensor([1, -2, 7])).tolist()]
    ['e1', '07']
    """
    flat = codes.detach().flatten().to(torch.int16)
    if flat.numel() and (int(flat.min()) < -8 or int(flat.max()) > 7):
        raise ValueError(f"four bits hold -8 to 7, got codes from {int(flat.min())} to {int(flat.max())}")
    nibbles = torch.nn.functional.pad(flat & 15, (0, flat.numel() % 2)).view(-1, 2)
    return (nibbles[:, 0] | (nibbles[:, 1] << 4)).to(torch.uint8)


def unpack_int4(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the codes that :func:`pack_int4` packed, as int8 of the given shape.

    Raises:
        ValueError: the bytes are not as many as the shape needs.

    >>> unpack_int4(torch.tensor([0xE1, 0x07], dtype=torch.uint8), (3,))
    tensor([ 1, -2,  7], dtype=torch.int8)
    """
    count = math.prod(shape)
    if packed.numel() != -(-count // 2):
        raise ValueError(f"codes of shape {tuple(shape)} take {-(-count // 2)} bytes, got {packed.numel()}")
    low, high = packed.flatten() & 15, packed.flatten() >> 4
    nibbles = torch.stack((low, high), dim=1).flatten()[:count].to(torch.int8)
    return torch.where(nibbles > 7, nibbles - 16, nibbles).view(shape)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, scales: Tensor, bits: int, axis: int | None, block: int | None) -> Tensor:
        codes = symmetric_codes(w, scales, bits=bits, axis=axis, block=block)
        ctx.save_for_backward(torch.round(_steps(w, scales, axis, block)).abs() <= _largest_code(bits))
        return dequantize(codes, scales, axis=axis, block=block)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grad_outputs[0] * inside, None, None, None, None


def _largest_code(bits: int) -> int:
    if not 2 <= bits <= 8:
        raise ValueError(f"a symmetric quantiser has 2 to 8 bits, got {bits}")
    return int(2 ** (bits - 1)) - 1


def _placed(w: Tensor, axis: int | None, block: int | None) -> int | None:
    if axis is None:
        if block is not None:
            raise ValueError(f"a block of {block} needs the axis it runs along")
        return None
    if not -w.ndim <= axis < w.ndim:
        raise ValueError(f"a tensor of {w.ndim} dimensions has no axis {axis}")
    if block is not None and block < 1:
        raise ValueError(f"a block holds at least 1 element, got {block}")
    return axis % w.ndim


def _spread(scales: Tensor, like: Tensor, axis: int | None, block: int | None) -> Tensor:
    """Return the scale of each element, in a shape that broadcasts to ``like``."""
    if (place := _placed(like, axis, block)) is None:
        wanted: tuple[int, ...] = ()
    elif block is None:
        wanted = (like.shape[place],)
    else:
        wanted = (*like.shape[:place], -(-like.shape[place] // block), *like.shape[place + 1 :])
    if tuple(scales.shape) != wanted:
        raise ValueError(f"scales have shape {tuple(scales.shape)}; wanted {wanted} for {tuple(like.shape)}")
    if place is None:
        return scales
    if block is None:
        return scales.view(-1, *[1] * (like.ndim - place - 1))
    return scales.repeat_interleave(block, place).narrow(place, 0, like.shape[place])


def _steps(w: Tensor, scales: Tensor, axis: int | None, block: int | None) -> Tensor:
    return w.detach().double() / _spread(scales, w, axis, block).double()
