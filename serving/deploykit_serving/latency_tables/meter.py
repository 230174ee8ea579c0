"""What times a model: one small protocol, so that another engine or another clock can take the place of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import ServingError
from deploykit.latency_block import Environment
from deploykit.runtime import RuntimeOptions
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.runtimes import REFERENCE, open_session
from deploykit_serving.runtimes.opening import usable_runtime

Sample = Callable[[], float]
"""Runs a loaded model a few times and returns nanoseconds a call: one sample."""

_WARM_UP: Final = 10
_SAMPLE_NS: Final = 2_000_000
_FEWEST: Final = 5
_MOST: Final = 60


class Meter(Protocol):
    """Loads a model and times it; what it does between two samples must not change what it times."""

    @property
    def environment(self) -> Environment:
        """Where it measures."""
        ...

    def build(self, model: bytes) -> Sample:
        """Load a model and warm it up.

        Raises:
            ServingError: the engine refuses it.
        """
        ...


class RuntimeMeter:
    """Times models in one of the registered runtimes, with the options they will be served with.

    Inputs are drawn once, outside of what is timed. The runtime's profiler stays off: it makes small models several
    times slower.

    Args:
        inputs: by name and without the batch, the sizes of a model's inputs; all are float32.
        batch: samples a call.

    Raises:
        ServingError: no such runtime, or it cannot run here.
    """

    def __init__(
        self,
        inputs: Mapping[str, tuple[int, ...]],
        *,
        runtime: str = REFERENCE,
        options: RuntimeOptions | None = None,
        batch: int = 1,
    ) -> None:
        self._runtime = runtime
        self._options = options or RuntimeOptions()
        draw = np.random.default_rng(0)
        self._inputs: dict[str, NDArray[Any]] = {
            name: draw.standard_normal((batch, *shape)).astype(np.float32) for name, shape in inputs.items()
        }
        self._environment = Environment(
            host=fingerprint().id,
            runtime=runtime,
            version=usable_runtime(runtime).version(),
            threads=self._options.threads,
            spin=self._options.spin,
            batch=batch,
        )

    @property
    def environment(self) -> Environment:
        """Where it measures."""
        return self._environment

    def build(self, model: bytes) -> Sample:
        """Load a model and run it ten times; a sample is the median of 5 to 60 runs, about 2 ms of them.

        Raises:
            ServingError: the runtime refuses the model, or it fails on its inputs.
        """
        session = open_session(model, self._runtime, self._options)
        inputs, clock = self._inputs, time.perf_counter_ns
        try:
            for _ in range(_WARM_UP):
                session.run(inputs)
        except Exception as error:  # runtimes' exceptions share no base class
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ServingError(f"{self._runtime} cannot run a model that is to be timed: {first[:300]}") from error

        def sample() -> float:
            times: list[int] = []
            end = clock() + _SAMPLE_NS
            while len(times) < _FEWEST or (len(times) < _MOST and clock() < end):
                start = clock()
                session.run(inputs)
                times.append(clock() - start)
            return float(np.median(times))

        return sample
