"""ONNX Runtime on an NVIDIA GPU, with nothing left to the CPU unsaid."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import MissingExtraError, ServingError
from deploykit.runtime import Runtime, RuntimeOptions
from deploykit.signature import Arrays
from deploykit_serving.runtimes.nvidia_gpu import NO_GPU, find_gpu
from deploykit_serving.runtimes.onnxruntime_cpu import session_options

_PROVIDER: Final = "CUDAExecutionProvider"
_SETTINGS: Final = {
    # Tensor cores would round float32 to 10 bits of mantissa.
    "use_tf32": "0",
    # Choosing kernels by timing them would choose others every time.
    "cudnn_conv_algo_search": "HEURISTIC",
}


class OnnxRuntimeCuda(Runtime):
    """Runs whatever ONNX Runtime's CUDA provider can run as a whole."""

    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime-gpu",)

    def missing(self) -> str:
        """Return what is missing: onnxruntime, its CUDA provider, or a GPU."""
        if importlib.util.find_spec("onnxruntime") is None:
            return str(MissingExtraError("onnxruntime-gpu", "gpu"))
        import onnxruntime

        if _PROVIDER not in onnxruntime.get_available_providers():
            return (
                f"the installed onnxruntime {onnxruntime.__version__} is built without CUDA; remove it (pip uninstall "
                "onnxruntime) and install the extra: pip install -c constraints.txt '.[gpu]'"
            )
        return "" if find_gpu() else NO_GPU

    def version(self) -> str:
        """Return the version of onnxruntime, the GPU and its driver."""
        import onnxruntime

        gpu = find_gpu()
        return f"onnxruntime-gpu {onnxruntime.__version__}{f', {gpu.text()}' if gpu else ''}"

    def open_session(self, model: bytes, options: RuntimeOptions) -> CudaSession:
        """Load a model from its bytes.

        Raises:
            ServingError: ONNX Runtime refuses it, or a part of it would run on the CPU.
        """
        return CudaSession(model, options)


class CudaSession:
    """One model; each thread that calls has its own binding of buffers, which copies no output twice."""

    def __init__(self, model: bytes, options: RuntimeOptions) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        settings = session_options(options)
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                model, sess_options=settings, providers=[(_PROVIDER, dict(_SETTINGS))]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ServingError(f"onnxruntime-cuda refuses the model: {first[:300]}") from error
        if (loaded := self._session.get_providers())[:1] != [_PROVIDER]:
            raise ServingError(
                f"onnxruntime-cuda: the CUDA provider was not loaded, only {', '.join(loaded)}; CUDA and cuDNN 9 "
                "must be where the loader finds them (LD_LIBRARY_PATH)"
            )
        self._names = [output.name for output in self._session.get_outputs()]
        self._own = threading.local()

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the model once; copies to and from the GPU are included."""
        binding = getattr(self._own, "binding", None)
        if binding is None:
            binding = self._own.binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            # Bound anew each time: the shape may be another one.
            binding.bind_output(name, "cuda")
        self._session.run_with_iobinding(binding)
        answers = binding.copy_outputs_to_cpu()
        binding.clear_binding_outputs()
        return dict(zip(self._names, answers, strict=True))
