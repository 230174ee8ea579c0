"""Random inputs are legal, in every size that the signature allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit import Signature
from deploykit.errors import SignatureError
from deploykit.random_inputs import legal_sizes, random_inputs
from tests.core.honest_method import Cloud


def signature(dtype: str = "float32", **side: Any) -> Signature:
    return Signature.model_validate(
        {
            "inputs": [{"name": "x", "dtype": dtype, "shape": ["batch", "side", 2], "minimum": 0, "maximum": 1}],
            "outputs": [{"name": "y", "shape": ["batch"]}],
            "dims": {"side": side, "batch": {"max": 4}},
        }
    )


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({}, (1, 2, 4)),
        ({"min": 3}, (3, 4, 6)),
        ({"min": 2, "max": 3}, (2, 3)),
        ({"min": 33, "multiple": 32}, (64, 96, 160)),
        ({"min": 5, "max": 5}, (5,)),
    ],
)
def test_the_first_legal_sizes_are_small_and_different(limits: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert legal_sizes(signature(**limits), "side", 3) == sizes
    assert legal_sizes(signature(), "batch", 9) == (1, 2, 4), "as many as there are"


@given(
    dtype=st.sampled_from(["bool", "uint8", "int64", "float16", "float64"]),
    least=st.integers(1, 40), multiple=st.integers(1, 9), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_legal_size_can_be_drawn(dtype: str, least: int, multiple: int, seed: int) -> None:
    made = signature(dtype, min=least, multiple=multiple)
    for size in legal_sizes(made, "side", 4):
        arrays = random_inputs(made, np.random.default_rng(seed), {"side": size, "batch": 2})
        assert made.check_inputs(arrays) == {"batch": 2, "side": size}
        again = random_inputs(made, np.random.default_rng(seed), {"side": size, "batch": 2})
        assert arrays["x"].tobytes() == again["x"].tobytes()


def test_an_illegal_size_is_refused() -> None:
    words = "no random inputs for this signature: input 'x': .*'side' must be at most 3, got 4"
    with pytest.raises(SignatureError, match=words):
        random_inputs(signature(max=3), np.random.default_rng(0), {"side": 4})


def test_a_task_draws_within_its_signature_by_default() -> None:
    drawn = Cloud().random_inputs(np.random.default_rng(0), {"batch": 3})
    assert drawn["x"].shape == (3, 4)
    assert drawn["x"].min() >= -50
