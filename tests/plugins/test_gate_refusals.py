"""pruned.gate: models and settings it cannot work with, and what it says of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit.errors import ConfigError, ContractError
from deploykit_pruned.gate_layers import GatedNet
from tests.plugins.gate_networks import IMAGE, Chain


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.second(self.norm(self.first(x)))
        return answer


def test_what_mixes_channels_is_left_alone_and_named() -> None:
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(dim=1), nn.Linear(8, 3))
    soft = deploykit.prepare(network, "pruned.gate", torch.rand(4, 5))
    assert isinstance(soft, GatedNet)
    assert [group.name for group in soft.groups] == ["0"]
    assert "mixes channels" in soft.left_alone["2"]
    assert "2: something between" in deploykit.harden(soft).facts["not gated"]


@pytest.mark.parametrize(
    ("network", "example", "reason"),
    [
        (nn.Linear(4, 3), torch.rand(2, 4), "the model itself: no convolution or linear layer reads it"),
        (nn.Flatten(), torch.rand(2, 4), "no such layer on a differentiable path to an output"),
        (Normed(), torch.rand(2, 5), "first: something between it and its readers mixes channels"),
        (nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 2)), torch.rand(2, 4), "nothing to choose from: 1 channel"),
    ],
)
def test_models_without_prunable_channels_are_refused(network: nn.Module, example: Tensor, reason: str) -> None:
    with pytest.raises(ContractError, match=f"has no channels to prune.*{reason}"):
        deploykit.prepare(network, "pruned.gate", example)


class Winner(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return answer.argmax(dim=1)


def test_a_model_without_differentiable_outputs_is_refused() -> None:
    with pytest.raises(ContractError, match="no such layer on a differentiable path to an output"):
        deploykit.prepare(Winner(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), "pruned.gate", torch.rand(2, 4))


class Outside(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return torch.from_numpy(answer.numpy() + 1)


def test_a_model_that_leaves_torch_is_refused() -> None:
    with pytest.raises(ContractError, match=r"cannot trace which channels of Outside depend.*RuntimeError.*numpy"):
        deploykit.prepare(Outside(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), "pruned.gate", torch.rand(2, 4))


class Peeking(nn.Sequential):
    """Uses a layer's weight beside the layer, which a gate in front of the layer cannot cover."""

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return answer + self[2].get_parameter("weight").sum()


def test_a_model_that_uses_weights_behind_the_layers_back_is_refused() -> None:
    with pytest.raises(ContractError, match="0: removing channels breaks the network: AttributeError"):
        deploykit.prepare(Peeking(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), "pruned.gate", torch.rand(2, 4))


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01])
def test_keep_out_of_range_is_refused(keep: float) -> None:
    with pytest.raises(ConfigError, match=r"pruned\.gate: setting 'keep': Input should be"):
        deploykit.prepare(Chain(), "pruned.gate", IMAGE, keep=keep)


def test_an_unknown_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="setting 'budget': Input should be 'channels', 'macs' or 'params'"):
        deploykit.prepare(Chain(), "pruned.gate", IMAGE, budget="flops")


def test_a_budget_below_one_channel_a_group_is_refused_before_training() -> None:
    with pytest.raises(ContractError, match=r"allows 1 of 26 channels, but one channel in each of 3 groups needs 3; "
                                            r"raise keep to at least 0.1154"):  # fmt: skip
        deploykit.prepare(Chain(), "pruned.gate", IMAGE, keep=0.05)
