"""SoftSort: a relaxed permutation from a softmax a place, beside the hard permutation; over the last axis, ascending.

Simpler than :mod:`~deploykit_relaxations.sorting_networks` and of one softmax's depth, but not doubly stochastic. The
convention is the same, ``sorted = x @ P``; the paper multiplies from the left and sorts descending.

Source: Prillo and Eisenschlos 2020, "SoftSort: A continuous relaxation for the argsort operator" (arXiv 2006.16038).
"""

from __future__ import annotations

import torch
from torch import Tensor

from deploykit_relaxations.categorical import tempered_softmax


def hard_permutation(x: Tensor) -> Tensor:
    """Return the permutation matrix that sorts, of equal items the first first: the hard twin of SoftSort.

    Shapes:
        x: (..., n), without NaN.
        returns: P, (..., n, n), the same dtype, with ``sorted = x @ P``; no gradient.

    >>> hard_permutation(torch.tensor([2.0, 3.0, 1.0]))
    tensor([[0., 1., 0.],
            [0., 0., 1.],
            [1., 0., 0.]])
    """
    # Each item's place by counting: a stable sort that needs no sort, hence no tie rule of a runtime's.
    n = x.shape[-1]
    mine, other = x.detach()[..., :, None], x.detach()[..., None, :]
    earlier = torch.ones(n, n, dtype=torch.bool, device=x.device).tril(-1)
    place = ((other < mine) | ((other == mine) & earlier)).sum(-1)
    return (place[..., None] == torch.arange(n, device=x.device)).to(x.dtype)


def softmax_permutation(x: Tensor, temperature: float | Tensor) -> Tensor:
    """Return a relaxed permutation: place j takes item i as far as ``x_i`` is close to the j-th smallest value.

    Column j of P is ``softmax(-|x - sorted_j| / temperature)``. Columns sum to 1, rows only in the limit for
    temperature 0 without ties, which is :func:`hard_permutation`. Without ties the largest entry of each column is in
    the right place at any temperature.

    Shapes:
        x: (..., n), floating point.
        returns: P, (..., n, n), the same dtype; ``x @ P`` is softly sorted.

    Args:
        temperature: > 0, in units of the values; a tensor must be a scalar and is not checked.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> x = torch.tensor([3.0, 1.0], requires_grad=True)
    >>> permutation = softmax_permutation(x, temperature=1.0)
    >>> permutation.detach()
    tensor([[0.1192, 0.8808],
            [0.8808, 0.1192]])
    >>> permutation[0, 1].backward()
    >>> x.grad
    tensor([ 0.1050, -0.1050])
    """
    ordered = torch.sort(x, dim=-1).values
    return tempered_softmax(-(ordered[..., :, None] - x[..., None, :]).abs(), temperature).transpose(-1, -2)
