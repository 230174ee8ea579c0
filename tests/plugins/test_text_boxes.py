"""The decoder of text detectors: against formulas, a flood fill, and another package's decoder."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploykit import make_decoder
from deploykit.errors import ConfigError, SignatureError
from deploykit_binarized.text_boxes import (
    TextBoxes,
    TextPolygons,
    bitmap,
    mean_inside,
    offset,
    ordered,
    outer_contours,
    signed_area,
    smallest_rectangle,
    unclip,
)


def _map(height: int = 64, width: int = 96, **rectangles: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Return a map [1, 1, height, width] that is 0.9 on rectangles given as x0, y0, x1, y1, both ends included."""
    probability = np.zeros((1, 1, height, width), np.float32)
    for x0, y0, x1, y1 in rectangles.values():
        probability[0, 0, y0 : y1 + 1, x0 : x1 + 1] = 0.9
    return probability


def _decode(probability: NDArray[np.float32], **config: Any) -> dict[str, NDArray[Any]]:
    return dict(make_decoder("text-boxes", config).decode({"probability": probability}))


def _rectangle(x: float, y: float, width: float, height: float) -> NDArray[np.float32]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


@given(
    width=st.integers(8, 200), height=st.integers(8, 60), x=st.floats(0, 50), y=st.floats(0, 50),
    ratio=st.floats(0.5, 3),
)  # fmt: skip
def test_a_rectangle_grows_by_the_formula(width: int, height: int, x: float, y: float, ratio: float) -> None:
    distance = width * height * ratio / (2 * (width + height))
    (grown,) = unclip(_rectangle(x, y, width, height), ratio)
    wanted = _rectangle(x - distance, y - distance, width + 2 * distance, height + 2 * distance)
    # Half a grid step of 1/256 for the corners, 1/32 for the rounded ones.
    np.testing.assert_allclose(smallest_rectangle(grown)[0], wanted, atol=0.05)


@given(width=st.integers(20, 200), height=st.integers(8, 60), ratio=st.floats(0.3, 0.9))
def test_shrinking_is_undone_by_the_ratio_of_the_closed_form(width: int, height: int, ratio: float) -> None:
    quad = _rectangle(5, 7, width, height)
    distance = width * height * (1 - ratio**2) / (2 * (width + height))
    (core,) = offset(quad, -distance)
    perimeter = float(np.linalg.norm(core - np.roll(core, 1, axis=0), axis=1).sum())
    (back,) = unclip(core, distance * perimeter / abs(signed_area(core)))
    np.testing.assert_allclose(smallest_rectangle(back)[0], quad, atol=0.1)


@pytest.mark.parametrize("corners", [[[3, 3]] * 4, [[0, 0], [5, 5], [9, 9], [2, 2]], [[1, 1], [8, 1], [8, 1], [1, 1]]])
def test_a_polygon_without_area_grows_to_nothing(corners: list[list[int]]) -> None:
    assert unclip(np.array(corners, np.float32), 1.5) == []


def test_an_offset_may_split_a_polygon() -> None:
    # Two squares of 20 joined by a bridge of 4: moving the edges in by 3 cuts the bridge.
    bell = np.array(
        [[0, 0], [20, 0], [20, 8], [40, 8], [40, 0], [60, 0], [60, 20], [40, 20], [40, 12], [20, 12], [20, 20], [0, 20]]
    )
    pieces = offset(bell, -3.0)
    # A little is left of the bridge's mouths, as the corners there are rounded.
    assert [abs(signed_area(piece)) for piece in pieces] == pytest.approx([14 * 14, 14 * 14], rel=0.01)
    assert len(offset(bell, 3.0)) == 1


def test_offsets_are_finer_than_pixels() -> None:
    (grown,) = offset(_rectangle(0.9, 5.9, 10, 10), 0.25)
    np.testing.assert_allclose(grown.min(axis=0), [0.65, 5.65], atol=1 / 128)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.2, 0.8))
def test_outlines_are_the_connected_regions_found_by_flooding(seed: int, density: float) -> None:
    bits = (np.random.default_rng(seed).random((18, 24)) < density).astype(np.uint8)
    wanted = sorted(_flood(bits))
    got = sorted(
        (int(c[:, 0, 0].min()), int(c[:, 0, 1].min()), int(c[:, 0, 0].max()), int(c[:, 0, 1].max()))
        for c in outer_contours(bits)
    )
    assert got == wanted


def _flood(bits: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Return the extent of each region whose pixels touch at an edge or a corner."""
    left = {(int(x), int(y)) for y, x in np.argwhere(bits)}
    extents = []
    while left:
        region, fresh = set(), [left.pop()]
        while fresh:
            x, y = fresh.pop()
            region.add((x, y))
            near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & left
            left -= near
            fresh += near
        columns, rows = zip(*region, strict=True)
        extents.append((min(columns), min(rows), max(columns), max(rows)))
    return extents


def test_the_rim_of_a_hole_is_no_text() -> None:
    ring = _map(a=(10, 10, 80, 50))
    ring[0, 0, 20:40, 25:65] = 0
    bits = bitmap(ring[0, 0], 0.3)
    assert len(cv2.findContours(bits, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]) == 2
    assert len(outer_contours(bits)) == 1


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=4, max_size=4), st.permutations(range(4))
)
def test_ordering_corners_depends_on_the_set_only(points: list[tuple[int, int]], order: list[int]) -> None:
    corners = np.array(points, np.float32)
    once = ordered(corners)
    np.testing.assert_array_equal(ordered(once), once)
    np.testing.assert_array_equal(ordered(corners[order]), once)
    assert sorted(map(tuple, once.tolist())) == sorted(map(tuple, corners.tolist()))


@given(angle=st.floats(-40, 40))
def test_corners_run_from_top_left_clockwise(angle: float) -> None:
    turn = cv2.getRotationMatrix2D((50.0, 50.0), angle, 1.0)
    corners = _rectangle(20, 40, 60, 20) @ turn[:, :2].T + turn[:, 2]
    np.testing.assert_allclose(ordered(corners[[2, 0, 3, 1]].astype(np.float32)), corners, atol=1e-4)


def test_one_rectangle_gives_one_box_by_the_formula() -> None:
    found = _decode(_map(a=(20, 20, 60, 30)))
    distance = 40 * 10 * 1.5 / (2 * 50)
    wanted = _rectangle(20 - distance, 20 - distance, 40 + 2 * distance, 10 + 2 * distance)
    np.testing.assert_allclose(found["boxes"], wanted[None], atol=0.05)
    np.testing.assert_allclose(found["scores"], [0.9], rtol=1e-6)
    assert {name: array.dtype.name for name, array in found.items()} == {
        "boxes": "float32", "scores": "float32", "sample": "int64",
    }  # fmt: skip


@settings(max_examples=30)
@given(dx=st.integers(-10, 10), dy=st.integers(-8, 8))
def test_moving_the_map_moves_the_boxes(dx: int, dy: int) -> None:
    rng = np.random.default_rng(5)
    probability = np.zeros((1, 1, 96, 128), np.float32)
    probability[0, 0, 40:56, 40:90] = cv2.GaussianBlur(rng.random((16, 50), np.float32), (5, 5), 0) + 0.3
    still = _decode(probability)
    moved = _decode(np.roll(probability, (dy, dx), axis=(2, 3)))
    assert len(still["boxes"]) > 0
    np.testing.assert_allclose(moved["boxes"], still["boxes"] + np.array([dx, dy], np.float32), atol=0.02)
    np.testing.assert_allclose(moved["scores"], still["scores"], atol=1e-6)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), sigma=st.floats(1, 8))
def test_boxes_lie_inside_the_map_and_pass_the_score(seed: int, sigma: float) -> None:
    noise = np.random.default_rng(seed).random((2, 1, 64, 96), np.float32)
    probability = np.stack([cv2.GaussianBlur(part[0], (0, 0), sigma)[None] for part in noise])
    probability = (probability - probability.min()) / (probability.max() - probability.min())
    found = _decode(probability)
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= [96, 64]).all()
    assert (found["scores"] >= 0.6).all()


def test_rejected_candidates_leave_no_rows() -> None:
    faint = _map(a=(10, 10, 50, 20)) * np.float32(0.5)  # above 0.3, below 0.6
    thin = _map(a=(10, 10, 50, 11))  # one pixel between its edges
    for probability in (faint, thin, np.zeros((2, 1, 32, 32), np.float32)):
        found = _decode(probability)
        assert found["boxes"].shape == (0, 4, 2)
        assert found["scores"].shape == found["sample"].shape == (0,)


def test_the_threshold_itself_is_no_text() -> None:
    level = np.full((4, 4), 0.3, np.float32)
    assert bitmap(level, 0.3).sum() == 0
    assert bitmap(np.nextafter(level, np.float32(1)), 0.3).sum() == 16


def test_dilating_joins_neighbours() -> None:
    halves = _map(a=(10, 10, 30, 20), b=(32, 10, 60, 20))  # one empty column between them
    assert len(_decode(halves)["boxes"]) == 2
    assert len(_decode(halves, dilate=True)["boxes"]) == 1


def test_samples_are_told_apart_and_candidates_limited() -> None:
    two = np.concatenate([_map(a=(10, 10, 40, 20)), _map(), _map(a=(10, 5, 40, 15), b=(50, 40, 90, 55))])
    assert _decode(two)["sample"].tolist() == [0, 2, 2]
    assert _decode(two, max_candidates=1)["sample"].tolist() == [0, 2]


def test_the_score_is_the_mean_over_the_rectangle() -> None:
    probability = np.random.default_rng(0).random((40, 60), np.float32)
    total = [probability[y, x] for y in range(5, 21) for x in range(7, 31)]
    assert mean_inside(probability, _rectangle(7, 5, 23, 15)) == pytest.approx(np.mean(total), rel=1e-6)


def test_bad_maps_and_settings_are_refused() -> None:
    with pytest.raises(SignatureError, match=r"'probability' is missing; got \['logits'\]"):
        TextBoxes().decode({"logits": np.zeros(3)})
    with pytest.raises(SignatureError, match=r"must be \[batch, 1, height, width\], got \[1, 3, 8, 8\]"):
        TextBoxes().decode({"probability": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(ConfigError, match=r"text-boxes: setting 'threshold': .* less than 1"):
        make_decoder("text-boxes", {"threshold": 2})


def test_a_bent_line_survives_where_its_outline_is_scored() -> None:
    probability = np.zeros((1, 1, 160, 160), np.float32)
    cv2.ellipse(probability[0, 0], (80, 150), (60, 60), 0, 190, 350, 0.95, 12)
    assert len(_decode(probability)["boxes"]) == 0  # half of the rectangle around it is background
    found = _decode(probability, score_over="outline")
    assert len(found["boxes"]) == 1
    assert found["scores"][0] == pytest.approx(0.95, abs=0.03)


def test_a_bent_line_becomes_one_polygon_that_hugs_it() -> None:
    probability = np.zeros((2, 1, 160, 160), np.float32)
    cv2.ellipse(probability[1, 0], (80, 150), (60, 60), 0, 190, 350, 0.95, 12)
    found = dict(make_decoder("text-polygons", {"unclip_ratio": 1.0}).decode({"probability": probability}))
    assert found["sample"].tolist() == [1]
    assert set(found["polygon"].tolist()) == {0}
    radius = np.linalg.norm(found["points"] - np.array([80, 150], np.float32), axis=1)
    assert radius.min() > 45  # the smallest rectangle would reach to the centre of the bend
    assert radius.max() < 75
    area, box = abs(signed_area(found["points"])), abs(signed_area(found["boxes"][0]))
    assert area < 0.55 * box
    assert {name: array.dtype.name for name, array in found.items()} == {
        spec.name: spec.dtype for spec in TextPolygons.outputs
    }


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.3, 0.7))
def test_polygons_of_ragged_maps_are_whole_and_inside(seed: int, density: float) -> None:
    coarse = (np.random.default_rng(seed).random((12, 16)) < density).astype(np.float32)
    probability = np.kron(coarse, np.ones((5, 5), np.float32))[None, None]
    found = dict(make_decoder("text-polygons", {"box_threshold": 0.0}).decode({"probability": probability}))
    assert set(found["polygon"].tolist()) == set(range(len(found["boxes"])))
    assert (found["points"] >= 0).all()
    assert (found["points"] <= [80, 60]).all()


def test_no_text_gives_no_polygons() -> None:
    found = dict(make_decoder("text-polygons").decode({"probability": np.zeros((1, 1, 32, 32), np.float32)}))
    assert found["points"].shape == (0, 2)
    assert found["polygon"].shape == (0,)


def test_decoding_imports_no_torch() -> None:
    program = (
        "import sys, numpy, deploykit\n"
        "deploykit.make_decoder('text-boxes').decode({'probability': numpy.ones((1, 1, 32, 32), 'f')})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
