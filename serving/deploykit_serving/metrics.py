"""Prometheus metrics with bounded labels: only routes, loaded models and statuses of ours become series.

Counting happens in plain numbers and is carried into Prometheus' in batches: its values are shared between worker
processes through files, and writing them for every answer costs more than running a small model (4 microseconds).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

OTHER: Final = "other"
SCRAPE: Final = "/metrics"
PAGES: Final = frozenset({"/", "/livez", "/readyz", "/healthz", SCRAPE, "/docs.json", "/schema.json"})
_BUCKETS: Final = (
    *(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0),
    float("inf"),
)
_FLUSH_SECONDS: Final = 0.5


class _Tally:
    """What happened to one route, model and status since the last flush."""

    __slots__ = ("answers", "buckets", "count", "histogram", "seconds")

    def __init__(self, answers: Any, histogram: Any) -> None:
        self.answers = answers
        self.histogram = histogram
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * len(_BUCKETS)

    def flush(self) -> None:
        if not self.count:
            return
        self.answers.inc(self.count)
        # A histogram of prometheus_client takes one observation at a time; its parts take sums.
        self.histogram._sum.inc(self.seconds)
        for bucket, count in zip(self.histogram._buckets, self.buckets, strict=True):
            if count:
                bucket.inc(count)
        self.count, self.seconds, self.buckets = 0, 0.0, [0] * len(_BUCKETS)


class Metrics:
    """Counts answers by route, model and status, and times them; used by the thread of the event loop alone.

    Args:
        registry: where the series live; by default the process's own, which BentoML exposes at ``/metrics``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        into: dict[str, Any] = {} if registry is None else {"registry": registry}
        self._answers = Counter(
            "deploykit_answers", "Answers sent, by route, model and HTTP status.", ["route", "model", "status"], **into
        )
        self._seconds = Histogram(
            "deploykit_answer_seconds",
            "Seconds from the request's headers to the answer, by route and model.",
            ["route", "model"],
            buckets=_BUCKETS,
            **into,
        )
        self._choices = Counter(
            "deploykit_choices",
            "Requests to deployments, by model, the variant that answered and why it: chosen, stepped_down, named or "
            "hook; variant none: refused or expired.",
            ["model", "variant", "reason"],
            **into,
        )
        self._tallies: dict[tuple[str, str, int], _Tally] = {}
        self._chosen: dict[tuple[str, str, str], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one answer; it is seen by other processes half a second later, and by :meth:`flush` at once.

        Args:
            route: one of a fixed set of names, never a path from a request.
            model: a loaded model's name, or empty.
        """
        tally = self._tallies.get((route, model, status))
        if tally is None:
            tally = _Tally(self._answers.labels(route, model, str(status)), self._seconds.labels(route, model))
            self._tallies[route, model, status] = tally
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(_BUCKETS, seconds)] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def chose(self, model: str, variant: str, reason: str) -> None:
        """Count who answered a request to a deployment; seen when its answer is, see :meth:`answered`.

        Args:
            variant: one of the deployment's, or ``none``.
            reason: one of a fixed set of words.
        """
        key = (model, variant, reason)
        self._chosen[key] = self._chosen.get(key, 0) + 1

    def flush(self) -> None:
        """Carry what was counted into the series."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tally in self._tallies.values():
            tally.flush()
        for labels, count in self._chosen.items():
            self._choices.labels(*labels).inc(count)
        self._chosen.clear()
