"""Generated pages, the marked photograph, and how boxes are scored."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import deploykit
from deploykit.errors import MissingExtraError, UnknownNameError
from deploykit_binarized.db_labels import label_maps
from deploykit_tasks.pages import Pages
from deploykit_tasks.pages_drawing import draw_page
from deploykit_tasks.pages_fonts import HELD_OUT_FAMILIES, TRAINING_FAMILIES, FontFamily, font_at
from deploykit_tasks.pages_photographs import marked_photograph, resized
from deploykit_tasks.pages_scores import overlap, score_page, total


@pytest.fixture(scope="module")
def task() -> Pages:
    made = deploykit.make_task("pages")
    assert isinstance(made, Pages)
    return made


def _rectangle(x: float, y: float, width: float, height: float) -> NDArray[np.float32]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


# Pages


def test_a_seed_gives_one_page_and_another_seed_another() -> None:
    first, again, other = (
        draw_page(np.random.default_rng(seed), 128, TRAINING_FAMILIES, ("coffee",)) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.quads, again.quads)
    assert not np.array_equal(first.image, other.image)


def test_splits_keep_the_signature_and_their_targets(task: Pages) -> None:
    for split in ("calibration", "test"):
        samples = task.samples(split)
        task.signature.check_inputs(samples.inputs)
        quads, lines = samples.targets["quads"], samples.targets["lines"]
        assert 0 < lines.mean() < 24
        for page, count in zip(quads, lines, strict=True):
            assert (page[:count] >= 0).all()
            assert (page[:count] <= 255).all()
            assert not page[count:].any()
    assert task.samples("test").targets["held_out"].tolist() == [0, 1] * 60
    assert not task.samples("calibration").targets["held_out"].any()


def test_splits_share_no_page_and_no_held_out_typeface(task: Pages) -> None:
    images = [*task.samples("test").inputs["image"], *task.samples("calibration").inputs["image"], *task.example(8)[0]]
    assert len({np.asarray(image).tobytes() for image in images}) == len(images)
    assert not {family.name for family in TRAINING_FAMILIES} & {family.name for family in HELD_OUT_FAMILIES}
    files = [(f.package, f.folder, file) for f in (*TRAINING_FAMILIES, *HELD_OUT_FAMILIES) for file in f.files]
    assert len(set(files)) == len(files)


def test_the_example_is_the_start_of_the_training_split(task: Pages) -> None:
    (images,) = task.example(2)
    assert images.dtype == torch.uint8
    np.testing.assert_array_equal(images.numpy(), task.samples("train").inputs["image"][:2])


@pytest.mark.parametrize("family", [*TRAINING_FAMILIES, *HELD_OUT_FAMILIES], ids=lambda family: family.name)
def test_every_font_is_there_and_is_what_it_is_called(family: FontFamily) -> None:
    for file in family.files:
        name, _ = font_at(family, file, 20).getname()
        assert (name or "").replace("General", "").startswith(family.name)


def test_a_missing_font_names_its_package_and_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"'no_such_fonts', which ships the font Nothing, .*\[text\]"):
        font_at(FontFamily("Nothing", "no_such_fonts", "files", ("a.ttf",)), "a.ttf", 12)


def test_ink_lies_in_the_boxes_and_fills_them() -> None:
    """Sharp strokes are inside boxes, but for ruled lines; and each box has strokes near its left and right ends."""
    outside = inside = empty = ends = 0
    for seed in range(30):
        page = draw_page(np.random.default_rng([9, seed]), 256, TRAINING_FAMILIES, ("moon",))
        grey = page.image.mean(axis=0).astype(np.float32)
        ink = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 10)) > 40
        boxes = _filled(page.quads)
        inside += int((ink & boxes).sum())
        outside += int((ink & ~boxes).sum())
        for quad in page.quads:
            if not (ink & _filled(quad[None])).any():
                continue  # too little contrast for this simple test of ink
            along = (quad[1] - quad[0]) / np.linalg.norm(quad[1] - quad[0])
            for corners in ((0, 3), (1, 2)):
                end = quad[list(corners)]
                inwards = along * (8 if corners == (0, 3) else -8)
                ends += 1
                empty += not (ink & _filled(np.stack([*end, *(end + inwards)[::-1]])[None])).any()
    assert inside > 5000
    assert outside < 0.1 * inside
    assert ends > 100
    assert empty < 0.1 * ends


def _filled(quads: NDArray[Any]) -> NDArray[np.bool_]:
    mask = np.zeros((256, 256), np.uint8)
    for quad in quads:
        cv2.fillPoly(mask, [np.rint(quad).astype(np.int32)], 1)
    return np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)) == 1)


def test_the_default_network_learns_to_tell_text_from_background(task: Pages) -> None:
    torch.manual_seed(0)
    network, samples = task.network(), task.samples("calibration").take(slice(0, 2))
    image = torch.from_numpy(samples.inputs["image"].copy())
    targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = task.loss({"probability": network(image)}, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        task.signature.check_outputs({"probability": network(image).numpy()})


def test_an_unknown_network_is_refused(task: Pages) -> None:
    with pytest.raises(UnknownNameError, match="task 'pages' has no network 'mlp'; it has 'segmenter'"):
        task.network("mlp")


# Scores


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.6, 0.99, 1.0), (0.4, 0.5, 0.95)])
def test_a_perfect_map_is_worth_what_its_shrinking_allows(task: Pages, ratio: float, low: float, high: float) -> None:
    """Growth by the paper's 1.5 restores lines shrunk by 0.6; shrunk by the paper's 0.4, long thin ones are lost."""
    samples = task.samples("calibration")
    quads, lines = samples.targets["quads"], samples.targets["lines"]
    maps = [label_maps(q[:n], 256, 256, ratio).probability for q, n in zip(quads, lines, strict=True)]
    score = task.score({"probability": np.stack(maps)[:, None]}, samples, settings={"unclip_ratio": 1.5})
    assert low <= score.f1 <= high, score.text()


def test_an_empty_map_is_worth_nothing(task: Pages) -> None:
    samples = task.samples("calibration")
    assert task.metric({"probability": np.zeros((len(samples), 1, 256, 256), np.float32)}, samples) == 0.0


quad_numbers = st.tuples(
    st.integers(0, 40), st.integers(0, 40), st.integers(3, 40), st.integers(3, 30), st.floats(-60, 60)
)


@settings(max_examples=40)
@given(left=quad_numbers, right=quad_numbers)
def test_overlap_equals_counting_points(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    quads = [_turned(numbers) for numbers in (left, right)]
    y, x = np.mgrid[-60:120:0.25, -60:120:0.25]
    inside = [_covers(quad, x, y) for quad in quads]
    wanted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert overlap(*quads) == pytest.approx(wanted, abs=0.06)
    assert overlap(quads[1], quads[0]) == pytest.approx(overlap(*quads), abs=1e-4)
    assert overlap(quads[0], quads[0]) == pytest.approx(1.0, abs=1e-4)


def _turned(numbers: tuple[Any, ...]) -> NDArray[np.float32]:
    x, y, width, height, angle = numbers
    turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, 1.0)
    quad: NDArray[np.float32] = (_rectangle(x, y, width, height) @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    return quad


def _covers(quad: NDArray[np.float32], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    covered = np.ones(x.shape, bool)
    for start, end in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        covered &= (end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0]) >= 0
    return covered


def test_matching_is_one_to_one_and_takes_the_best() -> None:
    line = _rectangle(10, 10, 100, 20)
    exact, shifted, far = line.copy(), line + np.array([10, 0], np.float32), line + np.array([0, 100], np.float32)
    score = score_page(np.stack([shifted, exact, far]), line[None])
    assert (score.matched, score.found, score.wanted) == (1, 3, 1)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == 1.0
    assert score.f1 == pytest.approx(0.5)
    assert total([score, score]).found == 6
    ignoring = score_page(np.stack([exact, far]), line[None], ignored=(far + np.array([0, 2], np.float32))[None])
    assert ignoring.precision == 1.0


def test_nothing_wanted_and_nothing_found_is_perfect() -> None:
    none = np.zeros((0, 4, 2), np.float32)
    assert score_page(none, none).f1 == 1.0
    assert score_page(none, _rectangle(0, 0, 9, 9)[None]).f1 == 0.0
    assert overlap(_rectangle(0, 0, 9, 9), _rectangle(3, 3, 0, 0)) == 0.0


# The photograph and somebody else's detector


def test_marked_lines_lie_on_dark_ink() -> None:
    photograph = marked_photograph("page")
    assert photograph.image.shape == (191, 384, 3)
    assert len(photograph.quads) == 7
    grey = photograph.image.mean(axis=2)
    local = cv2.GaussianBlur(grey, (0, 0), 12)
    for quad in photograph.quads:
        mask = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(mask, [np.rint(quad).astype(np.int32)], 1)
        darker = (grey < local - 25) & (mask == 1)
        assert darker.sum() > 0.08 * mask.sum()


def test_a_photograph_without_marks_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no lines are marked on the photograph 'text'; .*\['page'\]"):
        marked_photograph("text")


def test_resizing_gives_multiples_of_32_and_says_by_how_much() -> None:
    array, growth = resized(np.zeros((191, 384, 3), np.uint8), 736)
    assert array.shape == (1, 3, 736, 1472)
    assert growth == (1472 / 384, 736 / 191)
