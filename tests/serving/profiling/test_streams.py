from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from deploykit_serving.profiling.streams import run_streams
from deploykit_serving.runtimes import open_session
from tests.serving.profiling.tiny_bundles import sum_model


def test_each_stream_is_a_thread_that_makes_all_its_calls() -> None:
    seen: list[list[int]] = [[], [], []]
    calls = [lambda row=row: row.append(threading.get_ident()) for row in seen]
    run = run_streams(calls, seconds=60.0, at_most=40)
    assert 40 <= len(run.times) <= 120  # so short that a stream may be over before the next one begins
    assert run.times.dtype == np.int64
    assert [len(row) for row in seen] == [40] * 3
    assert len({tuple(set(row)) for row in seen}) == 3
    assert threading.get_ident() not in {thread for row in seen for thread in row}
    assert run.fairness == 1.0


def test_streams_run_at_once() -> None:
    both = threading.Barrier(2, timeout=30)  # breaks, and fails the test, if one waits for the other to end
    run = run_streams([both.wait, both.wait], seconds=60.0, at_most=5)
    assert len(run.times) == 10


def test_times_and_throughput_are_what_passed() -> None:
    run = run_streams([lambda: time.sleep(0.004)] * 4, seconds=60.0, at_most=10)
    assert run.times.min() >= 4_000_000
    assert 0 < run.throughput <= 4 / 0.004


def test_streams_end_with_their_time_but_make_one_call() -> None:
    together = threading.Barrier(2, timeout=30)
    run = run_streams([together.wait] * 2, seconds=0.0, at_most=1000)
    assert len(run.times) == 2


def test_what_is_begun_after_a_stream_has_ended_is_not_counted() -> None:
    """One stream makes its three calls while the other one makes its first; the other's further ones are left out."""
    begun, threads = threading.Event(), []

    def quick() -> None:
        threads.append(threading.current_thread())
        assert begun.wait(60)

    def slow() -> None:
        begun.set()
        while not threads:
            time.sleep(0.001)
        threads[0].join(60)

    run = run_streams([quick, slow], seconds=3600.0, at_most=3)
    assert run.fairness == 1.0
    assert len(run.times) == 4, "the slow call that was under way then is counted, too"


def test_a_slow_stream_shows_in_fairness() -> None:
    run = run_streams([lambda: None, lambda: time.sleep(0.5)], seconds=1.0, at_most=1000)
    assert run.fairness < 0.5


def test_an_error_ends_all_streams_and_is_raised() -> None:
    def fails() -> None:
        raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        run_streams([fails, lambda: time.sleep(0.001)], seconds=3600.0, at_most=1_000_000)


def test_one_session_serves_several_streams() -> None:
    session = open_session(sum_model())
    inputs = {"x": np.ones((2, 4), dtype=np.float32)}
    run = run_streams([lambda: session.run(inputs)] * 3, seconds=60.0, at_most=50)
    assert run.fairness == 1.0
    assert 50 <= len(run.times) <= 150
    assert (run.times > 0).all()


@pytest.mark.parametrize(("count", "at_most"), [(0, 5), (2, 0)])
def test_no_stream_and_no_call_are_refused(count: int, at_most: int) -> None:
    with pytest.raises(ValueError, match="at least one stream and one call"):
        run_streams([lambda: None] * count, seconds=1.0, at_most=at_most)
