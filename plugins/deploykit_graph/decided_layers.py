"""The hard layer: each node's two actions are comparisons, and closed edges carry nothing."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deploykit_graph.cooperative_layers import CooperativeConvolution
from deploykit_relaxations import mark_decision
from deploykit_relaxations.message_passing import aggregate, sum_over_adjacency, sum_over_edges


class DecidedConvolution(nn.Module):
    """A hardened cooperative convolution.

    Both action networks are evaluated as one of twice the width. Only the difference of an action's two logits
    decides, so their last layers are subtracted from each other once, here.

    Shapes:
        features: (batch, nodes, features_in), float32.
        edges: (batch, edges, 2), int64.
        returns: (batch, nodes, features_out).

    Args:
        layer: the trained layer; its tensors are copied.
        names: under which listening and broadcasting are marked in written files.
        by_adjacency: sum by a product with the adjacency matrix instead of adding rows.
    """

    head: Tensor
    head_bias: Tensor

    def __init__(self, layer: CooperativeConvolution, names: tuple[str, str], *, by_adjacency: bool) -> None:
        super().__init__()
        self.names = names
        self.summation = sum_over_adjacency if by_adjacency else sum_over_edges
        self.action_aggregation = layer.action_aggregation
        self.convolution = copy.deepcopy(layer.convolution)
        networks = (layer.listen, layer.broadcast)
        self.own = _stacked([network.convolution.own for network in networks])
        self.neighbours = _stacked([network.convolution.neighbours for network in networks])
        # float64: the difference of two close logits should not be rounded twice.
        weights = [network.head.weight.detach().double() for network in networks]
        biases = [network.head.bias.detach().double() for network in networks]
        self.register_buffer("head", torch.stack([weight[0] - weight[1] for weight in weights]).float())
        self.register_buffer("head_bias", torch.stack([bias[0] - bias[1] for bias in biases]).float())

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Decide, then hear over the open edges."""
        listening, broadcasting = (self.scores(features, edges) >= 0).unbind(2)
        listen = mark_decision(listening, self.names[0]).to(features.dtype)
        broadcast = mark_decision(broadcasting, self.names[1]).to(features.dtype)
        heard = aggregate(features, edges, self.convolution.aggregation, listen, broadcast, self.summation)
        return self.convolution.combine(features, heard)

    def scores(self, features: Tensor, edges: Tensor) -> Tensor:
        """Return how much yes is ahead of no, in units of the logits: (batch, nodes, 2), listening first."""
        heard = aggregate(features, edges, self.action_aggregation, summation=self.summation)
        hidden = torch.relu(self.own(features) + self.neighbours(heard))
        by_action = hidden.reshape(*hidden.shape[:2], *self.head.shape)
        scores: Tensor = (by_action * self.head).sum(3) + self.head_bias
        return scores


def _stacked(layers: list[nn.Linear]) -> nn.Linear:
    """Return one linear layer that gives the outputs of several side by side."""
    whole = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), layers[0].bias is not None)
    state = {name: torch.cat([layer.state_dict()[name] for layer in layers]) for name in layers[0].state_dict()}
    whole.load_state_dict(state)
    return whole
