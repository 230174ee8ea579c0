"""Mark a tensor in a hard form as a decision, so that the proofs can read it from the written file.

``mark_decision`` is the identity. In the file it becomes an ``Identity`` whose output is called ``decision/NAME``;
runtimes fuse it away, and ``verify`` asks for that value to compare the routes the file takes with the hard form's.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor


@torch.library.custom_op("deploykit::mark_decision", mutates_args=())
def _mark_decision(value: Tensor, name: str) -> Tensor:
    return value.clone()


@_mark_decision.register_fake
def _(value: Tensor, name: str) -> Tensor:
    return torch.empty_like(value)


def mark_decision(value: Tensor, name: str) -> Tensor:
    """Return ``value`` unchanged, known as decision ``name`` in every file written from the graph.

    Use it outside ``torch.cond`` branches, on the tensor the rest of the graph goes on with, under the same name
    that :meth:`deploykit.Method.decisions` uses.

    >>> mark_decision(torch.tensor([3, 1]), "leaf")
    tensor([3, 1])
    """
    marked: Tensor = _mark_decision(value, name)
    return marked


OPERATOR: Final = torch.ops.deploykit.mark_decision.default
"""The operator as it stands in a traced program."""
