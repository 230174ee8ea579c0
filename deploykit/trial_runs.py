"""A model run once to look at it: in eval mode without gradients, everything restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode while the context lasts; every module gets back the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def count_runs(model: nn.Module, layers: Mapping[str, nn.Module], inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Return how often each layer runs for one input.

    A method that replaces a layer by one with decisions of its own wants 1: a layer that runs twice would decide
    twice under one name, and one that never runs would be trained by nothing.

    Args:
        layers: parts of the model, by path.
        inputs: in the order of ``forward``.
    """
    import torch

    runs = dict.fromkeys(layers, 0)

    def count(path: str) -> None:
        runs[path] += 1

    handles = [layer.register_forward_hook(lambda *_, path=path: count(path)) for path, layer in layers.items()]
    try:
        with torch.no_grad(), in_eval_mode(model):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return runs
