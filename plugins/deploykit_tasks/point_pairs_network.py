"""A small float network that matches points without transport: similarities through two softmaxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 64
_NEVER = -1e4


class DualSoftmax(nn.Module):
    """Compare descriptors and positions after one hidden layer, and multiply the softmax over rows and over columns.

    Source of the product of two softmaxes: Rocco et al. 2018, "Neighbourhood Consensus Networks", section 3.2. A
    point without partner is one to which no other answers.
    """

    def __init__(self, descriptor_size: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(descriptor_size + 2, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, points_a: Tensor, descriptors_a: Tensor, valid_a: Tensor,
        points_b: Tensor, descriptors_b: Tensor, valid_b: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return the assignment [batch, points_a, points_b], from 0 to 1."""
        a = self.encoder(torch.cat([points_a, descriptors_a], 2))
        b = self.encoder(torch.cat([points_b, descriptors_b], 2))
        both = valid_a[:, :, None] & valid_b[:, None, :]
        scores = torch.where(both, (a @ b.transpose(1, 2)) * (self.scale / _WIDTH**0.5), _NEVER)
        assignment: Tensor = torch.where(both, scores.softmax(1) * scores.softmax(2), 0.0)
        return assignment
