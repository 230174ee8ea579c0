"""The signature lets fitting arrays pass and names what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from deploykit import Dim, Signature, TensorSpec
from deploykit.errors import SignatureError

DETECTOR = Signature(
    inputs=(
        TensorSpec(name="image", shape=("batch", 3, "height", "width"), minimum=-1.0, maximum=1.0),
        TensorSpec(name="scale", dtype="int32", shape=("batch",)),
    ),
    outputs=(TensorSpec(name="map", shape=("batch", "height", "width")),),
    dims={"batch": Dim(max=8), "height": Dim(min=32, max=96, multiple=32), "width": Dim(multiple=4)},
)


def arrays(batch: int = 2, height: int = 32, width: int = 4) -> dict[str, NDArray[Any]]:
    return {"image": np.zeros((batch, 3, height, width), np.float32), "scale": np.ones(batch, np.int32)}


@given(st.integers(1, 8), st.sampled_from([32, 64, 96]), st.integers(1, 5))
def test_fitting_arrays_pass_and_tell_the_sizes(batch: int, height: int, quarter: int) -> None:
    given_arrays = arrays(batch, height, 4 * quarter)
    assert DETECTOR.check_inputs(given_arrays) == {"batch": batch, "height": height, "width": 4 * quarter}


def _changed(**changes: Any) -> dict[str, NDArray[Any]]:
    return {**arrays(), **changes}


MUTATIONS: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "missing": ({"image": arrays()["image"]}, r"input 'scale' is missing; wanted image float32\[batch, 3, height, wid"),
    "unknown": (_changed(mask=np.zeros(2)), r"unknown input 'mask'; wanted image float32"),
    "dtype": (
        _changed(image=arrays()["image"].astype(np.float64)),
        r"input 'image': wanted float32.*got float64\[2, 3",
    ),
    "byte order": (_changed(scale=np.ones(2, ">i4")), r"input 'scale': wanted int32\[batch\], got >i4\[2\]"),
    "rank": (_changed(scale=np.ones((2, 1), np.int32)), "2 dimensions instead of 1"),
    "fixed size": (_changed(image=np.zeros((2, 4, 32, 4), np.float32)), r"wanted float32\[batch, 3.*got float32\[2, 4"),
    "shared size": (_changed(scale=np.ones(3, np.int32)), "'batch' is 2 elsewhere and 3 here"),
    "below": (_changed(image=np.zeros((2, 3, 0, 4), np.float32)), "'height' must be at least 32, got 0"),
    "above": (arrays(batch=9), "'batch' must be at most 8, got 9"),
    "multiple": (arrays(height=33), "'height' must be a multiple of 32, got 33"),
    "empty batch": (arrays(batch=0), "'batch' must be at least 1, got 0"),
    "range low": (_changed(image=arrays()["image"] - 1.5), "values from -1.5 to -1.5; wanted -1 to 1"),
    "range high": (_changed(image=arrays()["image"] + 1.5), "values from 1.5 to 1.5; wanted -1 to 1"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_misfit_has_its_message(name: str) -> None:
    given_arrays, words = MUTATIONS[name]
    with pytest.raises(SignatureError, match=words):
        DETECTOR.check_inputs(given_arrays)


@given(st.data())
def test_any_single_bad_number_is_found(data: st.DataObject) -> None:
    fine = arrays(batch=data.draw(st.integers(1, 3)))
    position = data.draw(st.integers(0, fine["image"].size - 1))
    fine["image"].flat[position] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1.001, -1.001]))
    with pytest.raises(SignatureError, match=r"input 'image': (holds NaN or infinity|values from)"):
        DETECTOR.check_inputs(fine)


@given(st.data())
def test_any_single_wrong_size_is_found(data: st.DataObject) -> None:
    fine = arrays()
    name = data.draw(st.sampled_from(sorted(fine)))
    axis = data.draw(st.integers(0, fine[name].ndim - 1))
    step = data.draw(st.sampled_from([-1, 1]))
    shape = list(fine[name].shape)
    shape[axis] += step
    with pytest.raises(SignatureError, match=rf"input '{name}'|input 'scale'"):
        DETECTOR.check_inputs({**fine, name: np.zeros(shape, fine[name].dtype)})


def test_outputs_are_called_outputs() -> None:
    with pytest.raises(SignatureError, match=r"output 'map' is missing"):
        DETECTOR.check_outputs({})
    assert DETECTOR.check_outputs({"map": np.zeros((1, 32, 8), np.float32)})["width"] == 8


def test_a_one_sided_range_says_which_side_is_open() -> None:
    above = Signature(inputs=(TensorSpec(name="x", shape=(1,), minimum=0),), outputs=(TensorSpec(name="y", shape=()),))
    with pytest.raises(SignatureError, match=r"wanted 0 to infinity"):
        above.check_inputs({"x": np.array([-1], np.float32)})
    below = Signature(inputs=(TensorSpec(name="x", shape=(1,), maximum=0),), outputs=(TensorSpec(name="y", shape=()),))
    with pytest.raises(SignatureError, match=r"wanted -infinity to 0"):
        below.check_inputs({"x": np.array([1], np.float32)})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": [], "outputs": [{"name": "y", "shape": []}]}, "at least 1 item"),
        ({"inputs": [{"name": "x", "shape": []}], "outputs": [{"name": "x", "shape": []}]}, "names must be unique"),
        ({"inputs": [{"name": "x", "shape": [3, "batch"]}], "outputs": [{"name": "y", "shape": []}]}, "must come first"),  # noqa: E501
        (
            {"inputs": [{"name": "x", "shape": ["n"]}], "outputs": [{"name": "y", "shape": []}], "dims": {"m": {}}},
            r"dims \['m'\] belong to no tensor",
        ),
        ({"inputs": [{"name": "x", "shape": [0]}], "outputs": [{"name": "y", "shape": []}]}, "greater than or equal"),
        ({"inputs": [{"name": "x", "shape": ["N"]}], "outputs": [{"name": "y", "shape": []}]}, "match pattern"),
        ({"inputs": [{"name": "x", "shape": [], "dtype": "object"}], "outputs": [{"name": "y", "shape": []}]}, "dtype"),
        ({"inputs": [{"name": "", "shape": []}], "outputs": [{"name": "y", "shape": []}]}, "at least 1 character"),
    ],
)  # fmt: skip
def test_a_malformed_signature_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Signature.model_validate(fields)


def test_text_json_and_batched() -> None:
    assert DETECTOR.inputs[0].text() == "image float32[batch, 3, height, width]"
    assert Signature.model_validate_json(DETECTOR.model_dump_json()) == DETECTOR
    assert DETECTOR.batched
    plain = Signature(inputs=(TensorSpec(name="x", shape=(3,)),), outputs=(TensorSpec(name="y", shape=(3,)),))
    assert not plain.batched


def test_limits_that_no_size_fits_are_refused() -> None:
    with pytest.raises(ValidationError, match="no size fits: at least 33, at most 63, a multiple of 32"):
        Dim(min=33, max=63, multiple=32)


def test_a_range_that_no_value_fits_is_refused() -> None:
    with pytest.raises(ValidationError, match="minimum 2 is above the maximum 1"):
        TensorSpec(name="x", shape=("batch",), minimum=2, maximum=1)
