"""Soft assignments by optimal transport, beside the hard matching they stand for.

Everything is computed in the log domain and with finite numbers only: what cannot be, a padded point say, has the
logarithm :data:`NEVER` instead of minus infinity, so that no subtraction of infinities can give NaN. It is the same
as zero as long as the scores stay far above it.

**A fixed number of iterations is not a solution.** Sinkhorn's iterations converge more slowly the sharper the scores
are. Scores of ten rows and columns divided by a temperature of 0.01 leave row sums that are off by more than a half
after 20 iterations, and lowering the temperature further moves the result *away* from the best assignment. Scale the
iterations with one over the temperature, look at :func:`marginal_error`, and do not take the largest of each row for
an assignment: it need not be one. :func:`mutual_best` always is a matching, if perhaps a partial one; the best total
assignment is the Hungarian algorithm's, which is no tensor code and belongs on the host.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

NEVER: Final = -1e5
"""The logarithm of what cannot be. Finite; its exponential is 0 in float32 and float64 alike."""


def log_sinkhorn(scores: Tensor, log_rows: Tensor, log_columns: Tensor, iterations: int) -> Tensor:
    """Return the logarithm of a matrix ``exp(scores + u + v)`` whose row and column sums are as given.

    Rows are scaled first, columns last, so column sums are right after any number of iterations, and row sums once it
    has converged. Gradients are those of the iterations, unrolled; they converge no faster than the values do.

    Shapes:
        scores: (..., rows, columns), float; minus the cost over the temperature.
        log_rows: (..., rows); log_columns: (..., columns). The two must have the same total.
        returns: (..., rows, columns).

    Args:
        iterations: how often rows and columns are scaled, at least 1.

    Raises:
        ValueError: ``iterations`` is less than 1.

    Source: Cuturi 2013, "Sinkhorn Distances", algorithm 1, in the log domain and for given marginals.

    >>> scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    >>> P = log_sinkhorn(scores, torch.zeros(2), torch.zeros(2), iterations=20).exp()
    >>> P
    tensor([[0.8808, 0.1192],
            [0.1192, 0.8808]], grad_fn=<ExpBackward0>)
    >>> P[0, 0].backward()
    >>> scores.grad
    tensor([[ 0.0525, -0.0525],
            [-0.0525,  0.0525]])
    """
    if iterations < 1:
        raise ValueError(f"Sinkhorn needs at least 1 iteration, got {iterations}")
    rows, columns = log_rows.unsqueeze(-1), log_columns.unsqueeze(-2)
    scaled = scores
    for _ in range(iterations):
        u = rows - log_sum_exp(scaled, -1)
        v = columns - log_sum_exp(scores + u, -2)
        scaled = scores + v
    return scaled + u


def log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """Return ``log(sum(exp(x)))`` along a dimension, which is kept with size 1, the largest term taken out first.

    ``torch.logsumexp`` is exported as ``ReduceLogSumExp``, whose stability is up to each runtime; this is exported as
    the steps that make it stable.

    >>> x = torch.tensor([1000.0, 1000.0], requires_grad=True)
    >>> total = log_sum_exp(x, 0)
    >>> total
    tensor([1000.6932], grad_fn=<AddBackward0>)
    >>> total.backward()
    >>> x.grad
    tensor([0.5000, 0.5000])
    """
    # Detached: the value does not depend on what is taken out, so the gradient does not either.
    largest = x.detach().amax(dim, keepdim=True)
    return (x - largest).exp().sum(dim, keepdim=True).log() + largest


def marginal_error(log_plan: Tensor, log_rows: Tensor, log_columns: Tensor) -> Tensor:
    """Return by how much row and column sums are off, at most: what tells whether the iterations were enough.

    Shapes:
        log_plan: (..., rows, columns); log_rows: (..., rows); log_columns: (..., columns).
        returns: (...), at least 0, in the units of the sums.

    >>> scores = torch.tensor([[9.0, 0.0], [9.5, 0.0]])
    >>> ones = torch.zeros(2)
    >>> [round(marginal_error(log_sinkhorn(scores, ones, ones, n), ones, ones).item(), 3) for n in (1, 10, 100)]
    [0.122, 0.0, 0.0]
    >>> [round(marginal_error(log_sinkhorn(100 * scores, ones, ones, n), ones, ones).item(), 3) for n in (1, 10, 100)]
    [0.5, 0.05, 0.005]
    """
    plan = log_plan.exp()
    rows = (plan.sum(-1) - log_rows.exp()).abs().amax(-1)
    columns = (plan.sum(-2) - log_columns.exp()).abs().amax(-1)
    return torch.maximum(rows, columns)


def with_dustbins(
    scores: Tensor, dustbin: Tensor, valid_rows: Tensor, valid_columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add a row and a column that take what has no partner, and return what :func:`log_sinkhorn` takes.

    Every valid row and column has mass 1, the extra row as much as there are valid columns and the extra column as
    much as there are valid rows. Padded rows and columns have mass 0 and change nothing.

    Shapes:
        scores: (batch, rows, columns), float.
        dustbin: (), the score of having no partner.
        valid_rows: (batch, rows), bool; valid_columns: (batch, columns), bool.
        returns: scores (batch, rows + 1, columns + 1), log_rows (batch, rows + 1), log_columns (batch, columns + 1).

    Source: Sarlin et al. 2020, section 3.2. Masks are ours; the paper's sets have no padding.

    >>> valid = torch.tensor([[True, True]])
    >>> scores = torch.tensor([[[4.0, 0.0], [0.0, -4.0]]], requires_grad=True)
    >>> dustbin = torch.tensor(0.0, requires_grad=True)
    >>> P = log_sinkhorn(*with_dustbins(scores, dustbin, valid, valid), iterations=50).exp()
    >>> (P * 100).round().detach()
    tensor([[[ 78.,  10.,  12.],
             [ 10.,   1.,  88.],
             [ 12.,  88., 100.]]])
    >>> P[0, 0, 0].backward()
    >>> round(dustbin.grad.item(), 3), round(scores.grad[0, 0, 0].item(), 3)
    (-0.011, 0.094)
    """
    batch = scores.shape[0]
    to_row = torch.where(valid_columns, dustbin, NEVER)[:, None, :]
    to_column = torch.where(valid_rows, dustbin, NEVER)[:, :, None]
    inner = torch.where(valid_rows[:, :, None] & valid_columns[:, None, :], scores, NEVER)
    upper = torch.cat([inner, to_column], 2)
    lower = torch.cat([to_row, dustbin.expand(batch, 1, 1)], 2)
    log_rows, log_columns = (
        _log_masses(valid_rows, valid_columns, scores),
        _log_masses(valid_columns, valid_rows, scores),
    )
    return torch.cat([upper, lower], 1), log_rows, log_columns


def _log_masses(valid: Tensor, others: Tensor, like: Tensor) -> Tensor:
    """Return log 1 for each valid point, and for the dustbin the logarithm of how many others there are."""
    own = torch.where(valid, 0.0, NEVER).to(like.dtype)
    count = others.to(like.dtype).sum(1, keepdim=True)
    return torch.cat([own, torch.where(count > 0, count.clamp(min=1.0).log(), NEVER)], 1)


def mutual_best(plan: Tensor, threshold: float) -> Tensor:
    """Return each row's partner, if each is the other's best and the plan there is above the threshold; else -1.

    The hard twin of a Sinkhorn plan without its dustbins. No column is the partner of two rows. Of equal values the
    one of the lowest index is the best.

    Shapes:
        plan: (batch, rows, columns), at least 0 everywhere and 0 at padded rows and columns.
        returns: (batch, rows), int64, from -1 to columns - 1.

    Args:
        threshold: at least 0; the comparison is strict, so 0 is never above it.

    Source: Sarlin et al. 2020, section 5 (threshold 0.2) and its mutual check. The dustbin is not compared with; the
    threshold does that work.

    >>> plan = torch.tensor([[[0.7, 0.1], [0.2, 0.1], [0.1, 0.6]]])
    >>> mutual_best(plan, 0.2)
    tensor([[ 0, -1,  1]])
    >>> mutual_best(plan, 0.65)
    tensor([[ 0, -1, -1]])
    """
    best = plan.argmax(2)
    back = plan.argmax(1).gather(1, best)
    rows = torch.arange(plan.shape[1], device=plan.device)
    kept = (back == rows) & (plan.amax(2) > threshold)
    return torch.where(kept, best, -1)


def mutual_margin(plan: Tensor, threshold: float) -> Tensor:
    """Return how far each row's choice in :func:`mutual_best` is from being another one, in units of the plan.

    A row with a partner loses it when the value there falls to the threshold or to the second best of its row or
    column. A row without one gets column j when the value at j rises to the threshold, the best of the row and the
    best of column j; the nearest column counts.

    Shapes:
        plan: (batch, rows, columns).
        returns: (batch, rows), at least 0.

    >>> mutual_margin(torch.tensor([[[0.7, 0.1], [0.3, 0.1], [0.1, 0.6]]]), 0.2)
    tensor([[0.4000, 0.4000, 0.4000]])
    """
    best_of_row, best_of_column = plan.amax(2, keepdim=True), plan.amax(1, keepdim=True)
    gain = (torch.maximum(best_of_row, best_of_column).clamp(min=threshold) - plan).amin(2)
    match = mutual_best(plan, threshold)
    column = match.clamp(min=0)[:, :, None]
    own = plan.gather(2, column)
    next_in_row = plan.scatter(2, column, 0.0).amax(2, keepdim=True)
    rows = torch.arange(plan.shape[1], device=plan.device)
    # Of each row's column, the best among the other rows.
    columns_of = plan.transpose(1, 2).gather(1, column.expand(-1, -1, plan.shape[1]))
    next_in_column = columns_of.masked_fill(rows[:, None] == rows, 0.0).amax(2, keepdim=True)
    loss = (own - torch.maximum(next_in_row, next_in_column).clamp(min=threshold))[:, :, 0]
    return torch.where(match >= 0, loss, gain)
