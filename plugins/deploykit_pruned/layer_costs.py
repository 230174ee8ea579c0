"""What each layer costs, as terms of the gates in front of and behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from deploykit_pruned.budget import Term
from deploykit_pruned.channel_groups import ChannelGroup, Convolution
from deploykit_pruned.gate_layers import group_starts, in_channels, input_sources

BudgetKind = Literal["channels", "macs", "params"]


def cost_terms(
    kind: BudgetKind, network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup]
) -> list[Term]:
    """Return the terms whose sum is the network's cost.

    Args:
        kind: ``channels`` counts gates; ``macs`` the multiply-accumulates of convolutions and linear layers for one
            sample of the size of ``inputs``; ``params`` the trained numbers.
    """
    gates = group_starts(groups)[-1]
    if kind == "channels":
        return [Term(1.0, None, range(gates))]
    read = input_sources(groups, network, gates)
    written = _output_sources(groups, network, gates)
    positions = output_positions(network, inputs) if kind == "macs" else {}
    terms: list[Term] = []
    for path, layer in network.named_modules():
        own = list(layer.parameters(recurse=False))
        if not isinstance(layer, (*Convolution, nn.Linear)):
            size = sum(parameter.numel() for parameter in own)
            if kind == "params" and size:
                outputs = written.get(path, [gates])
                terms.append(Term(size / len(outputs), None, outputs))
            continue
        outputs = written.get(path, [gates] * out_channels(layer))
        repeats = positions.get(path, 0) if kind == "macs" else 1
        taps = 1.0 if isinstance(layer, nn.Linear) else prod(layer.kernel_size) / layer.groups
        # A depthwise convolution reads no gates: its inputs count in full and are divided by its full groups again.
        inputs_of = read.get(path, [gates] * in_channels(layer))
        terms.append(Term(taps * repeats, inputs_of, outputs))
        if kind == "params" and layer.bias is not None:
            terms.append(Term(1.0, None, outputs))
    return terms


def output_positions(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Return how often each convolution and linear layer applies its weights to one sample."""
    counts: dict[str, int] = {}

    def count(path: str, output: Tensor, channels: int) -> None:
        counts[path] = counts.get(path, 0) + output.numel() // channels // len(inputs[0])

    handles = [
        layer.register_forward_hook(lambda module, _, output, path=path: count(path, output, out_channels(module)))
        for path, layer in network.named_modules()
        if isinstance(layer, (*Convolution, nn.Linear))
    ]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def out_channels(layer: nn.Module) -> int:
    """Return how many output channels or features a convolution or linear layer has."""
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    assert isinstance(channels, int)
    return channels


def _output_sources(groups: Sequence[ChannelGroup], network: nn.Module, gates: int) -> Mapping[str, list[int]]:
    sources: dict[str, list[int]] = {}
    for group, start in zip(groups, group_starts(groups), strict=False):
        for path, links in group.outputs.items():
            layer = network.get_submodule(path)
            width = out_channels(layer) if isinstance(layer, (*Convolution, nn.Linear)) else _width(layer)
            source = sources.setdefault(path, [gates] * width)
            for channel, unit in links:
                source[channel] = start + unit
    return sources


def _width(layer: nn.Module) -> int:
    """Return the channels of a layer that works channel by channel (norms, PReLU)."""
    return max((len(parameter) for parameter in layer.parameters(recurse=False)), default=0) or int(
        getattr(layer, "num_features", 1)
    )
