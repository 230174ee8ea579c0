"""How a method wants to be trained: optimiser, schedule, epochs, batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What the training loop does for one method.

    Attributes:
        scheduler: stepped once an optimiser step, or ``None`` for a constant rate.
        clip_norm: largest gradient norm, or ``None`` for no clipping.
    """

    optimizer: Optimizer
    epochs: int
    batch_size: int
    scheduler: LRScheduler | None = None
    clip_norm: float | None = None

    @classmethod
    def default(cls, soft: nn.Module, *, epochs: int, batch_size: int, rate: float = 1e-3) -> TrainingPlan:
        """Return AdamW with a constant rate and no weight decay over all parameters."""
        import torch

        optimizer = torch.optim.AdamW(soft.parameters(), lr=rate, weight_decay=0.0)
        return cls(optimizer=optimizer, epochs=epochs, batch_size=batch_size)
