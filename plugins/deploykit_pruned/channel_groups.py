"""Which channels of a network can only be removed together, and how they are removed.

Torch-Pruning's dependency graph finds the couplings (a residual sum ties the channels of all its summands, a
depthwise convolution ties its outputs to its inputs, a concatenation shifts indices) and edits the layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning import ops

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Links = tuple[tuple[int, int], ...]
"""Pairs (channel of a layer, unit of a group)."""


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels of one producer with all that hangs on them.

    A *unit* is what one gate decides on: one channel, or one channel of each convolution group where a grouped
    convolution is coupled, since its groups must stay equally wide.

    Attributes:
        name: path of the producer whose output channels ``units`` counts.
        units: output channels of the producer, by unit.
        inputs: for each convolution or linear layer that reads the channels, which of its inputs belong to which
            unit. Behind a flatten, one unit owns several inputs.
        outputs: the same for the outputs of every layer that loses some (producers, batch norms, depthwise).
    """

    name: str
    units: tuple[tuple[int, ...], ...]
    inputs: Mapping[str, Links]
    outputs: Mapping[str, Links]

    @property
    def width(self) -> int:
        """Number of output channels of the producer."""
        return sum(len(unit) for unit in self.units)


def channel_groups(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Find the groups whose channels may be removed.

    Args:
        model: in eval mode with gradients required somewhere upstream of every layer; it is run once.
        inputs: at least two samples.

    Returns:
        groups in the order of the model's modules; and, by producer, why other groups are left alone.
    """
    found: list[ChannelGroup] = []
    left: dict[str, str] = {}
    paths = {module: path for path, module in model.named_modules()}
    order = {path: position for position, path in enumerate(paths.values())}
    with _traced(model, inputs) as graph:
        for coupled in graph.get_all_groups():
            name = paths[coupled[0].dep.target.module]
            group = _read(coupled, paths)
            if isinstance(group, str):
                left[name] = group
            else:
                found.append(group)
    return sorted(found, key=lambda group: order[group.name]), left


def remove_channels(model: nn.Module, inputs: tuple[Tensor, ...], removed: Mapping[str, list[int]]) -> None:
    """Remove output channels of producers, and everything coupled to them, from ``model`` in place.

    Args:
        inputs: at least two samples, to trace the couplings with.
        removed: by producer, its output channels as numbered before any removal.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # the graph is read off autograd's
    producers = {path: model.get_submodule(path) for path in removed}
    with _traced(model, inputs) as graph:
        for path, channels in removed.items():
            if channels:
                producer = producers[path]
                prune = graph.get_pruner_of_module(producer).prune_out_channels
                graph.get_pruning_group(producer, prune, sorted(channels)).prune()


@contextmanager
def _traced(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[Any]:
    with warnings.catch_warnings(), torch.enable_grad():
        # Torch-Pruning warns of what it guesses (unknown operators, loose parameters); masking is compared with
        # removal for every group, so a wrong guess is found out there.
        warnings.simplefilter("ignore")
        yield torch_pruning.DependencyGraph().build_dependency(
            # Its own way of calling tries twice and hides the first error.
            model, inputs, forward_fn=lambda module, arguments: module(*arguments), verbose=False
        )  # fmt: skip


def _read(coupled: Any, paths: Mapping[nn.Module, str]) -> ChannelGroup | str:
    """Return the group in our own words, or why it cannot be gated."""
    producer = coupled[0].dep.target.module
    width = len(coupled[0].idxs)
    conv_groups = 1
    inputs: dict[str, dict[int, int]] = {}
    outputs: dict[str, dict[int, int]] = {}
    for item in coupled:
        layer, handler = item.dep.target.module, item.dep.handler.__name__
        if layer not in paths:
            continue  # an operator, or a loose parameter
        depthwise = item.dep.target.type == ops.OPTYPE.DEPTHWISE_CONV
        if isinstance(layer, Convolution) and not depthwise:
            conv_groups = lcm(conv_groups, layer.groups)
        reads = handler == "prune_in_channels" and not depthwise
        if reads and isinstance(layer, (*Convolution, nn.Linear)):
            inputs.setdefault(paths[layer], {}).update(zip(item.idxs, item.root_idxs, strict=True))
        else:
            outputs.setdefault(paths[layer], {}).update(zip(item.idxs, item.root_idxs, strict=True))
    if not inputs:
        return "no convolution or linear layer reads it"
    if width % conv_groups:
        return f"its {width} channels do not divide into the {conv_groups} groups of a coupled convolution"
    span = width // conv_groups
    if span < 2:
        return f"{type(producer).__name__} leaves nothing to choose from: {span} channel a group"
    return ChannelGroup(
        name=paths[producer],
        units=tuple(tuple(range(unit, width, span)) for unit in range(span)),
        inputs={path: _links(links, span) for path, links in inputs.items()},
        outputs={path: _links(links, span) for path, links in outputs.items()},
    )


def _links(links: Mapping[int, int], span: int) -> Links:
    return tuple((channel, root % span) for channel, root in sorted(links.items()))
