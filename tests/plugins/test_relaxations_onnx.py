"""Relaxations and hard twins in a written file: ONNX Runtime's values, ties included, and TensorRT's consent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import deploykit_relaxations as r
from deploykit import Signature, TensorSpec
from deploykit.hard_form import Lowering
from deploykit_export.onnx_model import write_onnx
from deploykit_export.tensorrt_engine import build_engine

N = 6
HARD: dict[str, Callable[[Tensor], Tensor]] = {
    "binary_code": lambda x: r.binary_code(r.hard_bit(x)),
    "hard_choice": r.hard_choice,
    "hard_one_hot": r.hard_one_hot,
    "hard_permutation": r.hard_permutation,
    "hard_top_k": lambda x: r.hard_top_k(x, 3),
    "hard_top_k_mask": lambda x: r.hard_top_k_mask(x, 3),
    "support_mask": lambda x: r.support_mask(r.sparsemax(x)),
}
SOFT: dict[str, Callable[[Tensor], Tensor]] = {
    "binary_code_gate": lambda x: r.binary_code_gate(r.smooth_step(x)),
    "capped_simplex_projection": lambda x: r.capped_simplex_projection(x, 3),
    "entmax15": r.entmax15,
    "entmax_bisect": lambda x: r.entmax_bisect(x, 1.3, iterations=25),
    "gumbel_sigmoid": lambda x: r.gumbel_sigmoid(x, 0.5, x),
    "gumbel_top_k": lambda x: r.gumbel_top_k(x, 3, 0.5, x),
    "hard_concrete": lambda x: r.hard_concrete(x, x),
    "softmax_permutation": lambda x: r.softmax_permutation(x, 0.5),
    "sparsemax": r.sparsemax,
    "straight_through": lambda x: r.capped_simplex_straight_through(x, 3),
    "tempered_softmax": lambda x: r.tempered_softmax(x, 0.5),
}


class _Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))  # so that the relaxations are traced with a gradient in sight

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        scores = self.scale * x
        return tuple(function(scores) for function in (HARD | SOFT).values())


@pytest.fixture(scope="module")
def written() -> tuple[bytes, Signature, Tensor, tuple[Tensor, ...]]:
    # Halves from -3/2 to 3/2: nearly every row has ties.
    x = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (300, N)).astype(np.float32) / 2)
    module = _Everything()
    with torch.no_grad():
        outputs = module(x)
    specs = tuple(
        TensorSpec.model_validate(
            {"name": name, "shape": ("batch", *value.shape[1:]), "dtype": str(value.dtype).removeprefix("torch.")}
        )
        for name, value in zip(HARD | SOFT, outputs, strict=True)
    )
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", N)),), outputs=specs)
    model = write_onnx({"all": Lowering(module=module)}, signature, (x,))["all"]
    return model.data, signature, x, outputs


def test_the_file_gives_the_same_values_and_the_same_choices(
    written: tuple[bytes, Signature, Tensor, tuple[Tensor, ...]],
) -> None:
    data, _, x, outputs = written
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for name, found, wanted in zip(HARD | SOFT, session.run(None, {"x": x.numpy()}), outputs, strict=True):
        absolute = 0.0 if name in HARD else 1e-6
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=absolute, err_msg=name)
    assert len(session.run(["hard_choice"], {"x": x[:1].numpy()})[0]) == 1  # the batch axis is free


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra: tensorrt-rtx)"
)
def test_an_engine_is_built_of_all_of_them(written: tuple[bytes, Signature, Tensor, tuple[Tensor, ...]]) -> None:
    data, signature, _, _ = written
    assert build_engine(data, signature, builder="tensorrt_rtx").layers > len(HARD | SOFT)
