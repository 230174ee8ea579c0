"""Which names of training-only tensors a hard form may promise to be absent, for a model of somebody's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploykit.hardening import RELAXATION_MARK
from deploykit.lifecycle import binding_of

if TYPE_CHECKING:
    from torch import nn


def absent_names(soft: nn.Module, *parts: str) -> tuple[str, ...]:
    """Return those of a method's own name parts that can be promised as ``Promise.absent``.

    A part that the user's own network has in a tensor's name is left out: that tensor belongs into the file. What
    layers marked as a relaxation hold themselves is the method's, also where the user put them into the network.

    Args:
        soft: a soft form; what it hardens to is not looked at, so that a leftover cannot excuse itself.
        parts: parts of the names of tensors that exist in training only, such as ``log_scale``.

    Raises:
        ContractError: the module is not a soft form made by deploykit.
    """
    network = binding_of(soft).network
    names = [] if network is None else list(_tensor_names(network))
    return tuple(part for part in parts if not any(part in name for name in names))


def _tensor_names(network: nn.Module) -> Iterator[str]:
    """Name all tensors by path, in every place where they stand; also those that are no parameters or buffers."""
    from torch import Tensor

    for path, module in network.named_modules(remove_duplicate=False):
        if getattr(module, RELAXATION_MARK, False):
            continue
        plain = ((name, value) for name, value in vars(module).items() if isinstance(value, Tensor))
        for name, _ in (*module._parameters.items(), *module._buffers.items(), *plain):
            yield f"{path}.{name}" if path else name
