"""Scores to an assignment: softly by optimal transport with a dustbin, or hard, one partner or none."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deploykit_relaxations import mark_decision
from deploykit_relaxations.sinkhorn import log_sinkhorn, mutual_best, with_dustbins


@dataclass(frozen=True, slots=True)
class MaskPlaces:
    """At which places among the inputs the masks of the two images stand; ``None`` where all points are there."""

    a: int | None = None
    b: int | None = None

    def masks(self, inputs: tuple[Tensor, ...], scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return bool [batch, points of a] and [batch, points of b]."""
        return _mask(inputs, self.a, scores[:, :, 0]), _mask(inputs, self.b, scores[:, 0, :])


def _mask(inputs: tuple[Tensor, ...], place: int | None, like: Tensor) -> Tensor:
    return torch.ones_like(like, dtype=torch.bool) if place is None else inputs[place] != 0


class SoftMatcher(nn.Module):
    """A network's scores become a transport plan in which every point gives its whole mass to others or the dustbin.

    Attributes:
        dustbin: the score of having no partner; trained.
        log_scale: logarithm of what scores are multiplied with; trained.
    """

    def __init__(self, scorer: nn.Module, places: MaskPlaces, iterations: int, dustbin: float, scale: float) -> None:
        super().__init__()
        self.scorer = scorer
        self.places = places
        self.iterations = iterations
        self.dustbin = nn.Parameter(torch.tensor(dustbin))
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the plan without its dustbins: (batch, points of a, points of b), from 0 to 1."""
        return _inner(self.log_plan(*inputs))

    def log_plan(self, *inputs: Tensor, iterations: int | None = None) -> Tensor:
        """Return the plan's logarithm, dustbins last: (batch, points of a + 1, points of b + 1)."""
        return log_sinkhorn(*self.problem(*inputs), iterations=iterations or self.iterations)

    def problem(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores and logarithms of row and column sums, dustbins last."""
        scores = self.scorer(*inputs)
        return with_dustbins(scores * self.log_scale.exp(), self.dustbin, *self.places.masks(inputs, scores))


class HardMatcher(nn.Module):
    """Each point's partner or none: mutual best of the plan and above the threshold, marked as decision ``match``.

    The answer keeps the plan's shape and holds the plan's value at the matches and 0 elsewhere, so it is the matching
    and how sure it is of each match at the same time.
    """

    def __init__(self, soft: SoftMatcher, iterations: int, threshold: float) -> None:
        super().__init__()
        self.scorer = copy.deepcopy(soft.scorer)
        self.places = soft.places
        self.iterations = iterations
        self.threshold = threshold
        self.register_buffer("dustbin", soft.dustbin.detach().clone())
        self.register_buffer("scale", soft.log_scale.detach().exp())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the matching: (batch, points of a, points of b), from 0 to 1, one entry a row and column at most."""
        plan = self.plan(*inputs)
        match = mark_decision(mutual_best(plan, self.threshold), "match")
        columns = torch.arange(plan.shape[2], device=plan.device)
        return torch.where(match[:, :, None] == columns, plan, 0.0)

    def plan(self, *inputs: Tensor) -> Tensor:
        """Return what the decision is taken from."""
        scores = self.scorer(*inputs)
        masks = self.places.masks(inputs, scores)
        problem = with_dustbins(scores * self.get_buffer("scale"), self.get_buffer("dustbin"), *masks)
        return _inner(log_sinkhorn(*problem, iterations=self.iterations))


def _inner(log_plan: Tensor) -> Tensor:
    # Rounding can lift a sum of 1 over 1, which is outside of what the output may be.
    return log_plan[:, :-1, :-1].exp().clamp(max=1.0)


def matching_loss(log_plan: Tensor, partner_a: Tensor, partner_b: Tensor) -> Tensor:
    """Return minus the mean logarithm of the plan at true pairs, and at the dustbin for points without partner.

    Shapes:
        log_plan: (batch, a + 1, b + 1), dustbins last.
        partner_a: (batch, a), int64: index in b, -1 for none, below -1 for a point that does not count.
        partner_b: (batch, b), the same the other way round.
        returns: (), 0 if nothing counts.

    Source: Sarlin et al. 2020, equation 10, which sums over one pair of images; the mean over a batch is ours.
    """
    of_a = log_plan[:, :-1].gather(2, (partner_a % log_plan.shape[2])[:, :, None])[:, :, 0]
    told = torch.cat([of_a[partner_a >= -1], log_plan[:, -1, :-1][partner_b == -1]])
    return -told.sum() / max(1, len(told))
