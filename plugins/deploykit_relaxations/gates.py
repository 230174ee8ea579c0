"""Gates, from 0 (shut) to 1 (open), with a useful slope, beside their hard twins.

:func:`trainable_gate` looks hard forward; :func:`smooth_step` and :func:`hard_concrete` reach 0 and 1 exactly at a
finite distance from their threshold. Noise is always an argument.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deploykit_relaxations.binary import tempered_sigmoid


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


def smooth_step(logits: Tensor, width: float = 1.0) -> Tensor:
    """Return a cubic step that is exactly 0 below ``-width / 2`` and exactly 1 above ``width / 2``.

    ``-2 t^3 / w^3 + 3 t / (2 w) + 1/2`` in between. Outside, the value is that of the hard twin
    :func:`~deploykit_relaxations.binary.hard_bit` and the gradient is 0; the limit for width 0 is the twin but at 0.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype.

    Args:
        width: > 0, in units of the logits.

    Raises:
        ValueError: the width is not above 0.

    Source: Hazimeh et al. 2021, "DSelect-k" (arXiv 2106.03760), section 3.

    >>> logits = torch.tensor([-0.6, 0.0, 0.25, 0.5], requires_grad=True)
    >>> gate = smooth_step(logits)
    >>> gate.detach()
    tensor([0.0000, 0.5000, 0.8438, 1.0000])
    >>> gate.sum().backward()
    >>> logits.grad
    tensor([0.0000, 1.5000, 1.1250, 0.0000])
    """
    if not width > 0:
        raise ValueError(f"smooth_step: width must be above 0, got {width:g}; for the limit 0 use hard_bit")
    t = torch.clamp(logits / width, -0.5, 0.5)
    return t * (1.5 - 2 * t * t) + 0.5


def binary_code_gate(bits: Tensor) -> Tensor:
    """Return the weight of each of 2^m codes: the product of b for every 1 in the code and 1 - b for every 0.

    With soft bits from :func:`smooth_step` this is the single-expert selector of DSelect-k; with hard bits it is the
    one-hot code of its hard twin :func:`binary_code`.

    Shapes:
        bits: (..., m), from 0 to 1; the first is the most significant.
        returns: (..., 2^m), the same dtype, rows sum to 1.

    Source: Hazimeh et al. 2021 (arXiv 2106.03760), section 3.

    >>> bits = torch.tensor([1.0, 0.25], requires_grad=True)
    >>> weights = binary_code_gate(bits)
    >>> weights.detach()
    tensor([0.0000, 0.0000, 0.7500, 0.2500])
    >>> weights[3].backward()
    >>> bits.grad
    tensor([0.2500, 1.0000])
    """
    weights = torch.ones_like(bits[..., :1])
    for place in range(bits.shape[-1]):
        bit = bits[..., place : place + 1]
        weights = torch.stack((weights * (1 - bit), weights * bit), dim=-1).flatten(-2)
    return weights


def binary_code(bits: Tensor) -> Tensor:
    """Return the number that the bits write, each rounded at 1/2 (upwards): the hard twin of :func:`binary_code_gate`.

    Shapes:
        bits: (..., m), from 0 to 1; the first is the most significant.
        returns: (...), int64, from 0 to 2^m - 1.

    >>> binary_code(torch.tensor([[1.0, 0.25], [0.0, 0.5]]))
    tensor([2, 1])
    """
    powers = 2 ** torch.arange(bits.shape[-1] - 1, -1, -1, device=bits.device)
    return ((bits.detach() >= 0.5) * powers).sum(-1)


def hard_concrete(
    logits: Tensor, noise: Tensor, temperature: float | Tensor = 2 / 3, low: float = -0.1, high: float = 1.1
) -> Tensor:
    """Return a gate sample that is exactly 0 or exactly 1 with positive probability: an L0 norm with a gradient.

    ``clip(sigmoid((logits + noise) / temperature) * (high - low) + low, 0, 1)``; the limit for temperature 0 is
    ``hard_bit(logits + noise)``. What is deployed is :func:`hard_concrete_gate`.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype. The paper's ``log alpha``.
        noise: broadcastable to ``logits``, from :func:`~deploykit_relaxations.binary.logistic_noise`; the paper's
            ``log u - log(1 - u)``.

    Args:
        temperature: > 0, in units of the logits; the paper's beta, and its value.
        low: < 0, the paper's gamma.
        high: > 1, the paper's zeta.

    Raises:
        ValueError: ``low`` or ``high`` out of range, or the temperature is a number and not above 0.

    Source: Louizos et al. 2018 (arXiv 1712.01312), equations 10 and 11.

    >>> logits = torch.tensor([-4.0, 0.0, 4.0], requires_grad=True)
    >>> gate = hard_concrete(logits, noise=torch.zeros(3))
    >>> gate.detach()
    tensor([0.0000, 0.5000, 1.0000])
    >>> gate.sum().backward()
    >>> logits.grad
    tensor([0.0000, 0.4500, 0.0000])
    """
    _check_stretch("hard_concrete", low, high)
    return torch.clamp(tempered_sigmoid(logits + noise, temperature) * (high - low) + low, 0.0, 1.0)


def hard_concrete_open(
    logits: Tensor, temperature: float | Tensor = 2 / 3, low: float = -0.1, high: float = 1.1
) -> Tensor:
    """Return the probability that :func:`hard_concrete` is not 0: its sum is the expected L0 norm, a penalty.

    The limit for temperature 0 is ``sigmoid(logits)``.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype.

    Args:
        temperature: > 0.
        low: < 0.
        high: > 1.

    Raises:
        ValueError: ``low`` or ``high`` out of range.

    Source: Louizos et al. 2018 (arXiv 1712.01312), equation 12.

    >>> logits = torch.tensor([0.0], requires_grad=True)
    >>> probability = hard_concrete_open(logits)
    >>> probability.detach()
    tensor([0.8318])
    >>> probability.sum().backward()
    >>> logits.grad
    tensor([0.1399])
    """
    _check_stretch("hard_concrete_open", low, high)
    return torch.sigmoid(logits - temperature * math.log(-low / high))


def hard_concrete_gate(logits: Tensor, low: float = -0.1, high: float = 1.1) -> Tensor:
    """Return the gate without noise, as it is deployed: the hard twin of :func:`hard_concrete`.

    ``clip(sigmoid(logits) * (high - low) + low, 0, 1)``. Exact zeros are removed and exact ones vanish; what is in
    between is a constant to fold into the weights it scales.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype and carries no gradient.

    Args:
        low: < 0.
        high: > 1.

    Raises:
        ValueError: ``low`` or ``high`` out of range.

    Source: Louizos et al. 2018 (arXiv 1712.01312), equation 13.

    >>> hard_concrete_gate(torch.tensor([-4.0, 0.0, 4.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    _check_stretch("hard_concrete_gate", low, high)
    return torch.clamp(torch.sigmoid(logits.detach()) * (high - low) + low, 0.0, 1.0)


def _check_stretch(function: str, low: float, high: float) -> None:
    if not (low < 0 and high > 1):
        raise ValueError(f"{function}: low must be below 0 and high above 1, got {low:g} and {high:g}")
