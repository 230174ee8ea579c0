"""Memory of the GPU, a stream of work and recorded graphs, through CUDA's own Python bindings; no torch."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from deploykit.errors import ServingError

MISSING: Final = "cuda-bindings is not installed: pip install cuda-bindings (the release of your driver's CUDA)"


def bindings_missing() -> str:
    """Return how to install CUDA's Python bindings, if they are not there."""
    try:
        found = importlib.util.find_spec("cuda.bindings")
    except ModuleNotFoundError:
        found = None
    return "" if found else MISSING


def _runtime() -> Any:
    return importlib.import_module("cuda.bindings.runtime")


def checked(what: str, returned: tuple[Any, ...]) -> Any:
    """Return what a call of CUDA gave beside its error code.

    Raises:
        ServingError: the call failed; says what was tried and CUDA's own words.
    """
    code, *values = returned
    if int(code):
        _, words = _runtime().cudaGetErrorString(code)
        text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise ServingError(f"CUDA: {what} failed: {text} ({code.name})")
    return values[0] if values else None


class DeviceBuffer:
    """Bytes on the GPU, freed with the object."""

    def __init__(self, size: int) -> None:
        self.size = size
        # Nothing is no address, and engines want one for empty tensors too.
        self.address = int(checked(f"taking {size} bytes of GPU memory", _runtime().cudaMalloc(max(1, size))))
        self._free: Callable[[int], Any] = _runtime().cudaFree

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._free(self.address)


class Stream:
    """Work of the GPU in order; of one thread at a time."""

    def __init__(self) -> None:
        cuda = _runtime()
        self._cuda = cuda
        self.handle = int(checked("making a stream", cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)))

    def upload(self, buffer: DeviceBuffer, array: NDArray[Any]) -> None:
        """Copy an array, contiguous in memory, to the GPU; the array must live until :meth:`wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(
            "copying to the GPU",
            self._cuda.cudaMemcpyAsync(buffer.address, array.ctypes.data, array.nbytes, kind, self.handle),
        )

    def download(self, array: NDArray[Any], buffer: DeviceBuffer) -> None:
        """Copy from the GPU into an array; it holds the numbers after :meth:`wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        checked(
            "copying from the GPU",
            self._cuda.cudaMemcpyAsync(array.ctypes.data, buffer.address, array.nbytes, kind, self.handle),
        )

    def wait(self) -> None:
        """Wait until everything is done; faults of the work come to light here."""
        checked("running on the GPU", self._cuda.cudaStreamSynchronize(self.handle))

    def record(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` puts on the stream, without running it.

        Raises:
            ServingError: something of it cannot be recorded.
        """
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked("recording a graph", cuda.cudaStreamBeginCapture(self.handle, mode))
        try:
            work()
        finally:
            # Ends the capture in any case: the stream could do nothing else before.
            ended = cuda.cudaStreamEndCapture(self.handle)
        return Graph(self, checked("recording a graph", ended))

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._cuda.cudaStreamDestroy(self.handle)


class Graph:
    """Recorded work of one stream, started with one call."""

    def __init__(self, stream: Stream, graph: Any) -> None:
        self._cuda = _runtime()
        self._stream = stream
        try:
            self._executable = checked("preparing a graph", self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._cuda.cudaGraphDestroy(graph)

    def launch(self) -> None:
        """Put the work on the stream."""
        checked("starting a graph", self._cuda.cudaGraphLaunch(self._executable, self._stream.handle))

    def __del__(self) -> None:
        if hasattr(self, "_executable"):
            self._cuda.cudaGraphExecDestroy(self._executable)
