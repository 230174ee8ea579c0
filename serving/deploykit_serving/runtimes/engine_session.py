"""A TensorRT engine at work: its buffers on the GPU, a recorded graph for each shape, batches cut to what it takes."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import ServingError
from deploykit.signature import Arrays
from deploykit_serving.runtimes.cuda_memory import DeviceBuffer, Graph, Stream

_KEPT_SHAPES: Final = 8
Shapes = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Prepared:
    """Buffers of one combination of input shapes, and the work recorded on them."""

    buffers: dict[str, DeviceBuffer]
    shapes: dict[str, tuple[int, ...]]
    graph: Graph | None


class EngineSession:
    """One engine; calls from several threads take turns, as they would on the GPU.

    Args:
        plan: the serialized engine, built here or checked against its hash: it is a program.
        builder: name of the package that built it, ``tensorrt`` or ``tensorrt_rtx``.
    """

    def __init__(self, plan: bytes, builder: str) -> None:
        trt = importlib.import_module(builder)
        # Both must live as long as what they made.
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine, self._context, own_graphs = opened(self._runtime, plan, trt)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._dtypes = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        self._largest = largest_batch(self._engine, self._inputs, self._outputs)
        self._records = not own_graphs
        self._stream = Stream()
        self._prepared: OrderedDict[Shapes, _Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the engine, copies to and from the GPU included; a batch larger than it was built for is run in parts.

        Raises:
            ServingError: a shape is outside the engine's profile, or the GPU fails.
        """
        count = len(next(iter(inputs.values()))) if self._largest is not None else 0
        with self._lock:
            if self._largest is None or count <= self._largest:
                return self._run(inputs)
            parts = [
                self._run({name: array[start : start + self._largest] for name, array in inputs.items()})
                for start in range(0, count, self._largest)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        held = {name: np.ascontiguousarray(inputs[name], self._dtypes[name]) for name in self._inputs}
        prepared = self._for(tuple(held[name].shape for name in self._inputs))
        for name, array in held.items():
            self._stream.upload(prepared.buffers[name], array)
        if prepared.graph is not None:
            prepared.graph.launch()
        else:
            self._enqueue()
        answers = {name: np.empty(prepared.shapes[name], self._dtypes[name]) for name in self._outputs}
        for name, array in answers.items():
            self._stream.download(array, prepared.buffers[name])
        self._stream.wait()
        return answers

    def _for(self, shapes: Shapes) -> _Prepared:
        """Return buffers for input shapes, with the context set to them."""
        found = self._prepared.get(shapes)
        if found is None:
            found = self._prepare(shapes)
            self._prepared[shapes] = found
            if len(self._prepared) > _KEPT_SHAPES:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(shapes)
            if found.graph is None:
                self._set(shapes, found.buffers)
        return found

    def _prepare(self, shapes: Shapes) -> _Prepared:
        for name, shape in zip(self._inputs, shapes, strict=True):
            if not self._context.set_input_shape(name, shape):
                low, _, high = self._engine.get_tensor_profile_shape(name, 0)
                raise ServingError(
                    f"the engine takes {name!r} from {list(low)} to {list(high)}, got {list(shape)}; export it with a "
                    "signature whose dims say how large inputs get"
                )
        sizes = {name: tuple(self._context.get_tensor_shape(name)) for name in (*self._inputs, *self._outputs)}
        for name in self._outputs:
            if any(size < 0 for size in sizes[name]):
                raise ServingError(
                    f"the engine's output {name!r} has a size that depends on the data; use another runtime"
                )
        buffers = {
            name: DeviceBuffer(int(np.prod(shape, dtype=np.int64)) * self._dtypes[name].itemsize)
            for name, shape in sizes.items()
        }
        self._set(shapes, buffers)
        graph = None
        if self._records:
            # The first run sets up what a recording must not; an engine that cannot be recorded runs without.
            self._enqueue()
            self._stream.wait()
            with contextlib.suppress(ServingError):
                graph = self._stream.record(self._enqueue)
        return _Prepared(buffers, {name: sizes[name] for name in self._outputs}, graph)

    def _set(self, shapes: Shapes, buffers: dict[str, DeviceBuffer]) -> None:
        for name, shape in zip(self._inputs, shapes, strict=True):
            self._context.set_input_shape(name, shape)
        for name, buffer in buffers.items():
            self._context.set_tensor_address(name, buffer.address)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise ServingError("TensorRT could not start the engine on the GPU")


def opened(runtime: Any, plan: bytes, trt: Any) -> tuple[Any, Any, bool]:
    """Load an engine.

    Args:
        runtime: the package's own.
        trt: the package, ``tensorrt`` or ``tensorrt_rtx``.

    Returns:
        the engine, a context to run it in, and whether the context records graphs by itself.

    Raises:
        ServingError: this GPU, or this version, cannot run it.
    """
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ServingError(
            f"{trt.__name__} {trt.__version__} cannot load the engine on this GPU; it was built for another, or by "
            "another version"
        )
    own_graphs = hasattr(trt, "CudaGraphStrategy")
    if own_graphs:
        settings = engine.create_runtime_config()
        settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Kernels for a shape are made at its first run, not behind our back: later runs give the same bits.
        settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        context = engine.create_execution_context(settings)
    else:
        context = engine.create_execution_context()
    if context is None:
        raise ServingError(f"{trt.__name__} cannot run the engine: the GPU has too little memory free")
    return engine, context, own_graphs


def largest_batch(engine: Any, inputs: list[str], outputs: list[str]) -> int | None:
    """Return how many rows the engine takes at once; ``None`` where its tensors do not all count rows."""
    if not inputs or any(tuple(engine.get_tensor_shape(name))[:1] != (-1,) for name in (*inputs, *outputs)):
        return None
    return min(int(engine.get_tensor_profile_shape(name, 0)[2][0]) for name in inputs)
