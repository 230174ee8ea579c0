"""Messages along the edges of padded graphs: who hears whom, and a plain layer made of it.

Graphs travel batch first. ``features`` is float32 [batch, nodes, width]; ``edges`` is int64 [batch, edges, 2] and
holds (source, target): a target hears its sources. An edge that does not have both ends among the nodes is no edge,
which is how graphs of different sizes share a batch: -1 -1 pads edges, and nodes that no edge names pad nodes. The
same edge twice counts twice; an edge from a node to itself makes it its own neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Aggregation = Literal["mean", "sum"]
Summation = Callable[[Tensor, Tensor], Tensor]


def sum_over_edges(features: Tensor, edges: Tensor) -> Tensor:
    """Sum for each node the features of the sources it hears, by gathering and adding rows.

    Costs one row read and one row added an edge, whatever the number of nodes.

    Shapes:
        features: (batch, nodes, width), floating point; at least one node.
        edges: (batch, edges, 2), int64; may be empty.
        returns: (batch, nodes, width); 0 for a node that hears nobody.

    >>> features = torch.tensor([[[1.0], [10.0], [100.0]]], requires_grad=True)
    >>> total = sum_over_edges(features, torch.tensor([[[1, 0], [2, 0], [0, 1], [-1, -1]]]))
    >>> total.detach().flatten()
    tensor([110.,   1.,   0.])
    >>> total[0, 0, 0].backward()
    >>> features.grad.flatten()
    tensor([0., 1., 1.])
    """
    batch, nodes, width = features.shape
    source, target = edges.unbind(2)
    inside = ((edges >= 0) & (edges < nodes)).all(2)
    first = (torch.arange(batch, device=edges.device) * nodes).unsqueeze(1)
    # What is no edge hears a row of zeros: cheaper than a mask on every message, and no row of another graph.
    rows = torch.cat([features.reshape(-1, width), features.new_zeros(1, width)])
    heard = torch.where(inside, source + first, batch * nodes).reshape(-1)
    hearing = torch.where(inside, target + first, 0).reshape(-1)
    total = torch.zeros_like(features).reshape(-1, width).index_add(0, hearing, rows.index_select(0, heard))
    return total.reshape(batch, nodes, width)


def sum_over_adjacency(features: Tensor, edges: Tensor) -> Tensor:
    """Return :func:`sum_over_edges`, computed as a product with the adjacency matrix.

    For runtimes that cannot add rows in place. Costs nodes x edges comparisons and nodes x nodes x edges
    multiplications a graph, so it is for small graphs.

    >>> features, edges = torch.randn(2, 4, 3), torch.randint(-1, 5, (2, 9, 2))
    >>> torch.allclose(sum_over_adjacency(features, edges), sum_over_edges(features, edges), atol=1e-6)
    True
    """
    numbers = torch.arange(features.shape[1], device=edges.device)
    # An end outside the nodes equals no number, so such an edge is a row of zeros.
    source, target = ((end.unsqueeze(2) == numbers).to(features.dtype) for end in edges.unbind(2))
    return (target.transpose(1, 2) @ source) @ features


def aggregate(
    features: Tensor,
    edges: Tensor,
    aggregation: Aggregation,
    listen: Tensor | None = None,
    broadcast: Tensor | None = None,
    summation: Summation = sum_over_edges,
) -> Tensor:
    """Aggregate what each node hears over open edges: those whose source broadcasts and whose target listens.

    An edge weighs ``broadcast(source) * listen(target)``. That product is taken on nodes, before and after summing,
    not on edges. A mean divides by the number of open edges, so closed edges do not dilute it; without any it is 0.

    Shapes:
        features: (batch, nodes, width).
        edges: (batch, edges, 2), int64.
        listen, broadcast: (batch, nodes), 0 or 1 in the features' dtype; ``None`` means 1 everywhere.
        returns: (batch, nodes, width).

    Source: Finkelshtein et al. 2024, "Cooperative Graph Neural Networks" (arXiv 2310.01267): a node's
    neighbours are those of the graph that the actions leave. The authors' code divides a mean by all edges instead.

    >>> features = torch.tensor([[[0.0], [3.0], [9.0]]])
    >>> edges = torch.tensor([[[1, 0], [2, 0], [0, 1]]])
    >>> aggregate(features, edges, "mean").flatten()
    tensor([6., 0., 0.])
    >>> broadcast = torch.tensor([[1.0, 0.0, 1.0]], requires_grad=True)
    >>> heard = aggregate(features, edges, "mean", broadcast=broadcast)
    >>> heard.detach().flatten()
    tensor([9., 0., 0.])
    >>> heard.sum().backward()
    >>> broadcast.grad  # node 1 would pull the mean from 9 towards its 3
    tensor([[ 0., -6.,  0.]])
    """
    sent = features if broadcast is None else features * broadcast.unsqueeze(2)
    if aggregation == "sum":
        heard = summation(sent, edges)
        return heard if listen is None else heard * listen.unsqueeze(2)
    speaks = features.new_ones(features.shape[:2]) if broadcast is None else broadcast
    counted = summation(torch.cat([sent, speaks.unsqueeze(2)], 2), edges)
    total, count = torch.split(counted, [features.shape[2], 1], dim=2)
    share = (1.0 if listen is None else listen.unsqueeze(2)) / count.clamp(min=1.0)
    return total * share


class GraphConvolution(nn.Module):
    """A plain message-passing layer: ``own(x_v) + neighbours(mean or sum of the x_u that v hears)``.

    Equal to one linear map of both, put side by side. There is no activation; the network puts its own behind it.

    Shapes:
        features: (batch, nodes, features_in), float32.
        edges: (batch, edges, 2), int64.
        returns: (batch, nodes, features_out).

    >>> layer = GraphConvolution(3, 2, aggregation="sum")
    >>> layer(torch.zeros(1, 4, 3), torch.tensor([[[0, 1], [1, 2]]])).shape
    torch.Size([1, 4, 2])
    """

    def __init__(self, features_in: int, features_out: int, aggregation: Aggregation = "mean") -> None:
        super().__init__()
        if aggregation not in {"mean", "sum"}:
            raise ValueError(f"GraphConvolution: wanted aggregation 'mean' or 'sum', got {aggregation!r}")
        self.features_in, self.features_out = features_in, features_out
        self.aggregation: Aggregation = aggregation
        self.own = nn.Linear(features_in, features_out)
        self.neighbours = nn.Linear(features_in, features_out, bias=False)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Hear all neighbours.

        Raises:
            ValueError: the tensors are not batch first.
        """
        if features.ndim != 3 or edges.ndim != 3:
            raise ValueError(
                f"GraphConvolution: wanted features [batch, nodes, {self.features_in}] and edges [batch, edges, 2], "
                f"got {list(features.shape)} and {list(edges.shape)}; a single graph is a batch of one: unsqueeze(0)"
            )
        return self.combine(features, aggregate(features, edges, self.aggregation))

    def combine(self, features: Tensor, heard: Tensor) -> Tensor:
        """Return the answer for nodes that heard ``heard``, which is shaped as ``features``."""
        answer: Tensor = self.own(features) + self.neighbours(heard)
        return answer
