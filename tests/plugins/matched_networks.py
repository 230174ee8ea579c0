"""Small networks that score pairs, for the tests of ``matched.sinkhorn``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit import Method
from deploykit.lifecycle import bind, binding_of
from deploykit_matched.keypoint_network import KeypointNetwork
from deploykit_matched.matchers import HardMatcher, SoftMatcher

NAME = "matched.sinkhorn"
SIZE = 5
Inputs = tuple[Tensor, ...]


class Similarity(nn.Module):
    """A network of somebody's own: descriptors through one layer, and their products. Knows no masks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(SIZE, 8)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        scores: Tensor = self.layer(left) @ self.layer(right).transpose(1, 2)
        return scores


class MaskedSimilarity(Similarity):
    """The same with a mask for the first image, which it hands on and does not look at itself."""

    def forward(self, left: Tensor, right: Tensor, valid_a: Tensor | None = None) -> Tensor:
        return super().forward(left, right)


def drawn_inputs(batch: int, points_a: int, points_b: int, seed: int = 0, size: int = SIZE) -> Inputs:
    """Return inputs of a keypoint network, about two thirds of the slots valid; the first of each image always is."""
    generator = torch.Generator().manual_seed(seed)
    inputs: list[Tensor] = []
    for count in (points_a, points_b):
        valid = torch.rand(batch, count, generator=generator) < 0.67
        valid[:, :1] = True
        inputs += [
            1.4 * torch.rand(batch, count, 2, generator=generator) - 0.7,
            torch.randn(batch, count, size, generator=generator),
            valid,
        ]
    return tuple(inputs)


def keypoint_matcher(seed: int = 0, size: int = SIZE, spread: float = 3.0, **config: Any) -> SoftMatcher:
    """Return a soft form that decides something without training: its scores are spread widely."""
    torch.manual_seed(seed)
    settings = {"width": 8, "layers": 1, "heads": 2, "scale": spread, "dropout": 0.0} | config
    method = deploykit.make_method(NAME, settings)
    network = KeypointNetwork(size, settings["width"], settings["layers"], settings["heads"], settings["dropout"])
    signature = deploykit.make_task("point-pairs").signature
    example = drawn_inputs(3, 6, 7, seed, size)
    soft = method.prepare(network, signature, example)
    bind(soft, method, signature, example, None)
    assert isinstance(soft, SoftMatcher)
    return soft.eval()


def method_of(soft: nn.Module) -> Method[Any]:
    return binding_of(soft).method


def hard_of(soft: nn.Module) -> HardMatcher:
    module = deploykit.harden(soft).module
    assert isinstance(module, HardMatcher)
    return module


def answer(form: nn.Module, inputs: Inputs) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        result: np.ndarray[Any, Any] = form(*inputs).numpy()
    return result
