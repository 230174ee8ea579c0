"""What BiPer cannot work on, and what it says then."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import deploykit
from deploykit import make_method, make_task
from deploykit.errors import ConfigError, ContractError
from deploykit_binarized.biper_layers import InputLayer

IMAGES = torch.rand(2, 1, 8, 8)


class Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
        self.weight = nn.Parameter(torch.rand(2, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(F.conv2d(self.first(x), self.weight))
        return y


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.relu(self.conv(x)))
        return y


def pair(first: nn.Module, last: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(first, last or nn.Conv2d(2, 2, 1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), Gated(), nn.Conv2d(2, 2, 3)), r"Gated at '1' cannot be traced: .*move such"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "has 1 Conv2d or Linear layers in a row; wanted at least two"),
        (nn.Sequential(nn.ReLU()), "has 0 Conv2d or Linear layers"),
        (pair(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "'0' pads with 'reflect'; wanted 'zeros'"),
        (pair(nn.Conv2d(1, 2, 2, padding="same")), r"'0' has padding 'same' with kernel \(2, 2\).*odd kernel"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Conv2d(2, 2, 3)),
            "'1' keeps no running statistics.*track_running_stats=True",
        ),
        (Bare(), "calls conv2d on bare tensors; wanted nn.Conv2d or nn.Linear"),
        (Twice(), "'conv' is called several times, as input and as output layer; use two layers"),
    ],
    ids=["control-flow", "one-layer", "no-layer", "reflect", "same-even", "batch-statistics", "bare", "twice"],
)
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_unfit_models_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        deploykit.prepare(model.eval(), "binarized.biper", IMAGES)


def test_sums_too_long_to_be_exact_are_refused() -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(40_000, 2), nn.Linear(2, 2))
    with pytest.raises(ContractError, match="first layer '1' sums 40,000 products of eight bits"):
        deploykit.prepare(wide, "binarized.biper", torch.rand(2, 40_000))
    later = nn.Sequential(nn.Linear(1, 2**22, bias=False), nn.Linear(2**22, 1, bias=False))
    with pytest.raises(ContractError, match="layer '1' sums 4,194,304 products; at most 4,194,303"):
        deploykit.prepare(later, "binarized.biper", torch.rand(2, 1))


@pytest.mark.parametrize("setting", [{"frequency": 0.0}, {"regulariser": -1.0}, {"second_stage": 1.5}])
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make_method("binarized.biper", setting)


def test_range_comes_from_the_example_where_the_signature_has_none() -> None:
    task = make_task("digits")
    open_ended = deploykit.prepare(task.network(), "binarized.biper", IMAGES * 5)
    grids = [module.grid for module in open_ended.modules() if isinstance(module, InputLayer)]
    assert len(grids) == 1
    assert grids[0].step == pytest.approx(float(IMAGES.max()) * 5 / 127)
    assert not grids[0].signed
