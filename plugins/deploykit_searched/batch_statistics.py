"""Batch statistics after a decision: what a batch norm has seen of a mixture is stale for one operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from deploykit.trial_runs import in_eval_mode
from deploykit_searched.choices import Choice
from deploykit_searched.layer_exchange import layers


def settle(soft: nn.Module, inputs: tuple[Tensor, ...] | None = None, *, batch: int = 128) -> None:
    """End a search in place: from now on the supernet runs only what it would choose, and so would be derived.

    ``deploykit.on_step`` does this where training passes the setting ``settle_at``; call it yourself if you train in a
    loop of your own without it.

    Args:
        inputs: training samples to estimate the statistics of all batch norms anew with; without them they stay.
        batch: samples at a time.
    """
    for choice in layers(soft, Choice).values():
        choice.settled.fill_(True)
    if inputs is not None:
        reestimate_statistics(soft, inputs, batch=batch)


def reestimate_statistics(network: nn.Module, inputs: tuple[Tensor, ...], *, batch: int = 128) -> None:
    """Set mean and variance of all batch norms that run to their averages over some samples, in place.

    Everything but the batch norms stays in eval mode meanwhile. Batches are of equal size as nearly as possible, and a
    layer's mean and variance are the means over batches; a batch norm that does not run keeps its statistics.

    Args:
        network: its mode is restored.
        inputs: at least two samples, in the order of ``forward``.
        batch: samples at a time.
    """
    norms = {path: norm for path, norm in layers(network, _BatchNorm).items() if norm.running_mean is not None}
    momenta = {path: norm.momentum for path, norm in norms.items()}
    before = {path: {name: buffer.clone() for name, buffer in norm.named_buffers()} for path, norm in norms.items()}
    with torch.no_grad(), in_eval_mode(network):
        try:
            for norm in norms.values():
                norm.train()
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over the batches
            pieces = max(1, len(inputs[0]) // batch)
            for piece in zip(*(tensor.tensor_split(pieces) for tensor in inputs), strict=True):
                network(*piece)
        finally:
            for path, norm in norms.items():
                norm.momentum = momenta[path]
                if not norm.num_batches_tracked:
                    for name, buffer in norm.named_buffers():
                        buffer.copy_(before[path][name])
