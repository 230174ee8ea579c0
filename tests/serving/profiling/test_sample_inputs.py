from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.errors import SignatureError
from deploykit.signature import Dim, Signature, TensorSpec
from deploykit_serving.profiling.sample_inputs import SampleInputs, random_inputs
from tests.serving.profiling.tiny_bundles import write_tiny


def test_held_out_samples_are_tiled_to_the_batch(tmp_path: Path) -> None:
    samples = np.arange(12, dtype=np.float32).reshape(3, 4) / 6
    inputs = SampleInputs(write_tiny(tmp_path / "t.bundle", samples=samples))
    assert inputs.source == "held-out samples"
    assert inputs.largest_batch == 8
    singles = inputs.batches(1)
    assert [batch["x"].tolist() for batch in singles] == [[row.tolist()] for row in samples]
    (eight,) = inputs.batches(8)
    np.testing.assert_array_equal(eight["x"], samples[[0, 1, 2, 0, 1, 2, 0, 1]])
    assert len(inputs.batches(1, at_most=2)) == 2


def test_without_samples_inputs_are_random_within_the_ranges(tmp_path: Path) -> None:
    inputs = SampleInputs(write_tiny(tmp_path / "t.bundle"))
    assert inputs.source == "random"
    (eight,) = inputs.batches(8, at_most=1)
    assert eight["x"].shape == (8, 4)
    assert 0 <= eight["x"].min() < eight["x"].max() <= 2


def test_samples_that_do_not_fit_the_signature_are_refused(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "t.bundle", samples=np.full((2, 4), 9, dtype=np.float32))
    with pytest.raises(SignatureError, match="wanted 0 to 2"):
        SampleInputs(bundle)


@given(
    dtype=st.sampled_from(["bool", "uint8", "int8", "int64", "float16", "float32", "float64"]),
    bounds=st.tuples(st.integers(0, 1), st.integers(1, 100)),
    open_ends=st.tuples(st.booleans(), st.booleans()),
    multiple=st.integers(1, 5),
    least=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_random_inputs_are_always_legal(
    dtype: str, bounds: tuple[int, int], open_ends: tuple[bool, bool], multiple: int, least: int
) -> None:
    signature = Signature(
        inputs=(
            TensorSpec.model_validate({
                "name": "x", "dtype": dtype, "shape": ("batch", "side", 2),
                "minimum": None if open_ends[0] else float(bounds[0]),
                "maximum": None if open_ends[1] else float(bounds[1]),
            }),
        ),
        outputs=(TensorSpec(name="y", shape=("batch",)),),
        dims={"side": Dim(min=least, multiple=multiple), "batch": Dim(min=3)},
    )  # fmt: skip
    arrays = random_inputs(signature, 1)
    assert signature.check_inputs(arrays)["batch"] == 3
    assert random_inputs(signature, 1)["x"].tobytes() == arrays["x"].tobytes()


def test_a_range_without_whole_numbers_is_an_error_that_asks_for_samples() -> None:
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="int64", shape=("batch", 2), minimum=0.2, maximum=0.8),),
        outputs=(TensorSpec(name="y", shape=("batch",)),),
    )
    with pytest.raises(SignatureError, match=r"no random inputs .* put samples into the bundle at samples/heldout.npz"):
        random_inputs(signature, 1)
