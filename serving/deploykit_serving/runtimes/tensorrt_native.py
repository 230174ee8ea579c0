"""TensorRT by its own interface: the graph as a whole, engines kept from one start to the next."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, ClassVar

from deploykit.bundle import Bundle
from deploykit.errors import ExportError, MissingExtraError, ServingError
from deploykit.manifest import VariantEntry
from deploykit.runtime import Runtime, RuntimeOptions
from deploykit_serving.runtimes.cuda_memory import bindings_missing
from deploykit_serving.runtimes.engine_plans import bundled_plan, kept_plan
from deploykit_serving.runtimes.nvidia_gpu import NO_GPU, Gpu, find_gpu

if TYPE_CHECKING:
    from deploykit.signature import Signature
    from deploykit_serving.runtimes.engine_session import EngineSession


class TensorRt(Runtime):
    """Runs variants written for TensorRT; ``threads`` and ``spin`` say nothing to a GPU."""

    targets: ClassVar[tuple[str, ...]] = ("tensorrt",)
    distributions: ClassVar[tuple[str, ...]] = ("tensorrt",)
    builder: ClassVar[str] = "tensorrt"

    def missing(self) -> str:
        """Return what is missing: the package, CUDA's bindings, or a GPU that it builds for."""
        if importlib.util.find_spec(self.builder) is None:
            return str(MissingExtraError(self.builder, self.builder.replace("_", "-")))
        if absent := bindings_missing():
            return absent
        gpu = find_gpu()
        return self.unfit(gpu) if gpu else NO_GPU

    def unfit(self, gpu: Gpu) -> str:
        """Return why no engine can be built for a GPU; empty if one can."""
        return ""

    def version(self) -> str:
        """Return the version of TensorRT, the GPU and its driver."""
        gpu = find_gpu()
        return f"{self.builder} {self.package_version()}{f', {gpu.text()}' if gpu else ''}"

    def package_version(self) -> str:
        """Return the version of the package."""
        return str(importlib.import_module(self.builder).__version__)

    def open_session(self, model: bytes, options: RuntimeOptions) -> EngineSession:
        """Build an engine for a model, or take the one kept from last time; free sizes get the usual profile.

        Raises:
            ServingError: this is no ONNX model, or an operator of it is refused.
        """
        import onnx

        from deploykit_export.onnx_import import signature_of

        try:
            signature = signature_of(onnx.load_from_string(model))
        except ExportError as error:
            raise ServingError(f"{self.card.name}: {error}") from error
        except Exception as error:  # protobuf's own, which onnx does not name, and a model without inputs
            raise ServingError(f"{self.card.name}: this is no ONNX model: {error}") from error
        return self._session(self.plan(model, signature))

    def open_variant(self, bundle: Bundle, entry: VariantEntry, options: RuntimeOptions) -> EngineSession:
        """Take the engine that came with the bundle if it is for this machine, else build one or take a kept one.

        Raises:
            ServingError: an operator is refused, or the engine does not load.
            BundleError: a file was changed after the bundle was written.
        """
        target = self.gpu().target
        plan = bundled_plan(bundle, entry, self.builder, self.package_version(), target)
        return self._session(plan or self.plan(bundle.read(entry.file), bundle.manifest.signature))

    def plan(self, model: bytes, signature: Signature) -> bytes:
        """Return an engine for this machine's GPU."""
        gpu = self.gpu()
        return kept_plan(model, signature, self.builder, self.package_version(), gpu.target, host=self.depends_on(gpu))

    def depends_on(self, gpu: Gpu) -> str:
        """Return what an engine depends on beside the compute capability: kernels were chosen by timing them."""
        return f"{gpu.name} {gpu.driver}"

    def gpu(self) -> Gpu:
        """Return the GPU.

        Raises:
            ServingError: there is none.
        """
        found = find_gpu()
        if found is None:
            raise ServingError(f"{self.builder}: {NO_GPU}")
        return found

    def _session(self, plan: bytes) -> EngineSession:
        from deploykit_serving.runtimes.engine_session import EngineSession

        return EngineSession(plan, self.builder)


class TensorRtRtx(TensorRt):
    """Runs variants written for TensorRT on GeForce and RTX; engines are built without the GPU, for its kind."""

    distributions: ClassVar[tuple[str, ...]] = ("tensorrt-rtx",)
    builder: ClassVar[str] = "tensorrt_rtx"

    def unfit(self, gpu: Gpu) -> str:
        """Return which kinds of GPU there are engines for, if this one is none of them."""
        kinds = importlib.import_module(self.builder).ComputeCapability
        known = sorted(name for name in dir(kinds) if name.startswith("SM"))
        if gpu.target in known:
            return ""
        return (
            f"{self.builder} {self.package_version()} builds for {', '.join(known)}, not for {gpu.name} ({gpu.target})"
        )

    def depends_on(self, gpu: Gpu) -> str:
        """Return nothing: kernels are made on the GPU when the engine runs."""
        return ""
