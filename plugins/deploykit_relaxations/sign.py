"""Signs with a useful gradient, beside their hard twins.

A sign here is never zero: 0 and -0 count as +1, since one bit has no third value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def hard_sign(x: Tensor) -> Tensor:
    """Return +1 where ``x >= 0`` and -1 elsewhere: the hard twin of every function in this module.

    Shapes:
        x: any shape, any float or integer dtype.
        returns: the same shape and dtype.

    >>> hard_sign(torch.tensor([-2.0, -0.0, 0.0, 0.5]))
    tensor([-1.,  1.,  1.,  1.])
    """
    return torch.where(x >= 0, 1, -1).to(x.dtype)


def periodic_sign(w: Tensor, frequency: float) -> Tensor:
    """Return the sign of ``sin(frequency * w)``, computed in float64: the hard twin of :func:`binarize_periodic`.

    Shapes:
        w: any shape, floating point.
        returns: the same shape and dtype, values -1 and +1.

    Args:
        frequency: radians a unit of ``w``.

    >>> periodic_sign(torch.tensor([-0.1, 0.0, 0.1, 0.2]), frequency=20.0)
    tensor([-1.,  1.,  1., -1.])
    """
    # In float32 the sine of two libraries differs around its zeros; in float64 no float32 weight comes that close.
    return hard_sign(torch.sin(w.double() * frequency)).to(w.dtype)


class _TriangleSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return hard_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = (2.0 - 2.0 * x.abs()).clamp_min(0.0)
        return grad_outputs[0] * slope


class _PeriodicSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, frequency: float) -> Tensor:
        ctx.save_for_backward(w)
        ctx.frequency = frequency
        return periodic_sign(w, frequency)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (w,) = ctx.saved_tensors
        frequency: float = ctx.frequency
        return grad_outputs[0] * frequency * torch.cos(frequency * w), None


class _RoundStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


def sign_triangle(x: Tensor) -> Tensor:
    """Return :func:`hard_sign` with the gradient ``max(0, 2 - 2|x|)``.

    The surrogate is the derivative of the piecewise quadratic that joins -1 and +1 (Liu et al. 2018, "Bi-Real Net",
    section 3.3; used by Vargas et al. 2024, "BiPer").

    Shapes:
        x: any shape, floating point.
        returns: the same shape and dtype, values -1 and +1.

    >>> x = torch.tensor([-2.0, -0.5, 0.0, 0.25], requires_grad=True)
    >>> value = sign_triangle(x)
    >>> value.detach()
    tensor([-1., -1.,  1.,  1.])
    >>> value.sum().backward()
    >>> x.grad
    tensor([0.0000, 1.0000, 2.0000, 1.5000])
    """
    value: Tensor = _TriangleSign.apply(x)  # type: ignore[no-untyped-call]
    return value


def binarize_periodic(w: Tensor, frequency: float) -> Tensor:
    """Return :func:`periodic_sign` with the gradient of ``sin(frequency * w)``.

    Source: Vargas et al. 2024, "BiPer", section 3.2; the paper's sign of zero is 0, ours is +1.

    Shapes:
        w: any shape, floating point.
        returns: the same shape and dtype, values -1 and +1.

    >>> w = torch.tensor([-0.1, 0.0], requires_grad=True)
    >>> value = binarize_periodic(w, frequency=20.0)
    >>> value.detach()
    tensor([-1.,  1.])
    >>> value.sum().backward()
    >>> w.grad
    tensor([-8.3229, 20.0000])
    """
    value: Tensor = _PeriodicSign.apply(w, frequency)  # type: ignore[no-untyped-call]
    return value


def round_straight_through(x: Tensor) -> Tensor:
    """Return ``x`` rounded half to even, with gradient one; its hard twin is :func:`torch.round`.

    Shapes:
        x: any shape, floating point.
        returns: the same shape and dtype.

    >>> x = torch.tensor([0.5, 1.5], requires_grad=True)
    >>> value = round_straight_through(x)
    >>> value.detach()
    tensor([0., 2.])
    >>> value.sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """
    value: Tensor = _RoundStraightThrough.apply(x)  # type: ignore[no-untyped-call]
    return value
