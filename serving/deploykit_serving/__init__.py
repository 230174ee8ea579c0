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
    yield RuntimeCard(
        name="onnxruntime-cuda",
        summary="ONNX Runtime on an NVIDIA GPU, with nothing left to the CPU",
        implementation="deploykit_serving.runtimes.onnxruntime_cuda:OnnxRuntimeCuda",
    )
    yield RuntimeCard(
        name="openvino-cpu",
        summary="OpenVINO on the CPU, in exact float32, convolutions of -1 and +1 packed into bits",
        implementation="deploykit_serving.runtimes.openvino_cpu:OpenVinoCpu",
    )
    yield RuntimeCard(
        name="tensorrt",
        summary="TensorRT on the NVIDIA GPU that is there",
        implementation="deploykit_serving.runtimes.tensorrt_native:TensorRt",
    )
    yield RuntimeCard(
        name="tensorrt-rtx",
        summary="TensorRT for RTX on a GeForce or RTX GPU",
        implementation="deploykit_serving.runtimes.tensorrt_native:TensorRtRtx",
    )
    yield RuntimeCard(
        name="torch",
        summary="The hard form in PyTorch, made anew from the bundle: for comparing, never for serving",
        implementation="deploykit_serving.runtimes.torch_reference:TorchReference",
    )
