"""Small graphs and networks for the tests of ``graph.cogn``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit import Dim, HardForm, Signature, TensorSpec
from deploykit.lifecycle import binding_of
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_graph.cogn import CooperativeGraph
from deploykit_graph.cooperative_layers import ActionNetwork, start_undecided
from deploykit_relaxations.message_passing import GraphConvolution

FEATURES = 4
NAME = "graph.cogn"
SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="features", shape=("batch", "nodes", FEATURES)),
        TensorSpec(name="edges", dtype="int64", shape=("batch", "edges", 2)),
    ),
    outputs=(TensorSpec(name="output", shape=("batch", "nodes", 3)),),
    dims={"nodes": Dim(min=1, max=512), "edges": Dim(min=1, max=4096)},
)


class Network(nn.Module):
    """Two convolutions, the second called with keywords; hears means, then sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GraphConvolution(FEATURES, 6, "mean")
        self.second = GraphConvolution(6, 5, "sum")
        self.last = nn.Linear(5, 3)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        x = torch.tanh(self.first(features, edges))
        x = torch.tanh(self.second(features=x, edges=edges))
        answer: Tensor = self.last(x)
        return answer


def graphs(seed: int, batch: int = 2, nodes: int = 7, edges: int = 15, outside: bool = True) -> tuple[Tensor, Tensor]:
    """Random features and edges: loops, repetitions and, if ``outside``, ends that are no nodes."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (-2, nodes + 2) if outside else (0, nodes)
    return (
        torch.randn(batch, nodes, FEATURES, generator=generator),
        torch.randint(low, high, (batch, edges, 2), generator=generator),
    )


def prepared(seed: int = 0, network: nn.Module | None = None, **config: Any) -> nn.Module:
    """A soft form whose nodes decide differently, about half of them yes; training would take longer."""
    torch.manual_seed(seed)
    model = network or Network()
    soft = deploykit.prepare(model, NAME, graphs(seed), signature=SIGNATURE, **({"action_width": 8} | config)).eval()
    with torch.no_grad():
        for module in soft.modules():
            if isinstance(module, ActionNetwork):
                module.head.weight.mul_(4.0)
    start_undecided(soft, graphs(seed + 1000, batch=10))
    return soft


def decide(soft: nn.Module, action: str, *, yes: bool) -> None:
    """Make all nodes take an action, or none, whatever they see."""
    with torch.no_grad():
        for path, module in soft.named_modules():
            if isinstance(module, ActionNetwork) and path.rpartition(".")[2] == action:
                module.head.weight.zero_()
                module.head.bias.copy_(torch.tensor([1.0, -1.0] if yes else [-1.0, 1.0]))


def method_of(soft: nn.Module) -> CooperativeGraph:
    method = binding_of(soft).method
    assert isinstance(method, CooperativeGraph)
    return method


def answers(form: nn.Module, features: Tensor, edges: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        result: np.ndarray[Any, Any] = form(features, edges).numpy()
    return result


def close(got: np.ndarray[Any, Any], wanted: object) -> None:
    np.testing.assert_allclose(got, np.asarray(wanted), rtol=1e-4, atol=1e-5)


def modules_of(hard: HardForm) -> list[nn.Module]:
    """The hard form and everything else it may be written from."""
    return [hard.module, *(low.module for low in hard.lowerings.values() if low.module is not None)]


def smallest_margin(soft: nn.Module, features: Tensor, edges: Tensor) -> float:
    decisions = method_of(soft).decisions(soft, (features, edges))
    return min(float(taken.margin.min()) for taken in decisions.values() if taken.margin is not None)


def written(hard: HardForm, signature: Signature, example: tuple[Tensor, ...]) -> dict[str, OnnxModel]:
    lowerings = {
        name: low if low.module is not None else replace(low, module=hard.module)
        for name, low in hard.lowerings.items()
    }
    return write_onnx(lowerings, signature, example)
