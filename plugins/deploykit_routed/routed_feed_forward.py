"""The hard layer: one descent, one leaf and the master leaf for each row."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from deploykit_relaxations import mark_decision
from deploykit_routed.dispatch import Leaves, gathered_leaves, grouped_leaves
from deploykit_routed.fff_layers import FeedForwardTree
from deploykit_routed.tree_descent import descend

NEVER: Final = 0


class RoutedFeedForward(nn.Module):
    """A hardened feed-forward tree; the blend ``k`` of the master leaf is folded into the weights.

    Shapes:
        x: (..., features_in), float32; the leading dimensions are rows.
        returns: (..., features_out).

    Args:
        tree: the trained layer; its tensors are copied.
        name: under which the leaf index is marked in written files.
        grouped_from: rows from which on they are grouped by leaf instead of gathering weights for each; chosen when
            the model runs, from the batch it is given. ``NEVER`` always gathers, so that all shapes are fixed but
            the batch.
    """

    leaf_in: Tensor
    leaf_in_bias: Tensor
    leaf_out: Tensor
    leaf_out_bias: Tensor

    def __init__(self, tree: FeedForwardTree, name: str, grouped_from: int) -> None:
        super().__init__()
        self.name, self.grouped_from = name, grouped_from
        self.features_in, self.features_out, self.depth = tree.features_in, tree.features_out, tree.depth
        for level in range(tree.depth):
            mine = slice(2**level - 1, 2 ** (level + 1) - 1)
            # A buffer a level: slices of one would leave unused constants in the file.
            self.register_buffer(f"node_weight_{level}", _nodes(tree).weight.detach()[mine].clone())
            self.register_buffer(f"node_bias_{level}", _nodes(tree).bias.detach()[mine].clone())
        share = 1.0 if tree.kappa is None else 1 / (1 + math.exp(-tree.kappa.item()))
        self.register_buffer("leaf_in", tree.leaf_in.detach().clone())
        self.register_buffer("leaf_in_bias", tree.leaf_in_bias.detach().clone())
        self.register_buffer("leaf_out", tree.leaf_out.detach() * share)
        self.register_buffer("leaf_out_bias", tree.leaf_out_bias.detach() * share)
        self.master: nn.Sequential | None = None
        if tree.master is not None:
            first, last = tree.master[0], tree.master[2]
            self.master = nn.Sequential(_scaled(first, 1.0), nn.ReLU(), _scaled(last, 1 - share))

    @property
    def leaves(self) -> Leaves:
        """Weights of all leaves."""
        return Leaves(self.leaf_in, self.leaf_in_bias, self.leaf_out, self.leaf_out_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Descend, evaluate the leaf met, add the master leaf."""
        rows = x if x.ndim == 2 else x.reshape(-1, self.features_in)
        leaf, _ = self.route(rows)
        if x.ndim == 2:
            leaf = mark_decision(leaf, self.name)
        else:
            leaf = mark_decision(leaf.reshape(x.shape[:-1]), self.name).reshape(-1)
        y = self._evaluate(rows, leaf)
        if self.master is not None:
            y = y + self.master(rows)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.features_out)

    def route(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the leaf each row reaches and the smallest ``|score|`` on its way, infinite for a single leaf.

        Shapes:
            rows: (rows, features_in).
            returns: leaf (rows,), int64; margin (rows,).
        """
        if self.depth == 0:
            return torch.zeros(rows.shape[0], dtype=torch.int64), rows.new_full((rows.shape[0],), math.inf)
        levels = range(self.depth)
        weights = [self.get_buffer(f"node_weight_{level}") for level in levels]
        leaf, met = descend(rows, weights, [self.get_buffer(f"node_bias_{level}") for level in levels])
        return leaf, torch.stack(met, dim=1).abs().amin(1)

    def _evaluate(self, rows: Tensor, leaf: Tensor) -> Tensor:
        if self.grouped_from == NEVER:
            return gathered_leaves(rows, leaf, self.leaves)
        if not torch.compiler.is_exporting():
            dispatch = gathered_leaves if rows.shape[0] < self.grouped_from else grouped_leaves
            return dispatch(rows, leaf, self.leaves)
        # Both ways go into the file, as the branches of an If on the number of rows.
        chosen: Tensor = torch.cond(
            rows.shape[0] < self.grouped_from,
            lambda rows, leaf: gathered_leaves(rows, leaf, self.leaves),
            lambda rows, leaf: grouped_leaves(rows, leaf, self.leaves),
            (rows, leaf),
        )
        return chosen


def _nodes(tree: FeedForwardTree) -> nn.Linear:
    if tree.nodes is None:
        raise ValueError("a tree of depth 0 has no nodes")
    return tree.nodes


def _scaled(layer: nn.Module, factor: float) -> nn.Linear:
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a master leaf is made of Linear layers, got {type(layer).__name__}")
    scaled = nn.Linear(layer.in_features, layer.out_features)
    scaled.load_state_dict({name: tensor * factor for name, tensor in layer.state_dict().items()})
    return scaled.requires_grad_(False)
