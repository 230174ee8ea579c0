from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from deploykit_serving.profiling.open_loop import arrivals, open_loop
from deploykit_serving.profiling.request_log import NEVER, RequestLog, summed_up
from deploykit_serving.profiling.waiting import Waiting

MS = 1_000_000


def test_arrivals_are_a_poisson_process() -> None:
    moments = arrivals(rate=1000.0, seconds=20.0, seed=3)
    assert moments.dtype == np.int64
    assert (np.diff(moments) >= 0).all()
    assert moments[-1] < 20e9
    assert stats.kstest(np.diff(moments) / 1e9, stats.expon(scale=1e-3).cdf).pvalue > 0.01
    counts = [len(arrivals(50.0, 2.0, seed)) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(100, abs=3 * np.sqrt(100 / 400))
    assert np.var(counts) == pytest.approx(100, rel=0.25)


def test_arrivals_repeat_with_their_seed_and_are_bounded() -> None:
    assert np.array_equal(arrivals(100.0, 1.0, 5), arrivals(100.0, 1.0, 5))
    assert not np.array_equal(arrivals(100.0, 1.0, 5)[:50], arrivals(100.0, 1.0, 6)[:50])
    assert len(arrivals(100.0, 1.0, 5, at_most=7)) == 7
    assert arrivals(0.001, 0.002, 5).tolist() == [2_000_000]


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, 1.0), (-1.0, 1.0), (float("inf"), 1.0), (1.0, 0.0)])
def test_arrivals_refuse_what_is_not_above_0(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="rate, seconds and at_most above 0"):
        arrivals(rate, seconds, 0)


def _lindley(due: NDArray[np.int64], service: NDArray[np.int64]) -> NDArray[np.int64]:
    """What requests wait for one server, from intended moment to answer: by its recursion, one after the other."""
    free, waits = 0, []
    for moment, duration in zip(due.tolist(), service.tolist(), strict=True):
        free = max(free, moment) + duration
        waits.append(free - moment)
    return np.array(waits)


def test_latency_counts_from_the_intended_moment() -> None:
    run = open_loop(lambda: time.sleep(0.004), rate=200.0, seconds=60.0, streams=1, seed=1, at_most=100)
    due = arrivals(200.0, 60.0, seed=1, at_most=100)
    assert run.asked == len(due) == len(run.times)
    # A sleep lasts at least as long as asked for, so no request can be faster than the queue allows.
    assert (run.times >= _lindley(due, np.full(len(due), 4 * MS))).all()
    assert (run.service >= 4 * MS).all()
    assert (run.times >= run.service).all()


def test_a_stall_hits_everyone_who_would_have_come() -> None:
    """Coordinated omission: the uncorrected figure sees one slow call, users saw dozens."""
    turns = itertools.count()

    def call() -> None:
        time.sleep(0.4 if next(turns) == 20 else 0.0)

    run = open_loop(call, rate=200.0, seconds=60.0, streams=1, seed=2, at_most=100)
    due = arrivals(200.0, 60.0, seed=2, at_most=100)
    assert len(run.times) == len(due)
    in_stall = (due > due[20]) & (due < due[20] + 300 * MS)
    assert np.count_nonzero(in_stall) > 30
    assert (run.times[in_stall] >= due[20] + 400 * MS - due[in_stall]).all()
    assert np.count_nonzero(run.times > 90 * MS) > 30
    assert np.median(run.service) < np.median(run.times)


def test_a_rate_over_capacity_is_invalid_and_says_what_is_possible() -> None:
    run = open_loop(lambda: time.sleep(0.01), rate=200.0, seconds=60.0, streams=1, at_most=100)
    assert run.load > 1.5
    assert "200 requests a second are over capacity: 1 streams with" in run.invalid
    assert "ask for less" in run.invalid
    assert run.backlog > 20


def test_a_hopeless_rate_ends_and_counts_who_was_left() -> None:
    run = open_loop(lambda: time.sleep(0.1), rate=200.0, seconds=1.0, streams=2)
    assert len(run.times) < run.asked
    assert f"{run.asked - len(run.times)} of {run.asked} requests were left unanswered" in run.invalid


def test_as_many_requests_run_at_once_as_there_are_streams() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    together = threading.Barrier(3, timeout=30)  # breaks, and fails the test, if fewer run at once

    def call() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()
        with lock:
            now[0] -= 1
        together.wait()

    open_loop(call, rate=500.0, seconds=60.0, streams=3, at_most=30)
    assert most == [3]


def test_every_stream_has_its_own_call() -> None:
    seen: list[set[int]] = [set(), set(), set()]
    together = threading.Barrier(3, timeout=30)  # so that no stream can take the requests of a slower one

    def connection(row: set[int]) -> Callable[[], None]:
        def call() -> None:
            row.add(threading.get_ident())
            together.wait()

        return call

    run = open_loop([connection(row) for row in seen], rate=2000.0, seconds=60.0, at_most=30)
    assert len(run.times) == run.asked == 30
    assert [len(row) for row in seen] == [1, 1, 1]
    assert len(set.union(*seen)) == 3


def test_an_error_ends_the_run_and_is_raised() -> None:
    def fails() -> None:
        raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        open_loop(fails, rate=2.0, seconds=3600.0, streams=3, seed=1)


@pytest.mark.parametrize("streams", [0, 3])
def test_calls_and_streams_must_agree(streams: int) -> None:
    with pytest.raises(ValueError, match="wanted"):
        open_loop([lambda: None] * 2, rate=1.0, seconds=1.0, streams=streams)


def _log(rows: list[tuple[int, int, int, int]]) -> RequestLog:
    due, taken, begun, ended = np.array(rows, dtype=np.int64).T
    log = RequestLog(due)
    log.taken, log.begun, log.ended = taken, begun, ended
    return log


def test_late_generator_is_told_from_late_answers() -> None:
    # Taken before it was due and begun 5 ms late: the generator. Taken late because the stream was busy: the answers.
    rows = [(0, 0, 0, MS), (10 * MS, 2 * MS, 15 * MS, 16 * MS), (11 * MS, 16 * MS, 16 * MS, 17 * MS)]
    run = summed_up(_log(rows), rate=250.0, streams=1)
    assert run.behind == pytest.approx(1 / 3)
    assert "33.3% of the requests were begun more than 1 ms late although a stream was free" in run.invalid
    assert run.times.tolist() == [MS, 6 * MS, 6 * MS]
    assert run.service.tolist() == [MS, MS, MS]


@pytest.mark.parametrize(
    ("lag", "service", "late"),
    [(40_000, 100_000, False), (60_000, 100_000, True), (60_000, 800_000, False), (200_000, 1_500_000, True)],
)
def test_a_generator_that_is_always_a_little_late_is_measured_by_what_a_call_takes(
    lag: int, service: int, late: bool
) -> None:
    due = [10 * MS * index for index in range(20)]
    run = summed_up(_log([(at, at, at + lag, at + lag + service) for at in due]), rate=100.0, streams=1)
    assert run.behind == 0.0
    assert run.lag_ns == lag
    words = f"the median request was begun {lag / 1e3:.3g} us late although a stream was free, and a call takes "
    assert (words in run.invalid) == bool(run.invalid) == late


def test_backlog_counts_who_waited_at_once() -> None:
    rows = [(0, 0, 0, 90), (10, 90, 90, 91), (20, 91, 91, 92), (30, 92, 92, 93), (2000, 93, 2000, 2001)]
    assert summed_up(_log(rows), rate=1e6, streams=1).backlog == 3


def test_unanswered_requests_are_left_out_of_the_figures() -> None:
    run = summed_up(_log([(0, 0, 0, 7), (1, 8, 8, NEVER), (2, NEVER, NEVER, NEVER)]), rate=1e9, streams=1)
    assert run.times.tolist() == [7]
    assert "2 of 3 requests were left unanswered" in run.invalid


@given(
    gaps=st.lists(st.integers(0, 300), min_size=2, max_size=80),
    service=st.integers(1, 250),
)
@settings(deadline=None)
def test_a_perfect_generator_is_never_blamed_and_load_is_littles(gaps: list[int], service: int) -> None:
    due = np.cumsum(gaps) + 1
    times = _lindley(due, np.full(len(due), service))
    ended = due + times
    begun = ended - service
    taken = np.concatenate([[0], ended[:-1]])
    run = summed_up(_log(list(zip(due, taken, begun, ended, strict=True))), rate=1e7, streams=1)
    assert run.times.tolist() == times.tolist()
    assert run.behind == 0.0
    assert run.lag_ns == 0.0
    assert run.load == pytest.approx(service * (len(due) - 1) / due[-1])
    assert bool(run.invalid) == (run.load >= 1.0)


@pytest.mark.parametrize("rate", [1.0, 100_000.0])
def test_waiting_never_ends_too_early(rate: float) -> None:
    waiting, never = Waiting(rate), threading.Event()
    waiting.prepare()
    for _ in range(20):
        moment = time.perf_counter_ns() + 300_000
        waiting.until(moment, never)
        assert time.perf_counter_ns() >= moment


def test_waiting_ends_when_it_is_told_to() -> None:
    stopped = threading.Event()
    stopped.set()
    Waiting(1.0).until(time.perf_counter_ns() + 3600 * 10**9, stopped)  # else hangs for an hour
