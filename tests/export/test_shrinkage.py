"""The shrinkage proof weighs constants by dtype and finds what training left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from deploykit.manifest import PromiseEntry
from deploykit_export.shrinkage import Shrinkage, dtype_name, measure_shrinkage, tensor_bytes

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
PLAIN = (
    "m (float[b, 4] x) => (float[b, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}> { y = MatMul(x, w) }"
)


def measure(text: str, **promise: Any) -> Shrinkage:
    made = onnx.parser.parse_model(HEAD + text)
    return measure_shrinkage(made.SerializeToString(), PromiseEntry(**promise))


@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        (TensorProto.FLOAT, "float32", 60), (TensorProto.DOUBLE, "float64", 120), (TensorProto.FLOAT16, "float16", 30),
        (TensorProto.BFLOAT16, "bfloat16", 30), (TensorProto.INT64, "int64", 120), (TensorProto.INT32, "int32", 60),
        (TensorProto.INT8, "int8", 15), (TensorProto.UINT8, "uint8", 15), (TensorProto.BOOL, "bool", 15),
        (TensorProto.INT4, "int4", 8), (TensorProto.UINT4, "uint4", 8), (TensorProto.INT2, "int2", 4),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn", 15), (TensorProto.UINT16, "uint16", 30),
    ],
)  # fmt: skip
def test_bytes_of_fifteen_elements(kind: int, name: str, size: int) -> None:
    tensor = TensorProto(dims=(3, 5), data_type=kind)
    assert (dtype_name(kind), tensor_bytes(tensor)) == (name, size)


def test_bytes_are_those_of_a_packed_file() -> None:
    tensor = onnx.helper.make_tensor("w", TensorProto.INT4, (3, 5), [1] * 15)
    assert tensor_bytes(tensor) == len(tensor.raw_data or bytes(tensor.int32_data)) == 8


def test_bytes_are_summed_over_initializers_constants_and_branches() -> None:
    found = measure("""m (float[b, 2] x, bool c) => (float[b, 2] y) <float[2] w = {1, 2}>
    { k = Constant <value = int64[3] {1, 2, 3}> ()
      y = If (c) < then_branch = t () => (float[b, 2] a) <float[2] v = {3, 4}> { a = Add(x, v) },
                   else_branch = e () => (float[b, 2] d) { d = Add(x, w) } > }""")
    assert found.bytes_by_dtype == {"float32": 16, "int64": 24}
    assert found.weight_bytes == 40
    assert found.faults == ("tensor 'k' is used by nothing",)


def test_more_bytes_than_promised() -> None:
    assert measure(PLAIN, weight_bytes=48).faults == ()
    assert measure(PLAIN, weight_bytes=47).faults == ("constants take 48 bytes; promised were at most 47",)


def test_a_float_shadow_copy_is_found_and_small_tensors_are_let_pass() -> None:
    promise = {"weight_dtypes": ("int8", "int4"), "small_initializer": 11}
    assert measure(PLAIN, **promise).faults == ("tensor 'w' of shape (4, 3) is float32; promised were int8, int4",)
    assert measure(PLAIN, **{**promise, "small_initializer": 12}).faults == ()
    constant = """m (float[b, 2] x) => (float[b, 2] y) { k = Constant <value = float[2] {1, 2}> ()  y = Add(x, k) }"""
    assert measure(constant, weight_dtypes=("int8",), small_initializer=1).faults == (
        "tensor 'k' of shape (2,) is float32; promised were int8",
    )


@pytest.mark.parametrize("place", ["initializer", "constant node"])
def test_a_leftover_mask_is_found(place: str) -> None:
    text = """m (float[b, 3] x) => (float[b, 3] y) <float[3] mask = {1, 0, 1}> { y = Mul(x, mask) }"""
    if place == "constant node":
        text = """m (float[b, 3] x) => (float[b, 3] y)
        { mask = Constant <value = float[3] {1, 0, 1}> ()  y = Mul(x, mask) }"""
    (fault,) = measure(text).faults
    assert "multiplies by the mask 'mask' instead of dropping what it hides" in fault


@pytest.mark.parametrize("values", ["1, 1, 1", "0, 2, 0", "0, 1, 2"])
def test_a_scale_is_no_mask(values: str) -> None:
    text = f"m (float[b, 3] x) => (float[b, 3] y) <float[3] s = {{{values}}}> {{ y = Mul(x, s) }}"
    assert measure(text).faults == ()


def test_names_and_operators_promised_to_be_absent() -> None:
    text = """m (float[b, 3] x) => (float[b, 3] y) <float[3] block_gate_bias = {1, 2, 3}>
    { h = Add(x, block_gate_bias)  s = Sigmoid(h)  y = Sigmoid(s) }"""
    assert measure(text).faults == ()
    (fault,) = measure(text, absent=("gate", "threshold")).faults
    assert fault == ("tensor 'block_gate_bias' is a leftover of training: names with 'gate' were promised to be absent")
    (fault,) = measure(text, forbidden_operators=("Sigmoid", "Softmax")).faults
    assert fault == "operator Sigmoid occurs 2 times; promised was none"


def test_a_forbidden_operator_inside_a_branch_is_found() -> None:
    text = """m (float[b, 2] x, bool c) => (float[b, 2] y)
    { y = If (c) < then_branch = t () => (float[b, 2] a) { a = Softmax(x) },
                   else_branch = e () => (float[b, 2] d) { d = Relu(x) } > }"""
    assert measure(text, forbidden_operators=("Softmax",)).faults == (
        "operator Softmax occurs 1 times; promised was none",
    )


def test_dead_weight_is_found() -> None:
    text = "m (float[b, 2] x) => (float[b, 2] y) <float[2] w = {1, 2}, float[2] dead = {3, 4}> { y = Add(x, w) }"
    assert measure(text).faults == ("tensor 'dead' is used by nothing",)


@pytest.mark.parametrize("place", ["initializer", "constant node"])
def test_a_constant_condition_is_found(place: str) -> None:
    initializer, node = " <bool c = {1}>", ""
    if place == "constant node":
        initializer, node = "", "c = Constant <value = bool {1}> ()"
    text = f"""m (float[b, 2] x) => (float[b, 2] y){initializer}
    {{ {node} y = If (c) < then_branch = t () => (float[b, 2] a) {{ a = Relu(x) }},
                   else_branch = e () => (float[b, 2] d) {{ d = Neg(x) }} > }}"""
    (fault,) = measure(text).faults
    assert "has a constant condition, so one of its branches is dead" in fault


def test_random_weights_weigh_what_numpy_says() -> None:
    weights = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float16)
    made = onnx.parser.parse_model(HEAD + "m (float16[b, 40] x) => (float16[b, 30] y) { y = MatMul(x, w) }")
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    assert measure_shrinkage(made.SerializeToString(), PromiseEntry()).weight_bytes == weights.nbytes
