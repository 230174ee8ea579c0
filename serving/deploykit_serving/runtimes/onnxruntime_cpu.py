"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

from numpy.typing import NDArray

from deploykit.errors import MissingExtraError, ServingError
from deploykit.runtime import Runtime, RuntimeOptions
from deploykit.signature import Arrays


class OnnxRuntimeSession:
    """One model; ONNX Runtime's ``Run`` is thread-safe, so there is no lock."""

    def __init__(self, model: bytes, options: RuntimeOptions) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        try:
            self._session = onnxruntime.InferenceSession(
                model, sess_options=session_options(options), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ServingError(f"onnxruntime-cpu refuses the model: {first[:300]}") from error
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the model once; no binding of buffers, which takes longer where every answer is the caller's own."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


class OnnxRuntimeCpu(Runtime):
    """The reference: every other runtime's answers are compared with this one's."""

    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")

    def missing(self) -> str:
        """Return which extra is missing, if onnxruntime is not installed."""
        if importlib.util.find_spec("onnxruntime") is None:
            return str(MissingExtraError("onnxruntime", "serve"))
        return ""

    def version(self) -> str:
        """Return the version of onnxruntime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def open_session(self, model: bytes, options: RuntimeOptions) -> OnnxRuntimeSession:
        """Load a model from its bytes.

        Raises:
            ServingError: ONNX Runtime refuses it; gives the first line of what it says.
        """
        return OnnxRuntimeSession(model, options)


def session_options(options: RuntimeOptions) -> Any:
    """Return the settings every session of ours uses."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spin else "0")
    # Level 4, the default of a fused DequantizeLinear + MatMul, rounds activations to int8 without being asked.
    settings.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    return settings
