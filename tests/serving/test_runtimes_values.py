"""What a tensor can hold, found by bisection, is what going through every number finds."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit_serving.runtimes.openvino_values import Traced


def listed(traced: Traced) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Oracle: the tensor's number for every number of the root, by channel."""
    return traced.at(np.arange(traced.low, traced.high + traced.step / 2, traced.step)[None])


@pytest.mark.parametrize("seed", range(12))
def test_thresholds_are_where_the_numbers_change(seed: int) -> None:
    random = np.random.default_rng(seed)
    step = float(random.integers(1, 4))
    low = -step * random.integers(3, 40)
    bias = random.integers(-60, 60, (5, 1)) + 0.5
    grid = Traced("conv", step, low, low + step * random.integers(5, 80))
    traced = grid.then(lambda u: u + bias).then(np.sign)
    found, everything = traced.two_values(), listed(traced)
    if len(np.unique(everything)) < 2:
        assert found is None
        return
    assert found is not None
    (smaller, larger), thresholds = found
    assert (smaller, larger) == (-1.0, 1.0)
    roots = np.arange(grid.low, grid.high + step / 2, step)
    assert np.array_equal(np.where(roots > thresholds[:, None], larger, smaller), everything)


def test_a_third_number_is_noticed() -> None:
    traced = Traced("conv", 1.0, -9.0, 9.0).then(np.sign)  # zero is on the grid
    assert len(np.unique(listed(traced))) == 3
    assert traced.two_values() is None


def test_one_number_that_is_uncertain_spoils_it() -> None:
    traced = Traced("conv", 1.0, -9.0, 9.0).then(lambda u: np.where(u == 0, np.nan, np.sign(u)))
    assert traced.two_values() is None


def test_channels_must_share_their_numbers() -> None:
    scale = np.array([[1.0], [2.0]])
    traced = Traced("conv", 2.0, -9.0, 9.0).then(np.sign).then(lambda u: u * scale)
    assert traced.two_values() is None


def test_grids_are_listed_only_while_they_are_small() -> None:
    few = Traced("levels", 0.5, -1.0, 1.0).enumerated()
    assert few is not None
    assert few.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert Traced("sums", 1.0, -1e6, 1e6).enumerated() is None
