from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest

from deploykit_serving.profiling import closed_loop
from deploykit_serving.profiling.batch_sweep import batch_sizes, sweep
from deploykit_serving.profiling.closed_loop import feed, overhead_ns, record, settle, throughput
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.runtimes import open_session
from tests.serving.profiling.tiny_bundles import sum_model


class Played:
    """A clock that only the calls move, so that no busy machine shapes what is read from it."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        return self.now

    def takes(self, nanoseconds: int) -> Callable[[], None]:
        def call() -> None:
            self.now += nanoseconds

        return call


def test_record_times_every_call_of_a_session() -> None:
    inputs = {"x": np.ones((3, 4), dtype=np.float32)}
    call = feed(open_session(sum_model()), [inputs])
    times = record(call, seconds=60.0, at_most=200)
    assert times.shape == (200,)
    assert times.dtype == np.int64
    assert (times > 0).all()


def test_record_measures_what_passed() -> None:
    times = record(lambda: time.sleep(0.002), seconds=60.0, at_most=10)
    assert times.min() >= 2_000_000
    assert throughput(times, batch=4) == pytest.approx(4 / (times.mean() / 1e9))


def test_record_ends_with_its_time_but_makes_the_fewest() -> None:
    assert len(record(lambda: time.sleep(0.01), seconds=0.035, at_most=1000)) <= 4
    assert len(record(lambda: time.sleep(0.001), seconds=0.0, at_most=1000, at_least=5)) == 5


def test_record_keeps_the_collector_off_and_restores_it() -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    record(lambda: seen.append(gc.isenabled()), seconds=60.0, at_most=3)
    assert seen == [False] * 3
    assert gc.isenabled()

    def fails() -> None:
        raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        record(fails, seconds=1.0, at_most=3)
    assert gc.isenabled()
    gc.disable()
    try:
        record(lambda: None, seconds=1.0, at_most=3)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_record_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 <= at_least <= at_most, got 9 and 3"):
        record(lambda: None, seconds=1.0, at_most=3, at_least=9)


def test_feed_takes_inputs_in_turn() -> None:
    class Remembers:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def run(self, inputs):  # type: ignore[no-untyped-def]
            self.seen.append(int(inputs["x"][0]))
            return {}

    session = Remembers()
    record(feed(session, [{"x": np.array([i])} for i in range(3)]), seconds=60.0, at_most=7)
    assert session.seen == [0, 1, 2, 0, 1, 2, 0]


def test_overhead_of_the_loop_is_known_and_small() -> None:
    assert 0 < overhead_ns() < 50_000  # tens of nanoseconds; a collection inside the loop takes milliseconds


def test_settle_is_stable_for_a_steady_call_and_says_when_it_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played()
    monkeypatch.setattr(closed_loop, "time", played)
    steady = settle(played.takes(2_000_000), seconds=60.0)
    assert (steady.stable, steady.windows, steady.spread) == (True, 3, 0.0)
    lasts = itertools.accumulate(itertools.repeat(1.05), lambda last, growth: last * growth, initial=10e6)

    def slower() -> None:
        played.takes(int(next(lasts)))()

    growing = settle(slower, seconds=60.0)
    assert not growing.stable
    # A window is five calls of 10 ms and more; of three windows the last is ten calls further than the first.
    assert growing.spread == pytest.approx(1.05**10 - 1, rel=1e-3)


def test_interleaved_pairs_tell_a_factor_of_two() -> None:
    played = Played()
    slow, quick = played.takes(4_000_000), played.takes(2_000_000)
    pairs = interleave(slow, quick, seconds=0.0, at_least=25, at_most=25, clock=played.perf_counter_ns)
    assert pairs.baseline.shape == pairs.variant.shape == (25,)
    assert pairs.ratio.faster
    assert pairs.ratio.ratio == pytest.approx(2.0)


def test_interleaving_alternates_in_random_but_repeatable_order() -> None:
    def order(seed: int) -> str:
        seen: list[str] = []
        interleave(
            lambda: seen.append("b"), lambda: seen.append("v"),
            seconds=0.0, at_least=20, at_most=20, block=1, seed=seed,
        )  # fmt: skip
        return "".join(seen)

    first = order(0)
    pairs = [first[i : i + 2] for i in range(0, len(first), 2)]
    assert set(pairs) == {"bv", "vb"}
    assert order(0) == first
    assert order(1) != first


def test_short_calls_are_measured_in_blocks() -> None:
    played = Played()
    clock, quick, slow = played.perf_counter_ns, played.takes(100), played.takes(2_000_000)
    assert interleave(quick, quick, seconds=0.0, at_least=6, at_most=6, clock=clock).block == 50
    assert interleave(slow, quick, seconds=0.0, at_least=6, at_most=6, clock=clock).block == 1


def test_interleave_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 <= at_least <= at_most, got 20 and 3"):
        interleave(lambda: None, lambda: None, seconds=1.0, at_most=3)


@pytest.mark.parametrize(
    ("largest", "smallest", "sizes"),
    [(1, 1, [1]), (8, 1, [1, 2, 4, 8]), (12, 1, [1, 2, 4, 8, 12]), (20, 3, [3, 6, 12, 20])],
)
def test_batch_sizes_double_up_to_the_limit(largest: int, smallest: int, sizes: list[int]) -> None:
    assert list(batch_sizes(largest, smallest)) == sizes


def test_batch_sizes_refuse_limits_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="smallest <= largest, got 4 and 2"):
        list(batch_sizes(2, 4))


def test_sweep_stops_after_two_sizes_without_gain() -> None:
    measured = {1: 100.0, 2: 190.0, 4: 195.0, 8: 300.0, 16: 310.0, 32: 312.0, 64: 900.0}
    asked: list[int] = []

    def measure(batch: int) -> float:
        asked.append(batch)
        return measured[batch]

    assert "saturated: batch 32" in sweep(measure, largest=64)
    assert asked == [1, 2, 4, 8, 16, 32]


def test_sweep_ends_at_the_largest_batch() -> None:
    assert sweep(float, largest=6) == "batch 6 is the largest asked for or legal"
