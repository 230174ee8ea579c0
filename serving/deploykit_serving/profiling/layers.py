"""Where the time goes inside a model: one line an operator, as the runtime runs it after its fusions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploykit.errors import ServingError
from deploykit.runtime import RuntimeOptions
from deploykit.signature import Arrays
from deploykit_serving.profiling.closed_loop import Call, collector_off, feed, record, settle
from deploykit_serving.profiling.schema import Layer, Layers
from deploykit_serving.runtimes import REFERENCE
from deploykit_serving.runtimes.onnxruntime_cpu import session_options

OPENVINO: Final = "openvino-cpu"
_FEWEST_RUNS: Final = 20
_MOST_RUNS: Final = 200  # a profiler's file grows by one event an operator and run
_KERNEL: Final = "_kernel_time"
Found = tuple[str, str, float]  # layer, operator, microseconds


def layers(
    model: bytes,
    inputs: Sequence[Arrays],
    threads: int,
    batch: int,
    runtime: str = REFERENCE,
    *,
    seconds: float = 1.0,
) -> Layers:
    """Break a model down by the runtime's own profiler, and say by how much that slows it down.

    Profiler times are too large by ``inflation`` and are no source of latencies; what counts are the shares. ONNX
    Runtime gives whole microseconds, so that the smallest layers are rough. Where OpenVINO packs convolutions into
    bits, which it does for one sample, there is no breakdown.

    Args:
        inputs: taken in turn, each of ``batch`` samples.
        runtime: ``onnxruntime-cpu`` or ``openvino-cpu``; others have no profiler here and come back as ``not_run``.
        seconds: for everything, roughly; twenty runs with the profiler are made in any case.
    """
    profilers = {REFERENCE: _onnxruntime, OPENVINO: _openvino}
    if runtime not in profilers:
        return Layers(batch=batch, not_run=f"{runtime} shows no times of single operators")
    try:
        with collector_off():
            found, inflation = profilers[runtime](model, inputs, threads, seconds / 3.0)
    except Exception as error:  # the engines' exceptions share no base class, and a breakdown is no reason to stop
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return Layers(batch=batch, not_run=f"{runtime}'s profiler gave nothing: {first[:200]}")
    return Layers(batch=batch, layers=_summed(found), inflation=inflation)


def _onnxruntime(model: bytes, inputs: Sequence[Arrays], threads: int, seconds: float) -> tuple[Iterable[Found], float]:
    import onnxruntime

    def opened(prefix: str) -> Any:
        settings = session_options(RuntimeOptions(threads=threads, spin=True))
        if prefix:
            settings.enable_profiling = True
            settings.profile_file_prefix = prefix
        return onnxruntime.InferenceSession(model, sess_options=settings, providers=["CPUExecutionProvider"])

    plain = _median(_call(opened(""), inputs), seconds)
    with tempfile.TemporaryDirectory(prefix="deploykit-layers-") as folder:
        session = opened(str(Path(folder) / "runs"))
        _call(session, inputs)()
        times = record(_call(session, inputs), seconds=seconds, at_least=_FEWEST_RUNS, at_most=_MOST_RUNS)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _kernels(events), float(np.median(times)) / plain


def _kernels(events: Sequence[Any]) -> list[Found]:
    """Return the operators' events; the first run, which allocates, is left out."""
    runs = [event["ts"] for event in events if event.get("name") == "model_run"]
    # An event is written when it ends: what began before the second run belongs to the first or to loading.
    after = sorted(runs)[1] if len(runs) > 1 else 0
    return [
        (event["name"].removesuffix(_KERNEL), event["args"]["op_name"], float(event["dur"]))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= after
    ]


def _openvino(model: bytes, inputs: Sequence[Arrays], threads: int, seconds: float) -> tuple[Iterable[Found], float]:
    import openvino

    from deploykit_serving.runtimes.openvino_cpu import OpenVinoSession

    if len(next(iter(inputs[0].values()))) == 1 and OpenVinoSession(model, RuntimeOptions(threads=threads)).packed:
        raise ServingError("one sample runs with packed convolutions, which are not broken down; take a larger batch")

    def opened(profiled: bool) -> Any:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": profiled,
        }
        core = openvino.Core()
        return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()

    def call(request: Any) -> Callable[[Arrays], object]:
        return lambda arrays: request.infer(dict(arrays), share_inputs=True)

    plain = _median(_in_turn(call(opened(False)), inputs), seconds)
    request = opened(True)
    found: list[Found] = []

    def run() -> None:
        profiled()

    profiled = _in_turn(call(request), inputs)
    run()
    times = []
    for _ in range(_MOST_RUNS):
        times.append(int(record(run, seconds=0.0, at_most=1)[0]))
        found += [
            (info.node_name, info.exec_type or info.node_type, info.real_time.total_seconds() * 1e6)
            for info in request.profiling_info
            if info.status != openvino.ProfilingInfo.Status.OPTIMIZED_OUT
        ]
        if len(times) >= _FEWEST_RUNS and sum(times) > seconds * 1e9:
            break
    # Constants are listed, and what took under a microsecond counts as not run: what never took any time is no layer.
    taking = {name for name, _, duration in found if duration}
    return [item for item in found if item[0] in taking], float(np.median(times)) / plain


def _call(session: Any, inputs: Sequence[Arrays]) -> Call:
    return _in_turn(lambda arrays: session.run(None, dict(arrays)), inputs)


class _Runs:
    """A session made of one function."""

    def __init__(self, run: Callable[[Arrays], object]) -> None:
        self.run = run


def _in_turn(run: Callable[[Arrays], object], inputs: Sequence[Arrays]) -> Call:
    session: Any = _Runs(run)
    return feed(session, inputs)


def _median(call: Call, seconds: float) -> float:
    settle(call, seconds=seconds / 2.0)
    return float(np.median(record(call, seconds=seconds, at_least=_FEWEST_RUNS, at_most=10_000)))


def _summed(found: Iterable[Found]) -> tuple[Layer, ...]:
    """Put the events of each layer together, in the order in which they first ran."""
    times: dict[tuple[str, str], list[float]] = {}
    for name, operator, duration in found:
        times.setdefault((name, operator), []).append(duration)
    total = sum(map(sum, times.values())) or 1.0
    return tuple(
        Layer(
            name=name,
            operator=operator,
            calls=len(durations),
            median_us=float(np.median(durations)),
            share=sum(durations) / total,
        )
        for (name, operator), durations in times.items()
    )
