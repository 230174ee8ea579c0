"""Soft binary trees beside their hard twins: leaf probabilities, straight-through bits, entropy, load balance.

Nodes are numbered as in a heap: the root is 0 and node n has the children 2 n + 1 (left) and 2 n + 2 (right), so a tree
of depth D has 2^D - 1 inner nodes and its leaves are numbered 0 to 2^D - 1 from left to right. A node's score s sends
a sample right if s >= 0 (a tie and -0.0 go right, in every form) and left otherwise.

Source: Belcak and Wattenhofer 2023, "Fast feedforward networks"; the regularisers are those of its load-balanced
variant.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deploykit_relaxations.binary import hard_bit
from deploykit_relaxations.straight_through import straight_through


def node_bits(scores: Tensor) -> Tensor:
    """Return 1.0 where a node sends its sample right and 0.0 elsewhere; the hard twin of a sigmoid.

    Shapes:
        scores: any; the result has the same shape and dtype. No gradient.

    >>> node_bits(torch.tensor([-1.0, 0.0, -0.0, 2.0]))
    tensor([0., 1., 1., 1.])
    """
    return hard_bit(scores)


def straight_through_bits(scores: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return the bits themselves, with the gradient of ``sigmoid(scores / temperature)``.

    The value is exactly 0 or 1, see :func:`~deploykit_relaxations.straight_through.straight_through`.

    Shapes:
        scores: any; the result has the same shape.

    Args:
        temperature: > 0, in units of the scores.

    >>> scores = torch.tensor([-2.0, 0.0], requires_grad=True)
    >>> bits = straight_through_bits(scores)
    >>> bits.tolist()
    [0.0, 1.0]
    >>> bits.sum().backward()
    >>> scores.grad
    tensor([0.1050, 0.2500])
    """
    return straight_through(node_bits(scores), torch.sigmoid(scores / temperature))


def path_products(bits: Tensor) -> Tensor:
    """Return the probability of each leaf: the product along its path of p for a right turn, 1 - p for a left one.

    With hard bits the result is the one-hot code of :func:`tree_leaf`.

    Shapes:
        bits: (batch, 2^D - 1), from 0 to 1, in heap order.
        returns: (batch, 2^D), rows sum to 1.

    >>> bits = torch.tensor([[0.5, 0.25, 1.0]], requires_grad=True)
    >>> leaves = path_products(bits)
    >>> leaves
    tensor([[0.3750, 0.1250, 0.0000, 0.5000]], grad_fn=<ViewBackward0>)
    >>> leaves[0, 3].backward()
    >>> bits.grad
    tensor([[1.0000, 0.0000, 0.5000]])
    """
    leaves = bits.new_ones(bits.shape[0], 1)
    for level in range(tree_depth(bits.shape[1])):
        right = bits[:, 2**level - 1 : 2 ** (level + 1) - 1]
        leaves = torch.stack((leaves * (1 - right), leaves * right), dim=2).flatten(1)
    return leaves


def sigmoid_tree(scores: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return soft leaf probabilities; the hard twin is :func:`tree_leaf`, the limit for temperature 0 without ties.

    The largest probability need not belong to the leaf that the hard twin reaches: a nearly undecided node near the
    root can be outvoted by decided ones further down.

    Shapes:
        scores: (batch, 2^D - 1).
        returns: (batch, 2^D), rows sum to 1.

    >>> scores = torch.tensor([[0.0, -1.0, 1.0]], requires_grad=True)
    >>> leaves = sigmoid_tree(scores, temperature=0.01)
    >>> leaves.detach()
    tensor([[0.5000, 0.0000, 0.0000, 0.5000]])
    >>> sigmoid_tree(scores)[0, 3].backward()
    >>> scores.grad
    tensor([[0.1828, 0.0000, 0.0983]])
    """
    return path_products(torch.sigmoid(scores / temperature))


def tree_leaf(scores: Tensor) -> Tensor:
    """Return the leaf each sample descends to, when the scores of all nodes are known.

    Shapes:
        scores: (batch, 2^D - 1).
        returns: (batch,), int64, from 0 to 2^D - 1.

    >>> tree_leaf(torch.tensor([[0.0, -1.0, 1.0], [-1.0, 5.0, -5.0]]))
    tensor([3, 1])
    """
    leaf = torch.zeros(scores.shape[0], dtype=torch.int64, device=scores.device)
    for level in range(tree_depth(scores.shape[1])):
        met = scores.gather(1, (leaf + 2**level - 1)[:, None])[:, 0]
        leaf = 2 * leaf + (met >= 0).to(torch.int64)
    return leaf


def node_entropy(scores: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return the mean entropy of the nodes' choices in nats, from 0 (decided) to log 2; 0 for a tree of depth 0.

    Shapes:
        scores: (batch, 2^D - 1).
        returns: ().

    >>> scores = torch.tensor([[0.0, 2.0, -40.0]], requires_grad=True)
    >>> entropy = node_entropy(scores)
    >>> entropy
    tensor(0.3528, grad_fn=<MeanBackward0>)
    >>> entropy.backward()
    >>> (scores.grad * 1000).round()
    tensor([[  0., -70.,   0.]])
    """
    if scores.numel() == 0:
        return scores.new_zeros(())
    logits = scores / temperature
    # H(sigmoid(z)) = softplus(z) - z sigmoid(z): no logarithm of a rounded 0 or 1.
    return (torch.nn.functional.softplus(logits) - logits * torch.sigmoid(logits)).mean()


def load_balance(probabilities: Tensor, leaf: Tensor) -> Tensor:
    """Return how unevenly the leaves are used: 1 if all alike, the number of leaves if one takes everything.

    It is L times the sum over leaves of (mean probability) x (share of samples that reach it); only the probabilities
    carry a gradient.

    Shapes:
        probabilities: (batch, L).
        leaf: (batch,), int64, the leaf each sample reaches.
        returns: ().

    Source: the paper writes L / B^2 times the product of the sums over a batch of B, which is the same number.

    >>> probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1]], requires_grad=True)
    >>> balance = load_balance(probabilities, torch.tensor([0, 0]))
    >>> balance
    tensor(1.8000, grad_fn=<MulBackward0>)
    >>> balance.backward()
    >>> probabilities.grad
    tensor([[1., 0.],
            [1., 0.]])
    """
    leaves = probabilities.shape[1]
    share = torch.nn.functional.one_hot(leaf, leaves).to(probabilities.dtype).mean(0)
    return (probabilities.mean(0) * share).sum() * leaves


def tree_depth(nodes: int) -> int:
    """Return the depth of a full tree with so many inner nodes.

    Raises:
        ValueError: no full tree has that many.

    >>> tree_depth(0), tree_depth(7)
    (0, 3)
    """
    depth = (nodes + 1).bit_length() - 1
    if nodes != 2**depth - 1:
        raise ValueError(f"a full binary tree has 2^D - 1 inner nodes (0, 1, 3, 7 ...), got {nodes}")
    return depth
