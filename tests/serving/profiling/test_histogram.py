from __future__ import annotations

import base64

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit_serving.profiling.histogram import HIGHEST_NS, Histogram
from deploykit_serving.profiling.statistics import percentile

# Every magnitude alike, and the ends of buckets.
TIMES = st.lists(
    st.one_of(
        st.integers(0, 41).flatmap(lambda bits: st.integers(max(2**bits - 2, 0), min(2 ** (bits + 1), HIGHEST_NS))),
        st.sampled_from([0, 1, 2047, 2048, 2049, 4095, 4096, HIGHEST_NS]),
    ),
    min_size=1,
    max_size=300,
)


def _filled(times: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record_many(np.array(times, dtype=np.int64))
    return histogram


def _library(times: list[int]) -> HdrHistogram:
    """The slow way: the library's own recording, one value after the other."""
    histogram = HdrHistogram(1, HIGHEST_NS, 3)
    for time in times:
        assert histogram.record_value(time)
    return histogram


@given(times=TIMES)
@settings(deadline=None, max_examples=60)
def test_many_at_once_are_what_the_library_records_one_by_one(times: list[int]) -> None:
    ours, theirs = _filled(times), _library(times)
    assert ours.encode() == theirs.encode().decode()
    assert ours.count == len(times)
    lows, highs, counts = ours.buckets()
    wanted = [
        (item.value_iterated_from, item.value_iterated_to, item.count_at_value_iterated_to)
        for item in theirs.get_recorded_iterator()
    ]
    assert counts.tolist() == [count for _, _, count in wanted]
    assert highs.tolist() == [theirs.get_highest_equivalent_value(low) for low in lows.tolist()]
    assert lows.tolist() == [theirs.get_lowest_equivalent_value(high) for high in highs.tolist()]


@given(times=TIMES, q=st.sampled_from([0.001, 0.25, 0.5, 0.9, 0.99, 0.999]))
@settings(deadline=None, max_examples=60)
def test_percentile_is_numpys_up_to_a_thousandth(times: list[int], q: float) -> None:
    exact = int(np.quantile(np.array(times), q, method="inverted_cdf"))
    assert exact <= _filled(times).percentile(q) <= exact * 1.001


@given(times=TIMES)
@settings(deadline=None, max_examples=60)
def test_percentile_is_the_librarys_where_both_round_alike(times: list[int]) -> None:
    theirs = _library(times)
    for rank in range(1, len(times) + 1):
        q = rank / len(times)
        if 0 < q < 1:
            assert _filled(times).percentile(q) == theirs.get_value_at_percentile(q * 100)


def test_percentile_has_the_rank_of_the_statistics() -> None:
    times = np.arange(1, 1000, dtype=np.int64)  # below 2048 every value is a bucket of its own
    histogram = Histogram()
    histogram.record_many(times)
    for q in (0.5, 0.9, 0.99):
        assert histogram.percentile(q) == percentile(times, q).value


@given(times=TIMES, more=TIMES)
@settings(deadline=None, max_examples=30)
def test_merging_is_recording_both(times: list[int], more: list[int]) -> None:
    merged = _filled(times)
    merged.merge(_filled(more))
    assert merged.encode() == _filled(times + more).encode()
    assert merged.count == len(times) + len(more)


@given(times=TIMES)
@settings(deadline=None, max_examples=30)
def test_what_was_encoded_reads_back_and_can_grow(times: list[int]) -> None:
    text = _filled(times).encode()
    read = Histogram.decode(text)
    assert read.encode() == text
    assert read.count == len(times)
    read.record_many(np.array([HIGHEST_NS], dtype=np.int64))
    assert read.count == len(times) + 1


def test_an_empty_one_merges_encodes_and_has_no_percentile() -> None:
    empty = Histogram()
    empty.record_many(np.array([], dtype=np.int64))
    assert Histogram.decode(empty.encode()).count == 0
    filled = _filled([5])
    filled.merge(empty)
    assert filled.count == 1
    with pytest.raises(ValueError, match="nothing was recorded"):
        empty.percentile(0.5)


@pytest.mark.parametrize("times", [[-1], [5, HIGHEST_NS + 1]])
def test_times_out_of_range_are_refused_and_nothing_is_recorded(times: list[int]) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match=r"from 0 ns to an hour, got -?\d+ to -?\d+ ns"):
        histogram.record_many(np.array(times))
    assert histogram.count == 0


@pytest.mark.parametrize("times", [np.array([0.5]), np.zeros((2, 2), dtype=np.int64)])
def test_only_a_row_of_integers_is_recorded(times: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"integer nanoseconds of shape \(n,\)"):
        Histogram().record_many(times)


@pytest.mark.parametrize("q", [0.0, 1.0, 99.0])
def test_a_percentile_is_a_share(q: float) -> None:
    with pytest.raises(ValueError, match="share inside"):
        _filled([1]).percentile(q)


@pytest.mark.parametrize("text", ["", "x", "é", "HISTF", base64.b64encode(bytes(60)).decode()])
def test_other_text_is_no_histogram(text: str) -> None:
    with pytest.raises(ValueError, match="not an HdrHistogram in V2 format"):
        Histogram.decode(text)


def test_a_torn_histogram_is_refused_wherever_it_is_torn() -> None:
    text = _filled([3, 50_000, 7_000_000]).encode()
    for length in range(0, len(text) - 4, 4):
        with pytest.raises(ValueError, match="not an HdrHistogram"):
            Histogram.decode(text[:length])


def test_a_histogram_of_another_range_is_refused() -> None:
    other = HdrHistogram(1, 1000, 2)
    other.record_value(5)
    with pytest.raises(ValueError, match=r"wanted a histogram of .*\(1, 3600000000000, 3\), got \(1, 1000, 2\)"):
        Histogram.decode(other.encode().decode())
