"""The photograph as a task: pixels, splits, network, metric, and what JPEG gives for the same bytes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from deploykit import make_task
from deploykit.errors import UnknownNameError
from deploykit.task import Samples
from deploykit_tasks.photograph import Photograph, Sine, picture, psnr
from deploykit_tasks.photograph_rates import bits_per_pixel, jpeg_psnr, picture_psnr, whole_picture


@pytest.fixture
def task() -> Photograph:
    made = make_task("photograph")
    assert isinstance(made, Photograph)
    return made


def pixels(samples: Samples) -> set[tuple[int, int]]:
    """Return row and column of each sample, from its coordinates."""
    place = np.rint((samples.inputs["position"].astype(np.float64) + 1) * 64 - 0.5).astype(int)
    return {(int(y), int(x)) for x, y in place}


def test_test_pixels_are_never_trained_on_and_all_pixels_are_in_one_split(task: Photograph) -> None:
    train, test, calibration = (pixels(task.samples(split)) for split in ("train", "test", "calibration"))
    assert (len(train), len(test), len(calibration)) == (15_360, 1_024, 64)
    assert not train & test
    assert train | test == {(row, column) for row in range(128) for column in range(128)}
    assert calibration <= train
    assert {(row // 4, column // 4) for row, column in test} == {
        (row, column) for row in range(32) for column in range(32)
    }


def test_splits_are_the_same_whenever_they_are_asked_for(task: Photograph) -> None:
    once, again = task.samples("train"), Photograph().samples("train")
    assert once.inputs["position"].tobytes() == again.inputs["position"].tobytes()
    assert once.targets["grey"].tobytes() == again.targets["grey"].tobytes()


def test_any_few_test_pixels_lie_all_over_the_picture(task: Photograph) -> None:
    few = task.samples("test").take(slice(0, 64)).inputs["position"]
    quadrants = {(bool(x > 0), bool(y > 0)) for x, y in few}
    assert len(quadrants) == 4


def test_a_pixel_is_the_mean_of_sixteen_of_the_original(task: Photograph) -> None:
    original = skimage.data.camera()
    samples = task.samples("train").take(slice(0, 50))
    for (x, y), (level,) in zip(samples.inputs["position"], samples.targets["grey"], strict=True):
        column, row = round((float(x) + 1) * 64 - 0.5), round((float(y) + 1) * 64 - 0.5)
        total = sum(int(original[4 * row + i, 4 * column + j]) for i in range(4) for j in range(4))
        assert level == pytest.approx(total / 16 / 127.5 - 1, abs=1e-6)


def test_samples_keep_the_signature(task: Photograph) -> None:
    for split in ("train", "calibration", "test"):
        task.signature.check_inputs(task.samples(split).inputs)
    task.signature.check_outputs({"grey": task.samples("test").targets["grey"]})
    assert not picture().flags.writeable


@pytest.mark.parametrize(
    ("name", "width", "numbers"), [("", 64, 8_577), ("siren", 64, 8_577), ("siren-small", 32, 2_241)]
)
def test_networks_are_sirens(task: Photograph, name: str, width: int, numbers: int) -> None:
    network = task.network(name)
    assert sum(item.numel() for item in network.parameters()) == numbers
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    bounds = [1 / 2, *[math.sqrt(6 / width) / 30] * 3]
    for layer, bound in zip(linears, bounds, strict=True):
        largest = float(layer.weight.detach().abs().max())
        assert 0.9 * bound < largest <= bound
    x = torch.rand(5, 2) * 2 - 1
    h = x
    for index, layer in enumerate(linears):
        h = h @ layer.weight.T + layer.bias
        h = torch.sin(30 * h) if index < 3 else h
    torch.testing.assert_close(network(x), h)


def test_an_unknown_network_is_refused(task: Photograph) -> None:
    with pytest.raises(UnknownNameError, match="no network 'siran'; it has 'siren' and 'siren-small'"):
        task.network("siran")


def test_a_sine_says_its_frequency() -> None:
    assert repr(Sine(12.5)) == "Sine(omega=12.5)"


def test_the_metric_is_scikit_images_and_levels_beyond_black_and_white_are_cut_off(task: Photograph) -> None:
    samples = task.samples("test")
    truth = samples.targets["grey"].astype(np.float64)
    noisy = truth + np.random.default_rng(0).normal(0, 0.2, truth.shape)
    wanted = peak_signal_noise_ratio(truth, np.clip(noisy, -1, 1), data_range=2.0)
    assert task.metric({"grey": noisy}, samples) == pytest.approx(wanted, abs=1e-9)
    assert wanted > peak_signal_noise_ratio(truth, noisy, data_range=2.0)


def test_equal_pictures_have_a_finite_psnr() -> None:
    assert psnr(np.zeros((3, 1)), np.zeros((3, 1))) == 100.0


def test_the_loss_is_the_mean_squared_error(task: Photograph) -> None:
    loss = task.loss({"grey": torch.tensor([[0.5], [-1.0]])}, {"grey": torch.tensor([[0.0], [0.0]])})
    assert float(loss) == pytest.approx((0.25 + 1.0) / 2)


def test_the_whole_picture_holds_every_pixel_in_order() -> None:
    whole = whole_picture()
    assert len(whole) == 128 * 128
    np.testing.assert_allclose((whole.targets["grey"].reshape(128, 128) + 1) * 127.5, picture(), atol=1e-4)
    assert whole.inputs["position"][1].tolist() == [3 / 128 - 1, 1 / 128 - 1]

    def grey(position: NDArray[np.float32]) -> NDArray[Any]:
        return np.zeros((len(position), 1))

    levels = picture() / 127.5 - 1
    assert picture_psnr(grey) == pytest.approx(10 * math.log10(4 / float((levels**2).mean())), abs=1e-4)


def test_a_jpeg_of_at_most_so_many_bytes() -> None:
    found = [jpeg_psnr(limit) for limit in (1_500, 3_000, 6_444)]
    assert all(size <= limit for (_, size), limit in zip(found, (1_500, 3_000, 6_444), strict=True))
    assert found[0][0] < found[1][0] < found[2][0]
    file = io.BytesIO()
    rounded = np.round(picture()).astype(np.uint8)
    Image.fromarray(rounded).save(file, "JPEG", quality=50, optimize=True)
    reference = peak_signal_noise_ratio(picture(), np.asarray(Image.open(file)).astype(np.float64), data_range=255)
    assert jpeg_psnr(len(file.getvalue()))[0] == pytest.approx(reference, abs=0.5)
    assert jpeg_psnr(len(file.getvalue()))[0] >= reference - 1e-9
    assert bits_per_pixel(2_048) == 1.0


def test_a_jpeg_of_too_few_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="no JPEG of this picture takes at most 100 bytes"):
        jpeg_psnr(100)
