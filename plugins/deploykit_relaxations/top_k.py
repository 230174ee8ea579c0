"""The k best of n, relaxed to weights from 0 to 1 that sum to k, beside the hard selection; over the last axis.

A hard mask here always has exactly k ones, and ties go to the lowest index. A mask cut by value (``scores >= k-th
best``) keeps every member of a tie and breaks a promised budget.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deploykit_relaxations.categorical import hard_one_hot, tempered_softmax
from deploykit_relaxations.straight_through import straight_through


def hard_top_k(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the k largest scores, best first, the lower index first in a tie.

    Shapes:
        scores: (..., n), without NaN.
        returns: (..., k), int64.

    Raises:
        ValueError: k is not from 1 to n.

    >>> hard_top_k(torch.tensor([1.0, 2.0, 3.0, 2.0]), k=2)
    tensor([2, 1])
    """
    n = scores.shape[-1]
    mask = hard_top_k_mask(scores, k)
    # All values that matter are distinct: no runtime has a choice. Float32, because engines sort no integers.
    countdown = torch.arange(n, 0, -1, device=scores.device, dtype=torch.float32)
    places = torch.topk(countdown * mask.to(torch.float32), k).indices
    kept = scores.detach().gather(-1, places)
    mine, other = kept[..., :, None], kept[..., None, :]
    earlier = torch.ones(k, k, dtype=torch.bool, device=scores.device).tril(-1)
    beaten = (other > mine) | ((other == mine) & earlier)
    return places.gather(-1, torch.sort(beaten.sum(-1).to(torch.float32)).indices)


def hard_top_k_mask(scores: Tensor, k: int) -> Tensor:
    """Return 1 for the k largest scores and 0 elsewhere: the hard twin of every function in this module.

    Shapes:
        scores: (..., n), without NaN.
        returns: (..., n), the same dtype, exactly k ones a row; no gradient.

    Raises:
        ValueError: k is not from 1 to n.

    >>> hard_top_k_mask(torch.tensor([1.0, 2.0, 3.0, 2.0]), k=2)
    tensor([0., 1., 1., 0.])
    """
    _check_k("hard_top_k_mask", scores, k)
    scores = scores.detach()
    # Only the k-th value is asked for: which of equal elements a runtime's TopK lists is not its own to choose here
    # (torch.topk and TensorRT promise nothing about ties).
    kth = torch.topk(scores, k).values[..., -1:]
    better = scores > kth
    tied = scores == kth
    places_left = k - better.sum(-1, keepdim=True)
    return (better | (tied & (torch.cumsum(tied.to(torch.int64), dim=-1) <= places_left))).to(scores.dtype)


def capped_simplex_projection(scores: Tensor, k: int) -> Tensor:
    """Return the nearest weights from 0 to 1 that sum to k: ``clip(scores - tau, 0, 1)`` for the right ``tau``.

    Equal to :func:`hard_top_k_mask`, to the last bit, as soon as the k-th best score leads the next by 1; divide the
    scores by a temperature to sharpen. The weights of more than k elements can be above 0: count a budget with the
    hard mask. Minus infinity masks an element out while k finite ones remain.

    Shapes:
        scores: (..., n), floating point.
        returns: (..., n), the same dtype, from 0 to 1, rows sum to k. The gradient is exact: that of a projection onto
            the elements strictly between 0 and 1, and 0 where there are none.

    Raises:
        ValueError: k is not from 1 to n.

    Source: Lou et al. 2024 (arXiv 2406.16747), the operator SPARSEK; k = 1 is sparsemax.

    >>> scores = torch.tensor([2.0, 0.5, 0.25, -3.0], requires_grad=True)
    >>> weights = capped_simplex_projection(scores, k=2)
    >>> weights.detach()
    tensor([1.0000, 0.6250, 0.3750, 0.0000])
    >>> weights[1].backward()
    >>> scores.grad
    tensor([ 0.0000,  0.5000, -0.5000,  0.0000])
    """
    _check_k("capped_simplex_projection", scores, k)
    n = scores.shape[-1]
    ordered = torch.sort(scores.detach(), dim=-1, descending=True).values
    kth = ordered[..., k - 1 : k]
    following = ordered[..., k : k + 1] if k < n else torch.full_like(kth, -torch.inf)
    # With the k-th best at 0, tau lies between -1 and 0: what is cut away is 0 or 1 anyway. The weights do not depend
    # on the shift, so it needs no gradient.
    x = torch.clamp(scores - kth, -2.0, 2.0)
    above = x.detach() - _threshold(x.detach(), k)
    free = ((above > 0) & (above < 1)).to(x.dtype)
    full = (above >= 1).to(x.dtype)
    # Once more with the free elements known: shorter sums, and a gradient that is exact.
    count = free.sum(-1, keepdim=True)
    tau = ((free * x).sum(-1, keepdim=True) + full.sum(-1, keepdim=True) - k) / torch.clamp_min(count, 1.0)
    weights = full + free * torch.clamp(x - tau, 0.0, 1.0)
    return torch.where(kth - following >= 1, hard_top_k_mask(scores, k), weights)


def _threshold(x: Tensor, k: int) -> Tensor:
    """Return tau with ``clip(x - tau, 0, 1)`` summing to k, (..., 1), from the breakpoints of that sum."""
    # As tau falls, an element starts to grow at x and is full at x - 1; in between the sum is linear in tau.
    points, order = torch.sort(torch.cat((x, x - 1), dim=-1), dim=-1, descending=True)
    growing = torch.cumsum(torch.where(order < x.shape[-1], 1.0, -1.0).to(x.dtype), dim=-1)
    gains = growing[..., :-1] * (points[..., :-1] - points[..., 1:])
    sums = torch.cat((torch.zeros_like(points[..., :1]), torch.cumsum(gains, dim=-1)), dim=-1)
    last = torch.clamp_min((sums < k).sum(-1, keepdim=True) - 1, 0)
    rest = (k - sums.gather(-1, last)) / torch.clamp_min(growing.gather(-1, last), 1.0)
    return points.gather(-1, last) - rest


def capped_simplex_straight_through(scores: Tensor, k: int) -> Tensor:
    """Return :func:`hard_top_k_mask`, with the gradient of :func:`capped_simplex_projection`.

    Only the contested elements learn: a selection that leads by 1 has no gradient.

    Shapes:
        scores: (..., n), floating point.
        returns: (..., n), the same dtype, exactly k ones a row.

    Raises:
        ValueError: k is not from 1 to n.

    >>> scores = torch.tensor([2.0, 0.5, 0.25, -3.0], requires_grad=True)
    >>> mask = capped_simplex_straight_through(scores, k=2)
    >>> mask.detach()
    tensor([1., 1., 0., 0.])
    >>> mask[1].backward()
    >>> scores.grad
    tensor([ 0.0000,  0.5000, -0.5000,  0.0000])
    """
    return straight_through(hard_top_k_mask(scores, k), capped_simplex_projection(scores, k))


def gumbel_top_k(scores: Tensor, k: int, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a relaxed sample of k elements without replacement, as the sum of k softmaxes.

    Each softmax lowers what it has taken before the next one looks: ``a_j = softmax(s_j / temperature)``,
    ``s_(j+1) = s_j + log(1 - a_j)``. The limit for temperature 0 is ``hard_top_k_mask(scores + noise, k)``. With
    noise 0 it is a deterministic soft top-k, and ``hard_top_k_mask(scores, k)`` is what is deployed.

    Shapes:
        scores: (..., n), floating point; log-weights, if the noise is to sample in proportion to weights.
        noise: broadcastable to ``scores``, from :func:`~deploykit_relaxations.categorical.gumbel_noise`.
        returns: (..., n), the same dtype, at least 0, rows sum to k; a single weight can pass 1 at high temperature.

    Args:
        temperature: > 0, in units of the scores.

    Raises:
        ValueError: k is not from 1 to n, or the temperature is a number and not above 0.

    Source: Xie and Ermon 2019 (arXiv 1901.10517), section 3.

    >>> scores = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
    >>> weights = gumbel_top_k(scores, k=2, temperature=0.5, noise=torch.zeros(3))
    >>> weights.detach()
    tensor([0.9927, 0.8656, 0.1418])
    >>> weights[1].backward()
    >>> scores.grad
    tensor([ 0.0164,  0.2071, -0.2235])
    """
    _check_k("gumbel_top_k", scores, k)
    left = scores + noise
    total = torch.zeros_like(left)
    for taken in range(k):
        chosen = tempered_softmax(left, temperature)
        total = total + chosen
        if taken < k - 1:
            # 1 - chosen, but for the largest as the sum of the others: near 1 the difference is all rounding.
            largest = hard_one_hot(left)
            others = ((1 - largest) * chosen).sum(-1, keepdim=True)
            remaining = torch.where(largest > 0, others, 1 - chosen)
            # An element taken whole is out for good. The inner bound keeps the slope of the unused logarithm finite.
            logarithm = torch.log(torch.clamp_min(remaining, torch.finfo(left.dtype).tiny))
            left = left + torch.where(remaining > 0, logarithm, -torch.inf)
    return total


def gumbel_top_k_straight_through(scores: Tensor, k: int, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a sampled selection as an exact mask, with the gradient of :func:`gumbel_top_k`.

    Shapes:
        scores: (..., n), floating point.
        noise: broadcastable to ``scores``.
        returns: (..., n), the same dtype, equal to ``hard_top_k_mask(scores + noise, k)``.

    Args:
        temperature: > 0, in units of the scores.

    Raises:
        ValueError: k is not from 1 to n, or the temperature is a number and not above 0.

    >>> scores = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
    >>> mask = gumbel_top_k_straight_through(scores, k=2, temperature=0.5, noise=torch.tensor([0.0, 0.0, 1.5]))
    >>> mask.detach()
    tensor([1., 0., 1.])
    >>> mask[1].backward()
    >>> scores.grad
    tensor([-0.1329,  0.4157, -0.2827])
    """
    return straight_through(hard_top_k_mask(scores + noise, k), gumbel_top_k(scores, k, temperature, noise))


def _check_k(function: str, scores: Tensor, k: int) -> None:
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"{function}: k must be from 1 to the {scores.shape[-1]} elements of a row, got {k}")
