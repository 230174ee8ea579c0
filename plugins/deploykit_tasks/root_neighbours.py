"""Root neighbours: generated trees in which a root must tell its neighbours apart by their degree."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit import Dim, Samples, Signature, Task, TensorSpec
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets
from deploykit_relaxations.message_passing import Aggregation, GraphConvolution

FEATURES: Final = 5
HUB_DEGREE: Final = 6
_NODES: Final = 64
_EDGES: Final = 128
_TREES: Final = 1000
_CALIBRATION: Final = 64
_WIDTH: Final = 32
_LAYERS: Final = 2
_SEEDS: Final[dict[str, int]] = {"train": 0, "test": 1}

Tree = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


class RootNeighbours(Task):
    """Predict, at the root, the mean features of those of its neighbours that have degree 6 (its hubs).

    A root, node 0, has 3 to 10 neighbours. From 1 to 3 of them are hubs with 5 further neighbours each; the others
    have 1 or 2. Test trees have 2 hubs more and 5 to 10 neighbours, so a network must have learnt to look at degrees.
    Features are uniform in [-2, 2]; every edge stands there in both directions. The loss is the mean absolute error at
    the root, the metric its negative: 0 is perfect, the units are those of the features, and predicting zeros gives
    about -0.5. What a network answers at other nodes counts nothing.

    1 000 trees each for training and testing, from seeds of their own; the first 64 training trees calibrate. All
    trees of a split are padded to the largest one: features with zeros, edges with -1 -1.

    Source: the generator's numbers are those of RootNeighbors in Finkelshtein et al. 2024, "Cooperative Graph Neural
    Networks" (arXiv 2310.01267), as in the authors' code; the random numbers, and so the trees, are ours.
    """

    metric_name = "negative mean absolute error"
    epochs = 40
    batch_size = 50
    max_loss = 0.02

    @property
    def signature(self) -> Signature:
        """Padded graphs in, five numbers a node out; the trees have at most 46 nodes, and there is room for more."""
        return Signature(
            inputs=(
                TensorSpec(
                    name="features",
                    shape=("batch", "nodes", FEATURES),
                    minimum=-2.0,
                    maximum=2.0,
                    description="of every node, the root first; zeros pad",
                ),
                TensorSpec(
                    name="edges",
                    dtype="int64",
                    shape=("batch", "edges", 2),
                    minimum=-1,
                    maximum=_NODES - 1,
                    description="source and target node, both directions; -1 -1 pads",
                ),
            ),
            outputs=(
                TensorSpec(
                    name="means",
                    shape=("batch", "nodes", FEATURES),
                    description="at the root: mean features of its neighbours of degree 6",
                ),
            ),
            dims={"batch": Dim(min=1, max=1024), "nodes": Dim(min=1, max=_NODES), "edges": Dim(min=1, max=_EDGES)},
        )

    def samples(self, split: Split) -> Samples:
        """Return padded trees, and ``root``, the true means (batch, 5)."""
        whole = _generate("test" if split == "test" else "train")
        return whole.take(slice(0, _CALIBRATION)) if split == "calibration" else whole

    def network(self, name: str = "") -> nn.Module:
        """Return a network of two graph convolutions that hear the ``mean`` (default) or the ``sum``."""
        match name or "mean":
            case "mean":
                return _GraphNetwork("mean")
            case "sum":
                return _GraphNetwork("sum")
        raise UnknownNameError(f"task 'root-neighbours' has no network {name!r}; it has 'mean' and 'sum'")

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the mean absolute error at the roots."""
        return (outputs["means"][:, 0] - targets["root"]).abs().mean()

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the negative of the mean absolute error at the roots."""
        return -float(np.abs(outputs["means"][:, 0].astype(np.float64) - samples.targets["root"]).mean())

    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Arrays:
        """Draw any graph, not only trees: edges between nodes that are there, repetitions and padding included."""
        arrays = dict(super().random_inputs(random, sizes))
        nodes = arrays["features"].shape[1]
        arrays["edges"] = random.integers(-1, nodes, arrays["edges"].shape)
        return arrays


class _GraphNetwork(nn.Module):
    def __init__(self, aggregation: Aggregation) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, _WIDTH)
        self.convolutions = nn.ModuleList(GraphConvolution(_WIDTH, _WIDTH, aggregation) for _ in range(_LAYERS))
        self.decoder = nn.Linear(_WIDTH, FEATURES)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        x = torch.relu(self.encoder(features))
        for convolution in self.convolutions:
            x = torch.relu(convolution(x, edges))
        answer: Tensor = self.decoder(x)
        return answer


@functools.cache
def _generate(split: str) -> Samples:
    random = np.random.default_rng(_SEEDS[split])
    trees = [_tree(random, further_hubs=2 if split == "test" else 0) for _ in range(_TREES)]
    nodes = max(len(features) for features, _, _ in trees)
    edges = max(len(ends) for _, ends, _ in trees)
    padded = np.zeros((_TREES, nodes, FEATURES), np.float32)
    ends = np.full((_TREES, edges, 2), -1, np.int64)
    for index, (features, own, _) in enumerate(trees):
        padded[index, : len(features)] = features
        ends[index, : len(own)] = own
    return Samples(
        inputs={"features": padded, "edges": ends}, targets={"root": np.stack([means for _, _, means in trees])}
    )


def _tree(random: np.random.Generator, further_hubs: int) -> Tree:
    hubs = int(random.integers(1, 4)) + further_hubs
    neighbours = int(random.integers(3 + further_hubs, 11))
    leaves = [HUB_DEGREE - 1] * hubs + random.integers(1, 3, size=neighbours - hubs).tolist()
    undirected: list[tuple[int, int]] = []
    nodes = 1
    for count in leaves:
        middle = nodes
        undirected.append((0, middle))
        undirected += [(middle, middle + 1 + leaf) for leaf in range(count)]
        nodes += 1 + count
    edges = np.array([*undirected, *((b, a) for a, b in undirected)], np.int64)
    # Numbers must not tell who is a hub; the root alone keeps its own.
    numbers = np.concatenate([[0], 1 + random.permutation(nodes - 1)])
    features = random.uniform(-2.0, 2.0, (nodes, FEATURES)).astype(np.float32)
    middles = np.array([b for a, b in undirected if a == 0])[:hubs]
    return features, numbers[edges], features[numbers[middles]].mean(0)
