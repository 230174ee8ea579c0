"""The task ``point-pairs``: real photographs, true partners, and no test photograph in training."""

from __future__ import annotations

import time
from typing import get_args

import numpy as np
import pytest
import torch

from deploykit import Signature, make_task
from deploykit.errors import UnknownNameError
from deploykit.outputs import tensors
from deploykit.task import Split
from deploykit.testing import TaskContract
from deploykit_tasks import point_pairs
from deploykit_tasks.point_pairs import PointPairs, count_matches
from deploykit_tasks.point_pairs_photographs import TEST_PHOTOGRAPHS, TRAINING_PHOTOGRAPHS, grey_photograph
from deploykit_tasks.point_pairs_views import IGNORED, UNMATCHED, draw_pair, moved, true_partners


class TestPointPairs(TaskContract):
    name = "point-pairs"


@pytest.fixture(scope="module")
def task() -> PointPairs:
    made = make_task("point-pairs")
    assert isinstance(made, PointPairs)
    return made


def test_generating_everything_is_quick(task: PointPairs) -> None:
    point_pairs._pairs.cache_clear()
    started = time.process_time()
    assert [len(task.samples(split)) for split in ("train", "calibration", "test")] == [1600, 64, 320]
    assert time.process_time() - started < 30  # about 8 s when measured


def test_photographs_of_the_test_split_are_in_no_other(task: PointPairs) -> None:
    assert not set(TEST_PHOTOGRAPHS) & set(TRAINING_PHOTOGRAPHS)
    for split in get_args(Split):
        names = TEST_PHOTOGRAPHS if split == "test" else TRAINING_PHOTOGRAPHS
        samples = task.samples(split)
        assert sorted(set(samples.targets["photograph"].tolist())) == list(range(len(names)))
        index = 7
        photograph = grey_photograph(names[samples.targets["photograph"][index]])
        pair = draw_pair(np.random.default_rng([point_pairs._SEEDS[split], index]), photograph, 32, 40)
        count = len(pair.a.points)
        np.testing.assert_array_equal(samples.inputs["points_a"][index, :count], pair.a.normalised)
        np.testing.assert_array_equal(samples.inputs["descriptors_a"][index, :count], pair.a.descriptors)
        assert samples.inputs["valid_a"][index].sum() == count


def test_partners_are_mutual_and_empty_slots_have_none(task: PointPairs) -> None:
    samples = task.samples("test")
    partner_a, partner_b = samples.targets["partner_a"], samples.targets["partner_b"]
    for sample, row in zip(*np.nonzero(partner_a >= 0), strict=True):
        assert partner_b[sample, partner_a[sample, row]] == row
    assert (partner_a >= 0).sum() == (partner_b >= 0).sum() > 2000
    for view, partner in (("a", partner_a), ("b", partner_b)):
        empty = ~samples.inputs[f"valid_{view}"]
        assert empty.mean() > 0.2
        assert (partner[empty] == IGNORED).all()
        assert not samples.inputs[f"points_{view}"][empty].any()
        assert not samples.inputs[f"descriptors_{view}"][empty].any()
        for kind in (UNMATCHED, IGNORED):
            assert (partner[~empty] == kind).mean() > 0.05


def test_true_partners_have_more_alike_descriptors_than_others(task: PointPairs) -> None:
    samples = task.samples("test")
    alike = np.einsum("bid,bjd->bij", samples.inputs["descriptors_a"], samples.inputs["descriptors_b"]) / 64
    sample, row = np.nonzero(samples.targets["partner_a"] >= 0)
    of_partners = alike[sample, row, samples.targets["partner_a"][sample, row]].mean()
    both = samples.inputs["valid_a"][:, :, None] & samples.inputs["valid_b"][:, None]
    assert of_partners > 0.4
    assert alike[both].mean() < 0.1


def test_nearness_decides_who_is_a_partner() -> None:
    a = np.array([[0.0, 0.0], [50.0, 0.0], [100.0, 0.0], [150.0, 0.0], [151.0, 0.0]])
    b = np.array([[2.0, 0.0], [53.0, 0.0], [106.0, 0.0], [150.2, 0.0]])
    of_a, of_b = true_partners(a, b)
    # Two pixels; three, which is not clear; six, which is another place; two points at one place, the nearer is it.
    assert of_a.tolist() == [0, IGNORED, UNMATCHED, 3, IGNORED]
    assert of_b.tolist() == [0, IGNORED, UNMATCHED, 3]
    for empty in (a[:0], a):
        of_a, of_b = true_partners(empty, b[:0])
        assert of_a.tolist() == [UNMATCHED] * len(empty)
        assert of_b.tolist() == []


def test_a_homography_moves_points() -> None:
    homography = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, -1.0], [0.0, 0.5, 1.0]])
    assert moved(np.array([[3.0, 2.0]]), homography).tolist() == [[3.5, 0.5]]


def test_a_photograph_without_corners_gives_no_points() -> None:
    pair = draw_pair(np.random.default_rng(0), np.zeros((200, 200), np.float32), 32, 40)
    assert len(pair.partner_a) == len(pair.a.points) <= 32  # noise alone may look like corners
    assert len(pair.partner_b) == len(pair.b.points) <= 40


def test_matches_are_counted_and_unclear_ones_left_out() -> None:
    targets = {
        "partner_a": np.array([[0, 1, UNMATCHED, IGNORED, 4]]),
        "partner_b": np.array([[0, 1, UNMATCHED, IGNORED, 4]]),
    }
    rows, columns = np.array([0, 1, 2, 3, 4]), np.array([0, 2, 1, 0, 3])
    score = count_matches(np.zeros(5, np.int64), rows, columns, targets)
    # One right; two of which one side has another partner or none; two in which one side is not clear.
    assert (score.right, score.found, score.true) == (1, 3, 3)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == pytest.approx(1 / 3)
    assert score.f1 == pytest.approx(1 / 3)


def test_the_truth_has_metric_one_and_nothing_has_zero(task: PointPairs) -> None:
    samples = task.samples("test")
    truth = np.zeros((320, 32, 40), np.float32)
    sample, row = np.nonzero(samples.targets["partner_a"] >= 0)
    truth[sample, row, samples.targets["partner_a"][sample, row]] = 1.0
    assert task.metric({"assignment": truth}, samples) == 1.0
    assert task.metric({"assignment": np.zeros_like(truth)}, samples) == 0.0
    loss = task.loss(
        {"assignment": torch.from_numpy(truth)},
        {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()},
    )
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_the_float_network_learns_to_match(task: PointPairs) -> None:
    network, samples = task.network(), task.samples("train").take(slice(0, 192))
    inputs = tensors(samples.inputs, task.signature)
    targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = task.loss({"assignment": network(*inputs)}, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    with torch.no_grad():
        assert task.metric({"assignment": network(*inputs).numpy()}, samples) > 0.5


def test_the_signature_lets_the_numbers_of_points_be_free(task: PointPairs) -> None:
    signature: Signature = task.signature
    few = task.samples("test").take(slice(0, 2)).inputs
    shorter = {name: array[:, :9] if name.endswith("_a") else array[:, :4] for name, array in few.items()}
    assert signature.check_inputs(shorter) == {"batch": 2, "points_a": 9, "points_b": 4}


def test_an_unknown_network_is_refused(task: PointPairs) -> None:
    with pytest.raises(UnknownNameError, match="no network 'mlp'; it has 'dual-softmax'"):
        task.network("mlp")
