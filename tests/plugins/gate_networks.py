"""Small networks and gated forms, for the tests of ``pruned.gate``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import deploykit
from deploykit.lifecycle import binding_of
from deploykit_pruned.gate_layers import GatedNet

IMAGE = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def block(channels_in: int, channels_out: int, **options: Any) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1, **options), nn.BatchNorm2d(channels_out), nn.ReLU()]


class Chain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*block(3, 8), nn.MaxPool2d(2), *block(8, 12), nn.Flatten(), nn.Linear(12 * 16, 6), nn.ReLU(),
                         nn.Linear(6, 4))  # fmt: skip


def unsettle(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms and biases values as after training: none zero, none one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.ndim == 1:
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.data.copy_(0.5 + noise if "var" in name else tensor.data + noise - 0.3)
    return network


def gated(network: nn.Module, seed: int = 0, **config: Any) -> GatedNet:
    """Prepare a network and give its gates random scores."""
    soft = deploykit.prepare(unsettle(network, seed), "pruned.gate", IMAGE[:2], **config)
    assert isinstance(soft, GatedNet)
    generator = torch.Generator().manual_seed(seed)
    soft.gates.weight.data.copy_(torch.randn(len(soft.gates.weight), generator=generator))
    return soft.eval()


def answers(form: nn.Module, x: Tensor = IMAGE) -> tuple[Tensor, ...]:
    with torch.no_grad():
        returned = form(x)
    return returned if isinstance(returned, tuple) else (returned,)


def original(soft: nn.Module) -> nn.Module:
    network = binding_of(soft).network
    assert network is not None
    return network


def size(module: nn.Module) -> int:
    return sum([parameter.numel() for parameter in module.parameters()])
