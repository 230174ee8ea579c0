"""One choice out of several, relaxed to probabilities, beside the hard choice; the choices lie on the last axis.

Ties go to the lowest index in every hard form. Noise is always an argument: a function that drew it itself could
neither be repeated nor exported.

Source: Jang et al. 2017 (arXiv 1611.01144) and Maddison et al. 2017 (arXiv 1611.00712).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deploykit_relaxations.straight_through import straight_through


def hard_choice(logits: Tensor) -> Tensor:
    """Return the index of the largest logit, the lowest one of a tie.

    Shapes:
        logits: (..., n), n >= 1, without NaN.
        returns: (...), int64, from 0 to n - 1.

    >>> hard_choice(torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]]))
    tensor([1, 0])
    """
    return torch.argmax(logits.detach(), dim=-1)


def hard_one_hot(logits: Tensor) -> Tensor:
    """Return 1 for :func:`hard_choice` and 0 elsewhere: the hard twin of every softmax in this module.

    Shapes:
        logits: (..., n), n >= 1, without NaN.
        returns: (..., n), the same dtype, exactly one 1 a row; no gradient.

    >>> hard_one_hot(torch.tensor([1.0, 3.0, 3.0]))
    tensor([0., 1., 0.])
    """
    places = torch.arange(logits.shape[-1], device=logits.device)
    return (places == hard_choice(logits)[..., None]).to(logits.dtype)


def tempered_softmax(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``softmax(logits / temperature)``; the limit for temperature 0 without ties is :func:`hard_one_hot`.

    The largest logit is taken away before dividing, so no temperature above 0 overflows.

    Shapes:
        logits: (..., n), floating point.
        returns: (..., n), the same dtype, rows sum to 1.

    Args:
        temperature: > 0, in units of the logits; a tensor must broadcast against them and is not checked.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> probabilities = tempered_softmax(logits, temperature=0.5)
    >>> probabilities.detach()
    tensor([0.1192, 0.8808])
    >>> probabilities[1].backward()
    >>> logits.grad
    tensor([-0.2100,  0.2100])
    """
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature:g}; for the limit 0 use the hard twin")
    # The probabilities do not depend on the shift, so it needs no gradient.
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return torch.softmax(shifted / temperature, dim=-1)


def gumbel_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise, always finite: adding it to logits and choosing samples from their softmax.

    Shapes:
        returns: ``shape``, torch's default dtype, on the generator's device; mean 0.577, variance 1.645.

    >>> generator = torch.Generator().manual_seed(0)
    >>> noise = gumbel_noise((100_000,), generator)
    >>> round(noise.mean().item(), 1), round(noise.var().item(), 1)
    (0.6, 1.6)
    """
    # -log of a standard exponential is standard Gumbel. In float64 an exact 0, hence an infinity, is out of reach.
    exponential = torch.empty(tuple(shape), dtype=torch.float64, device=generator.device)
    return exponential.exponential_(generator=generator).log_().neg_().to(torch.get_default_dtype())


def gumbel_softmax(logits: Tensor, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a relaxed sample of the softmax's category: ``softmax((logits + noise) / temperature)``.

    The limit for temperature 0 is ``hard_one_hot(logits + noise)``; what is deployed is ``hard_one_hot(logits)``,
    the same with noise 0, which is the most probable category.

    Shapes:
        logits: (..., n), floating point.
        noise: broadcastable to ``logits``, from :func:`gumbel_noise`.
        returns: (..., n), the same dtype, rows sum to 1.

    Args:
        temperature: > 0, in units of the logits.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> sample = gumbel_softmax(logits, temperature=1.0, noise=torch.tensor([1.5, 0.0]))
    >>> sample.detach()
    tensor([0.6225, 0.3775])
    >>> sample[0].backward()
    >>> logits.grad
    tensor([ 0.2350, -0.2350])
    """
    return tempered_softmax(logits + noise, temperature)


def gumbel_softmax_straight_through(logits: Tensor, temperature: float | Tensor, noise: Tensor) -> Tensor:
    """Return a sampled category as an exact one-hot code, with the gradient of :func:`gumbel_softmax`.

    With noise 0 it is the hard choice itself, with the gradient of :func:`tempered_softmax`.

    Shapes:
        logits: (..., n), floating point.
        noise: broadcastable to ``logits``, from :func:`gumbel_noise`.
        returns: (..., n), the same dtype, equal to ``hard_one_hot(logits + noise)``.

    Args:
        temperature: > 0, in units of the logits.

    Raises:
        ValueError: the temperature is a number and not above 0.

    >>> logits = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> sample = gumbel_softmax_straight_through(logits, temperature=1.0, noise=torch.tensor([1.5, 0.0]))
    >>> sample.detach()
    tensor([1., 0.])
    >>> sample[0].backward()
    >>> logits.grad
    tensor([ 0.2350, -0.2350])
    """
    return straight_through(hard_one_hot(logits + noise), gumbel_softmax(logits, temperature, noise))
