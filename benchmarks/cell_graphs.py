"""Networks of cells as the searched family's hard forms are, written as ONNX, and stacks of their nodes.

A cell projects its two inputs by 1x1 convolutions; each node adds up two operators on states before it and applies
ReLU; the cell answers all nodes side by side. Batch norms are merged as the family does it: into the convolution before
them, and behind a pool as a multiplication and an addition. There are no reduction cells here.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploykit.latency_block import Block
from deploykit.latency_space import SearchSpace, Term
from deploykit_serving.latency_tables import Stack

OPERATORS: Final = ("skip", "max_3", "avg_3", "conv_3", "sep_3", "sep_5", "dil_3", "dil_5")
NONE: Final = "none"
CHANNELS: Final = 32
SIZE: Final = 16
CELLS: Final = 2
NODES: Final = 3
_DEPTHWISE: Final = {"sep_3": (3, 1), "sep_5": (5, 1), "dil_3": (3, 2), "dil_5": (5, 2)}
_CLASSES: Final = 10
_IMAGE: Final = (3, SIZE, SIZE)
INPUTS: Final = {"x": _IMAGE}


@dataclass
class Graph:
    """An ONNX graph in the making; every weight is drawn anew, so that nothing is computed once for two."""

    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator; return its answer's name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int, fan: int = 1) -> str:
        """Draw a weight; return its name."""
        name = f"w{len(self.weights)}"
        values = self.draw.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(fan))
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, wide: int, out: int, kernel: int = 1, dilation: int = 1, groups: int = 1) -> str:
        """Add a convolution with a bias that keeps the image's size."""
        weight = self.weight(out, wide // groups, kernel, kernel, fan=wide // groups * kernel * kernel)
        around = dilation * (kernel - 1) // 2
        return self.add(
            "Conv", x, weight, self.weight(out), kernel_shape=[kernel] * 2, pads=[around] * 4,
            dilations=[dilation] * 2, group=groups,
        )  # fmt: skip

    def relu(self, x: str) -> str:
        """Add a ReLU."""
        return self.add("Relu", x)

    def candidate(self, operator: str, x: str) -> str:
        """Add one of the operators."""
        if operator == "skip":
            return x
        if operator == "conv_3":
            return self.conv(x, CHANNELS, CHANNELS, 3)
        if operator in _DEPTHWISE:
            kernel, dilation = _DEPTHWISE[operator]
            deep = self.conv(x, CHANNELS, CHANNELS, kernel, dilation, groups=CHANNELS)
            return self.conv(deep, CHANNELS, CHANNELS)
        around = {"kernel_shape": [3, 3], "pads": [1] * 4}
        pool = self.add("MaxPool", x, **around) if operator == "max_3" else self.add("AveragePool", x, **around)
        scaled = self.add("Mul", pool, self.weight(1, CHANNELS, 1, 1))
        return self.add("Add", scaled, self.weight(1, CHANNELS, 1, 1))

    def node(self, first: tuple[str, str], second: tuple[str, str]) -> str:
        """Return ReLU of the sum of two (operator, state)."""
        return self.relu(self.add("Add", *(self.candidate(name, state) for name, state in (first, second))))

    def finished(self, x: str, wide: int) -> bytes:
        """Put the mean over the image and a classifier behind ``x``."""
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        scores = self.add("Gemm", flat, self.weight(wide, _CLASSES, fan=wide), self.weight(_CLASSES))
        graph = helper.make_graph(
            self.nodes, "cells",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *_IMAGE])],
            [helper.make_tensor_value_info(scores, TensorProto.FLOAT, [1, _CLASSES])],
            self.weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data


def node_block(first: str, second: str) -> Block:
    """Return the key of a node: the order of its two operators does not matter."""
    operator = "+".join(sorted((first, second)))
    return Block(
        operator=operator, channels_in=CHANNELS, channels_out=CHANNELS, height=SIZE, width=SIZE, residual=True,
        activation="relu",
    )  # fmt: skip


def node_stacks() -> dict[Block, Stack]:
    """Return what writes stacks of each pair of operators; each node reads the two states before it."""

    def stack(first: str, second: str) -> Stack:
        def write(copies: int) -> bytes:
            graph = Graph()
            before = last = graph.relu(graph.conv("x", _IMAGE[0], CHANNELS, 3))
            for _ in range(copies):
                before, last = last, graph.node((first, last), (second, before))
            return graph.finished(last, CHANNELS)

        return write

    pairs = itertools.combinations_with_replacement(OPERATORS, 2)
    return {node_block(first, second): stack(first, second) for first, second in pairs}


def operator_block(operator: str) -> Block:
    """Return the key of one operator alone."""
    return Block(operator=operator, channels_in=CHANNELS, channels_out=CHANNELS, height=SIZE, width=SIZE)


def operator_stacks() -> dict[Block, Stack]:
    """Return what writes chains of one operator: the usual block of a table, here only to compare with."""

    def stack(operator: str) -> Stack:
        def write(copies: int) -> bytes:
            graph = Graph()
            x = graph.relu(graph.conv("x", _IMAGE[0], CHANNELS, 3))
            for _ in range(copies):
                x = graph.candidate(operator, x)
            return graph.finished(x, CHANNELS)

        return write

    return {operator_block(operator): stack(operator) for operator in OPERATORS}


def edge(cell: int, node: int, state: int) -> str:
    return f"cell {cell}, node {node}, from {state}"


def cell_space(*, by_node: bool = True) -> SearchSpace:
    """Return the space; where a node has more than two states before it, the edges it drops are ``none``.

    Args:
        by_node: whether a block is a node with its two operators, or one operator.
    """
    choices: dict[str, tuple[str, ...]] = {}
    terms: list[Term] = []
    for cell, node in itertools.product(range(CELLS), range(NODES)):
        edges = [edge(cell, node, state) for state in range(2 + node)]
        choices |= dict.fromkeys(edges, OPERATORS if node == 0 else (NONE, *OPERATORS))
        for (one, other), (first, second) in itertools.product(
            itertools.combinations(edges, 2), itertools.product(OPERATORS, repeat=2)
        ):
            terms.append(Term(node_block(first, second), {one: (first,), other: (second,)}))
    if by_node:
        return SearchSpace("cells", choices, tuple(terms))
    alone = (Term(operator_block(name), {choice: (name,)}) for choice in choices for name in OPERATORS)
    return SearchSpace("cells, by operator", choices, tuple(alone))


def random_genotype(draw: random.Random) -> dict[str, str]:
    """Draw two edges a node and an operator for each."""
    genotype: dict[str, str] = {}
    for cell, node in itertools.product(range(CELLS), range(NODES)):
        kept = draw.sample(range(2 + node), 2)
        genotype |= {
            edge(cell, node, state): draw.choice(OPERATORS) if state in kept else NONE for state in range(2 + node)
        }
    return genotype


def network(genotype: Mapping[str, str]) -> bytes:
    """Write the network of a genotype."""
    graph = Graph()
    before = last = graph.relu(graph.conv("x", _IMAGE[0], CHANNELS, 3))
    widths = [CHANNELS, CHANNELS]
    for cell in range(CELLS):
        states = [graph.relu(graph.conv(x, wide, CHANNELS)) for x, wide in zip((before, last), widths, strict=True)]
        for node in range(NODES):
            names = {state: genotype[edge(cell, node, state)] for state in range(2 + node)}
            first, second = ((name, states[state]) for state, name in names.items() if name != NONE)
            states.append(graph.node(first, second))
        before, last = last, graph.add("Concat", *states[2:], axis=1)
        widths = [widths[1], NODES * CHANNELS]
    return graph.finished(last, widths[1])
