"""Slow, obvious reference of the hard feed-forward tree: numpy, float64, one row at a time."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.outputs import named_outputs
from deploykit.signature import Arrays, Signature
from deploykit_routed.fff_layers import FeedForwardTree

Matrix = NDArray[np.float64]


def oracle_answers(soft: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> Arrays:
    """Run the model in float64 with every tree replaced by :func:`tree_answer` of each row."""
    twin = copy.deepcopy(soft).eval().double()
    for path, module in list(twin.named_modules()):
        if isinstance(module, FeedForwardTree):
            parent, _, name = path.rpartition(".")
            setattr(twin.get_submodule(parent), name, _OracleLayer(module))
    doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    with torch.no_grad():
        outputs = named_outputs(twin(*doubled), signature)
    return {name: value.numpy().astype(np.float32) for name, value in outputs.items()}


def tree_answer(parameters: dict[str, Matrix], row: Matrix) -> tuple[Matrix, int]:
    """Return one row's answer and leaf.

    Args:
        parameters: a feed-forward tree's state by name, float64.
        row: (features_in,).
    """
    leaves = len(parameters["leaf_in"])
    node = 0
    while node < leaves - 1:
        score = sum(w * x for w, x in zip(parameters["nodes.weight"][node], row, strict=True))
        score += parameters["nodes.bias"][node]
        node = 2 * node + 2 if score >= 0 else 2 * node + 1
    leaf = node - (leaves - 1)
    hidden = np.maximum(row @ parameters["leaf_in"][leaf] + parameters["leaf_in_bias"][leaf], 0.0)
    answer = hidden @ parameters["leaf_out"][leaf] + parameters["leaf_out_bias"][leaf]
    if "kappa" in parameters:
        k = 1 / (1 + math.exp(-float(parameters["kappa"])))
        inner = np.maximum(parameters["master.0.weight"] @ row + parameters["master.0.bias"], 0.0)
        answer = k * answer + (1 - k) * (parameters["master.2.weight"] @ inner + parameters["master.2.bias"])
    return answer, leaf


class _OracleLayer(nn.Module):
    def __init__(self, tree: FeedForwardTree) -> None:
        super().__init__()
        self.parameters_by_name: dict[str, Any] = {name: value.numpy() for name, value in tree.state_dict().items()}
        self.features_out = tree.features_out

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numpy().reshape(-1, x.shape[-1])
        answers = np.stack([tree_answer(self.parameters_by_name, row)[0] for row in rows])
        return torch.from_numpy(answers.reshape(*x.shape[:-1], self.features_out))
