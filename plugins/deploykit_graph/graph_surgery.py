"""Find the graph convolutions of a model and exchange layers by path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit.trial_runs import count_runs
from deploykit_relaxations.message_passing import GraphConvolution

LayerT = TypeVar("LayerT", bound=nn.Module)


def layers_of(form: nn.Module, kind: type[LayerT]) -> dict[str, LayerT]:
    """Return the modules of a kind by path, in the order of the model."""
    return {path: module for path, module in form.named_modules() if isinstance(module, kind)}


def graph_convolutions(model: nn.Module) -> dict[str, GraphConvolution]:
    """Return the layers that can be made cooperative, by path.

    Only :class:`GraphConvolution` itself: what a subclass changed would be lost.

    Raises:
        ContractError: there is none.
    """
    found = {
        path: layer for path, layer in layers_of(model, GraphConvolution).items() if type(layer) is GraphConvolution
    }
    if not found:
        raise ContractError(
            f"{type(model).__name__} has no message-passing layer that could be made cooperative: looked for "
            "deploykit_relaxations.message_passing.GraphConvolution (no subclass), called as layer(features, edges) "
            "with features [batch, nodes, width] and edges [batch, edges, 2]; build the model of such layers"
        )
    return found


def check_run_once(model: nn.Module, layers: dict[str, GraphConvolution], inputs: tuple[Tensor, ...]) -> None:
    """Check on an example that each layer runs exactly once, so that a node's decision in it has one meaning.

    Raises:
        ContractError: a layer runs not at all, or several times.
    """
    for path, count in count_runs(model, layers, inputs).items():
        if count != 1:
            raise ContractError(
                f"graph convolution {path!r} runs {count} times for one input; wanted exactly once: give each use a "
                "layer of its own, and take unused ones out of the model"
            )


def exchanged(model: nn.Module, layers: dict[str, LayerT], make: Callable[[str, LayerT], nn.Module]) -> nn.Module:
    """Put ``make(path, layer)`` at every path; returns the changed model, or the new layer if that is the model."""
    for path, layer in layers.items():
        new = make(path, layer)
        if not path:
            return new
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, new)
    return model


def frozen_copy(soft: nn.Module, kind: type[LayerT], make: Callable[[str, LayerT], nn.Module]) -> nn.Module:
    """Return a copy in eval mode, without gradients, with all layers of a kind exchanged."""
    twin = copy.deepcopy(soft)
    return exchanged(twin, layers_of(twin, kind), make).eval().requires_grad_(False)


def seen_arguments(form: nn.Module, kinds: tuple[type[nn.Module], ...], inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Run a form without gradients and return by path the (features, edges) that layers of some kinds were given."""
    seen: dict[str, Any] = {}

    def remember(path: str) -> Callable[..., None]:
        def note(_: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            given = dict(zip(("features", "edges"), arguments, strict=False)) | named
            seen[path] = (given["features"], given["edges"])

        return note

    layers = {path: module for path, module in form.named_modules() if isinstance(module, kinds)}
    handles = [layer.register_forward_pre_hook(remember(path), with_kwargs=True) for path, layer in layers.items()]
    try:
        with torch.no_grad():
            form(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
