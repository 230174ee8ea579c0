"""Hard descent of a binary tree: the scores of D nodes instead of 2^D - 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def descend(rows: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Walk each row from the root to its leaf: ``node = 2 node + 1 + [w x + b >= 0]``, once a level.

    Each step gathers the weights of the node a row has come to, so a row costs ``depth`` dot products and all shapes
    but the batch are fixed. A row's sum does not depend on the rows beside it. Nodes are counted within their level,
    which saves two operators a level against counting from the root on.

    Shapes:
        rows: (batch, features), float32.
        weights: of the levels from the root down, (2^level, features) each; none for a tree of one leaf.
        biases: of the levels, (2^level,) each.
        returns: leaf (batch,), int64, from 0 to 2^depth - 1; scores met on the way, one (batch,) a level.
    """
    met: list[Tensor] = []
    leaf = torch.zeros(rows.shape[0], dtype=torch.int64)
    for level, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        # All rows meet the same root.
        w, b = (weight.index_select(0, leaf), bias.index_select(0, leaf)) if level else (weight, bias)
        score = (rows * w).sum(1) + b
        met.append(score)
        bit = (score >= 0).to(torch.int64)
        leaf = 2 * leaf + bit if level else bit
    return leaf, met
