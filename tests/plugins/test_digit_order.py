"""The task that puts sets of handwritten numbers in order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import deploykit
from deploykit import Samples
from deploykit.errors import SignatureError, UnknownNameError
from deploykit_tasks.digit_order import DigitOrder, _sets
from deploykit_tasks.digits import Digits


@pytest.fixture(scope="module")
def task() -> DigitOrder:
    made = deploykit.make_task("digit-order")
    assert isinstance(made, DigitOrder)
    return made


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_samples_fit_the_signature_and_are_real_digits_of_their_split(task: DigitOrder, split: str) -> None:
    samples = task.samples(split).take(slice(0, 64))  # type: ignore[arg-type]
    assert task.signature.check_inputs(samples.inputs) == {"batch": 64, "items": 5}
    own, other = ("test", "train") if split == "test" else ("train", "test")
    digits = {
        name: {
            image.tobytes(): label
            for image, label in zip(
                Digits().samples(name).inputs["image"],  # type: ignore[arg-type]
                Digits().samples(name).targets["label"],  # type: ignore[arg-type]
                strict=True,
            )
        }
        for name in (own, other)
    }
    for images, numbers in zip(samples.inputs["images"], samples.targets["number"], strict=True):
        for image, number in zip(images[:, 0], numbers, strict=True):
            tens, units = np.split(image, 2, axis=1)
            read = [digits[own][np.ascontiguousarray(half).tobytes()] for half in (tens, units)]
            assert 10 * read[0] + read[1] == number
            assert not {np.ascontiguousarray(half).tobytes() for half in (tens, units)} & set(digits[other])


def test_ranks_are_the_places_of_different_numbers(task: DigitOrder) -> None:
    samples = task.samples("test")
    for rank, number in zip(samples.targets["rank"], samples.targets["number"], strict=True):
        assert len(set(number.tolist())) == 5
        assert [number[rank == place].item() for place in range(5)] == sorted(number.tolist())
    assert len(np.unique(samples.targets["rank"], axis=0)) == 120  # every order occurs


def test_splits_are_drawn_alike_every_time_and_share_no_set(task: DigitOrder) -> None:
    train, calibration, test = (task.samples(name) for name in ("train", "calibration", "test"))
    assert (len(train), len(calibration), len(test)) == (4000, 64, 600)
    first = train.inputs["images"][:20].copy()
    _sets.cache_clear()
    np.testing.assert_array_equal(task.samples("train").inputs["images"][:20], first)
    sets = [images.tobytes() for part in (train, calibration, test) for images in part.inputs["images"]]
    assert len(set(sets)) == len(sets)
    with pytest.raises(ValueError, match="read-only"):
        task.samples("train").inputs["images"][0] = 0


def test_both_metrics_count_orders_and_nothing_else(task: DigitOrder) -> None:
    samples = task.samples("test").take(slice(0, 100))
    number = samples.targets["number"].astype(np.float32)
    for values in (number, -1000 + number / 7, samples.targets["rank"].astype(np.float32)):
        assert task.metric({"rank": values}, samples) == task.exact_match({"rank": values}, samples) == 1.0
    assert task.metric({"rank": -number}, samples) == pytest.approx(0.2)  # the middle one stays
    assert task.exact_match({"rank": -number}, samples) == 0.0
    chance = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    right = [
        [sum(other < value for other in row) == rank for value, rank in zip(row, ranks, strict=True)]
        for row, ranks in zip(chance, samples.targets["rank"], strict=True)
    ]
    assert task.metric({"rank": chance}, samples) == pytest.approx(np.mean(right))
    assert task.exact_match({"rank": chance}, samples) == pytest.approx(np.mean([all(row) for row in right]))


def test_the_loss_is_the_mean_over_the_pairs_of_every_set(task: DigitOrder) -> None:
    value = torch.randn(3, 4, dtype=torch.float64)
    rank = torch.stack([torch.randperm(4) for _ in range(3)])
    pairs = [
        np.log1p(np.exp(float(value[row, low] - value[row, high])))
        for row in range(3)
        for low, high in itertools.permutations(range(4), 2)
        if rank[row, low] < rank[row, high]
    ]
    assert len(pairs) == 18
    assert task.loss({"rank": value}, {"rank": rank}).item() == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("name", ["", "conv", "mlp"])
def test_networks_score_each_item_alone_and_any_number_of_them(task: DigitOrder, name: str) -> None:
    network = task.network(name).eval()
    images = torch.from_numpy(task.samples("test").inputs["images"][:4].copy())
    with torch.no_grad():
        scores = network(images)
        assert scores.shape == (4, 5)
        turned = network(images.flip(1))
        torch.testing.assert_close(turned, scores.flip(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(images[:, 1:3]), scores[:, 1:3], rtol=1e-4, atol=1e-5)


def test_a_plain_network_learns_from_the_loss(task: DigitOrder) -> None:
    network = task.network("mlp")
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    samples = task.samples("train").take(slice(0, 600))
    images = torch.from_numpy(samples.inputs["images"].copy())
    rank = torch.from_numpy(samples.targets["rank"].copy())
    for _ in range(15):
        for index in torch.split(torch.randperm(600), 50):
            optimizer.zero_grad()
            task.loss({"rank": network(images[index])}, {"rank": rank[index]}).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    test = task.samples("test")
    with torch.no_grad():
        scores = network(torch.from_numpy(test.inputs["images"].copy())).numpy()
    assert task.metric({"rank": scores}, test) > 0.4  # 0.2 by chance


def test_unknown_networks_and_single_items_are_refused(task: DigitOrder) -> None:
    with pytest.raises(UnknownNameError, match="no network 'resnet'; it has 'conv' and 'mlp'"):
        task.network("resnet")
    one = Samples({"images": np.zeros((2, 1, 1, 8, 16), np.float32)}, {})
    with pytest.raises(SignatureError, match="'items' must be at least 2, got 1"):
        task.signature.check_inputs(one.inputs)
