"""The trainable layer: a graph convolution whose nodes decide whether they listen and whether they broadcast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit_graph.graph_surgery import layers_of, seen_arguments
from deploykit_relaxations.categorical import gumbel_noise, gumbel_softmax_straight_through
from deploykit_relaxations.message_passing import Aggregation, GraphConvolution, aggregate


class ActionNetwork(nn.Module):
    """Two scores a node: for taking an action (first) and for not taking it.

    One graph convolution, ReLU and a linear map. It hears all neighbours: actions close edges of the layer they
    belong to, never those of the networks that take them.
    """

    def __init__(self, features_in: int, width: int, aggregation: Aggregation) -> None:
        super().__init__()
        self.convolution = GraphConvolution(features_in, width, aggregation)
        self.head = nn.Linear(width, 2)

    def forward(self, features: Tensor, heard: Tensor) -> Tensor:
        """Return logits (batch, nodes, 2) from features and what was aggregated of them over all edges."""
        logits: Tensor = self.head(torch.relu(self.convolution.combine(features, heard)))
        return logits


class CooperativeConvolution(nn.Module):
    """A graph convolution that hears over open edges only.

    In training both actions of a node are sampled: exactly 0 or 1 forward, the Gumbel-softmax's gradient backward.
    In eval mode there is no noise and each node takes its more probable action, a tie being taken as yes.

    Noise comes from torch's own generator on the CPU, so ``torch.manual_seed`` makes it repeatable, and a run that is
    interrupted goes on with the same numbers.

    Shapes:
        features: (batch, nodes, features_in), float32.
        edges: (batch, edges, 2), int64.
        returns: (batch, nodes, features_out).

    Args:
        convolution: the layer to make cooperative; becomes part of this one.
        width: hidden units of each action network.
        aggregation: of the action networks; only ``sum`` lets a node see how many neighbours it has.
        temperature: of the Gumbel-softmax, in units of the logits; shapes the gradient only, no value.

    Source: Finkelshtein et al. 2024, "Cooperative Graph Neural Networks" (arXiv 2310.01267), where this layer is
    described beside its action and environment networks. Two action networks a layer are ours: the authors share one
    pair among all layers, which needs layers of one width. They sample when answering, too; we do not.
    """

    deploykit_relaxation = True

    def __init__(self, convolution: GraphConvolution, width: int, aggregation: Aggregation, temperature: float) -> None:
        super().__init__()
        self.convolution = convolution
        self.action_aggregation: Aggregation = aggregation
        self.listen = ActionNetwork(convolution.features_in, width, aggregation)
        self.broadcast = ActionNetwork(convolution.features_in, width, aggregation)
        self.temperature = temperature

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Act, then hear."""
        listen, broadcast = (self._act(logits) for logits in self.logits(features, edges))
        heard = aggregate(features, edges, self.convolution.aggregation, listen, broadcast)
        return self.convolution.combine(features, heard)

    def logits(self, features: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of listening and of broadcasting, (batch, nodes, 2) each: yes first, then no."""
        heard = aggregate(features, edges, self.action_aggregation)
        return self.listen(features, heard), self.broadcast(features, heard)

    def scores(self, features: Tensor, edges: Tensor) -> Tensor:
        """Return how much yes is ahead of no, in units of the logits: (batch, nodes, 2), listening first."""
        return torch.stack([logits[..., 0] - logits[..., 1] for logits in self.logits(features, edges)], dim=-1)

    def _act(self, logits: Tensor) -> Tensor:
        noise = torch.zeros_like(logits)
        if self.training:
            noise = gumbel_noise(logits.shape, torch.default_generator).to(logits)
        return gumbel_softmax_straight_through(logits, self.temperature, noise)[..., 0]


def start_undecided(soft: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Shift the action networks' biases so that yes and no are on average as far ahead on the example.

    Actions learn from each other: where nobody broadcasts, listening makes no difference and gets no gradient. Sums
    over many neighbours can put a fresh network there for all nodes at once. Ours, not in the paper.
    """
    mode = soft.training
    soft.eval()
    # From the first layer on: what a layer sees depends on what was decided before it.
    for path, layer in layers_of(soft, CooperativeConvolution).items():
        arguments = seen_arguments(soft, (CooperativeConvolution,), example)[path]
        with torch.no_grad():
            ahead = layer.scores(*arguments).mean((0, 1))
            for network, score in zip((layer.listen, layer.broadcast), ahead, strict=True):
                network.head.bias.add_(torch.stack([-score / 2, score / 2]))
    soft.train(mode)
