"""How a method wants to be trained: optimiser, schedule, epochs, batch size, and a second level where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploykit.errors import ContractError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, slots=True)
class UpperLevel:
    """The upper problem of two-level (bilevel) training: other parameters, judged on other samples.

    Some training samples are held back from the plan's own optimiser. Before each of its steps this optimiser takes
    one, on a batch of those, with the gradient of the same :meth:`deploykit.Method.loss` and with the other parameters
    as they stand. That is the first-order approximation of the bilevel problem (Liu et al. 2019, section 2.3, xi = 0).

    Attributes:
        optimizer: over the upper level's parameters; the plan's own optimiser must not hold any of them.
        held_back: share of the training samples that only this level sees, above 0 and below 1.
        starts_at: progress, from 0 to 1, from which on it takes steps; the weights are warmed up before.
        stops_at: progress after which it takes none any more.
        scheduler: stepped once a step of this level, or ``None`` for a constant rate.

    Raises:
        ContractError: a number is out of range.
    """

    optimizer: Optimizer
    held_back: float = 0.5
    starts_at: float = 0.0
    stops_at: float = 1.0
    scheduler: LRScheduler | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.held_back < 1.0:
            raise ContractError(
                f"an upper level holds back a share of the training samples above 0 and below 1, got {self.held_back}"
            )
        if not 0.0 <= self.starts_at <= self.stops_at <= 1.0:
            raise ContractError(
                "an upper level starts and stops at a progress from 0 to 1, and stops no earlier than it starts; got "
                f"starts_at {self.starts_at} and stops_at {self.stops_at}"
            )

    def samples(self, total: int) -> int:
        """Return how many of ``total`` training samples are held back, rounded to the nearest number.

        What is left is what an epoch of the plan's own optimiser passes over; schedules should count with that.
        """
        return round(total * self.held_back)

    def active(self, progress: float) -> bool:
        """Return whether this level takes a step at ``progress``."""
        return self.starts_at <= progress <= self.stops_at


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What the training loop does for one method.

    Attributes:
        scheduler: stepped once an optimiser step, or ``None`` for a constant rate.
        clip_norm: largest gradient norm, or ``None`` for no clipping; the upper level's gradients are not clipped.
        upper: a second optimiser over other parameters and other samples, or ``None`` for ordinary training.

    Raises:
        ContractError: both optimisers hold the same parameter.
    """

    optimizer: Optimizer
    epochs: int
    batch_size: int
    scheduler: LRScheduler | None = None
    clip_norm: float | None = None
    upper: UpperLevel | None = None

    def __post_init__(self) -> None:
        if self.upper is None:
            return
        lower = {id(item) for group in self.optimizer.param_groups for item in group["params"]}
        upper = [item for group in self.upper.optimizer.param_groups for item in group["params"]]
        if both := [tuple(item.shape) for item in upper if id(item) in lower]:
            raise ContractError(
                f"both levels of a training plan hold the same parameters, {len(both)} of them, the first of shape "
                f"{both[0]}; give each parameter to one optimiser"
            )

    @classmethod
    def default(cls, soft: nn.Module, *, epochs: int, batch_size: int, rate: float = 1e-3) -> TrainingPlan:
        """Return AdamW with a constant rate and no weight decay over all parameters."""
        import torch

        optimizer = torch.optim.AdamW(soft.parameters(), lr=rate, weight_decay=0.0)
        return cls(optimizer=optimizer, epochs=epochs, batch_size=batch_size)
