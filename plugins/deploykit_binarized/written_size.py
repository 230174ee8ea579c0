"""What a hard network will weigh in a file and compute for a sample, counted from its integer layers."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from deploykit_binarized.integer_layers import IntegerLayer

_BYTES_A_NODE: Final = 64


def weight_bytes_of(hard: fx.GraphModule) -> int:
    """Return an upper bound for the bytes of all constants of a file.

    Tensors of the module as they are, and for scales, zero points, shapes and limits 64 bytes a node of its graph.
    """
    tensors = [*hard.parameters(), *hard.buffers()]
    nodes = len(hard.graph.nodes)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + _BYTES_A_NODE * nodes


def macs_of(hard: fx.GraphModule, inputs: tuple[Tensor, ...]) -> int:
    """Return the multiply-accumulate operations for one sample, padding counted as work."""
    total = 0

    def count(module: nn.Module, arguments: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, IntegerLayer)
        shape = module.weight.shape
        per_output = math.prod(shape[1:]) if module.convolves else shape[0]
        total += output[0].numel() * per_output

    layers = [module for module in hard.modules() if isinstance(module, IntegerLayer)]
    hooks = [module.register_forward_hook(count) for module in layers]
    try:
        with torch.no_grad():
            hard(*(tensor[:1] for tensor in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return total
