"""Small networks with trees, for the tests of ``routed.fff``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit.hard_form import HardForm
from deploykit.lifecycle import binding_of
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_routed.fff import FastFeedForward

FEATURES = 6
NAME = "routed.fff"


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 12), nn.ReLU(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))


def prepared(seed: int = 0, **config: Any) -> nn.Module:
    torch.manual_seed(seed)
    settings_ = {"depth": 3, "leaf_width": 4, "master_width": 2, "grouped_from": 8} | config
    return deploykit.prepare(network(), NAME, torch.randn(16, FEATURES), **settings_).eval()


def method_of(soft: nn.Module) -> FastFeedForward:
    method = binding_of(soft).method
    assert isinstance(method, FastFeedForward)
    return method


def answers(form: nn.Module, x: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        result: np.ndarray[Any, Any] = form(x).numpy()
    return result


def written(soft: nn.Module, hard: HardForm) -> dict[str, OnnxModel]:
    lowerings = {
        name: low if low.module is not None else replace(low, module=hard.module)
        for name, low in hard.lowerings.items()
    }
    single = deploykit.harden(prepared(depth=0)).module
    lowerings["one leaf"] = replace(hard.lowerings["onnx"], module=single)
    lowerings["all leaves"] = deploykit.Lowering(module=method_of(soft).baseline(soft))
    binding = binding_of(soft)
    return write_onnx(lowerings, binding.signature, binding.example)


def trained_forms() -> tuple[nn.Module, HardForm]:
    """A tree whose samples take many routes; training needs more time than it would prove here."""
    soft = prepared(seed=3)
    return soft, deploykit.harden(soft)
