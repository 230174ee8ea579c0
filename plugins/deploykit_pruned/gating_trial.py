"""Is shutting gates the same as removing channels? Asked of every network before it is trained.

A gate in front of each reader is removal exactly as long as everything between producer and reader treats channels
one by one. A layer norm, a softmax over channels or a channel shuffle does not, and no list of operators is ever
complete; so both are done, in float64 on a copy, and compared.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deploykit_pruned.budget import Budget, Term
from deploykit_pruned.channel_groups import ChannelGroup, remove_channels
from deploykit_pruned.gate_layers import GatedNet, Gates, group_starts

_TOLERANCE = 1e-8


def gateable(
    network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup]
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the groups for which shutting is removing; and, by producer, what is wrong with the others.

    Args:
        network: left as it is.
        inputs: at least two samples.
    """
    # All together first: a deep network would need a hundred trials otherwise.
    if not groups or not difference(network, inputs, groups):
        return list(groups), {}
    faults = {group.name: difference(network, inputs, [group]) for group in groups}
    good = [group for group in groups if not faults[group.name]]
    while good and (fault := difference(network, inputs, good)):
        # Each alone works, together they do not: the later one gives way.
        faults[good.pop().name] = f"together with the groups before it, {fault}"
    return good, {name: fault for name, fault in faults.items() if fault}


def difference(network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup]) -> str:
    """Shut half the gates of each group and remove the same channels; return how the answers differ, or nothing."""
    generator = np.random.default_rng(0)
    trial = _unsettled(network)
    doubled = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    gates = group_starts(groups)[-1]
    shut = np.zeros(gates, dtype=np.bool_)
    removed: dict[str, list[int]] = {}
    for group, start in zip(groups, group_starts(groups), strict=False):
        units = generator.permutation(len(group.units))[: len(group.units) // 2]
        shut[start + units] = True
        removed[group.name] = [channel for unit in units for channel in group.units[unit]]
    try:
        row = Gates(gates, initial=1.0, slope=0.0, sawtooth=1.0).double()
        row.weight.data[torch.from_numpy(shut)] = -1.0
        budget = Budget([Term(1.0, None, range(gates))], gates, keep=1.0, what="channels")
        masked = GatedNet(copy.deepcopy(trial), row, tuple(groups), budget, {}).to(doubled[0].device).eval()
        with torch.no_grad():
            wanted = _flat(masked(*doubled))
        remove_channels(trial, doubled, removed)
        with torch.no_grad():
            got = _flat(trial.eval()(*doubled))
    except Exception as error:
        # Whatever the network's own code or the removal raises: these channels cannot be taken out of it.
        return f"removing channels breaks the network: {type(error).__name__}: {str(error).splitlines()[:1]}"
    if [tensor.shape for tensor in wanted] != [tensor.shape for tensor in got]:
        return "its channels are an output of the network"
    for left, right in zip(wanted, got, strict=True):
        if left.is_floating_point() and not torch.allclose(left, right, rtol=_TOLERANCE, atol=_TOLERANCE):
            far = float((left - right).abs().max())
            return f"something between it and its readers mixes channels: zeroed and removed ones differ by {far:.3g}"
    return ""


def _unsettled(network: nn.Module) -> nn.Module:
    """Return a float64 copy in eval mode without the zeros and ones of a fresh network, which hide constants."""
    trial = copy.deepcopy(network).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*trial.named_parameters(), *trial.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
            tensor.data.copy_(0.5 + noise if "var" in name else tensor.data + noise)
    return trial


def _flat(returned: object) -> list[Tensor]:
    values = returned if isinstance(returned, (tuple, list)) else (returned,)
    return [value for value in values if isinstance(value, Tensor)]
