"""Feed-forward trees: the trainable layer and the layer that evaluates all leaves."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit_relaxations import (
    load_balance,
    node_bits,
    node_entropy,
    path_products,
    sigmoid_tree,
    straight_through_bits,
    tree_leaf,
)

Mode = Literal["straight-through", "anneal", "soft"]
_KAPPA: Final = 0.5


class FeedForwardTree(nn.Module):
    """A tree of small feed-forward networks, all of them evaluated and mixed: ``y = sum_l P_l MLP_l(x)``.

    Node n scores ``s = w_n x + b_n``. In mode ``soft`` and ``anneal`` P are products of ``sigmoid(s / temperature)``;
    in mode ``straight-through`` P is the one-hot code of the hard descent and only its gradient is soft. Training and
    eval mode compute the same function, so the distance to the hard form is the relaxation's own.

    A master leaf sees every sample: ``y' = k y + (1 - k) MLP_master(x)`` with ``k = sigmoid(kappa)``.

    Shapes:
        x: (..., features_in), float; the leading dimensions are rows that are routed one by one.
        returns: (..., features_out).

    Args:
        depth: levels of nodes; 2^depth leaves.
        leaf_width: hidden units of a leaf.
        master_width: hidden units of the master leaf; 0 for none.

    Attributes:
        temperature: in units of the scores; a buffer, so that it is saved with the weights.
    """

    deploykit_relaxation = True
    temperature: Tensor

    def __init__(
        self, features_in: int, features_out: int, depth: int, leaf_width: int, master_width: int, mode: Mode
    ) -> None:
        super().__init__()
        leaves = 2**depth
        self.features_in, self.features_out, self.depth, self.mode = features_in, features_out, depth, mode
        self.leaf_width = leaf_width
        self.nodes = nn.Linear(features_in, leaves - 1) if depth else None
        self.leaf_in = _uniform((leaves, features_in, leaf_width), features_in)
        self.leaf_in_bias = _uniform((leaves, leaf_width), features_in)
        self.leaf_out = _uniform((leaves, leaf_width, features_out), leaf_width)
        self.leaf_out_bias = _uniform((leaves, features_out), leaf_width)
        self.master: nn.Sequential | None = None
        self.kappa: nn.Parameter | None = None
        if master_width:
            self.master = nn.Sequential(
                nn.Linear(features_in, master_width), nn.ReLU(), nn.Linear(master_width, features_out)
            )
            self.kappa = nn.Parameter(torch.tensor(_KAPPA))
        self.register_buffer("temperature", torch.ones(()))
        self._scores: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Mix all leaves and blend in the master leaf."""
        rows = x.reshape(-1, self.features_in)
        scores = self.scores(rows)
        weights = self.leaf_weights(scores)
        if self.training and torch.is_grad_enabled():
            self._scores = scores
        hidden = torch.relu(rows @ self.leaf_in.permute(1, 0, 2).flatten(1) + self.leaf_in_bias.flatten())
        weighted = (hidden.view(*weights.shape, self.leaf_width) * weights[:, :, None]).flatten(1)
        y: Tensor = weighted @ self.leaf_out.flatten(0, 1) + weights @ self.leaf_out_bias
        if self.master is not None and self.kappa is not None:
            k = torch.sigmoid(self.kappa)
            y = k * y + (1 - k) * self.master(rows)
        return y.reshape(*x.shape[:-1], self.features_out)

    def scores(self, rows: Tensor) -> Tensor:
        """Return the scores of all nodes, (rows, 2^depth - 1)."""
        return rows.new_zeros(rows.shape[0], 0) if self.nodes is None else self.nodes(rows)

    def leaf_weights(self, scores: Tensor) -> Tensor:
        """Return what each leaf counts in the mixture, (rows, 2^depth)."""
        if self.mode == "straight-through":
            return path_products(straight_through_bits(scores, self.temperature))
        return sigmoid_tree(scores, self.temperature)

    def regularizers(self) -> tuple[Tensor, Tensor]:
        """Return load balance and node entropy of the last training batch, and forget that batch.

        Without a batch since the last call both are zero.
        """
        if self._scores is None:
            zero = self.leaf_in.new_zeros(())
            return zero, zero
        scores, self._scores = self._scores, None
        # The soft probabilities in every mode: hard ones would tell only leaves that are used how to change.
        probabilities = sigmoid_tree(scores, self.temperature)
        return load_balance(probabilities, tree_leaf(scores.detach())), node_entropy(scores, self.temperature)

    def favourite(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the leaf that counts most in the mixture and by how much it wins, in units of the scores.

        In mode ``straight-through`` that is the leaf of the hard descent, and the margin is the smallest ``|score|``
        on its path. In the other modes it is the most probable leaf, which need not be the hard descent's, and the
        margin is ``temperature * log(P_first / P_second)``; for a single node that is ``|score|`` too.

        Shapes:
            rows: (rows, features_in).
            returns: leaf (rows,), int64; margin (rows,), infinite for a single leaf.
        """
        scores = self.scores(rows)
        if self.depth == 0:
            return torch.zeros(len(rows), dtype=torch.int64), torch.full((len(rows),), math.inf)
        if self.mode == "straight-through":
            leaf = tree_leaf(scores)
            met = [
                scores.gather(1, (leaf >> (self.depth - level))[:, None] + 2**level - 1) for level in range(self.depth)
            ]
            return leaf, torch.cat(met, dim=1).abs().amin(1)
        logs = scores.new_zeros(len(rows), 1)
        for level in range(self.depth):
            level_scores = scores[:, 2**level - 1 : 2 ** (level + 1) - 1] / self.temperature
            turns = (F.logsigmoid(-level_scores), F.logsigmoid(level_scores))
            logs = torch.stack([logs + turn for turn in turns], dim=2).flatten(1)
        best = logs.topk(2, dim=1)
        return best.indices[:, 0], (best.values[:, 0] - best.values[:, 1]) * self.temperature

    def __getstate__(self) -> dict[str, Any]:
        # A batch's intermediate tensors cannot be copied and are nobody else's business.
        return {**self.__dict__, "_scores": None}


class AllLeaves(nn.Module):
    """A feed-forward tree that evaluates every leaf, as it is used before it is hardened: nothing to train.

    The weights are laid out so that all leaves cost two matrix products, which is the fastest way to evaluate them
    all, and hence the fair one to compare with.
    """

    leaf_in: Tensor
    leaf_in_bias: Tensor
    leaf_out: Tensor
    leaf_out_bias: Tensor
    temperature: Tensor
    kappa: Tensor

    def __init__(self, tree: FeedForwardTree) -> None:
        super().__init__()
        self.features_out, self.leaf_width = tree.features_out, tree.leaf_width
        self.hard = tree.mode == "straight-through"
        self.nodes, self.master = tree.nodes, tree.master
        self.register_buffer("leaf_in", tree.leaf_in.detach().permute(1, 0, 2).flatten(1).contiguous())
        self.register_buffer("leaf_in_bias", tree.leaf_in_bias.detach().flatten())
        self.register_buffer("leaf_out", tree.leaf_out.detach().flatten(0, 1))
        self.register_buffer("leaf_out_bias", tree.leaf_out_bias.detach())
        self.register_buffer("temperature", tree.temperature)
        self.register_buffer("kappa", tree.leaf_in.new_tensor(math.inf) if tree.kappa is None else tree.kappa.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Mix all leaves and blend in the master leaf."""
        rows = x if x.ndim == 2 else x.reshape(-1, self.leaf_in.shape[0])
        scores = rows.new_zeros(rows.shape[0], 0) if self.nodes is None else self.nodes(rows)
        bits = node_bits(scores) if self.hard else torch.sigmoid(scores / self.temperature)
        weights = path_products(bits)
        hidden = torch.relu(rows @ self.leaf_in + self.leaf_in_bias)
        weighted = (hidden.view(*weights.shape, self.leaf_width) * weights[:, :, None]).flatten(1)
        y: Tensor = weighted @ self.leaf_out + weights @ self.leaf_out_bias
        if self.master is not None:
            k = torch.sigmoid(self.kappa)
            y = k * y + (1 - k) * self.master(rows)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.features_out)


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    # torch's own default for Linear: uniform within 1 / sqrt(fan in), weights and biases alike.
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
