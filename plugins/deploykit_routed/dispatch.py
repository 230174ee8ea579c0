"""One leaf a row, two ways: weights gathered for each row, or rows grouped by leaf.

Gathering copies a leaf's weights for each row: the fewest operators, best for small batches, and of fixed shapes.
Grouping sorts the rows by leaf and runs each leaf on its own rows: no weight is copied, a leaf without rows multiplies
empty matrices, which runtimes skip. Both execute exactly one leaf's work a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Leaves(NamedTuple):
    """Weights of all leaves, ``relu(x into + into_bias) out + out_bias``.

    Shapes:
        into: (leaves, features_in, width).
        into_bias: (leaves, width).
        out: (leaves, width, features_out).
        out_bias: (leaves, features_out).
    """

    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor


def gathered_leaves(rows: Tensor, leaf: Tensor, leaves: Leaves) -> Tensor:
    """Evaluate each row's leaf with weights gathered for the row.

    Shapes:
        rows: (batch, features_in).
        leaf: (batch,), int64.
        returns: (batch, features_out).
    """
    into, into_bias, out, out_bias = (tensor.index_select(0, leaf) for tensor in leaves)
    # unsqueeze, not [:, None]: that is traced as a slice, which leaves an unused constant in the file.
    hidden = torch.relu(torch.bmm(rows.unsqueeze(1), into) + into_bias.unsqueeze(1))
    return torch.bmm(hidden, out).squeeze(1) + out_bias


@torch.library.custom_op("deploykit_routed::grouped_leaves", mutates_args=())
def _grouped_leaves(
    rows: Tensor, leaf: Tensor, into: Tensor, into_bias: Tensor, out: Tensor, out_bias: Tensor
) -> Tensor:
    answers = rows.new_empty(rows.shape[0], out.shape[2])
    for index in torch.unique(leaf).tolist():
        mine = (leaf == index).nonzero()[:, 0]
        hidden = torch.relu(torch.addmm(into_bias[index], rows[mine], into[index]))
        answers[mine] = torch.addmm(out_bias[index], hidden, out[index])
    return answers


@_grouped_leaves.register_fake
def _(rows: Tensor, leaf: Tensor, into: Tensor, into_bias: Tensor, out: Tensor, out_bias: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], out.shape[2])


def grouped_leaves(rows: Tensor, leaf: Tensor, leaves: Leaves) -> Tensor:
    """Evaluate each leaf on the rows that reached it; shapes as :func:`gathered_leaves`.

    An operator of its own, because the size of a group is known at run time only: torch would trace one unknown size
    a leaf. Files need :func:`translations`.
    """
    answers: Tensor = _grouped_leaves(rows, leaf, *leaves)
    return answers


def translations() -> dict[Any, Callable[..., Any]]:
    """Return the ONNX translation of :func:`grouped_leaves` for ``torch.onnx.export(custom_translation_table=...)``.

    The rows are sorted by leaf, cut at the groups' ends, multiplied and put back in place. All leaves stand unrolled,
    five operators each. The stacked weights are cut in the graph, so that the file holds them once; ONNX Runtime does
    that when it loads the file.
    """
    return {torch.ops.deploykit_routed.grouped_leaves.default: _translate}


def _translate(rows: Any, leaf: Any, into: Any, into_bias: Any, out: Any, out_bias: Any) -> Any:
    import onnx_ir
    from onnxscript import opset18 as op

    count = int(into.shape[0])
    first, last = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    _, order = op.TopK(leaf, op.Shape(leaf), axis=0, largest=0, sorted=1)
    grouped = op.Gather(rows, order, axis=0)
    if count == 1:
        pieces = [grouped]
        weights = [[op.Squeeze(tensor, first)] for tensor in (into, into_bias, out, out_bias)]
    else:
        numbers = op.Constant(value_ints=list(range(count)))
        mine = op.Cast(op.Equal(op.Unsqueeze(leaf, last), numbers), to=onnx_ir.DataType.FLOAT)
        # float32 sums of ones are exact up to 2^24 rows.
        sizes = op.Cast(op.ReduceSum(mine, first, keepdims=0), to=onnx_ir.DataType.INT64)
        ends = op.Split(op.CumSum(sizes, op.Constant(value_int=0)), axis=0, num_outputs=count)
        starts = [first, *ends[:-1]]
        pieces = [op.Slice(grouped, start, end, first) for start, end in zip(starts, ends, strict=True)]
        weights = [
            [op.Squeeze(piece, first) for piece in op.Split(tensor, axis=0, num_outputs=count)]
            for tensor in (into, into_bias, out, out_bias)
        ]
    answers = [
        op.Gemm(op.Relu(op.Gemm(piece, w_in, b_in)), w_out, b_out)
        for piece, w_in, b_in, w_out, b_out in zip(pieces, *weights, strict=True)
    ]
    together = op.Concat(*answers, axis=0)
    return op.ScatterND(together, op.Unsqueeze(order, last), together)
