"""pruned.gate: random networks against the numpy oracle, and what the oracle leaves to torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit.errors import ContractError
from deploykit.lifecycle import binding_of
from deploykit_pruned import gate_oracle
from tests.plugins.gate_networks import IMAGE, answers, gated


class Random(nn.Module):
    """A random net: convolutions of random width, some with a skip, stride or pool."""

    def __init__(self, widths: list[int], skips: list[bool], stride: int, pooled: bool, bias: bool) -> None:
        super().__init__()
        self.layers, self.norms, channels = nn.ModuleList(), nn.ModuleList(), 3
        self.skips, self.pooled = skips, nn.AvgPool2d(2) if pooled else nn.MaxPool2d(2, stride=1, padding=1)
        for width, skip in zip(widths, skips, strict=True):
            source, channels = channels, channels if skip else width
            self.layers.append(nn.Conv2d(source, channels, 3, padding=1, bias=bias, stride=1 if skip else stride))
            self.norms.append(nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm, skip in zip(self.layers, self.norms, self.skips, strict=True):
            y = torch.relu(norm(layer(x)))
            x = x + y if skip else y
        answer: Tensor = self.head(self.pooled(x).mean((2, 3)))
        return answer


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_random_nets_mask_removal_and_oracle_are_one(data: st.DataObject) -> None:
    depth = data.draw(st.integers(2, 4))
    widths = data.draw(st.lists(st.integers(2, 7), min_size=depth, max_size=depth))
    skips = [False, *data.draw(st.lists(st.booleans(), min_size=depth - 1, max_size=depth - 1))]
    stride = data.draw(st.integers(1, 2)) if depth < 3 else 1
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    network = Random(widths, skips, stride, data.draw(st.booleans()), data.draw(st.booleans()))
    keep = data.draw(st.sampled_from([0.51, 0.7, 0.9]))
    soft = gated(network, seed=data.draw(st.integers(0, 1000)), keep=keep)
    deploykit.on_step(soft, 1.0)
    masked, removed = answers(soft)[0], answers(deploykit.harden(soft).module)[0]
    torch.testing.assert_close(masked, removed, rtol=1e-4, atol=1e-5)
    (expected,) = binding_of(soft).method.oracle(soft, (IMAGE,)).values()
    np.testing.assert_allclose(removed.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert int(soft.chosen().sum()) == int(keep * len(soft.gates.weight) + 1e-9)


class Block(nn.Module):
    """A transformer's block: operators that the oracle leaves to torch."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.feed_forward = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        y: Tensor = x + self.feed_forward(self.norm(x))
        return y.clamp(-2.0, 2.0)


def test_operators_outside_the_small_set_are_run_by_torch() -> None:
    x = torch.randn(3, 5, 8)
    soft = deploykit.prepare(Block(), "pruned.gate", x, keep=0.5).eval()
    hard = deploykit.harden(soft)
    assert int(hard.facts["kept channels"].split()[0]) < 16
    (expected,) = binding_of(soft).method.oracle(soft, (x,)).values()
    with torch.no_grad():
        np.testing.assert_allclose(hard.module(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_operator_that_torch_does_not_run_either_is_named() -> None:
    with pytest.raises(ContractError, match="the oracle does not know no_such_method, and torch does not run it"):
        gate_oracle._by_torch("no_such_method")(np.ones(2))


class Branching(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = super().forward(x) if x.sum() > 0 else x  # type: ignore[no-untyped-call]
        return answer


def test_the_oracle_says_when_a_network_cannot_be_traced() -> None:
    soft = deploykit.prepare(Branching(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), "pruned.gate", torch.rand(2, 4))
    with pytest.raises(ContractError, match="the oracle cannot trace Branching"):
        binding_of(soft).method.oracle(soft, (torch.rand(2, 4),))
