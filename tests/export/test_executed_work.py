"""Executed work equals hand-computed counts; what did not run counts nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.graph_facts import operator_histogram

HEAD = '<ir_version: 9, opset_import: ["" : 19]>'


def model(text: str, **constants: Any) -> bytes:
    made = onnx.parser.parse_model(HEAD + text)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def work(data: bytes, **inputs: NDArray[Any]) -> int:
    return executed_work(data, inputs).macs


def test_conv_with_stride_and_groups() -> None:
    text = "c (float[b, 4, 9, 9] x) => (float[b, 6, h, v] y) { y = Conv <strides = [2, 2], group = 2> (x, w, d) }"
    data = model(text, w=floats(6, 2, 3, 3), d=floats(6))
    # 4 x 4 places, 6 channels, 2 inputs a group, 3 x 3 kernel, 5 samples
    assert work(data, x=floats(5, 4, 9, 9)) == 5 * 6 * 4 * 4 * 2 * 3 * 3


def test_conv_transpose() -> None:
    text = "c (float[b, 4, 5, 5] x) => (float[b, 6, h, v] y) { y = ConvTranspose <strides = [2, 2], group = 2> (x, w) }"
    # every input element meets 3 output channels of its group through a 2 x 2 kernel
    assert work(model(text, w=floats(4, 3, 2, 2)), x=floats(3, 4, 5, 5)) == 3 * 4 * 5 * 5 * 3 * 2 * 2


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_gemm_either_way_round(left: int, right: int) -> None:
    text = f"g (float[n, m] x) => (float[p, q] y) {{ y = Gemm <transA = {left}, transB = {right}> (x, w, d) }}"
    data = model(text, w=floats(*((7, 5) if right else (5, 7))), d=floats(7))
    assert work(data, x=floats(*((5, 3) if left else (3, 5)))) == 3 * 5 * 7


def test_matmul_with_batches_and_with_a_vector() -> None:
    assert work(model("m (float[a, b, c, d] x, float[b, d, e] w) => (float[a, b, c, e] y) { y = MatMul(x, w) }"),
                x=floats(2, 3, 4, 5), w=floats(3, 5, 6)) == 2 * 3 * 4 * 5 * 6  # fmt: skip
    assert work(model("m (float[c, d] x) => (float[c] y) { y = MatMul(x, w) }", w=floats(5)), x=floats(4, 5)) == 20


def test_quantised_convolution_and_product() -> None:
    scale, zero = np.float32(0.1).reshape(()), np.uint8(3).reshape(())
    text = "q (uint8[b, 4, 6, 6] x) => (uint8[b, 8, 4, 4] y) { y = QLinearConv(x, s, z, w, s, o, s, z) }"
    weights = np.ones((8, 4, 3, 3), np.int8)
    data = model(text, s=scale, z=zero, w=weights, o=np.int8(0).reshape(()))
    assert work(data, x=np.ones((2, 4, 6, 6), np.uint8)) == 2 * 8 * 4 * 4 * 4 * 9
    text = "q (uint8[b, 5] x) => (uint8[b, 7] y) { y = QLinearMatMul(x, s, z, w, s, z, s, z) }"
    data = model(text, s=scale, z=zero, w=np.ones((5, 7), np.uint8))
    assert work(data, x=np.ones((3, 5), np.uint8)) == 3 * 5 * 7


BRANCHES = """
branches (float[b, 4] x, bool chosen) => (float[b, n] y) {
    y = If (chosen) <
        then_branch = then_graph () => (float[b, n] a) { a = MatMul(x, small) },
        else_branch = else_graph () => (float[b, n] c) { h = MatMul(x, wide)  c = MatMul(h, back) }
    >
}
"""


def test_only_the_branch_that_was_taken_counts() -> None:
    data = model(BRANCHES, small=floats(4, 2), wide=floats(4, 100), back=floats(100, 2))
    taken = executed_work(data, {"x": floats(3, 4), "chosen": np.array(True)})
    assert taken.macs == 3 * 4 * 2
    assert taken.kernels["MatMul"] == 1
    assert taken.kernels["If"] == 1
    other = executed_work(data, {"x": floats(3, 4), "chosen": np.array(False)})
    assert other.macs == 3 * (4 * 100 + 100 * 2)
    assert other.kernels["MatMul"] == 2
    assert operator_histogram(onnx.load_from_string(data)) == {"If": 1, "MatMul": 3}  # the file holds all of them


GROUPS = """
groups (float[b, 4] x, int64[b] leaf) => (float[n, 2] y) {
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    is_zero = Equal(leaf, zero)
    is_one = Equal(leaf, one)
    rows_zero = Compress <axis = 0> (x, is_zero)
    rows_one = Compress <axis = 0> (x, is_one)
    y_zero = MatMul(rows_zero, small)
    h_one = MatMul(rows_one, wide)
    y_one = Gemm(h_one, back)
    y = Concat <axis = 0> (y_zero, y_one)
}
"""


@pytest.mark.parametrize("leaves", [[0, 0, 0], [1, 1, 1], [0, 1, 0]])
def test_a_group_without_rows_counts_nothing(leaves: list[int]) -> None:
    data = model(GROUPS, small=floats(4, 2), wide=floats(4, 100), back=floats(100, 2))
    wanted = leaves.count(0) * 4 * 2 + leaves.count(1) * (4 * 100 + 100 * 2)
    assert work(data, x=floats(3, 4), leaf=np.array(leaves)) == wanted


def test_marked_decisions_are_read_and_the_file_stays() -> None:
    text = """m (float[b, 4] x) => (float[b, 1] y)
    { leaf = ArgMax <axis = 1> (x)  chosen = Identity(leaf)  y = GatherElements <axis = 1> (x, chosen) }"""
    made = onnx.load_from_string(model(text))
    node = made.graph.node[1]
    node.output[0] = made.graph.node[2].input[1] = "decision/leaf"
    data = made.SerializeToString()
    before = bytes(data)
    x = floats(6, 4)
    found = marked_decisions(data, {"x": x})
    assert list(found) == ["leaf"]
    assert np.array_equal(found["leaf"][:, 0], x.argmax(1))
    assert data == before
    assert marked_decisions(model(text), {"x": x}) == {}
