"""Labels and losses of differentiable binarization, against slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploykit_binarized.db_labels import label_maps, offset_distance, shrunk
from deploykit_binarized.db_losses import approximate_step, balanced_cross_entropy, band_distance, dice
from deploykit_binarized.text_boxes import signed_area

LINE = np.array([[10, 12], [52, 16], [50, 32], [8, 28]], np.float64)


# Labels


@given(width=st.integers(10, 200), height=st.integers(10, 60), ratio=st.floats(0.2, 0.9))
def test_a_rectangle_shrinks_by_the_formula(width: int, height: int, ratio: float) -> None:
    quad = np.array([[3, 4], [3 + width, 4], [3 + width, 4 + height], [3, 4 + height]], np.float64)
    distance = width * height * (1 - ratio**2) / (2 * (width + height))
    assert offset_distance(quad, ratio) == pytest.approx(distance)
    core = shrunk(quad, ratio)
    assert core is not None
    np.testing.assert_allclose(core.min(axis=0), [3 + distance, 4 + distance], atol=0.01)
    np.testing.assert_allclose(core.max(axis=0), [3 + width - distance, 4 + height - distance], atol=0.01)


def test_label_maps_equal_distances_taken_pixel_by_pixel() -> None:
    maps = label_maps(LINE[None], 48, 64, ratio=0.5)
    perimeter = float(np.linalg.norm(LINE - np.roll(LINE, 1, axis=0), axis=1).sum())
    distance = abs(signed_area(LINE)) * 0.75 / perimeter
    for y in range(48):
        for x in range(64):
            edge = min(_to_segment(np.array([x, y], float), LINE[i - 1], LINE[i]) for i in range(4))
            inside = _inside(np.array([x, y], float), LINE)
            signed = edge if inside else -edge
            wanted = 0.3 + 0.4 * max(0.0, 1 - edge / distance)
            if not inside and edge > distance - 1:
                continue  # the outermost pixels of the band depend on how a polygon is filled
            assert maps.threshold[y, x] == pytest.approx(wanted, abs=1e-3), (x, y)
            if abs(signed - distance) > 1:
                assert bool(maps.probability[y, x]) == (signed > distance), (x, y)
            if signed > 1 - distance:
                assert maps.threshold_mask[y, x] == 1, (x, y)
    assert maps.threshold_mask[0, 0] == 0
    assert maps.mask.min() == 1


def _to_segment(point: NDArray[Any], start: NDArray[Any], end: NDArray[Any]) -> float:
    share = float(np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1))
    return float(np.linalg.norm(start + share * (end - start) - point))


def _inside(point: NDArray[Any], quad: NDArray[Any]) -> bool:
    sides = [np.cross(np.append(quad[i] - quad[i - 1], 0), np.append(point - quad[i - 1], 0))[2] for i in range(4)]
    return bool(min(sides) >= 0)


def test_text_too_small_to_judge_is_masked() -> None:
    small = np.array([[4, 4], [40, 4], [40, 10], [4, 10]], np.float64)
    maps = label_maps(np.stack([small, LINE + np.array([0, 8])]), 48, 64, ratio=0.4)
    assert maps.mask[7, 20] == 0
    assert maps.mask[30, 30] == 1
    assert maps.probability[7, 20] == 0
    assert maps.threshold_mask[7, 20] == 0


def test_a_page_without_text_has_flat_labels() -> None:
    maps = label_maps(np.zeros((0, 4, 2)), 32, 32, ratio=0.4)
    assert maps.probability.max() == maps.threshold_mask.max() == 0
    assert (maps.threshold == np.float32(0.3)).all()


# Losses


def test_losses_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.uniform(0.01, 0.99, (2, 1, 12, 12)), rng.uniform(0, 1, (2, 1, 12, 12))
    wanted, mask = (rng.random(p.shape) < 0.1).astype(float), (rng.random(p.shape) < 0.9).astype(float)
    each = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
    positives = int((wanted * mask).sum())
    hardest = np.sort(each[(wanted == 0) & (mask == 1)])[::-1][: 3 * positives]
    entropy = (each[(wanted == 1) & (mask == 1)].sum() + hardest.sum()) / (4 * positives)
    tensors = [torch.from_numpy(array).float() for array in (p, t, wanted, mask)]
    assert float(balanced_cross_entropy(tensors[0], tensors[2], tensors[3])) == pytest.approx(entropy, rel=1e-5)
    binary = 1 / (1 + np.exp(-50 * (p - t)))
    overlap = 1 - 2 * (binary * wanted * mask).sum() / ((binary * mask).sum() + (wanted * mask).sum())
    step = approximate_step(tensors[0], tensors[1], 50.0)
    np.testing.assert_allclose(step.numpy(), binary, rtol=1e-4, atol=1e-7)
    assert float(dice(step, tensors[2], tensors[3])) == pytest.approx(overlap, rel=1e-4)
    band = np.abs(t - p)[mask == 1].mean()
    assert float(band_distance(tensors[1], tensors[0], tensors[3])) == pytest.approx(band, rel=1e-5)


def test_a_batch_without_text_gives_finite_losses() -> None:
    p = torch.full((1, 1, 8, 8), 0.4, requires_grad=True)
    zeros, ones = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    total = balanced_cross_entropy(p, zeros, ones) + dice(p, zeros, ones) + band_distance(p, zeros, zeros)
    total.backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert torch.isfinite(total)
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("steepness", [1.0, 10.0, 50.0, 1000.0])
def test_the_step_decides_as_the_comparison_does_at_any_steepness(steepness: float) -> None:
    p, t = torch.rand(4096), torch.rand(4096)
    assert torch.equal(approximate_step(p, t, steepness) > 0.5, p > t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gradients_stay_finite_at_the_ends(dtype: torch.dtype) -> None:
    # 1 / (1 + exp(50)) written out overflows in half precision and gives NaN here.
    p = torch.tensor([0.0, 1.0, 0.5, 0.0], dtype=dtype, requires_grad=True)
    t = torch.tensor([1.0, 0.0, 0.5, 0.0], dtype=dtype)
    approximate_step(p, t, 50.0).sum().backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert torch.isfinite(p.grad).all()
    assert float(p.grad[2]) == pytest.approx(12.5)
