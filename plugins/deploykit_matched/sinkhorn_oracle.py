"""Slow, obvious reference of the matching: numpy, float64, one sample, one point and one head at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit_matched.keypoint_network import INPUTS, AttentionLayer, KeypointNetwork, Projection
from deploykit_matched.matchers import SoftMatcher

Matrix = NDArray[np.float64]
Bits = NDArray[np.bool_]


def matching_oracle(
    soft: SoftMatcher, inputs: tuple[Tensor, ...], iterations: int, threshold: float
) -> NDArray[np.float32]:
    """Return the hard form's assignment: float32[batch, points of a, points of b].

    Points that are not there are left out of every computation, instead of being masked.

    A network of the user's own can hold anything, so its scores are computed by torch in float64; everything after
    them is computed here.
    """
    scores = _scores(soft.scorer, inputs)
    result = np.zeros(scores.shape, np.float32)
    for index, table in enumerate(scores):
        here_a = _there(inputs, soft.places.a, index, table.shape[0])
        here_b = _there(inputs, soft.places.b, index, table.shape[1])
        scaled = table[np.ix_(here_a, here_b)] * np.exp(soft.log_scale.item())
        plan = transport_plan(scaled, soft.dustbin.item(), iterations)
        for row, column in mutual_pairs(plan, threshold):
            result[index, here_a[row], here_b[column]] = plan[row, column]
    return result


def transport_plan(scores: Matrix, dustbin: float, iterations: int) -> Matrix:
    """Return the plan between points, without dustbins, by scaling a matrix of plain numbers."""
    rows, columns = scores.shape
    if not rows or not columns:
        return np.zeros((rows, columns))
    kernel = np.full((rows + 1, columns + 1), dustbin)
    kernel[:rows, :columns] = scores
    kernel = np.exp(kernel - kernel.max())
    row_sums, column_sums = [1.0] * rows + [float(columns)], [1.0] * columns + [float(rows)]
    for _ in range(iterations):
        for i, wanted in enumerate(row_sums):
            kernel[i] *= wanted / kernel[i].sum()
        for j, wanted in enumerate(column_sums):
            kernel[:, j] *= wanted / kernel[:, j].sum()
    plan: Matrix = kernel[:rows, :columns]
    return plan


def mutual_pairs(plan: Matrix, threshold: float) -> list[tuple[int, int]]:
    """Return the pairs of which no other value of the row or column is larger, nor as large and further to the front.

    The comparison with the threshold is strict.
    """
    pairs = []
    for i in range(plan.shape[0]):
        for j in range(plan.shape[1]):
            value = plan[i, j]
            beaten = any(plan[i, k] > value or (plan[i, k] == value and k < j) for k in range(plan.shape[1]))
            beaten |= any(plan[k, j] > value or (plan[k, j] == value and k < i) for k in range(plan.shape[0]))
            if not beaten and value > threshold:
                pairs.append((i, j))
    return pairs


def _there(inputs: tuple[Tensor, ...], place: int | None, index: int, count: int) -> list[int]:
    if place is None:
        return list(range(count))
    return [slot for slot, there in enumerate(inputs[place][index].tolist()) if there]


def _scores(scorer: nn.Module, inputs: tuple[Tensor, ...]) -> Matrix:
    if not isinstance(scorer, KeypointNetwork):
        doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
        with torch.no_grad():
            answer: Matrix = copy.deepcopy(scorer).eval().double()(*doubled).numpy()
        return answer
    named = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
    batch, slots_a = named["valid_a"].shape
    scores = np.zeros((batch, slots_a, named["valid_b"].shape[1]))
    for index in range(batch):
        sample = {name: array[index] for name, array in named.items()}
        here_a, here_b = (np.flatnonzero(sample[f"valid_{view}"]) for view in ("a", "b"))
        a, b = (_described(scorer, sample, view) for view in ("a", "b"))
        for within, across in zip(scorer.within, scorer.across, strict=True):
            a, b = _attended(within, a, a), _attended(within, b, b)
            a, b = _attended(across, a, b), _attended(across, b, a)
        own, other = ([_linear(scorer.project, x) for x in points] for points in (a, b))
        for i, x in zip(here_a, own, strict=True):
            for j, y in zip(here_b, other, strict=True):
                scores[index, i, j] = x @ y / np.sqrt(len(x))
    return scores


def _described(scorer: KeypointNetwork, sample: dict[str, NDArray[Any]], view: str) -> list[Matrix]:
    """Return a vector for each point that is there."""
    here = np.flatnonzero(sample[f"valid_{view}"])
    points, descriptors = (sample[f"{part}_{view}"].astype(np.float64) for part in ("points", "descriptors"))
    return [_linear(scorer.describe, descriptors[slot]) + _hidden(scorer.place, points[slot]) for slot in here]


def _attended(layer: nn.Module, points: list[Matrix], source: list[Matrix]) -> list[Matrix]:
    assert isinstance(layer, AttentionLayer)
    changed = []
    size = layer.query.weight.shape[1] // layer.heads
    keys, values = ([_linear(part, y) for y in source] for part in (layer.key, layer.value))
    for x in points:
        message = np.zeros_like(x)
        if source:
            query, heads = _linear(layer.query, x), []
            for head in range(layer.heads):
                own = slice(head * size, (head + 1) * size)
                strengths = np.array([np.exp(query[own] @ key[own] / np.sqrt(size)) for key in keys])
                shares = strengths / strengths.sum()
                heads.append(sum((s * value[own] for s, value in zip(shares, values, strict=True)), np.zeros(size)))
            message = _linear(layer.merge, np.concatenate(heads))
        changed.append(x + _hidden(layer.change, np.concatenate([x, message])))
    return changed


def _hidden(layers: nn.Sequential, x: Matrix) -> Matrix:
    return _linear(layers[2], np.maximum(_linear(layers[0], x), 0.0))


def _linear(layer: nn.Module, x: Matrix) -> Matrix:
    assert isinstance(layer, Projection)
    weight = layer.weight.detach().double().numpy()
    y: Matrix = x @ weight
    return y if layer.bias is None else np.asarray(y + layer.bias.detach().double().numpy(), np.float64)
