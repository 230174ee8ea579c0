"""ONNX's reference evaluator behind deploykit's protocol."""

from __future__ import annotations

import importlib.util
from typing import Any

from numpy.typing import NDArray

from deploykit import Runtime, RuntimeOptions
from deploykit.errors import ServingError
from deploykit.signature import Arrays


class ReferenceSession:
    """One model; the evaluator keeps nothing between runs, so several threads may use it."""

    def __init__(self, model: bytes) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        try:
            parsed = onnx.load_from_string(model)
        except Exception as error:  # protobuf's own, which onnx does not name
            raise ServingError(f"onnx-reference: this is no ONNX model: {error}") from error
        if not parsed.graph.node:
            raise ServingError("onnx-reference: this is no ONNX model: it has no node")
        if foreign := sorted({node.domain for node in parsed.graph.node} - {"", "ai.onnx"}):
            raise ServingError(f"onnx-reference knows ONNX's own operators only; the model uses {', '.join(foreign)}")
        self._evaluator = ReferenceEvaluator(parsed)
        self._names = [output.name for output in parsed.graph.output]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run once; outputs are copied, since an output may be the input itself."""
        returned = self._evaluator.run(None, dict(inputs))
        return {name: value.copy() for name, value in zip(self._names, returned, strict=True)}


class OnnxReference(Runtime):
    """A second opinion that shares no kernel with ONNX Runtime; one thread, whatever the options say."""

    def missing(self) -> str:
        """Return what to install, if onnx is not there."""
        return "" if importlib.util.find_spec("onnx") else "onnx is not installed: pip install onnx"

    def open_session(self, model: bytes, options: RuntimeOptions) -> ReferenceSession:
        """Load a model from its bytes."""
        return ReferenceSession(model)
