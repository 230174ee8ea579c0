"""Probabilities with exact zeros: sparsemax and its relatives, over the last axis.

They are the maximisers of ``p . z + H_alpha(p)`` over probabilities p, with the Tsallis entropy of order alpha: 1 is
softmax, 1.5 :func:`entmax15`, 2 :func:`sparsemax`. In contrast to softmax they reach their hard twin
:func:`~deploykit_relaxations.categorical.hard_one_hot` without a limit: exactly, as soon as the best logit leads by
``1 / (alpha - 1)``. Divide the logits by a temperature to sharpen. Minus infinity masks a choice out, as with softmax.

Source: Martins and Astudillo 2016 (arXiv 1602.02068), algorithm 1; Peters et al. 2019 (arXiv 1905.05702).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def support_mask(probabilities: Tensor) -> Tensor:
    """Return 1 where a probability is above 0: which choices stay if their weights are made even.

    Shapes:
        probabilities: (..., n), from a function of this module; the result has its shape and dtype and no gradient.

    >>> support_mask(sparsemax(torch.tensor([0.5, 1.0, -1.0])))
    tensor([1., 1., 0.])
    """
    return (probabilities.detach() > 0).to(probabilities.dtype)


def sparsemax(logits: Tensor) -> Tensor:
    """Return the Euclidean projection of the logits onto the probability simplex.

    Shapes:
        logits: (..., n), floating point; each row has a finite maximum.
        returns: (..., n), the same dtype, rows sum to 1. Exactly one-hot where the best logit leads by 1.

    >>> logits = torch.tensor([0.5, 1.0, -1.0], requires_grad=True)
    >>> probabilities = sparsemax(logits)
    >>> probabilities.detach()
    tensor([0.2500, 0.7500, 0.0000])
    >>> probabilities[0].backward()
    >>> logits.grad
    tensor([ 0.5000, -0.5000,  0.0000])
    """
    x = _below_maximum(logits)
    ordered = torch.sort(x.detach(), dim=-1, descending=True).values
    size = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    sums = torch.cumsum(ordered, dim=-1)
    last = (1 + size * ordered > sums).sum(-1, keepdim=True)
    support = (x.detach() > (sums.gather(-1, last - 1) - 1) / last).to(x.dtype)
    # Once more with the support known: shorter sums, and a gradient that is exact.
    threshold = ((support * x).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return support * torch.relu(x - threshold)


def entmax15(logits: Tensor) -> Tensor:
    """Return the sparse probabilities of order 1.5, halfway between softmax and :func:`sparsemax`.

    Shapes:
        logits: (..., n), floating point; each row has a finite maximum.
        returns: (..., n), the same dtype, rows sum to 1. Exactly one-hot where the best logit leads by 2.

    Source: Peters et al. 2019, algorithm 2.

    >>> logits = torch.tensor([0.0, 1.0, -2.0], requires_grad=True)
    >>> probabilities = entmax15(logits)
    >>> probabilities.detach()
    tensor([0.1693, 0.8307, 0.0000])
    >>> probabilities[0].backward()
    >>> logits.grad
    tensor([ 0.2835, -0.2835,  0.0000])
    """
    x = _below_maximum(logits / 2)
    ordered = torch.sort(x.detach(), dim=-1, descending=True).values
    size = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    means = torch.cumsum(ordered, dim=-1) / size
    spreads = torch.cumsum(ordered * ordered, dim=-1) - size * means * means
    thresholds = means - torch.sqrt(torch.relu(1 - spreads) / size)
    last = (thresholds <= ordered).sum(-1, keepdim=True)
    support = (x.detach() > thresholds.gather(-1, last - 1)).to(x.dtype)
    count = support.sum(-1, keepdim=True)
    mean = (support * x).sum(-1, keepdim=True) / count
    spread = (support * (x - mean) ** 2).sum(-1, keepdim=True)
    # The spread of the support stays below 1, hence the root has a finite slope.
    threshold = mean - torch.sqrt((1 - spread) / count)
    return support * torch.relu(x - threshold) ** 2


def entmax_bisect(logits: Tensor, alpha: float, iterations: int = 50) -> Tensor:
    """Return the sparse probabilities of any order above 1, with the threshold found by bisection.

    No sorting, so it also exports for rows longer than a runtime's TopK allows. ``alpha`` gets no gradient.

    Shapes:
        logits: (..., n), floating point; each row has a finite maximum.
        returns: (..., n), the same dtype, rows sum to 1. Exactly one-hot where the best logit leads by
            ``1 / (alpha - 1)``.

    Args:
        alpha: > 1; 2 is :func:`sparsemax`, 1.5 :func:`entmax15`.
        iterations: halvings of the interval for the threshold, which starts less than 1 long; 25 suffice in float32.

    Raises:
        ValueError: ``alpha`` is not above 1.

    Source: Peters et al. 2019, algorithm 1; the gradient is that of its proposition 2.

    >>> logits = torch.tensor([0.0, 1.0, -2.0], requires_grad=True)
    >>> probabilities = entmax_bisect(logits, alpha=1.25)
    >>> probabilities.detach()
    tensor([0.2242, 0.7745, 0.0013])
    >>> probabilities[0].backward()
    >>> logits.grad
    tensor([ 0.2342, -0.2323, -0.0019])
    """
    if not alpha > 1:
        raise ValueError(f"entmax_bisect: alpha must be above 1, got {alpha:g}; for 1 use tempered_softmax")
    probabilities: Tensor = _Entmax.apply(logits, alpha, iterations)  # type: ignore[no-untyped-call]
    return probabilities


class _Entmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, alpha: float, iterations: int) -> Tensor:
        x = _below_maximum((alpha - 1) * logits)
        power = 1 / (alpha - 1)
        # At -1 the best choice alone already has probability 1; at the upper end all together have at most 1.
        low = torch.full_like(x[..., :1], -1.0)
        high = torch.full_like(low, -(x.shape[-1] ** (1 - alpha)))
        for _ in range(iterations):
            middle = (low + high) / 2
            enough = (torch.relu(x - middle) ** power).sum(-1, keepdim=True) >= 1
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        probabilities = torch.relu(x - low) ** power
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        ctx.save_for_backward(probabilities)
        ctx.alpha = alpha
        return probabilities

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (probabilities,) = ctx.saved_tensors
        inside = probabilities > 0
        # p ** (2 - alpha) on the support; the 1 keeps a negative power, and its slope, away from 0.
        slopes = torch.where(inside, torch.where(inside, probabilities, 1.0) ** (2 - ctx.alpha), 0.0)
        mean = (slopes * grad_outputs[0]).sum(-1, keepdim=True) / slopes.sum(-1, keepdim=True)
        return slopes * (grad_outputs[0] - mean), None, None


def _below_maximum(x: Tensor) -> Tensor:
    """Return each row less its maximum, cut at -2: no threshold lies below -1, so what is cut has probability 0."""
    # The probabilities do not depend on the shift, so it needs no gradient.
    return torch.clamp_min(x - x.detach().amax(-1, keepdim=True), -2.0)
