"""Sessions on an NVIDIA GPU: ONNX Runtime's two providers and TensorRT itself. Written for, and run only on, a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import MissingExtraError, ServingError
from deploykit.signature import Arrays, Signature
from deploykit_export.tensorrt_engine import build_engine
from deploykit_serving.runtimes import Session

Opener = Callable[[bytes, Signature, str], Session]
"""Opens a model's bytes, with its signature, for a compute capability such as ``SM89``."""


class ProviderSession:
    """ONNX Runtime with one GPU provider, and no silent fall-back to the CPU."""

    def __init__(self, model: bytes, provider: str) -> None:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            raise MissingExtraError(f"onnxruntime with {provider}", "gpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._session = onnxruntime.InferenceSession(model, options, providers=[provider])
        if self._session.get_providers()[0] != provider:
            raise ServingError(f"onnxruntime did not load {provider}; it runs {self._session.get_providers()}")
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run once; copies to and from the GPU are included."""
        return dict(zip(self._names, self._session.run(None, dict(inputs)), strict=True))


class EngineSession:
    """A TensorRT engine built here; torch holds the GPU's memory."""

    def __init__(self, model: bytes, signature: Signature, builder: str, target: str) -> None:
        try:
            import torch

            trt = importlib.import_module(builder)
        except ImportError as error:
            raise MissingExtraError(f"{builder} (and torch for memory)", builder.replace("_", "-")) from error
        if not torch.cuda.is_available():
            raise ServingError("torch sees no GPU; install a CUDA build of torch to hold the engine's buffers")
        engine = build_engine(model, signature, builder=builder, target=target)
        self._torch = torch
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine.data)
        if self._engine is None:
            raise ServingError(f"{builder} cannot load the engine it built for {engine.target} on this GPU")
        self._context = self._engine.create_execution_context()
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._signature = signature

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run once; copies to and from the GPU are included."""
        torch = self._torch
        with torch.cuda.stream(self._stream):
            held = {name: torch.from_numpy(np.ascontiguousarray(array)).cuda() for name, array in inputs.items()}
            for name, tensor in held.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
                self._context.set_tensor_address(name, tensor.data_ptr())
            for spec in self._signature.outputs:
                shape = tuple(self._context.get_tensor_shape(spec.name))
                held[spec.name] = torch.empty(shape, dtype=getattr(torch, spec.dtype), device="cuda")
                self._context.set_tensor_address(spec.name, held[spec.name].data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise ServingError("TensorRT could not enqueue the engine")
            answers = {spec.name: held[spec.name].cpu().numpy() for spec in self._signature.outputs}
        self._stream.synchronize()
        return answers


OPENERS: Final[Mapping[str, Opener]] = {
    "onnxruntime CUDA": lambda model, signature, target: ProviderSession(model, "CUDAExecutionProvider"),
    "onnxruntime TensorRT": lambda model, signature, target: ProviderSession(model, "TensorrtExecutionProvider"),
    "tensorrt": lambda model, signature, target: EngineSession(model, signature, "tensorrt", target),
    "tensorrt_rtx": lambda model, signature, target: EngineSession(model, signature, "tensorrt_rtx", target),
}
TARGET_OF: Final[Mapping[str, str]] = {
    "onnxruntime CUDA": "onnxruntime",
    "onnxruntime TensorRT": "tensorrt",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
}
"""Which of a variant's targets a runtime serves; the float baseline is tried everywhere."""
