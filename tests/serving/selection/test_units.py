"""What people write on a command line: budgets, floors, sizes and loads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.errors import ConfigError
from deploykit_serving.profiling.schema import Load
from deploykit_serving.selection.request import (
    Budget,
    Request,
    load_text,
    parse_budget,
    parse_floor,
    parse_load,
)
from deploykit_serving.selection.units import byte_count, percentile_name, percentile_share, size_text, time_text


@pytest.mark.parametrize(
    ("text", "share", "ms"),
    [
        ("p99=5ms", 0.99, 5.0),
        ("p50=800us", 0.5, 0.8),
        ("p90=800µs", 0.9, 0.8),
        ("p90=800\u03bcs", 0.9, 0.8),
        (" p99.9 = 1.5 s ", 0.999, 1500.0),
        ("p99.99=.5ms", 0.9999, 0.5),
        ("p1=1e3us", 0.01, 1.0),
        ("p99=2.ms", 0.99, 2.0),
    ],
)
def test_budgets(text: str, share: float, ms: float) -> None:
    budget = parse_budget(text)
    assert budget.percentile == share
    assert budget.ms == pytest.approx(ms, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wanted PERCENTILE=TIME"),
        ("5ms", "wanted PERCENTILE=TIME, as in p99=5ms"),
        ("p99=", "'' is no time; wanted a number and a unit"),
        ("p99=5", "'5' has no unit; wanted us, µs, ms or s, as in 5ms"),
        ("p99=5sec", "unknown unit 'sec'; wanted us, µs, ms or s"),
        ("p99=5MS", "unknown unit 'MS'"),
        ("p99=5 m s", "unknown unit 'm s'"),
        ("p99=5,5ms", "unknown unit ',5ms'"),
        ("p99=ms", "'ms' is no time"),
        ("p99=0ms", "must be above 0 and finite"),
        ("p99=-3ms", "must be above 0 and finite"),
        ("p99=nan ms", "must be above 0 and finite"),
        ("p99=inf", "must be above 0 and finite"),
        ("p99=1e999ms", "must be above 0 and finite"),
        ("p0=5ms", "there is no p0: a percentile lies between"),
        ("p100=5ms", "there is no p100"),
        ("p999=5ms", "there is no p999"),
        ("p=5ms", "'p' is no percentile; wanted p50, p90, p99, p99.9"),
        ("p-1=5ms", "'p-1' is no percentile"),
        ("p99%=5ms", "'p99%' is no percentile"),
        ("99=5ms", "'99' is no percentile"),
        ("mean=5ms", "'mean' is no percentile"),
        ("max=5ms", "'max' is no percentile"),
        ("pnan=5ms", "'pnan' is no percentile"),
        ("p99=p99=5ms", "'p99=5ms' is no time"),
    ],
)
def test_budgets_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_budget(text)
    assert words in str(error.value)
    assert str(error.value).startswith(f"--budget {text!r}: ")


@given(st.text(max_size=12))
def test_whatever_is_written_is_a_budget_or_an_error_in_words(text: str) -> None:
    try:
        budget = parse_budget(text)
    except ConfigError:
        return
    assert 0 < budget.percentile < 1
    assert 0 < budget.ms < float("inf")


@given(st.integers(1, 99_999))
def test_a_percentile_survives_its_name(thousandths: int) -> None:
    share = percentile_share(f"p{thousandths / 1000:g}")
    assert share == pytest.approx(thousandths / 100_000, abs=1e-9)
    assert percentile_share(percentile_name(share)) == share


def test_shares_are_those_that_profiles_hold() -> None:
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)):
        assert percentile_share(name) == share
        assert percentile_name(share) == name


@pytest.mark.parametrize(
    ("text", "size"),
    [("200MB", 2e8), ("200 MiB", 200 * 2**20), ("1.5kB", 1500.0), ("1GiB", 2.0**30), ("12B", 12.0), ("2GB", 2e9)],
)
def test_sizes(text: str, size: float) -> None:
    assert byte_count(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("200", "'200' has no unit; wanted B, kB, MB"),
        ("200mb", "unknown unit 'mb'"),
        ("200ms", "unknown unit 'ms'"),
        ("0MB", "a size must be above 0 and finite"),
        ("-1MB", "a size must be above 0 and finite"),
        ("much", "'much' is no size"),
    ],
)
def test_sizes_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        byte_count(text)


def test_numbers_are_shown_in_the_unit_that_suits() -> None:
    assert [time_text(ms) for ms in (0.0123456, 0.25, 12.3456, 2500.0)] == ["12.35 µs", "0.25 ms", "12.35 ms", "2.5 s"]
    assert [size_text(size) for size in (12, 1234, 5e6, 3e9)] == ["12 B", "1.234 kB", "5 MB", "3 GB"]


def test_floors() -> None:
    assert parse_floor("accuracy=0.97") == ("accuracy", 0.97)
    assert parse_floor(" psnr = -1e1 ") == ("psnr", -10.0)
    for text in ("accuracy", "=0.9", ""):
        with pytest.raises(ConfigError, match=r"wanted METRIC=VALUE, as in accuracy=0\.97"):
            parse_floor(text)
    for text in ("accuracy=97%", "accuracy=high", "accuracy=nan", "accuracy=inf", "accuracy=", "a=b=1"):
        with pytest.raises(ConfigError, match="is no finite number; give it in the metric's own units"):
            parse_floor(text)


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("closed", Load()),
        ("closed:4", Load(streams=4)),
        ("http:closed:2", Load(streams=2, through="http")),
        ("open:120.5", Load(kind="open", rate=120.5)),
        ("http:open:80", Load(kind="open", rate=80.0, through="http")),
    ],
)
def test_loads(text: str, load: Load) -> None:
    assert parse_load(text) == load
    assert parse_load(load_text(load)) == load


@pytest.mark.parametrize(
    "text", ["", "open", "open:0", "closed:0", "closed:-1", "closed:1.5", "burst:3", "http", "open:fast"]
)
def test_loads_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"wanted closed, closed:STREAMS or open:RATE"):
        parse_load(text)


def test_requests_out_of_range() -> None:
    budget = Budget(0.99, 5.0)
    with pytest.raises(ConfigError, match="batch must be at least 1, got 0"):
        Request(budget, batch=0)
    with pytest.raises(ConfigError, match="prefer must be 'metric' or 'latency', got 'size'"):
        Request(budget, prefer="size")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the floor of 'accuracy' must be a finite number, got nan"):
        Request(budget, floors={"accuracy": float("nan")})
    with pytest.raises(ConfigError, match="max_size must be above 0 bytes and finite, got 0"):
        Request(budget, max_size=0)
    with pytest.raises(ConfigError, match=r"a host's id has 12 digits 0-9a-f, .* got '\.\./\.\./etc'"):
        Request(budget, host="../../etc")
    for percentile, ms in ((0.0, 1.0), (1.0, 1.0), (99.0, 1.0)):
        with pytest.raises(ConfigError, match=r"a percentile is a share inside \(0, 1\)"):
            Budget(percentile, ms)
    for ms in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="milliseconds must be above 0 and finite"):
            Budget(0.5, ms)
