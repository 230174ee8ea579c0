"""The two forms of ``graph.cogn``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit_graph.cogn_oracle import actions, neighbours
from deploykit_graph.cooperative_layers import ActionNetwork, CooperativeConvolution
from deploykit_training.training import evaluate, new_record, train
from tests.plugins.cogn_networks import (
    FEATURES,
    NAME,
    Network,
    answers,
    close,
    decide,
    graphs,
    method_of,
    modules_of,
    prepared,
    smallest_margin,
)

# -- the hard form ------------------------------------------------------------------------------------------------


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(0, 25)),
    seed=st.integers(0, 2**31),
    aggregation=st.sampled_from(["mean", "sum"]),
)
@settings(max_examples=40, deadline=None)
def test_the_hard_form_equals_its_oracle(sizes: tuple[int, int, int], seed: int, aggregation: str) -> None:
    """Loops, repeated edges, no edges, one node, ends outside: all drawn."""
    soft = prepared(seed, action_aggregation=aggregation)
    features, edges = graphs(seed + 1, *sizes)
    assume(smallest_margin(soft, features, edges) > 1e-4)
    expected = method_of(soft).oracle(soft, (features, edges))["output"]
    hard = deploykit.harden(soft)
    modules = modules_of(hard)
    assert len(modules) == 2
    for module in (*modules, soft):
        close(answers(module, features, edges), expected)
    taken = method_of(soft).decisions(hard.module, (features, edges))
    parameters = {name: value.double().numpy() for name, value in soft.get_submodule("first").state_dict().items()}
    for action in ("listen", "broadcast"):
        by_hand = [
            actions(parameters, action, aggregation, x, neighbours(ends, len(x)))
            for x, ends in zip(features.double().numpy(), edges.numpy(), strict=True)
        ]
        assert taken[f"{action}/first"].value.tolist() == by_hand


def test_nodes_decide_differently_so_that_the_tests_here_mean_something() -> None:
    soft = prepared()
    decisions = method_of(soft).decisions(soft, graphs(1, batch=20))
    assert set(decisions) == {f"{action}/{path}" for action in ("listen", "broadcast") for path in ("first", "second")}
    for name, taken in decisions.items():
        assert 0.1 < taken.value.mean() < 0.9, name


def test_when_all_are_standard_the_plain_network_answers() -> None:
    network = Network()
    soft = prepared(network=network)
    for action in ("listen", "broadcast"):
        decide(soft, action, yes=True)
    features, edges = graphs(2)
    for module in modules_of(deploykit.harden(soft)):
        close(answers(module, features, edges), answers(network, features, edges))


@pytest.mark.parametrize("silent", [("listen",), ("broadcast",), ("listen", "broadcast")])
def test_when_all_are_isolated_each_node_is_alone(silent: tuple[str, ...]) -> None:
    network = Network()
    soft = prepared(network=network)
    for action in ("listen", "broadcast"):
        decide(soft, action, yes=action not in silent)
    features, edges = graphs(2)
    alone = network.last(torch.tanh(network.second.own(torch.tanh(network.first.own(features)))))
    for module in modules_of(deploykit.harden(soft)):
        close(answers(module, features, edges), alone.detach())


def test_permuting_nodes_and_edges_permutes_answers() -> None:
    hard = deploykit.harden(prepared()).module
    features, edges = graphs(4, outside=False)
    order = torch.randperm(features.shape[1])
    numbers = torch.argsort(order)  # node n stands at numbers[n] afterwards
    shuffled = numbers[edges][:, torch.randperm(edges.shape[1])]
    expected = answers(hard, features, edges)[:, order.numpy()]
    close(answers(hard, features[:, order], shuffled), expected)


@pytest.mark.parametrize("index", [0, 1])
def test_padding_changes_no_other_node(index: int) -> None:
    hard = modules_of(deploykit.harden(prepared()))[index]
    features, edges = graphs(6, batch=3, outside=False)
    alone = answers(hard, features, edges)
    more = torch.cat([features, 50 * torch.randn(3, 5, FEATURES)], dim=1)
    ends = torch.cat([torch.full((3, 4, 2), -1), edges, torch.full((3, 9, 2), -1)], dim=1)
    close(answers(hard, more, ends)[:, :7], alone)


@pytest.mark.parametrize("index", [0, 1])
def test_no_edge_reaches_another_graph(index: int) -> None:
    hard = modules_of(deploykit.harden(prepared()))[index]
    features, edges = graphs(7, batch=3, edges=60)  # many ends outside
    whole = answers(hard, features, edges)
    for graph in range(3):
        alone = answers(hard, features[graph : graph + 1], edges[graph : graph + 1])
        close(alone[0], whole[graph])
    changed = features.clone()
    changed[1] += 10.0
    after = answers(hard, changed, edges)
    np.testing.assert_array_equal(after[[0, 2]], whole[[0, 2]])
    assert np.abs(after[1] - whole[1]).max() > 0.01


def test_it_answers_the_same_twice_and_draws_nothing() -> None:
    hard = deploykit.harden(prepared()).module
    features, edges = graphs(8, edges=80)
    state = torch.get_rng_state()
    first = answers(hard, features, edges)
    np.testing.assert_array_equal(answers(hard, features, edges), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tie_means_yes_in_both_forms() -> None:
    soft = prepared()
    for module in soft.modules():
        if isinstance(module, ActionNetwork):
            nn.init.zeros_(module.head.weight)
            nn.init.zeros_(module.head.bias)
    features, edges = graphs(2)
    for form in (soft, deploykit.harden(soft).module):
        for taken in method_of(soft).decisions(form, (features, edges)).values():
            assert taken.value.all()
            assert taken.margin is not None
            assert not taken.margin.any()
    close(answers(soft, features, edges), answers(deploykit.harden(soft).module, features, edges))


def test_the_facts_tell_open_edges_and_what_sampling_would_change() -> None:
    soft = prepared()
    features, edges = graphs(9, batch=4)
    taken = method_of(soft).decisions(soft, (features, edges))
    nodes = features.shape[1]
    is_open = real = 0
    for graph in range(4):
        for source, target in edges[graph].tolist():
            if 0 <= source < nodes and 0 <= target < nodes:
                real += 1
                is_open += taken["listen/first"].value[graph, target] and taken["broadcast/first"].value[graph, source]
    facts = deploykit.harden(soft, (features, edges)).facts
    assert f"first: {is_open} of {real}" in facts["open edges, on the calibration samples"]
    assert 0 < is_open < real
    flips = float(facts["actions that sampling would take otherwise"].removesuffix("%")) / 100
    drawn = _drawn_first_listen(soft, features, edges)
    margins = [torch.from_numpy(item.margin) for item in taken.values() if item.margin is not None]
    assert flips == pytest.approx(float(torch.sigmoid(-torch.stack(margins)).mean()), abs=1e-4)
    listening = torch.from_numpy(taken["listen/first"].value)
    expected = torch.sigmoid(-torch.from_numpy(np.asarray(taken["listen/first"].margin))).mean()
    assert float((drawn != listening).float().mean()) == pytest.approx(float(expected), abs=0.01)


def _drawn_first_listen(soft: nn.Module, features: Tensor, edges: Tensor) -> Tensor:
    """Sample the first layer's listening 4 000 times, through a layer that answers with what was heard."""
    layer = soft.get_submodule("first")
    assert isinstance(layer, CooperativeConvolution)
    layer.train()
    torch.manual_seed(0)
    with torch.no_grad():
        logits = layer.logits(features, edges)[0]
        drawn = torch.stack([layer._act(logits) for _ in range(4000)])
    layer.eval()
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    return drawn == 1


# -- the soft form ------------------------------------------------------------------------------------------------


def test_in_eval_mode_both_forms_answer_and_decide_alike() -> None:
    soft = prepared()
    features, edges = graphs(10, batch=30)
    assert smallest_margin(soft, features, edges) > 1e-5
    hard = deploykit.harden(soft).module
    close(answers(soft, features, edges), answers(hard, features, edges))
    one, two = (method_of(soft).decisions(form, (features, edges)) for form in (soft, hard))
    for name, taken in one.items():
        assert deploykit.agreement(taken, two[name]).rate == 1.0
        close(np.asarray(taken.margin), two[name].margin)


def test_training_samples_and_a_seed_repeats_it() -> None:
    soft = prepared().train()
    features, edges = graphs(11)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(answers(soft, features, edges))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


def test_the_temperature_shapes_the_gradient_and_no_value() -> None:
    features, edges = graphs(12)
    values, slopes = [], []
    for temperature in (1.0, 0.2):
        soft = prepared(temperature=temperature).train()
        torch.manual_seed(0)
        value = soft(features, edges)
        value.square().sum().backward()
        values.append(value.detach())
        slopes.append(
            torch.cat([p.grad.flatten() for n, p in soft.named_parameters() if "head" in n and p.grad is not None])
        )
    assert torch.equal(values[0], values[1])
    assert not torch.allclose(slopes[0], slopes[1])


def test_cooperation_solves_what_the_plain_network_cannot(tmp_path: Path) -> None:
    task = deploykit.make_task("root-neighbours")
    scores = {}
    for method in (NAME, "plain.passthrough"):
        soft = train(new_record(method, {}, "root-neighbours", epochs=20), tmp_path / method)
        scores[method] = evaluate(deploykit.harden(soft).module, task)
        assert evaluate(soft, task) == pytest.approx(scores[method], abs=1e-4)
    assert scores[NAME] > -0.1  # -0.043 when measured; -0.027 after the default 40 epochs
    assert scores["plain.passthrough"] < -0.25  # -0.33, and no better after 120 epochs
