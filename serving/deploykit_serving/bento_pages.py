"""BentoML's own application without the three parts of its middleware that a server cannot live with.

Measured on BentoML 1.4.39: its timeout leaves a timer behind for every finished request (for a minute each, with
pauses of the garbage collector that grow to 300 ms); its metrics make a series of every path anybody asks for; its
tracing runs whether or not spans are exported.
"""

from __future__ import annotations

from typing import Any

from _bentoml_impl.server.app import ServiceAppFactory
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.middleware import Middleware

from deploykit_serving.page_timeout import Timeout


class PagesFactory(ServiceAppFactory):  # type: ignore[misc]
    """Builds BentoML's application with its middleware mended."""

    @property
    def middlewares(self) -> list[Middleware]:
        """The middleware, outermost first."""
        tracing = BentoMLContainer.config.tracing.exporter_type.get() is not None
        return [
            self._mended(middleware)
            for middleware in super().middlewares
            if middleware.cls is not RunnerTrafficMetricsMiddleware
            and (tracing or middleware.cls is not OpenTelemetryMiddleware)
        ]

    @staticmethod
    def _mended(middleware: Any) -> Middleware:
        if middleware.cls is TimeoutMiddleware:
            return Middleware(Timeout, timeout=middleware.kwargs["timeout"])
        return Middleware(middleware.cls, *middleware.args, **middleware.kwargs)
