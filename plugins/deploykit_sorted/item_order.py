"""The two ways to turn the scores of items into their places: a soft sorting network, and a real sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit_relaxations import mark_decision
from deploykit_relaxations.sorting_networks import (
    NetworkKind,
    SwapKind,
    hard_ranks,
    hard_sort,
    soft_ranks,
    soft_sort,
)

ORDER: Final = "order"


class SoftOrder(nn.Module):
    """A scoring network, and the mean places of its items in a soft sorting network.

    Training and eval mode compute the same function of the scores.

    Shapes:
        inputs: what the scorer takes, batch first.
        returns: (batch, items), from 0 to items - 1; each row sums to items (items - 1) / 2.
    """

    deploykit_relaxation = True

    def __init__(self, scorer: nn.Module, network: NetworkKind, steepness: float, swap: SwapKind) -> None:
        super().__init__()
        self.scorer = scorer
        self.network, self.steepness, self.swap = network, steepness, swap
        self._permutation: Tensor | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the mean place of each item."""
        permutation = self.permutation(*inputs)
        if torch.is_grad_enabled():
            self._permutation = permutation
        return soft_ranks(permutation)

    def permutation(self, *inputs: Tensor) -> Tensor:
        """Return the doubly stochastic P (batch, items, items): how much item i (row) is at place j (column)."""
        return soft_sort(self.scorer(*inputs), self.network, self.steepness, self.swap)[1]

    def last_permutation(self) -> Tensor:
        """Return P of the last batch that ran with gradients, and forget it.

        A second way out, because distributed training lets nothing but ``forward`` run the network.

        Raises:
            ContractError: there was none since the last call.
        """
        if self._permutation is None:
            raise ContractError("sorted.diffsort: the loss needs gradients: run it outside torch.no_grad()")
        permutation, self._permutation = self._permutation, None
        return permutation

    def __getstate__(self) -> dict[str, Any]:
        # A batch's intermediate tensors cannot be copied and are nobody else's business.
        return {**self.__dict__, "_permutation": None}


class HardOrder(nn.Module):
    """A scoring network and a stable sort: the place of each item, as whole numbers in the scores' dtype.

    Shapes:
        inputs: what the scorer takes, batch first.
        returns: (batch, items), a permutation of 0 to items - 1 in each row.
    """

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the place of each item."""
        scores = self.scorer(*inputs)
        _, order = hard_sort(scores)
        return hard_ranks(mark_decision(order, ORDER)).to(scores.dtype)

    def scored_order(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sorted scores and the item at each place, both (batch, items)."""
        return hard_sort(self.scorer(*inputs))


def translations() -> dict[Any, Callable[..., Any]]:
    """Return the ONNX translation of a stable sort for ``torch.onnx.export(custom_translation_table=...)``.

    ``TopK`` with as many places as there are items, also where that number is free. ONNX Runtime keeps equal values in
    their order; TensorRT does not promise it. TensorRT takes 3 840 items at most.
    """
    return {torch.ops.aten.sort.stable: _translate_sort}


def _translate_sort(values: Any, *, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
    from onnxscript import opset18 as op

    axis = dim % len(values.shape)
    size = values.shape[axis]
    count = op.Constant(value_ints=[size]) if isinstance(size, int) else op.Shape(values, start=axis, end=axis + 1)
    return op.TopK(values, count, axis=axis, largest=int(descending), sorted=1)
