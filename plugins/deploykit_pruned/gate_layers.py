"""The soft form: gates in front of every layer that reads gated channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from deploykit_pruned.budget import Budget
from deploykit_pruned.channel_groups import ChannelGroup
from deploykit_relaxations.gates import step_gate, trainable_gate

Bits = np.ndarray[tuple[int], np.dtype[np.bool_]]


KEPT: Final = "deploykit_kept_channels"
"""Attribute of a hard form's module: by producer, which of its former output channels are left."""


class Gates(nn.Module):
    """One trainable number for each unit of channels, all groups in one row.

    Calling it returns the gates' values, shape (n,): in training the trainable gate ``b_M``, in eval mode and once
    ``settled`` the step ``b``, exactly 0 or 1.
    """

    deploykit_relaxation: ClassVar[bool] = True
    settled: Tensor

    def __init__(self, count: int, initial: float, slope: float, sawtooth: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((count,), initial))
        self.register_buffer("settled", torch.tensor(False))
        self.slope = slope
        self.sawtooth = sawtooth

    def forward(self) -> Tensor:
        """Return the gates' values, shape (n,)."""
        if self.training and self.weight.requires_grad:
            return trainable_gate(self.weight, self.slope, self.sawtooth)
        return step_gate(self.weight)


class GatedInput(nn.Module):
    """A convolution or linear layer whose input channels are multiplied by gates.

    Args:
        source: for each input channel its gate's index, or the number of gates for a channel without one.
    """

    deploykit_relaxation: ClassVar[bool] = True
    source: Tensor

    def __init__(self, layer: nn.Module, gates: Gates, source: Sequence[int]) -> None:
        super().__init__()
        self.layer = layer
        # In a tuple, so that the gates belong to the root alone and appear once in a state dict.
        self._gates = (gates,)
        self.register_buffer("source", torch.tensor(source, dtype=torch.int64), persistent=False)
        self._trailing = 0 if isinstance(layer, nn.Linear) else len(cast("nn.Conv2d", layer).kernel_size)

    def mask(self) -> Tensor:
        """Return the factor of each input channel, shape (channels,)."""
        values = self._gates[0]()
        return torch.cat([values, values.new_ones(1)])[self.source]

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer to the gated input; shapes are the layer's."""
        gated: Tensor = self.layer(x * self.mask().reshape(-1, *[1] * self._trailing))
        return gated


class GatedNet(nn.Module):
    """The user's network with gates; takes and gives what the network does.

    Attributes:
        groups: what the gates decide on, in the order of the row of gates.
        budget: what may be kept.
        left_alone: by producer, why its channels are not gated.
    """

    def __init__(
        self,
        network: nn.Module,
        gates: Gates,
        groups: tuple[ChannelGroup, ...],
        budget: Budget,
        left_alone: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.network = network
        self.gates = gates
        self.groups = groups
        self.budget = budget
        self.left_alone = dict(left_alone)
        width = len(gates.weight)
        for path, source in input_sources(groups, network, width).items():
            replace_module(network, path, GatedInput(network.get_submodule(path), gates, source))

    def forward(self, *inputs: Tensor) -> object:
        """Return the network's outputs."""
        return self.network(*inputs)

    def chosen(self) -> Bits:
        """Return which units the budget keeps, shape (n,)."""
        return self.budget.choose(self.gates.weight.detach().cpu().double().numpy(), group_starts(self.groups))

    def plain_network(self) -> nn.Module:
        """Return a copy of the network as it is now, all channels there and all gates gone."""
        network = copy.deepcopy(self.network)
        for path, module in list(network.named_modules()):
            if isinstance(module, GatedInput):
                network = replace_module(network, path, module.layer)
        return network


def group_starts(groups: Sequence[ChannelGroup]) -> list[int]:
    """Return where each group's gates begin in the row of gates, and the row's length at the end."""
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + len(group.units))
    return starts


def input_sources(groups: Sequence[ChannelGroup], network: nn.Module, gates: int) -> dict[str, list[int]]:
    """Return for each reading layer the gate of each input channel, ``gates`` standing for none."""
    sources: dict[str, list[int]] = {}
    for group, start in zip(groups, group_starts(groups), strict=False):
        for path, links in group.inputs.items():
            source = sources.setdefault(path, [gates] * in_channels(network.get_submodule(path)))
            for channel, unit in links:
                source[channel] = start + unit
    return sources


def in_channels(layer: nn.Module) -> int:
    """Return how many input channels or features a convolution or linear layer has."""
    return layer.in_features if isinstance(layer, nn.Linear) else cast("nn.Conv2d", layer).in_channels


def replace_module(network: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """Put ``module`` at every place where the module at ``path`` stands; return the (possibly new) root."""
    old = network.get_submodule(path)
    if old is network:
        return module
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not module:
                parent._modules[name] = module
    return network
