"""The server's own policy, as arithmetic: the best metric among the variants predicted to answer in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from deploykit.choice import Asked, Candidate


def choose(candidates: Sequence[Candidate], asked: Asked, patience: float) -> Candidate | None:
    """Return the candidate that answers; ``None`` if none is predicted to meet the budget.

    Without a budget the first answers, the one ``select`` chose. When the requests before it leave too little of
    ``patience`` for that, a faster one does: the best metric among those in time, else the fastest. A request without
    a budget is never refused here.

    Args:
        candidates: at least one, in the deployment's order.
        patience: seconds within which requests of this size and without a budget should be answered.
    """
    if asked.budget is not None:
        return best([candidate for candidate in candidates if asked.meets(candidate)])
    first = candidates[0]
    if not asked.queued or asked.wait + first.seconds <= patience:
        return first
    faster = [candidate for candidate in candidates if candidate.seconds < first.seconds]
    in_time = best([candidate for candidate in faster if asked.wait + candidate.seconds <= patience])
    return in_time or fastest([first, *faster])


def steps_down(candidates: Sequence[Candidate], asked: Asked, patience: float, chosen: Candidate) -> bool:
    """Whether the requests before it are why a request got this candidate and not another one."""
    if not asked.wait:
        return False
    return choose(candidates, replace(asked, wait=0.0, queued=0), patience) is not chosen


def at_turn(candidates: Sequence[Candidate], planned: Candidate, budget: float, elapsed: float) -> Candidate:
    """Return the candidate that answers a request whose turn has come, chosen anew if the wait left too little time.

    Never a slower one than was planned: those behind were promised their wait. If none is predicted to be in time,
    the fastest tries: what is predicted is a high percentile, and the request is first in line now.

    Args:
        budget: seconds from the request's arrival.
        elapsed: seconds since then.
    """
    if elapsed + planned.seconds <= budget:
        return planned
    able = [candidate for candidate in candidates if candidate.seconds <= planned.seconds]
    return best([candidate for candidate in able if elapsed + candidate.seconds <= budget]) or fastest(able)


def best(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the one with the best metric, of several the fastest; an unknown metric is worse than any."""
    return max(candidates, key=_goodness, default=None)


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the one that takes the least time, of several the best."""
    return min(candidates, key=lambda candidate: (candidate.seconds, -_goodness(candidate)[0]))


def _goodness(candidate: Candidate) -> tuple[float, float]:
    return (-math.inf if candidate.metric is None else candidate.metric, -candidate.seconds)
