"""Graphs that hide what training left in them: each is found, and what only looks like it is let pass."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest

from deploykit.manifest import PromiseEntry
from deploykit_export.executed_work import executed_work
from deploykit_export.shrinkage import measure_shrinkage

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def faults(text: str, **promise: Any) -> str:
    model = onnx.parser.parse_model(HEAD + text)
    onnx.checker.check_model(model, full_check=True)
    return "\n".join(measure_shrinkage(model.SerializeToString(), PromiseEntry(**promise)).faults)


MASK = "float[3] mask = {1, 0, 1}"
WEIGHT = "float[2, 3] w = {1, 0, 3, 4, 0, 6}"
X2Y3 = "m (float[b, 2] x) => (float[b, 3] y)"
X3Y3 = "m (float[b, 3] x) => (float[b, 3] y)"


@pytest.mark.parametrize(
    ("text", "promise", "words"),
    [
        (f"{X3Y3} <bool[3] mask = {{1, 0, 1}}> {{ f = Cast <to = 1> (mask)  y = Mul(x, f) }}", {},
         "multiplies by the mask 'f' instead of dropping"),
        (f"{X3Y3} <float[3] logit = {{2, -3, 1}}, float zero = {{0}}> "
         "{ c = Greater(logit, zero)  f = Cast <to = 1> (c)  y = Mul(f, x) }", {},
         "multiplies by the mask 'f' instead of dropping"),
        (f"{X3Y3} <float[3] scale = {{1.5, 0, 2}}> {{ y = Mul(x, scale) }}", {"macs": 1},
         "multiplies by 'scale', zero in 1 of 3 places"),
        (f"{X3Y3} <bool[3] keep = {{1, 0, 1}}, float zero = {{0}}> {{ y = Where(keep, x, zero) }}", {},
         "puts zeros by the mask 'keep' instead of dropping"),
        (f"{X2Y3} <{WEIGHT}> {{ y = MatMul(x, w) }}", {"weight_bytes": 24},
         "1 of 3 output channels of 'w' have no weight but zero: they were masked, not removed"),
        (f"{X2Y3} <float[2, 3] w = {{1, 2, 3, 4, 5, 6}}, {MASK}> {{ v = Mul(w, mask)  y = MatMul(x, v) }}",
         {"macs": 6}, "1 of 3 output channels of 'v' have no weight but zero"),
        (f"{X2Y3} <float[3, 2] w = {{1, 2, 0, 0, 5, 6}}> {{ y = Gemm <transB = 1> (x, w) }}", {"macs": 6},
         "1 of 3 output channels of 'w'"),
        (f"{X3Y3} {{ k = Constant <value_floats = [1.0, 2.0, 3.0]> ()  y = Add(x, k) }}", {"weight_bytes": 4},
         "constants take 12 bytes; promised were at most 4"),
        (f"{X3Y3} {{ k = Constant <value_floats = [1.0, 2.0, 3.0]> ()  y = Add(x, k) }}",
         {"weight_dtypes": ("int8",), "small_initializer": 2}, r"tensor 'k' of shape \(3,\) is float32"),
        (f"{X3Y3} <float[3] shadow = {{1, 2, 3}}> {{ s = Neg(shadow)  t = Exp(s)  y = Relu(x) }}", {},
         "tensor 'shadow' is used by nothing"),
        (f"{X3Y3} <float zero = {{0}}, float one = {{1}}> {{ c = Less(zero, one)  y = If (c) <"
         "then_branch = t () => (float[b, 3] a) { a = Relu(x) },"
         f"else_branch = e () => (float[b, 3] d) <float[3] w = {{4, 5, 6}}> {{ d = Add(x, w) }} > }}", {},
         "has a constant condition, so one of its branches is dead"),
        ("m (float[b, 3] x, bool c) => (float[b, 3] y) { y = If (c) <"
         "then_branch = t () => (float[b, 3] a) { a = Relu(x) },"
         "else_branch = e () => (float[b, 3] d) <float[3] w = {4, 5, 6}> { d = Add(x, w) } > }",
         {"weight_bytes": 8}, "constants take 12 bytes; promised were at most 8"),
        ("m (float[b, 3] x, bool c) => (float[b, 3] y) { y = If (c) <"
         "then_branch = t () => (float[b, 3] a) { a = Relu(x) },"
         "else_branch = e () => (float[b, 3] d) { r = RandomNormalLike(x)  d = Add(x, r) } > }", {},
         r"\(RandomNormalLike\) draws random numbers whenever it runs"),
        (f"{X3Y3} <bool on = {{1}}, float half = {{0.5}}> {{ y = Dropout(x, half, on) }}", {},
         r"\(Dropout\) draws random numbers whenever it runs"),
    ],
    ids=["cast mask", "computed mask", "scaled mask", "where", "zero channel", "masked weight", "gemm", "constant node",
         "constant dtype", "shadow", "constant if", "branch weight", "chance in a branch", "dropout"],
)  # fmt: skip
def test_a_graph_that_hides_something(text: str, promise: dict[str, Any], words: str) -> None:
    assert re.search(words, faults(text, **promise))


@pytest.mark.parametrize(
    "text",
    [
        f"{X2Y3} <{WEIGHT}> {{ y = MatMul(x, w) }}",
        f"{X3Y3} <bool[3] keep = {{1, 0, 1}}, float low = {{-1e9}}> {{ y = Where(keep, x, low) }}",
        "m (float[b, 3] x, float[b, 3] m) => (float[b, 3] y) { y = Mul(x, m) }",
        f"{X3Y3} <bool off = {{0}}, float half = {{0.5}}> {{ y = Dropout(x, half, off) }}",
    ],
    ids=["nothing promised", "attention", "mask from outside", "dropout at rest"],
)
def test_a_graph_that_hides_nothing(text: str) -> None:
    assert faults(text) == ""


def test_zeros_of_quantised_weights_are_no_mask() -> None:
    text = f"""{X2Y3} <int8[2, 3] q = {{1, 0, 3, 4, 0, 6}}, float s = {{0.5}}>
    {{ w = DequantizeLinear(q, s)  y = MatMul(x, w) }}"""
    assert faults(text, weight_bytes=100, macs=6) == ""


def test_weights_in_a_function_of_the_models_own() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]> m (float[b, 3] x) => (float[b, 3] y) { y = own.f(x) }
        <domain: "own", opset_import: ["" : 21]> f (a) => (c)
        { k = Constant <value = float[3] {1, 2, 3}> ()  c = Add(a, k) }"""
    )
    assert measure_shrinkage(made.SerializeToString(), PromiseEntry()).weight_bytes == 12


def test_work_that_cannot_be_counted_is_named() -> None:
    made = onnx.parser.parse_model(
        HEAD + f'{X2Y3} <{WEIGHT}> {{ y = Einsum <equation = "bi,ij->bj"> (x, w) }}'
    )  # fmt: skip
    work = executed_work(made.SerializeToString(), {"x": np.ones((2, 2), np.float32)})
    assert work.uncounted == ("Einsum",)
