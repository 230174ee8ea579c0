"""Where the task's metric was lost on the way, and whether more was lost than allowed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from deploykit_export.proof_report import HopResult, Proof

_ROUNDING: Final = 1e-6


def lost_at(hops: Sequence[HopResult]) -> str:
    """Return the hop at which most of the metric was lost, or nothing if none was beyond rounding."""
    name, loss = "", 0.0
    for (_, before), (after_name, after) in itertools.pairwise(_measured(hops)):
        # A metric that is no count of right answers moves a little wherever sums are taken in another order.
        if before - after > max(loss, _ROUNDING * max(1.0, abs(before))):
            name, loss = after_name, before - after
    return name


def prove_metric(hops: Sequence[HopResult], max_loss: float) -> Proof:
    """Prove that no hop's metric is further below the first hop's than allowed.

    Args:
        max_loss: in the metric's own units; 0.01 is one point of accuracy.
    """
    measured = _measured(hops)
    if len(measured) < 2:
        return Proof(name="metric", status="not run", detail="fewer than two hops have a metric: no task is named")
    first, start = measured[0]
    worst, end = min(measured[1:], key=lambda hop: hop[1])
    loss = start - end
    return Proof(
        name="metric",
        status="failed" if loss > max_loss else "passed",
        detail=f"{worst} has {end:.4g}, {first} {start:.4g}: {max(0.0, loss):.4g} lost, {max_loss:g} allowed",
        figures={"lost": loss, "allowed": max_loss},
    )


def _measured(hops: Sequence[HopResult]) -> list[tuple[str, float]]:
    return [(hop.name, hop.metric) for hop in hops if hop.metric is not None]
