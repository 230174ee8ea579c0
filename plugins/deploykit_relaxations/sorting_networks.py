"""Sorting networks with soft swaps beside their hard twins: sorted values, permutation matrices, ranks.

A network is a tuple of layers; a layer is a tuple of wire pairs ``(low, high)`` that do not touch each other. A swap
puts the smaller value on ``low``. A soft swap of ``a`` (on ``low``) and ``b`` mixes them:

    alpha = f(steepness * (b - a)),  low = alpha a + (1 - alpha) b,  high = (1 - alpha) a + alpha b

so ``alpha`` is how sure it is that ``a`` is the smaller. Wires without a partner in a layer stay.

Convention: ``sorted = x @ P``, as in the authors' package ``diffsort``. Row i of P says to which places item i goes,
column j from which items place j comes; P is doubly stochastic, because every layer is.

Source: Petersen et al. 2022, "Monotonic Differentiable Sorting Networks"; networks and ``logistic_phi`` are those of
Petersen et al. 2021, "Differentiable Sorting Networks for Scalable Sorting and Ranking Supervision". Steepness is
scaled as in ``diffsort``.
"""

from __future__ import annotations

import functools
import math
from typing import Final, Literal

import torch
from torch import Tensor

NetworkKind = Literal["odd-even", "bitonic"]
SwapKind = Literal["logistic", "logistic_phi", "cauchy", "reciprocal", "optimal"]
Layers = tuple[tuple[tuple[int, int], ...], ...]

_PHI: Final = 0.25
_TINY: Final = 1e-10


def swap_probability(difference: Tensor, steepness: float = 10.0, kind: SwapKind = "cauchy") -> Tensor:
    """Return how sure a soft swap is that its first value is the smaller one; 1/2 for a tie.

    With ``v = steepness * difference``: ``logistic`` is ``sigmoid(v)``; ``logistic_phi`` the same of
    ``v / |difference| ** 0.25``, steeper near a tie; ``cauchy`` is ``atan(v) / pi + 1/2``; ``reciprocal`` is
    ``v / (2 (2 + |v|)) + 1/2``; ``optimal`` is ``v + 1/2`` up to ``|v| = 1/4`` and beyond it ``1 - 1 / (16 v)`` and its
    mirror image.
    The last three make every output of a swap monotonic in its inputs; the logistic ones do not.

    The hard twin is ``difference >= 0``, the limit for infinite steepness except at the tie itself.

    Shapes:
        difference: any, floating point, second value minus first; the result has its shape and dtype.

    Args:
        steepness: 1 / units of the values, > 0.

    Raises:
        ValueError: no swap of that kind.

    >>> difference = torch.tensor([-0.1, 0.0, 0.05], requires_grad=True)
    >>> alpha = swap_probability(difference, steepness=10.0, kind="optimal")
    >>> alpha.detach()
    tensor([0.0625, 0.5000, 0.8750])
    >>> alpha.sum().backward()
    >>> difference.grad
    tensor([ 0.6250, 10.0000,  2.5000])
    """
    v = steepness * difference
    match kind:
        case "logistic":
            return torch.sigmoid(v)
        case "logistic_phi":
            return torch.sigmoid(v / (difference.abs() + _TINY) ** _PHI)
        case "cauchy":
            return torch.atan(v) / math.pi + 0.5
        case "reciprocal":
            return v / (2 * (2 + v.abs())) + 0.5
        case "optimal":
            # The clamp keeps the branch that is not taken from dividing by zero, which would poison the gradient.
            tail = 1 / (16 * v.abs().clamp_min(0.25))
            return torch.where(v.abs() <= 0.25, v + 0.5, torch.where(v > 0, 1 - tail, tail))
    raise ValueError(f"no soft swap {kind!r}; there are: logistic, logistic_phi, cauchy, reciprocal, optimal")


@functools.cache
def network_layers(items: int, kind: NetworkKind = "odd-even") -> Layers:
    """Return the layers of a sorting network: n for odd-even, about ``log2(n)^2 / 2`` for bitonic.

    The bitonic network is written with every swap upwards: a merge first compares each wire with its mirror image. For
    a power of two that is the usual network up to the names of its inner wires, and gives the same P. For other sizes
    the highest wires and their swaps are left out, as if they held plus infinity (``diffsort`` leaves out the lowest
    ones, so its P is another one there).

    Raises:
        ValueError: fewer than two items, or no network of that kind.

    >>> network_layers(4)
    (((0, 1), (2, 3)), ((1, 2),), ((0, 1), (2, 3)), ((1, 2),))
    >>> network_layers(3, "bitonic")
    (((0, 1),), ((1, 2),), ((0, 1),))
    """
    if items < 2:
        raise ValueError(f"a sorting network needs at least two items, got {items}")
    match kind:
        case "odd-even":
            return tuple(tuple((low, low + 1) for low in range(layer % 2, items - 1, 2)) for layer in range(items))
        case "bitonic":
            return _bitonic_layers(items)
    raise ValueError(f"no sorting network {kind!r}; there are: odd-even, bitonic")


def soft_sort(
    x: Tensor, network: NetworkKind = "odd-even", steepness: float = 10.0, swap: SwapKind = "cauchy"
) -> tuple[Tensor, Tensor]:
    """Sort each row through a network of soft swaps; the hard twins are :func:`network_sort` and :func:`hard_sort`.

    Without ties the distance to them falls with ``1 / (steepness * smallest gap)``, faster for logistic kinds. Equal
    values never harden: their swap stays at 1/2 however steep it is, or near it where an earlier swap with another
    value has moved one of them by some ``1 / steepness``.

    Shapes:
        x: (..., n), floating point, n >= 2.
        returns: sorted values (..., n), ascending in the limit; P (..., n, n) with ``sorted = x @ P``.

    Raises:
        ValueError: n < 2, or no such network or swap.

    >>> x = torch.tensor([[3.0, 1.0]], requires_grad=True)
    >>> values, permutation = soft_sort(x, steepness=1.0, swap="reciprocal")
    >>> values.detach(), permutation.detach()
    (tensor([[1.5000, 2.5000]]), tensor([[[0.2500, 0.7500],
             [0.7500, 0.2500]]]))
    >>> permutation[0, 0, 1].backward()
    >>> x.grad
    tensor([[ 0.0625, -0.0625]])
    """
    items = x.shape[-1]
    permutation = torch.eye(items, dtype=x.dtype, device=x.device).expand(*x.shape, items)
    for layer in network_layers(items, network):
        partner, sign = _wiring(layer, items, x)
        other = x[..., partner]
        # Both wires of a swap see b - a; a wire that stays sees its own value and mixes it with itself.
        swapped = 1 - swap_probability(sign * (other - x), steepness, swap)
        x = x + swapped * (other - x)
        permutation = permutation + swapped.unsqueeze(-2) * (permutation[..., partner] - permutation)
    return x, permutation


def network_sort(x: Tensor, network: NetworkKind = "odd-even") -> tuple[Tensor, Tensor]:
    """Sort each row through the same network with hard swaps, which leave ties alone; no gradient.

    The odd-even network compares neighbours only, so its order is the stable one. A bitonic network compares distant
    wires: equal items may come out in any order, the values are the same.

    Shapes:
        x: (..., n), n >= 2.
        returns: sorted values (..., n); order (..., n), int64: the item at each place.

    Raises:
        ValueError: n < 2, or no such network.

    >>> network_sort(torch.tensor([2.0, 1.0, 1.0]))
    (tensor([1., 1., 2.]), tensor([1, 2, 0]))
    """
    x = x.detach()
    items = x.shape[-1]
    order = torch.arange(items, device=x.device).expand(x.shape)
    for layer in network_layers(items, network):
        partner, sign = _wiring(layer, items, x)
        other = x[..., partner]
        swapped = torch.where(sign > 0, other < x, (other > x) & (sign < 0))
        x = torch.where(swapped, other, x)
        order = torch.where(swapped, order[..., partner], order)
    return x, order


def hard_sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row for real and stably: what a soft sort becomes.

    Shapes:
        x: (..., n).
        returns: sorted values (..., n); order (..., n), int64: the item at each place, of equal ones the first first.

    >>> x = torch.tensor([2.0, 1.0, 1.0], requires_grad=True)
    >>> values, order = hard_sort(x)
    >>> values.detach(), order
    (tensor([1., 1., 2.]), tensor([1, 2, 0]))
    >>> values[2].backward()
    >>> x.grad
    tensor([1., 0., 0.])
    """
    found = torch.sort(x, dim=-1, stable=True)
    return found.values, found.indices


def soft_ranks(permutation: Tensor) -> Tensor:
    """Return the mean place of every item, from 0 to n - 1; the hard twin is :func:`hard_ranks`.

    Shapes:
        permutation: (..., n, n), in this module's convention.
        returns: (..., n).

    >>> permutation = torch.tensor([[0.25, 0.75], [0.75, 0.25]], requires_grad=True)
    >>> ranks = soft_ranks(permutation)
    >>> ranks.detach()
    tensor([0.7500, 0.2500])
    >>> ranks[0].backward()
    >>> permutation.grad
    tensor([[0., 1.],
            [0., 0.]])
    """
    places = torch.arange(permutation.shape[-1], dtype=permutation.dtype, device=permutation.device)
    return permutation @ places


def hard_ranks(order: Tensor) -> Tensor:
    """Return the place of every item, the inverse of an order.

    Shapes:
        order: (..., n), int64, a permutation of 0 to n - 1 in each row.
        returns: the same shape and dtype.

    >>> hard_ranks(torch.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    # Sorting a permutation inverts it, and needs no operator that the sort did not need.
    return torch.sort(order, dim=-1, stable=True).indices


def _bitonic_layers(items: int) -> Layers:
    wires = 1 << (items - 1).bit_length()
    layers: list[tuple[tuple[int, int], ...]] = []
    size = 2
    while size <= wires:
        starts = range(0, wires, size)
        layers.append(tuple((start + i, start + size - 1 - i) for start in starts for i in range(size // 2)))
        half = size // 4
        while half:
            layers.append(tuple((low, low + half) for low in range(wires) if not low & half))
            half //= 2
        size *= 2
    kept = (tuple((low, high) for low, high in layer if high < items) for layer in layers)
    return tuple(layer for layer in kept if layer)


def _wiring(layer: tuple[tuple[int, int], ...], items: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return each wire's partner, itself if it stays, and its sign: 1 for low, -1 for high, 0 for wires that stay."""
    partner, sign = list(range(items)), [0.0] * items
    for low, high in layer:
        partner[low], partner[high] = high, low
        sign[low], sign[high] = 1.0, -1.0
    return torch.tensor(partner, device=like.device), torch.tensor(sign, dtype=like.dtype, device=like.device)
