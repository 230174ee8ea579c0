"""Messages along edges, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations.message_passing import (
    Aggregation,
    GraphConvolution,
    aggregate,
    sum_over_adjacency,
    sum_over_edges,
)
from tests.plugins.cogn_networks import graphs

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(0, 25))
KINDS: tuple[Aggregation, Aggregation] = ("mean", "sum")


def heard_by_loops(features: Tensor, edges: Tensor, kind: str, listen: Tensor, broadcast: Tensor) -> Tensor:
    heard = torch.zeros_like(features)
    for graph in range(len(features)):
        for node in range(features.shape[1]):
            kept = [
                features[graph, source]
                for source, target in edges[graph].tolist()
                if target == node
                and 0 <= source < features.shape[1]
                and listen[graph, node]
                and broadcast[graph, source]
            ]
            if kept:
                heard[graph, node] = torch.stack(kept).sum(0) / (len(kept) if kind == "mean" else 1)
    return heard


def bits(seed: int, features: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randint(0, 2, (2, *features.shape[:2]), generator=generator).float()
    return both[0], both[1]


@given(sizes=SIZES, seed=st.integers(0, 2**31), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_what_is_heard_over_open_edges_equals_loops(sizes: tuple[int, int, int], seed: int, kind: Aggregation) -> None:
    features, edges = graphs(seed, *sizes)
    listen, broadcast = bits(seed, features)
    expected = heard_by_loops(features, edges, kind, listen, broadcast)
    for summation in (sum_over_edges, sum_over_adjacency):
        heard = aggregate(features, edges, kind, listen, broadcast, summation)
        torch.testing.assert_close(heard, expected, rtol=1e-5, atol=1e-5)
    ones = torch.ones_like(listen)
    torch.testing.assert_close(
        aggregate(features, edges, kind), heard_by_loops(features, edges, kind, ones, ones), rtol=1e-5, atol=1e-5
    )


@given(sizes=SIZES, seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_kept_edges_are_the_sum_of_listening_targets_times_broadcasting_sources(
    sizes: tuple[int, int, int], seed: int
) -> None:
    features, edges = graphs(seed, *sizes, outside=False)
    listen, broadcast = bits(seed, features)
    kept = aggregate(torch.ones_like(features), edges, "sum", listen, broadcast)[..., 0]
    expected = [
        sum(float(listen[graph, target] * broadcast[graph, source]) for source, target in edges[graph].tolist())
        for graph in range(len(features))
    ]
    assert kept.sum(1).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("summation", [sum_over_edges, sum_over_adjacency])
def test_gradients_are_those_of_the_weighted_edges(kind: Aggregation, summation: object) -> None:
    features, edges = graphs(3, outside=False, edges=40)
    # Dense enough that no count of open edges is at the clamp, where a difference quotient means nothing.
    weights = [torch.rand(features.shape[:2], dtype=torch.float64) + 0.7 for _ in range(2)]
    inputs = [tensor.double().requires_grad_() for tensor in (features, *weights)]

    def heard(x: Tensor, listen: Tensor, broadcast: Tensor) -> Tensor:
        assert callable(summation)
        return aggregate(x, edges, kind, listen, broadcast, summation)

    assert float(sum_over_edges(inputs[2].detach().unsqueeze(2), edges).min()) > 1.0
    assert torch.autograd.gradcheck(heard, inputs)


def test_a_mean_counts_open_edges_only() -> None:
    features = torch.tensor([[[0.0], [2.0], [100.0]]])
    edges = torch.tensor([[[1, 0], [2, 0]]])
    heard = aggregate(features, edges, "mean", broadcast=torch.tensor([[1.0, 1.0, 0.0]]))
    assert heard.flatten().tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("summation", [sum_over_edges, sum_over_adjacency])
@pytest.mark.parametrize("edge", [[-1, -1], [-1, 0], [0, -1], [3, 0], [0, 3], [5, 1], [1, -3], [-3, 1]])
def test_an_edge_with_an_end_outside_is_no_edge_and_reaches_no_other_graph(summation: object, edge: list[int]) -> None:
    assert callable(summation)
    features = torch.arange(1.0, 10.0).reshape(3, 3, 1)
    heard = summation(features, torch.tensor([[[-1, -1]], [edge], [[-1, -1]]]))
    assert heard.abs().sum() == 0


def test_the_layer_is_a_linear_map_of_own_and_heard_features() -> None:
    features, edges = graphs(1)
    layer = GraphConvolution(4, 3, "mean")
    weight = torch.cat([layer.own.weight, layer.neighbours.weight], dim=1)
    both = torch.cat([features, aggregate(features, edges, "mean")], dim=2)
    torch.testing.assert_close(layer(features, edges), both @ weight.T + layer.own.bias)


def test_tensors_that_are_not_batch_first_are_refused() -> None:
    layer = GraphConvolution(4, 3)
    with pytest.raises(ValueError, match=r"\[batch, nodes, 4\].*got \[5, 4\] and \[6, 2\].*unsqueeze\(0\)"):
        layer(torch.zeros(5, 4), torch.zeros(6, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="wanted aggregation 'mean' or 'sum', got 'max'"):
        GraphConvolution(4, 3, "max")  # type: ignore[arg-type]


def test_the_summations_of_large_graphs_agree() -> None:
    features, edges = graphs(5, batch=2, nodes=120, edges=700)
    one, two = sum_over_edges(features, edges), sum_over_adjacency(features, edges)
    np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-4, atol=1e-5)
