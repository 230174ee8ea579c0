"""Cells: small graphs whose every edge is a choice, and the network that is built of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deploykit_searched.choices import Choice
from deploykit_searched.operators import Operator, operator

EDGES_A_NODE = 2
"""Edges that a node keeps."""
Sources = tuple[tuple[int, ...], ...]
"""For each node the states it reads: 0 and 1 are the cell's inputs, 2 and up its nodes before."""


class SearchCell(nn.Module):
    """Node i adds up one choice for each state before it, then applies ReLU; the answer is all nodes side by side.

    Shapes:
        inputs: the answers of the last cell but one and of the last cell, (batch, channels, height, width).
        returns: (batch, nodes * channels, height, width), height and width halved (rounded up) by a reduction cell.

    Args:
        channels_in: of both inputs.
        operators: names of the candidates of every edge.
        reduction: whether edges from the cell's inputs have stride 2.
        shrink_first: whether the first input is twice as high and wide as the second, as behind a reduction cell.

    Source: Liu et al. 2019, section 2.1. Ours: every cell has alphas of its own (the paper shares them among cells of a
    kind), ReLU stands behind the sum instead of in each operator, and a 1x1 convolution of stride 2 halves where the
    paper shifts and concatenates.
    """

    def __init__(
        self,
        channels_in: tuple[int, int],
        channels: int,
        nodes: int,
        operators: Sequence[str],
        *,
        reduction: bool = False,
        shrink_first: bool = False,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.entries = nn.ModuleDict(
            {
                str(index): Operator(
                    nn.Conv2d(width, channels, 1, 2 if shrink_first and index == 0 else 1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                )
                for index, width in enumerate(channels_in)
            }
        )
        edges: list[Choice] = []
        for node in range(nodes):
            for source in range(2 + node):
                stride = 2 if reduction and source < 2 else 1
                made = {name: operator(name, channels, channels, stride=stride) for name in operators}
                edges.append(Choice({name: item for name, item in made.items() if item is not None}))
        self.edges = nn.ModuleList(edges)

    def choice(self, node: int, source: int) -> Choice:
        """Return the choice on the edge from a state to a node."""
        edge = self.edges[edge_number(node, source)]
        assert isinstance(edge, Choice)
        return edge

    def kept(self) -> Sources:
        """Return for each node the states whose edges have the largest weight of a chosen candidate, at most two.

        Ties go to the lower state. Weights are those of the forward pass at the temperature as it stands, compared by
        their log-odds, because at a low temperature many weights round to 1; ``none`` is never chosen, but it takes
        weight from the others on its edge, as in the paper.
        """
        kept = []
        for node in range(self.nodes):
            scores = self._scores(node)
            ranked = sorted(range(2 + node), key=lambda source: (-scores[source], source))
            kept.append(tuple(sorted(ranked[:EDGES_A_NODE])))
        return tuple(kept)

    def margins(self) -> list[list[float]]:
        """Return for each node how far each edge's log-odds are from those of the nearest edge of the other fate.

        A kept edge is compared with the best dropped one, a dropped edge with the weakest kept one. Where a node keeps
        all its edges they cannot be dropped: infinity.
        """
        margins = []
        for node, kept in enumerate(self.kept()):
            scores = self._scores(node)
            best_dropped = max((score for source, score in enumerate(scores) if source not in kept), default=-math.inf)
            weakest_kept = min(scores[source] for source in kept)
            margins.append(
                [
                    _lead(score, best_dropped) if source in kept else _lead(weakest_kept, score)
                    for source, score in enumerate(scores)
                ]
            )
        return margins

    def _scores(self, node: int) -> list[float]:
        return [self.choice(node, source).preference().log_odds for source in range(2 + node)]

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Sum the mixtures of all edges; once settled, only the kept ones run."""
        settled = all(bool(edge.settled) for edge in self.edges if isinstance(edge, Choice))
        sources = self.kept() if settled else all_sources(self.nodes)
        edges = {str(number): edge for number, edge in enumerate(self.edges)}
        return _run(self.entries, edges, sources, before_last, last)


class FixedCell(nn.Module):
    """A cell whose edges are decided: only the given ones exist.

    Args:
        edges: by number, see :func:`edge_number`; their modules are taken over, not copied.
        sources: for each node the states it reads.
    """

    def __init__(self, cell: SearchCell, edges: Mapping[int, nn.Module], sources: Sources) -> None:
        super().__init__()
        self.sources = sources
        read = {source for states in sources for source in states}
        self.entries = nn.ModuleDict({name: item for name, item in cell.entries.items() if int(name) in read})
        self.edges = nn.ModuleDict({str(number): edge for number, edge in edges.items()})

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Sum the edges of each node."""
        return _run(self.entries, dict(self.edges.items()), self.sources, before_last, last)


def _lead(high: float, low: float) -> float:
    # Edges that offer a single candidate have infinite log-odds, which cannot be subtracted.
    return 0.0 if high == low else high - low


def _run(
    entries: nn.ModuleDict, edges: Mapping[str, nn.Module], sources: Sources, before_last: Tensor, last: Tensor
) -> Tensor:
    given = {"0": before_last, "1": last}
    states = {int(name): entry(given[name]) for name, entry in entries.items()}
    nodes: list[Tensor] = []
    for node, read in enumerate(sources):
        total: Tensor | None = None
        for source in read:
            answer = edges[str(edge_number(node, source))](states[source])
            total = answer if total is None else total + answer
        assert total is not None
        states[2 + node] = torch.relu(total)
        nodes.append(states[2 + node])
    return torch.cat(nodes, dim=1)


class CellNetwork(nn.Module):
    """A convolution, some cells, the mean over the image and a linear classifier.

    Reduction cells, which halve the image and double the channels, stand at one and two thirds of the depth; with less
    than three cells only the last is one.

    Shapes:
        x: (batch, channels_in, height, width); returns (batch, classes).

    Source: Liu et al. 2019, section 2.1.
    """

    def __init__(
        self, channels_in: int, classes: int, *, channels: int, cells: int, nodes: int, operators: Sequence[str]
    ) -> None:
        super().__init__()
        self.stem = Operator(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        reductions = {cells // 3, 2 * cells // 3} if cells >= 3 else {cells - 1}
        made: list[SearchCell] = []
        before = last = width = channels
        for index in range(cells):
            width = 2 * width if index in reductions else width
            made.append(
                SearchCell(
                    (before, last), width, nodes, operators, reduction=index in reductions,
                    shrink_first=index - 1 in reductions,
                )
            )  # fmt: skip
            before, last = last, nodes * width
        self.cells = nn.ModuleList(made)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        answer: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return answer


def edge_number(node: int, source: int) -> int:
    """Return the number of the edge from a state to a node, nodes in order and each node's states in order.

    >>> [edge_number(node, source) for node in range(2) for source in range(2 + node)]
    [0, 1, 2, 3, 4]
    """
    return node * (node + 3) // 2 + source


def all_sources(nodes: int) -> Sources:
    """Return every state for every node.

    >>> all_sources(2)
    ((0, 1), (0, 1, 2))
    """
    return tuple(tuple(range(2 + node)) for node in range(nodes))
