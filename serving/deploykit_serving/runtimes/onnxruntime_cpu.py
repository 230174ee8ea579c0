"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from deploykit.errors import MissingExtraError, ServingError
from deploykit.signature import Arrays
from deploykit_serving.runtimes.runtime import RuntimeOptions

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("onnxruntime", "serve") from error


class OnnxRuntimeSession:
    """One model; ONNX Runtime's ``Run`` is thread-safe, so there is no lock."""

    def __init__(self, model: bytes, options: RuntimeOptions) -> None:
        self._session = onnxruntime.InferenceSession(
            model, sess_options=session_options(options), providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the model once."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def session_options(options: RuntimeOptions) -> Any:
    """Return the settings every session of ours uses."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spin else "0")
    # Level 4, the default of a fused DequantizeLinear + MatMul, rounds activations to int8 without being asked.
    settings.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    return settings


def open_session(model: bytes, options: RuntimeOptions) -> OnnxRuntimeSession:
    """Load a model from its bytes.

    Raises:
        ServingError: ONNX Runtime does not accept the model.
    """
    try:
        onnxruntime.disable_telemetry_events()
        return OnnxRuntimeSession(model, options)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ServingError(f"onnxruntime-cpu refuses the model: {str(error).splitlines()[0][:300]}") from error
