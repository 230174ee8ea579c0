"""OpenVINO on the CPU, exact in float32, with convolutions of -1 and +1 packed into bits."""

from __future__ import annotations

import importlib.util
import logging
import threading
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import MissingExtraError, ServingError
from deploykit.runtime import Runtime, RuntimeOptions
from deploykit.signature import Arrays

_log = logging.getLogger("deploykit.serving")
_SEED: Final = 7


class OpenVinoCpu(Runtime):
    """Runs any variant for ONNX Runtime; calls from several threads share one stream of ``threads`` threads."""

    distributions: ClassVar[tuple[str, ...]] = ("openvino",)

    def missing(self) -> str:
        """Return which extra is missing, if OpenVINO is not installed."""
        return "" if importlib.util.find_spec("openvino") else str(MissingExtraError("openvino", "openvino"))

    def version(self) -> str:
        """Return release and build of OpenVINO."""
        import openvino

        return f"openvino {'-'.join(openvino.get_version().split('-')[:2])}"

    def open_session(self, model: bytes, options: RuntimeOptions) -> OpenVinoSession:
        """Load a model from its bytes.

        Raises:
            ServingError: OpenVINO refuses it; gives what it says in one line.
        """
        return OpenVinoSession(model, options)


class OpenVinoSession:
    """One model: compiled for any shape, and, where that packs convolutions, once more for batches of one sample.

    The packed convolution takes fixed shapes only. It is used if it gave the same bits as the other on a sample of
    random numbers when the session was opened.
    """

    def __init__(self, model: bytes, options: RuntimeOptions, *, pack: bool = True) -> None:
        import openvino

        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(options.threads),
            # Where a CPU has bfloat16, OpenVINO would use it without being asked.
            "INFERENCE_PRECISION_HINT": "f32",
            # It would round activations to int8 before products with packed weights, unasked as well.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        try:
            read = core.read_model(model, b"")
            if not read.inputs:
                raise ServingError("openvino-cpu refuses the model: it has no inputs")
            self._names = [output.get_any_name() for output in read.outputs]
            single = _packed(read) if pack else None
            self._any = _Compiled(core.compile_model(read, "CPU", settings))
            self._single: _Compiled | None = None
            self._shapes: dict[str, tuple[int, ...]] = {}
            if single is not None:
                self._shapes = {item.get_any_name(): tuple(item.shape) for item in single.inputs}
                self._single = self._checked(single, core.compile_model(single, "CPU", settings))
        except ServingError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError for whatever it is
            raise ServingError(f"openvino-cpu refuses the model: {_words(error)}") from error

    @property
    def packed(self) -> bool:
        """Whether batches of one sample run with packed convolutions."""
        return self._single is not None

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the model once."""
        compiled = self._any
        if self._single is not None and all(inputs[name].shape == shape for name, shape in self._shapes.items()):
            compiled = self._single
        return dict(zip(self._names, compiled.run(inputs), strict=True))

    def _checked(self, model: Any, compiled: Any) -> _Compiled | None:
        """Return the packed model, unless a kernel of this CPU gives other bits than the plain model."""
        packed = _Compiled(compiled)
        random = np.random.default_rng(_SEED)
        sample = {
            item.get_any_name(): random.standard_normal(tuple(item.shape)).astype(item.get_element_type().to_dtype())
            for item in model.inputs
        }
        pairs = zip(packed.run(sample), self._any.run(sample), strict=True)
        if all(np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in pairs):
            return packed
        _log.warning("openvino-cpu: packed convolutions answer otherwise than plain ones on this CPU: not used")
        return None


class _Compiled:
    """A compiled model with an inference request for each thread that calls."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        # Sharing takes 20 us a call where copying inputs takes 70; what is read-only is copied all the same.
        answers = request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        return [np.asarray(answers[output]) for output in self._compiled.outputs]


def _packed(model: Any) -> Any | None:
    """Return a copy for batches of one sample with packed convolutions; ``None`` if there is nothing to pack."""
    from deploykit_serving.runtimes.openvino_binary import pack_convolutions

    if not any(node.get_type_name() == "Convolution" for node in model.get_ops()):
        return None
    shapes = {}
    for item in model.inputs:
        shape = item.get_partial_shape()
        if shape.rank.is_dynamic or any(size.is_dynamic for size in list(shape)[1:]):
            return None
        shapes[item.get_any_name()] = [1 if size.is_dynamic else size.get_length() for size in shape]
    copy = model.clone()
    copy.reshape(shapes)
    return copy if pack_convolutions(copy) else None


def _words(error: Exception) -> str:
    """OpenVINO begins with lines that name its own sources; what is wrong comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (" ".join(told or lines) or type(error).__name__)[:300]
