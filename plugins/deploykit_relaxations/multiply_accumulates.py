"""Count what a module computes, for the work that a hard form promises."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def multiply_accumulates(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Return the multiply-accumulates of one sample in convolutions and matrix products, wherever the model has them.

    Attention is taken apart into its matrix products, as an exporter does: torch's counter knows neither the fused
    path of ``nn.MultiheadAttention`` nor the CPU's fused attention kernel.

    Args:
        module: is run once, without gradients, in the mode it is in.
        inputs: batch first; the count is divided by the batch and rounded up.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return math.ceil(int(counter.get_total_flops()) / 2 / len(inputs[0]))
