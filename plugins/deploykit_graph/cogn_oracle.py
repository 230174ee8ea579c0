"""Slow, obvious reference of the hard cooperative layer: numpy, float64, loops over nodes and their neighbours."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.outputs import named_outputs
from deploykit.signature import Arrays, Signature
from deploykit_graph.cooperative_layers import CooperativeConvolution
from deploykit_graph.graph_surgery import frozen_copy

Matrix = NDArray[np.float64]
Parameters = dict[str, Matrix]


def oracle_answers(soft: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> Arrays:
    """Run the model in float64 with every cooperative layer replaced by :func:`layer_answer` of each graph."""
    twin = frozen_copy(copy.deepcopy(soft).double(), CooperativeConvolution, lambda _, layer: _OracleLayer(layer))
    doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    with torch.no_grad():
        outputs = named_outputs(twin(*doubled), signature)
    dtypes = {spec.name: spec.dtype for spec in signature.outputs}
    return {name: value.numpy().astype(dtypes[name]) for name, value in outputs.items()}


def neighbours(edges: NDArray[np.int64], nodes: int) -> list[list[int]]:
    """Return for every node the sources it hears, as often as they are named."""
    heard: list[list[int]] = [[] for _ in range(nodes)]
    for source, target in edges.tolist():
        if 0 <= source < nodes and 0 <= target < nodes:
            heard[target].append(source)
    return heard


def actions(
    parameters: Parameters, name: str, aggregation: str, features: Matrix, heard: list[list[int]]
) -> list[bool]:
    """Return for every node whether it takes the action ``listen`` or ``broadcast``."""
    taken = []
    for node, sources in enumerate(heard):
        message = _aggregated(features, sources, aggregation)
        hidden = parameters[f"{name}.convolution.own.weight"] @ features[node]
        hidden = hidden + parameters[f"{name}.convolution.own.bias"]
        hidden = np.maximum(hidden + parameters[f"{name}.convolution.neighbours.weight"] @ message, 0.0)
        yes, no = parameters[f"{name}.head.weight"] @ hidden + parameters[f"{name}.head.bias"]
        taken.append(bool(yes >= no))
    return taken


def layer_answer(
    parameters: Parameters, aggregations: tuple[str, str], features: Matrix, edges: NDArray[np.int64]
) -> Matrix:
    """Return one graph's answer.

    Args:
        parameters: a cooperative convolution's state by name, float64.
        aggregations: the convolution's and the action networks'.
        features: (nodes, features_in).
        edges: (edges, 2).

    Returns:
        (nodes, features_out).
    """
    heard = neighbours(edges, len(features))
    listening = actions(parameters, "listen", aggregations[1], features, heard)
    broadcasting = actions(parameters, "broadcast", aggregations[1], features, heard)
    answers = []
    for node, sources in enumerate(heard):
        kept = [source for source in sources if listening[node] and broadcasting[source]]
        message = _aggregated(features, kept, aggregations[0])
        answer = parameters["convolution.own.weight"] @ features[node] + parameters["convolution.own.bias"]
        answers.append(answer + parameters["convolution.neighbours.weight"] @ message)
    return np.stack(answers)


def _aggregated(features: Matrix, sources: list[int], aggregation: str) -> Matrix:
    total = np.zeros(features.shape[1])
    for source in sources:
        total = total + features[source]
    return total / len(sources) if aggregation == "mean" and sources else total


class _OracleLayer(nn.Module):
    def __init__(self, layer: CooperativeConvolution) -> None:
        super().__init__()
        self.parameters_by_name: dict[str, Any] = {name: value.numpy() for name, value in layer.state_dict().items()}
        self.aggregations = (layer.convolution.aggregation, layer.action_aggregation)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        graphs = zip(features.numpy(), edges.numpy(), strict=True)
        answers = [layer_answer(self.parameters_by_name, self.aggregations, *graph) for graph in graphs]
        return torch.from_numpy(np.stack(answers))
