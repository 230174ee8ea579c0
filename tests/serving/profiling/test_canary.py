from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploykit_serving.profiling.canary import Canary, Gate
from deploykit_serving.profiling.canary_model import CANARY_FILE, canary_bytes, canary_input
from deploykit_serving.runtimes import open_session

FLOOR = 100.0


@pytest.fixture(autouse=True, scope="module")
def _no_collecting() -> Iterator[None]:
    """A gate collects garbage before it measures: in two hundred examples that is most of the time."""
    gc.disable()
    yield
    gc.enable()


class Script:
    """A canary that reads what it is told; the floor is the least it has read."""

    def __init__(self, readings: Sequence[float]) -> None:
        self._left = iter(readings)
        self._seen = [FLOOR * 10]

    def read(self) -> float:
        self._seen.append(next(self._left))
        return self._seen[-1]

    def floor(self) -> float:
        return min(self._seen)


def _ticks(step: float = 1.0) -> Callable[[], float]:
    times = itertools.count()
    return lambda: next(times) * step


def _numbered(sizes: Sequence[int]) -> Callable[[float], NDArray[np.int64]]:
    """Return windows of these sizes; the calls of window i take i + 1 milliseconds."""
    turns = iter(enumerate(sizes))

    def measure(seconds: float) -> NDArray[np.int64]:
        index, size = next(turns)
        return np.full(size, (index + 1) * 1_000_000, dtype=np.int64)

    return measure


def test_windows_between_quiet_looks_are_kept() -> None:
    gate = Gate(Script([100, 101, 120, 100, 103, 106, 100]), clock=_ticks())
    found = gate.windows(_numbered([5] * 6), seconds=6.5, at_least=5, at_most=100, window_seconds=0.02)
    # Looks around the windows: 100-101 kept, 101-120 and 120-100 not, 100-103 kept, 103-106 and 106-100 not.
    assert found.times.tolist() == [1_000_000] * 5 + [4_000_000] * 5
    assert found.blocks_ms == (1.0, 4.0)
    assert found.rejected == pytest.approx(20 / 30)
    assert found.at_rest
    assert found.floor_ns == 100


def test_a_lower_floor_judges_earlier_windows_again() -> None:
    gate = Gate(Script([100, 100, 100, 90, 90, 90]), clock=_ticks())
    found = gate.windows(_numbered([3] * 5), seconds=5.5, at_least=3, at_most=100, window_seconds=0.02)
    assert found.times.tolist() == [4_000_000] * 3 + [5_000_000] * 3
    assert found.floor_ns == 90


def test_accepted_windows_that_fall_again_are_measured_anew() -> None:
    """With the first two windows ten calls seem enough; the floor that sinks afterwards takes them away."""
    gate = Gate(Script([100, 100, 80, 80, 80]), clock=_ticks(0.0))
    found = gate.windows(_numbered([5] * 4), seconds=60.0, at_least=10, at_most=10, window_seconds=0.02)
    assert found.times.tolist() == [3_000_000] * 5 + [4_000_000] * 5
    assert found.at_rest


def test_a_machine_that_never_rests_ends_with_its_least_disturbed_windows() -> None:
    script = Script([100, 150, 140, 130, 120, 160, 200, 200])
    gate = Gate(script, clock=_ticks(10.0))
    found = gate.windows(_numbered([4] * 7), seconds=1.0, at_least=6, at_most=100, window_seconds=0.02)
    # The time was over at once, so that it gave up with twice the calls wanted: after three windows.
    assert not found.at_rest
    assert found.rejected == 1.0
    assert found.times.tolist() == [1_000_000] * 4 + [3_000_000] * 4  # of two at 150 the first, and the one at 140


def test_slow_calls_are_made_as_often_as_wanted_although_the_time_is_over() -> None:
    gate = Gate(Script([100.0] * 50), clock=_ticks(100.0))
    found = gate.record(lambda: None, seconds=1.0, at_least=7, at_most=50, window_seconds=0.0)
    assert found.at_rest
    assert len(found.times) >= 7


def test_no_more_calls_come_back_than_asked_for() -> None:
    gate = Gate(Script([100.0] * 50), clock=_ticks(0.0))
    found = gate.windows(_numbered([8] * 9), seconds=60.0, at_least=1, at_most=20, window_seconds=0.02)
    assert len(found.times) == 20


def test_the_first_call_after_the_canary_is_not_timed_where_calls_are_many() -> None:
    made = itertools.count()
    gate = Gate(Script([100.0] * 50), clock=_ticks(0.0))
    found = gate.record(lambda: next(made), seconds=60.0, at_least=1, at_most=100, window_seconds=0.05)
    assert len(found.times) == 100
    gate = Gate(Script([100.0] * 50), clock=_ticks(0.4))
    calls = itertools.count()
    found = gate.record(lambda: next(calls), seconds=1.0, at_least=1, at_most=2**20, window_seconds=0.001)
    extra = next(calls) - len(found.times)
    assert extra == len(found.blocks_ms) - 1


LEVELS = st.lists(st.sampled_from([96.0, 98.0, 100.0, 101.0, 103.0, 104.0, 106.0, 150.0]), min_size=2, max_size=30)


@given(readings=LEVELS, sizes=st.lists(st.integers(1, 6), min_size=30, max_size=30), at_least=st.integers(1, 20))
@settings(deadline=None, max_examples=200)
def test_what_is_kept_is_what_the_rule_says(readings: list[float], sizes: list[int], at_least: int) -> None:
    """The rule read slowly: accept by both looks and the last floor, else take the best until there are enough."""
    windows = len(readings) - 1
    gate = Gate(Script(readings), clock=_ticks())
    # Enough time for all looks but the last window; a run may end before or have to go on, then the script is used up.
    try:
        found = gate.windows(
            _numbered(sizes), seconds=windows + 0.5, at_least=at_least, at_most=1000, window_seconds=0.02
        )
    except StopIteration:
        return
    made = len(found.times)
    floor = min(readings[: windows + 1])
    levels = [max(pair) for pair in itertools.pairwise(readings)]
    passing = [index for index in range(windows) if levels[index] <= floor * 1.04]
    accepted = sum(sizes[index] for index in passing)
    assert found.at_rest == (accepted >= at_least)
    assert found.rejected == pytest.approx(1 - accepted / sum(sizes[:windows]))
    if found.at_rest:
        wanted = passing
    else:
        wanted = []
        for index in sorted(range(windows), key=lambda index: levels[index]):
            wanted.append(index)
            if sum(sizes[i] for i in wanted) >= at_least:
                break
    assert found.blocks_ms == tuple(float(index + 1) for index in sorted(wanted))
    assert made == sum(sizes[index] for index in wanted)


@pytest.mark.parametrize(("at_least", "at_most"), [(0, 5), (6, 5)])
def test_counts_that_do_not_fit_are_refused(at_least: int, at_most: int) -> None:
    with pytest.raises(ValueError, match="1 <= at_least <= at_most"):
        Gate(Script([100.0])).record(lambda: None, seconds=1.0, at_least=at_least, at_most=at_most)


def test_a_tolerance_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"0\.04 for 4 %; got 0"):
        Gate(Script([]), tolerance=0.0)


def test_the_file_is_what_the_function_makes_and_small() -> None:
    assert CANARY_FILE.read_bytes() == canary_bytes()
    assert CANARY_FILE.stat().st_size < 8192
    onnx.checker.check_model(onnx.load(CANARY_FILE), full_check=True)


def test_the_network_does_all_its_work() -> None:
    """Softmax of three rounds, computed by hand in numpy."""
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(CANARY_FILE).graph.initializer}
    x = canary_input()["x"][0].astype(np.float64)
    for _ in range(3):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        size = x.shape[1]
        depth = sum(
            weights["depth"][:, 0, row, column, None, None] * padded[:, row : row + size, column : column + size]
            for row in range(3)
            for column in range(3)
        )
        x = np.maximum(np.einsum("oc,chw->ohw", weights["point"][:, :, 0, 0], depth), 0.0)
    wanted = np.exp(x) / np.exp(x).sum(axis=0)
    answered = open_session(CANARY_FILE.read_bytes()).run(canary_input())["y"][0]
    np.testing.assert_allclose(answered, wanted, rtol=1e-4, atol=1e-6)
    assert answered.std() > 0.001


def test_a_canary_reads_and_keeps_its_floor() -> None:
    canary = Canary()
    floor = canary.floor()
    readings = [canary.read() for _ in range(20)]
    assert floor > 1_000
    assert canary.floor() == min(*readings, floor)


def test_a_floor_from_before_stays_where_it_cannot_be_reached() -> None:
    canary = Canary(floor_ns=1.0)
    assert canary.floor() == 1.0
    assert not Gate(canary).quiet()
    found = Gate(canary).record(lambda: time.sleep(0.001), seconds=0.05, at_least=3, at_most=100)
    assert not found.at_rest
    assert found.rejected == 1.0
    assert len(found.times) >= 3


def test_a_real_gate_measures_and_always_ends() -> None:
    found = Gate(Canary()).record(lambda: time.sleep(0.001), seconds=0.3, at_least=20, at_most=1000)
    assert found.times.min() >= 1_000_000
    assert len(found.times) >= 20
    assert 0.0 <= found.rejected <= 1.0
