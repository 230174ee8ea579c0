"""The straight-through estimator: a hard value forward, a soft gradient backward."""

from __future__ import annotations

import torch
from torch import Tensor


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return ``hard``, with the gradient of ``soft``.

    The value is exactly ``hard``: what is added is ``soft - soft``, which is 0. (The usual spelling ``soft + (hard -
    soft)`` is off by a rounding error where the two are far apart.) The hard twin is the argument ``hard`` itself.

    Shapes:
        hard: any shape and dtype (bits may be boolean or integer); gets no gradient.
        soft: the same shape, floating point and finite: an infinite value would give NaN.
        returns: the same shape, ``soft``'s dtype.

    Raises:
        ValueError: the shapes differ; broadcasting here is nearly always a missing axis.

    Source: Bengio et al. 2013 (arXiv 1308.3432), section 4.

    >>> logits = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> bits = straight_through(logits >= 0, torch.sigmoid(logits))
    >>> bits.detach()
    tensor([0., 1.])
    >>> bits.sum().backward()
    >>> logits.grad
    tensor([0.1966, 0.1050])
    """
    if hard.shape != soft.shape:
        raise ValueError(
            f"straight_through: hard has shape {tuple(hard.shape)} and soft {tuple(soft.shape)}; "
            "they must be the same shape, so expand one of them first"
        )
    return hard.detach().to(soft.dtype) + (soft - soft.detach())


def clipped_straight_through(hard: Tensor, soft: Tensor, bound: float = 1.0) -> Tensor:
    """Return ``hard``, with the gradient of ``soft`` where ``|soft| <= bound`` and none elsewhere.

    A weight that is already far on its side then stays put, instead of drifting further at every step. The hard twin
    is the argument ``hard`` itself.

    Shapes:
        hard: any shape and dtype; gets no gradient.
        soft: the same shape, floating point and finite.
        returns: the same shape, ``soft``'s dtype.

    Args:
        bound: > 0, in units of ``soft``.

    Raises:
        ValueError: the shapes differ.

    Source: Courbariaux et al. 2016 (arXiv 1602.02830), section 1.3, where the bound is 1.

    >>> weight = torch.tensor([-3.0, -0.5, 1.0], requires_grad=True)
    >>> sign = clipped_straight_through(torch.where(weight >= 0, 1, -1), weight)
    >>> sign.detach()
    tensor([-1., -1.,  1.])
    >>> sign.sum().backward()
    >>> weight.grad
    tensor([0., 1., 1.])
    """
    return straight_through(hard, torch.clamp(soft, -bound, bound))
