"""Files to answers and measurements: runtimes, profiling, protocol, service. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit.cards import RuntimeCard
from deploykit.hookspecs import hookimpl

__all__ = ["deploykit_runtimes"]


@hookimpl
def deploykit_runtimes() -> Iterable[RuntimeCard]:
    """Offer the runtimes that are ours."""
    yield RuntimeCard(
        name="onnxruntime-cpu",
        summary="ONNX Runtime on the CPU: the reference for every other runtime",
        implementation="deploykit_serving.runtimes.onnxruntime_cpu:OnnxRuntimeCpu",
    )
