"""Walk a model by path, and put other layers in the place of some."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from deploykit.errors import ContractError
from deploykit.lifecycle import binding_of

LayerT = TypeVar("LayerT", bound=nn.Module)


def layers(model: nn.Module, kind: type[LayerT]) -> dict[str, LayerT]:
    """Return all layers of a kind by path, each once, in the order of ``named_modules``."""
    return {path: module for path, module in model.named_modules() if isinstance(module, kind)}


def exchanged(model: nn.Module, exchange: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """Put ``exchange(path, layer)`` in the place of each layer for which it gives one, in place.

    A layer is asked about before its parts, and its parts only where it stays. One that stands in several places is
    asked about once, under its first path, and exchanged in all of them.

    Returns:
        the model, or what was put in its place.
    """
    done: dict[int, tuple[nn.Module, nn.Module]] = {}  # with the layer itself, so that no other gets its id

    def visit(path: str, layer: nn.Module) -> nn.Module:
        if id(layer) not in done:
            other = exchange(path, layer)
            done[id(layer)] = (layer, layer if other is None else other)
            if other is None:
                for name, part in list(layer._modules.items()):
                    if part is not None:
                        setattr(layer, name, visit(f"{path}.{name}" if path else name, part))
        return done[id(layer)][1]

    return visit("", model)


def unbound_copy(soft: nn.Module) -> nn.Module:
    """Return a deep copy of a model that is no soft form any more, and is spared what the frame remembers of one."""
    memory: dict[int, Any] = {}
    with contextlib.suppress(ContractError):  # a model of the user's own has none
        memory[id(binding_of(soft))] = None
    return copy.deepcopy(soft, memory)
