from __future__ import annotations

import itertools

import pytest

from deploykit_serving.profiling.stability import warm_up


def _windows(*medians: float):  # type: ignore[no-untyped-def]
    turns = iter(medians)
    return lambda: next(turns)


def _ticks(step: float):  # type: ignore[no-untyped-def]
    times = itertools.count()
    return lambda: next(times) * step


def test_stable_as_soon_as_three_windows_agree() -> None:
    found = warm_up(_windows(9.0, 5.0, 4.0, 4.2, 4.3, 1.0), seconds=60)
    assert found.stable
    assert found.windows == 5
    assert found.spread == pytest.approx(4.3 / 4.0 - 1)


@pytest.mark.parametrize(("last", "stable"), [(1.099, True), (1.101, False)])
def test_ten_per_cent_is_the_limit(last: float, stable: bool) -> None:
    assert warm_up(_windows(1.0, 1.05, last), seconds=60, at_most=3).stable is stable


def test_never_stable_is_recorded_and_bounded_by_count() -> None:
    found = warm_up(_windows(*(2.0**i for i in range(99))), seconds=60, at_most=8)
    assert (found.stable, found.windows, found.spread) == (False, 8, 3.0)


def test_never_stable_is_bounded_by_time_but_tries_three() -> None:
    found = warm_up(_windows(1, 2, 4, 8, 16, 32, 64), seconds=2.5, clock=_ticks(1.0))
    assert (found.stable, found.windows) == (False, 5)
    assert warm_up(_windows(1, 2, 4, 8), seconds=0.0).windows == 3


def test_two_windows_cannot_tell() -> None:
    with pytest.raises(ValueError, match="stability takes 3 windows, got at_most=2"):
        warm_up(_windows(1, 1), seconds=1, at_most=2)
