"""TensorRT engines as a target of ``export``."""

from __future__ import annotations

from typing import ClassVar

from deploykit.errors import MissingExtraError
from deploykit.signature import Signature
from deploykit.target import Target, Written
from deploykit_export.tensorrt_engine import DEFAULT_TARGET, build_engine, installed_builder


class TensorRT(Target):
    """An engine through ``tensorrt`` or ``tensorrt_rtx``, whichever is installed.

    Args:
        compute_capability: what ``tensorrt_rtx`` builds for; ``tensorrt`` builds for the GPU that is there.
    """

    starts_from: ClassVar[str] = "tensorrt"

    def __init__(self, compute_capability: str = DEFAULT_TARGET) -> None:
        self.compute_capability = compute_capability

    def missing(self) -> str:
        """Return which extra is missing, if neither builder is installed."""
        try:
            installed_builder()
        except MissingExtraError as error:
            return str(error)
        return ""

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        """Build the engine in a process of its own; see :func:`deploykit_export.tensorrt_engine.build_engine`."""
        engine = build_engine(model, signature, target=self.compute_capability, timeout=self.timeout)
        file = f"{engine.builder}-{engine.version}-{engine.target.lower().replace(' ', '-')}.plan"
        return Written({file: engine.data}, {"layers": engine.layers, "seconds": engine.seconds})
