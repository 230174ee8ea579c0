"""One bit, relaxed to a probability, beside the hard bit; every element is a choice of its own.

A bit is 1 where its logit is at least 0 (0 and -0 count as 1), in every form. Noise is always an argument.

Source: Maddison et al. 2017 (arXiv 1611.00712), appendix B, the binary Concrete distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deploykit_relaxations.straight_through import straight_through


def hard_bit(logits: Tensor) -> Tensor:
    """Return 1 where ``logits >= 0`` and 0 elsewhere: the hard twin of every sigmoid in this module.

    Shapes:
        logits: any shape, without NaN; the result has its shape and dtype and carries no gradient.

    >>> hard_bit(torch.tensor([-1.0, 0.0, -0.0, 2.0]))
    tensor([0., 1., 1., 1.])
    """
    return (logits.detach() >= 0).to(logits.dtype)


def tempered_sigmoid(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``sigmoid(logits / temperature)``; the limit for temperature 0 without ties is :func:`hard_bit`.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype.

    Args:
        temperature: > 0, in units of the logits; a tensor must broadcast against them and is not checked.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> probability = tempered_sigmoid(logits, temperature=0.5)
    >>> probability.detach()
    tensor([0.5000, 0.8808])
    >>> probability.sum().backward()
    >>> logits.grad
    tensor([0.5000, 0.2100])
    """
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature:g}; for the limit 0 use the hard twin")
    return torch.sigmoid(logits / temperature)


def logistic_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return standard logistic noise, always finite: the difference of two independent Gumbel variables.

    Shapes:
        returns: ``shape``, torch's default dtype, on the generator's device; mean 0, variance pi^2 / 3.

    >>> noise = logistic_noise((100_000,), torch.Generator().manual_seed(0))
    >>> abs(round(noise.mean().item(), 1)), round(noise.var().item(), 1)
    (0.0, 3.3)
    """
    # log(E1 / E2) of two standard exponentials is standard logistic; in float64 neither is ever an exact 0.
    exponential = torch.empty((2, *shape), dtype=torch.float64, device=generator.device)
    logarithm = exponential.exponential_(generator=generator).log_()
    return (logarithm[0] - logarithm[1]).to(torch.get_default_dtype())


def gumbel_sigmoid(logits: Tensor, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a relaxed sample of a bit that is 1 with probability ``sigmoid(logits)``.

    It is ``sigmoid((logits + noise) / temperature)``, with the limit ``hard_bit(logits + noise)`` for temperature 0;
    what is deployed is ``hard_bit(logits)``, the more probable bit.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype.
        noise: broadcastable to ``logits``, from :func:`logistic_noise`.

    Args:
        temperature: > 0, in units of the logits.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> sample = gumbel_sigmoid(logits, temperature=1.0, noise=torch.tensor([1.0, -3.0]))
    >>> sample.detach()
    tensor([0.7311, 0.1192])
    >>> sample.sum().backward()
    >>> logits.grad
    tensor([0.1966, 0.1050])
    """
    return tempered_sigmoid(logits + noise, temperature)


def gumbel_sigmoid_straight_through(logits: Tensor, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a sampled bit, exactly 0 or 1, with the gradient of :func:`gumbel_sigmoid`.

    Shapes:
        logits: any shape, floating point; the result has its shape and dtype and equals ``hard_bit(logits + noise)``.
        noise: broadcastable to ``logits``, from :func:`logistic_noise`.

    Args:
        temperature: > 0, in units of the logits.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> sample = gumbel_sigmoid_straight_through(logits, temperature=1.0, noise=torch.tensor([1.0, -3.0]))
    >>> sample.detach()
    tensor([1., 0.])
    >>> sample.sum().backward()
    >>> logits.grad
    tensor([0.1966, 0.1050])
    """
    return straight_through(hard_bit(logits + noise), gumbel_sigmoid(logits, temperature, noise))
