"""Keypoints of two images look at each other through attention and are compared: scores of all pairs."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from deploykit_relaxations.sinkhorn import NEVER

INPUTS: Final = ("points_a", "descriptors_a", "valid_a", "points_b", "descriptors_b", "valid_b")


class KeypointNetwork(nn.Module):
    """Positions are added to descriptors; points look in turn at their own image's and at the other's; then compare.

    Source: Sarlin et al. 2020, sections 3.1 and 3.2, equations 2 to 7. The two images share all weights. Ours: one
    hidden layer encodes a position, without the detector's score; descriptors of any size pass a linear map first;
    the hidden layers have no batch norm, which padding would disturb; masks. In training, both images of a pair are
    mirrored alike at random (positions only) and parts of descriptors are left out, since few photographs are easily
    learnt by heart.

    Args:
        layers: how many pairs of a layer within and a layer across images.
        heads: must divide ``width``.
        dropout: share of descriptors' entries that is left out in training.
    """

    def __init__(self, descriptor_size: int, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.forget = nn.Dropout(dropout)
        self.describe = Projection(descriptor_size, width)
        self.place = nn.Sequential(Projection(2, width), nn.ReLU(), Projection(width, width))
        self.within = nn.ModuleList(AttentionLayer(width, heads) for _ in range(layers))
        self.across = nn.ModuleList(AttentionLayer(width, heads) for _ in range(layers))
        self.project = Projection(width, width)

    def forward(
        self, points_a: Tensor, descriptors_a: Tensor, valid_a: Tensor,
        points_b: Tensor, descriptors_b: Tensor, valid_b: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return the scores of all pairs.

        Shapes:
            points: (batch, n, 2); descriptors: (batch, n, size); valid: (batch, n), bool; n is another for each image.
            returns: (batch, n of a, n of b); what stands at slots that are not valid has no meaning.
        """
        if self.training:
            points_a, points_b = mirrored(points_a, points_b)
        a = self.describe(self.forget(descriptors_a)) + self.place(points_a)
        b = self.describe(self.forget(descriptors_b)) + self.place(points_b)
        for within, across in zip(self.within, self.across, strict=True):
            a, b = within(a, a, valid_a), within(b, b, valid_b)
            a, b = across(a, b, valid_b), across(b, a, valid_a)
        own, other = self.project(a), self.project(b)
        scores: Tensor = own @ other.transpose(1, 2) / a.shape[2] ** 0.5
        return scores


class Projection(nn.Module):
    """``x @ weight + bias``: ``nn.Linear`` with its weight lying the other way round, started alike.

    An exporter turns the weight of ``nn.Linear`` round once for each use, and every layer here is used for both
    images: the file would hold it twice.
    """

    def __init__(self, features_in: int, features_out: int, bias: bool = True) -> None:
        super().__init__()
        bound = features_in**-0.5
        self.weight = nn.Parameter(torch.empty(features_in, features_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., features_out) for (..., features_in)."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class AttentionLayer(nn.Module):
    """Each point gathers a message from all points of a set and is changed by what a hidden layer makes of it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Projection(width, width)
        # Without bias: it would add the same to a query's scores with all points, which a softmax takes away again.
        self.key = Projection(width, width, bias=False)
        self.value = Projection(width, width)
        self.merge = Projection(width, width)
        self.change = nn.Sequential(Projection(2 * width, 2 * width), nn.ReLU(), Projection(2 * width, width))

    def forward(self, x: Tensor, source: Tensor, valid: Tensor) -> Tensor:
        """Return the changed points.

        Shapes:
            x: (batch, n, width); source: (batch, m, width); valid: (batch, m), which points of the source there are.
            returns: (batch, n, width). From a source without points comes no message: zeros.
        """
        query, key, value = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        weights = torch.where(valid[:, None, None, :], scores, NEVER).softmax(3)
        message = self.merge((weights @ value).transpose(1, 2).flatten(2))
        message = torch.where(valid.any(1)[:, None, None], message, 0.0)
        changed: Tensor = x + self.change(torch.cat([x, message], 2))
        return changed

    def _split(self, x: Tensor) -> Tensor:
        """Return (batch, heads, n, width of a head)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).transpose(1, 2)


def mirrored(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror or turn the points of both images of a pair alike, in one of eight ways at random.

    Shapes:
        a: (batch, n, 2); b: (batch, m, 2); the origin is the middle.
    """
    signs = torch.where(torch.rand(len(a), 1, 2, device=a.device) < 0.5, -1.0, 1.0)
    swap = torch.rand(len(a), 1, 1, device=a.device) < 0.5
    a, b = (torch.where(swap, points.flip(2), points) * signs for points in (a, b))
    return a, b
