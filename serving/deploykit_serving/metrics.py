"""Prometheus metrics with bounded labels: only routes, loaded models and statuses of ours become series."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

OTHER: Final = "other"
PAGES: Final = frozenset({"/", "/livez", "/readyz", "/healthz", "/metrics", "/docs.json", "/schema.json"})
_BUCKETS: Final = (
    *(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0),
    float("inf"),
)


class Metrics:
    """Counts answers by route, model and status, and times them.

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
        # prometheus_client looks a child up with a lock and a tuple of strings each time; a dict is much cheaper.
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one answer.

        Args:
            route: one of a fixed set of names, never a path from a request.
            model: a loaded model's name, or empty.
        """
        children = self._children.get((route, model, status))
        if children is None:
            children = self._answers.labels(route, model, str(status)), self._seconds.labels(route, model)
            self._children[route, model, status] = children
        children[0].inc()
        children[1].observe(seconds)
