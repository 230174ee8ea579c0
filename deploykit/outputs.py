"""From what a module returns to named outputs, and from named arrays to what a module takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploykit.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from deploykit.signature import Arrays, Signature


def named_outputs(returned: object, signature: Signature) -> dict[str, Tensor]:
    """Name what a module returned, in the signature's order.

    Raises:
        ContractError: the number of outputs is not the signature's.
    """
    values = returned if isinstance(returned, (tuple, list)) else (returned,)
    if len(values) != len(signature.outputs):
        wanted = ", ".join(spec.text() for spec in signature.outputs)
        raise ContractError(f"the model returned {len(values)} outputs; wanted {len(signature.outputs)}: {wanted}")
    return {spec.name: value for spec, value in zip(signature.outputs, values, strict=True)}


def tensors(arrays: Arrays, signature: Signature) -> tuple[Tensor, ...]:
    """Return the signature's inputs as tensors, in order; copies, so that nothing writes into the caller's data."""
    import torch

    return tuple(torch.from_numpy(arrays[spec.name].copy()) for spec in signature.inputs)


def run_module(module: nn.Module, arrays: Arrays, signature: Signature) -> dict[str, NDArray[Any]]:
    """Run a module on named arrays without gradients and return named arrays; its mode is left as it is."""
    import torch

    with torch.no_grad():
        returned = module(*tensors(arrays, signature))
    return {name: value.detach().numpy().copy() for name, value in named_outputs(returned, signature).items()}
