"""What a supernet loses when its choices are taken, and how much of that is only stale batch statistics."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deploykit.lifecycle import binding_of
from deploykit.outputs import run_module, tensors
from deploykit.task import Samples, Task
from deploykit_searched.batch_statistics import reestimate_statistics
from deploykit_searched.choices import Choice
from deploykit_searched.derivation import derive
from deploykit_searched.layer_exchange import layers

_BATCH = 128


@dataclass(frozen=True, slots=True)
class DiscretizationGap:
    """The task's metric on test samples; larger is better.

    Attributes:
        supernet: the mixture of all candidates, at the temperature as it stands, settled or not.
        one_hot: the derived network with the supernet's weights and statistics, which is what ``harden`` gives.
        one_hot_reestimated: the same with batch statistics estimated anew on training samples.
    """

    supernet: float
    one_hot: float
    one_hot_reestimated: float


def discretization_gap(soft: nn.Module, task: Task, *, statistics_from: int = 10 * _BATCH) -> DiscretizationGap:
    """Measure a supernet before and after its choices are taken.

    Args:
        soft: a soft form of this family; left as it is.
        statistics_from: number of training samples for the statistics.
    """
    mixed = _mixing(soft).eval()
    plain = derive(soft).eval()
    again = derive(soft).eval()
    few = task.samples("train").take(slice(0, statistics_from))
    reestimate_statistics(again, tensors(few.inputs, binding_of(soft).signature), batch=_BATCH)
    return DiscretizationGap(*(_metric(form, task) for form in (mixed, plain, again)))


def _mixing(soft: nn.Module) -> nn.Module:
    """Return a copy of a supernet that mixes again, where it was settled."""
    twin = copy.deepcopy(soft)
    for choice in layers(twin, Choice).values():
        choice.settled.fill_(False)
    return twin


def _metric(form: nn.Module, task: Task) -> float:
    samples: Samples = task.samples("test")
    parts: list[Mapping[str, NDArray[np.generic]]] = []
    with torch.no_grad():
        for start in range(0, len(samples), _BATCH):
            rows = dict(samples.take(slice(start, start + _BATCH)).inputs)
            parts.append(run_module(form, rows, task.signature))
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return task.metric(outputs, samples)
