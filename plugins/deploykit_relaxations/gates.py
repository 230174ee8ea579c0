"""A gate that is open or shut in the forward pass and has a useful slope in the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor


def step_gate(weight: Tensor) -> Tensor:
    """Return 1 where ``weight`` is positive and 0 elsewhere: the hard twin of :func:`trainable_gate`.

    Shapes:
        weight: any shape, floating point; the result has its shape and dtype and carries no gradient.

    >>> step_gate(torch.tensor([-0.2, 0.0, 0.3]))
    tensor([0., 0., 1.])
    """
    return (weight.detach() > 0).to(weight.dtype)


def trainable_gate(weight: Tensor, slope: float = 1.0, sawtooth: float = 1e5) -> Tensor:
    """Return the step plus a tiny sawtooth whose derivative is ``slope`` almost everywhere.

    ``b_M(w) = 1[w > 0] + s_M(w) * slope`` with ``s_M(w) = (M w - floor(M w)) / M``. Value: at most ``slope / M`` above
    :func:`step_gate`, never below. Derivative: ``slope``, because ``floor`` has none; this is ordinary
    differentiation, not a straight-through estimator.

    In float32 the teeth are coarse where ``|M w|`` nears ``2 ** 24`` and vanish beyond; the derivative stays.

    Args:
        weight: any shape, floating point.
        slope: the derivative wanted. The paper allows a function of ``w``; here it is a constant, and not negative,
            so that the gate never is.
        sawtooth: M, the number of teeth per unit of ``w``.

    Raises:
        ValueError: ``slope`` is negative or ``sawtooth`` not positive.

    Source: Kim et al. 2020 (arXiv 1904.10921), the trainable gate function.

    >>> weight = torch.tensor([-0.2, 0.3], requires_grad=True)
    >>> gate = trainable_gate(weight, slope=2.0)
    >>> [round(value, 3) for value in gate.tolist()]
    [0.0, 1.0]
    >>> gate.sum().backward()
    >>> [round(value, 3) for value in weight.grad.tolist()]
    [2.0, 2.0]
    """
    if slope < 0 or sawtooth <= 0:
        raise ValueError(f"slope must be at least 0 and sawtooth above 0, got {slope:g} and {sawtooth:g}")
    scaled = sawtooth * weight
    return step_gate(weight) + slope * ((scaled - torch.floor(scaled)) / sawtooth)
