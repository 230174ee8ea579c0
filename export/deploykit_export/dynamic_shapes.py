"""From a signature's symbolic dimensions to those of ``torch.export``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from deploykit.errors import ExportError
from deploykit.signature import BATCH, Signature


def dynamic_shapes(signature: Signature, *, dynamic_batch: bool = True) -> tuple[dict[int, Any], ...]:
    """Return the ``dynamic_shapes`` argument of ``torch.export.export`` for positional inputs.

    A dimension that must be a multiple of m is told to torch as one it must keep free; the signature checks it.
    """
    dims: dict[str, Any] = {}
    for spec in signature.inputs:
        for size in spec.shape:
            if isinstance(size, str) and size not in dims and (dynamic_batch or size != BATCH):
                dims[size] = _dim(signature, size)
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str) and size in dims}
        for spec in signature.inputs
    )


def tracing_inputs(
    signature: Signature, example: tuple[Tensor, ...], *, dynamic_batch: bool = True
) -> tuple[Tensor, ...]:
    """Return the example with a batch that torch will not take for a constant: two samples or more, or exactly one.

    Raises:
        ExportError: the example does not fit the signature.
    """
    if len(example) != len(signature.inputs):
        raise ExportError(f"the example has {len(example)} tensors; the signature has {len(signature.inputs)} inputs")
    if not signature.batched:
        return example
    few = tuple(tensor[: (3 if dynamic_batch else 1)] for tensor in example)
    if dynamic_batch and any(len(tensor) < 2 for tensor in few):
        few = tuple(torch.cat([tensor, tensor, tensor])[:3] for tensor in few)
    return few


def _dim(signature: Signature, name: str) -> Any:
    limits = signature.dim(name)
    if limits.multiple == 1:
        return Dim(name, min=limits.min, max=limits.max)
    # m times a smaller Dim says it exactly, but a program with such a dimension cannot be decomposed any more after
    # torch.export.save and load (torch 2.13: "expected sympy.Symbol"); a free one lets torch find the multiple itself.
    return Dim.DYNAMIC(min=limits.min, max=limits.max)
