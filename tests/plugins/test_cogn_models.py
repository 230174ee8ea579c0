"""``graph.cogn`` on your own model, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit.errors import ConfigError, ContractError
from deploykit_graph.cooperative_layers import CooperativeConvolution
from deploykit_relaxations.message_passing import GraphConvolution
from tests.plugins.cogn_networks import FEATURES, NAME, SIGNATURE, Network, answers, close, graphs, method_of, prepared


def test_your_model_stays_as_it_was_and_its_layers_become_cooperative() -> None:
    model = Network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    soft = prepared(network=model)
    layers = [path for path, module in soft.named_modules() if isinstance(module, CooperativeConvolution)]
    assert layers == ["first", "second"]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_fresh_model_starts_undecided_on_its_example() -> None:
    torch.manual_seed(0)
    example = graphs(5, batch=6)
    soft = deploykit.prepare(Network(), NAME, example, signature=SIGNATURE)
    assert soft.training
    for name, taken in method_of(soft).decisions(soft.eval(), example).items():
        assert taken.margin is not None
        signed = np.where(taken.value, taken.margin, -taken.margin)
        assert abs(signed.mean()) < 1e-4, name
        assert 0 < taken.value.mean() < 1, name


def test_a_model_that_is_one_layer_is_fine() -> None:
    soft = prepared(network=GraphConvolution(FEATURES, 3))
    features, edges = graphs(3)
    hard = deploykit.harden(soft)
    assert set(method_of(soft).decisions(hard.module, (features, edges))) == {"listen", "broadcast"}
    expected = method_of(soft).oracle(soft, (features, edges))["output"]
    close(answers(hard.module, features, edges), expected)


def test_the_baseline_is_the_soft_form_or_your_own_model() -> None:
    features, edges = graphs(3)
    network = Network()
    soft = prepared(network=network)
    assert method_of(soft).baseline(soft) is soft
    plain = prepared(network=network, baseline="plain")
    np.testing.assert_array_equal(
        answers(method_of(plain).baseline(plain), features, edges), answers(network, features, edges)
    )


class _Twice(Network):
    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(features), edges) + super().forward(features, edges)


class _Changed(GraphConvolution):
    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        return super().forward(features, edges) * 2


class _Unused(Network):
    def __init__(self) -> None:
        super().__init__()
        self.spare = GraphConvolution(2, 2)


class _NoGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(FEATURES, 3)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        answer: Tensor = self.last(features)
        return answer


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            _NoGraph(),
            r"_NoGraph has no message-passing layer.*GraphConvolution \(no subclass\).*layer\(features, edges\)",
        ),
        (_Changed(FEATURES, 3), r"_Changed has no message-passing layer"),
        (_Twice(), r"graph convolution 'first' runs 2 times for one input; wanted exactly once"),
        (_Unused(), r"graph convolution 'spare' runs 0 times"),
    ],
)
def test_models_that_cannot_cooperate_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        deploykit.prepare(model, NAME, graphs(0), signature=SIGNATURE)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"graph.cogn: setting 'temperature'.*greater than 0"):
        deploykit.make_method(NAME, {"temperature": 0})
    with pytest.raises(ConfigError, match=r"'action_aggregation'.*'mean' or 'sum'"):
        deploykit.make_method(NAME, {"action_aggregation": "max"})
