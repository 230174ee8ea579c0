"""Small supernets for the tests of ``searched.darts``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit.lifecycle import binding_of
from deploykit_searched import CellNetwork, Choice, Genotype, SearchCell, genotype_of
from deploykit_searched.darts import Darts
from deploykit_searched.layer_exchange import layers
from deploykit_searched.operators import OPERATORS

NAME = "searched.darts"
ALL = OPERATORS


def cell_supernet(seed: int = 0, *, cells: int = 2, nodes: int = 3, operators: tuple[str, ...] = ALL) -> nn.Module:
    """Return a supernet whose alphas are far apart and whose statistics are no fresh ones, in eval mode."""
    torch.manual_seed(seed)
    network = CellNetwork(2, 4, channels=3, cells=cells, nodes=nodes, operators=operators)
    soft = deploykit.prepare(network, NAME, torch.randn(4, 2, 9, 8))
    return stirred(soft)


def stirred(soft: nn.Module) -> nn.Module:
    """Draw alphas of spread 1 and random batch statistics; return the supernet in eval mode."""
    for choice in layers(soft, Choice).values():
        nn.init.normal_(choice.alpha)
    for norm in layers(soft, nn.BatchNorm2d).values():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 3.0)
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.fill_(7)
    return soft.eval()


def images(count: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, 2, 9, 8, generator=torch.Generator().manual_seed(seed))


def answers(form: nn.Module, *x: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        result: np.ndarray[Any, Any] = form(*x).numpy()
    return result


def method_of(soft: nn.Module) -> Darts:
    method = binding_of(soft).method
    assert isinstance(method, Darts)
    return method


def make_one_hot(soft: nn.Module) -> Genotype:
    """Give all weight to what the supernet would choose, and to ``none`` on edges it would drop."""
    genotype = genotype_of(soft)
    for path, choice in layers(soft, Choice).items():
        wanted = genotype.operators.get(path, "none")
        with torch.no_grad():
            choice.alpha.fill_(-1e4)
            choice.alpha[choice.names.index(wanted)] = 1e4
    return genotype


class ResidualNet(nn.Module):
    """What people bring: a stem, a residual block without batch norm, an unpadded and a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.first = nn.Conv2d(4, 4, 3, padding="same")
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.narrow = nn.Conv2d(4, 6, 3)
        self.strided = nn.Conv2d(6, 6, 3, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = torch.relu(self.strided(torch.relu(self.narrow(x))))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


def choices(soft: nn.Module) -> dict[str, Choice]:
    return layers(soft, Choice)


def cells(soft: nn.Module) -> dict[str, SearchCell]:
    return layers(soft, SearchCell)
