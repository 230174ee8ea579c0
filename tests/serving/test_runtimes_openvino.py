"""OpenVINO answers as ONNX Runtime does; packed convolutions give the same bits, and only where that is proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("openvino", reason="openvino is not installed (extra: openvino)")

from deploykit.errors import ServingError
from deploykit.runtime import RuntimeOptions
from deploykit_serving.runtimes import open_session
from deploykit_serving.runtimes.openvino_binary import pack_convolutions
from deploykit_serving.runtimes.openvino_cpu import OpenVinoSession
from tests.serving.binary_models import Graph, Layer, float_signs, integer_signs, rounded_signs


def packed(model: bytes) -> int:
    """Return how many convolutions of a model are packed for one sample."""
    import openvino

    read = openvino.Core().read_model(model, b"")
    read.reshape({item.get_any_name(): [1, *(size.get_length() for size in list(item.get_partial_shape())[1:])]
                  for item in read.inputs})  # fmt: skip
    return pack_convolutions(read)


def x_of(channels: int, side: int, batch: int = 1, seed: int = 3) -> dict[str, NDArray[Any]]:
    x = np.random.default_rng(seed).standard_normal((batch, channels, side, side)).astype(np.float32)
    x[0, 0, 0, 0] = 0.0  # where a threshold is reached exactly
    return {"x": x}


def same_bits(model: bytes, channels: int, side: int) -> None:
    """Oracle: ONNX Runtime on the CPU, for several samples one by one and for a batch."""
    session, reference = OpenVinoSession(model, RuntimeOptions()), open_session(model)
    for seed in range(4):
        inputs = x_of(channels, side, seed=seed)
        assert session.run(inputs)["y"].tobytes() == reference.run(inputs)["y"].tobytes()
    inputs = x_of(channels, side, batch=3)
    assert session.run(inputs)["y"].tobytes() == reference.run(inputs)["y"].tobytes()


CHAINS = {
    "two layers": [Layer(16), Layer(24)],
    "stride and dilation": [Layer(32, stride=2), Layer(16, dilation=2, pads=(2, 2, 2, 2))],
    "one by one and five by five": [Layer(40, kernel=1, pads=(0, 0, 0, 0)), Layer(8, kernel=5, pads=(2, 2, 2, 2))],
    "uneven padding": [Layer(16, pads=(0, 1, 1, 0)), Layer(16, pads=(1, 0, 0, 2))],
    "outputs that fill no byte": [Layer(64), Layer(3)],
    "powers of two as scale": [Layer(16, scale=0.25), Layer(16, scale=2.0)],
    "pooled between": [Layer(16, pool=True), Layer(16)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_float_signs_are_packed_and_exact(name: str) -> None:
    model = float_signs(8, 12, CHAINS[name])
    assert packed(model) == 2
    same_bits(model, 8, 12)


def test_integer_signs_are_packed_and_exact() -> None:
    model = integer_signs(16, 12, depth=3)
    assert packed(model) == 4
    same_bits(model, 16, 12)


def test_signs_that_are_never_zero_are_packed_and_exact() -> None:
    model = rounded_signs(8, 9, offset=0.5)
    assert packed(model) == 2
    same_bits(model, 8, 9)


def test_a_sign_that_can_be_zero_is_no_bit() -> None:
    model = rounded_signs(8, 9, offset=0.0)
    assert packed(model) == 1  # the first, behind Where
    same_bits(model, 8, 9)


def test_sums_that_are_used_twice_stay_what_they_are() -> None:
    graph = Graph(5)
    one, minus, zero = graph.constant(1.0), graph.constant(-1.0), graph.constant(0.0)
    weights = [graph.constant(graph.signs(16, 16, 3, 3)) for _ in range(2)]
    bits = graph.node("Where", graph.node("GreaterOrEqual", "x", zero), one, minus)
    first = graph.node("Conv", bits, weights[0], pads=[1, 1, 1, 1])
    again = graph.node("Where", graph.node("GreaterOrEqual", first, zero), one, minus)
    second = graph.node("Conv", again, weights[1], pads=[1, 1, 1, 1])
    model = graph.model((16, 8, 8), graph.node("Add", first, second))
    assert packed(model) == 2
    same_bits(model, 16, 8)


@pytest.mark.parametrize(
    ("why", "channels", "layers"),
    [
        ("channels fill no byte", 6, [Layer(16)]),
        ("a third of a sum is no float32 number", 8, [Layer(16, scale=1 / 3)]),
    ],
)
def test_what_is_not_exact_stays_a_convolution(why: str, channels: int, layers: list[Layer]) -> None:
    assert packed(float_signs(channels, 8, layers)) == 0, why


def test_weights_of_two_sizes_stay() -> None:
    graph = Graph(1)
    bits = graph.node("Where", graph.node("GreaterOrEqual", "x", graph.constant(0.0)), graph.constant(1.0),
                      graph.constant(-1.0))  # fmt: skip
    weight = graph.signs(8, 8, 3, 3)
    weight[3, 0, 0, 0] = 2.0
    assert packed(graph.model((8, 6, 6), graph.node("Conv", bits, graph.constant(weight)))) == 0


def test_inputs_that_are_no_signs_stay() -> None:
    graph = Graph(1)
    weight = graph.constant(graph.signs(8, 8, 3, 3))
    assert packed(graph.model((8, 6, 6), graph.node("Conv", graph.node("Relu", "x"), weight))) == 0


def test_a_kernel_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = float_signs(8, 8, [Layer(16), Layer(8)])
    monkeypatch.setattr("deploykit_serving.runtimes.openvino_binary._bits", _wrong_bits)
    session = OpenVinoSession(model, RuntimeOptions())
    assert not session.packed
    inputs = x_of(8, 8)
    assert session.run(inputs)["y"].tobytes() == open_session(model).run(inputs)["y"].tobytes()


def _wrong_bits(positive: NDArray[np.bool_]) -> Any:
    import openvino

    tensor = openvino.Tensor(openvino.Type.u1, openvino.Shape(positive.shape))
    tensor.data.ravel()[:] = np.packbits(~positive.ravel(), bitorder="little")
    return openvino.op.Constant(tensor, shared_memory=False)


def test_packed_sessions_are_shared_by_threads() -> None:
    model = float_signs(8, 8, [Layer(16), Layer(8)])
    session, reference = OpenVinoSession(model, RuntimeOptions()), open_session(model)
    assert session.packed
    asked = [x_of(8, 8, batch=1 + index % 2, seed=index) for index in range(24)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(session.run, asked))
    for inputs, answer in zip(asked, answers, strict=True):
        assert answer["y"].tobytes() == reference.run(inputs)["y"].tobytes()


def test_a_fixed_batch_is_packed_as_it_is() -> None:
    model = float_signs(8, 8, [Layer(16)], batch=4)
    session = OpenVinoSession(model, RuntimeOptions())
    assert session.packed
    inputs = x_of(8, 8, batch=4)
    assert session.run(inputs)["y"].tobytes() == open_session(model).run(inputs)["y"].tobytes()


def test_refusals_are_one_line() -> None:
    with pytest.raises(ServingError, match=r"^openvino-cpu refuses the model: [^\n]+$"):
        open_session(b"this is no model", "openvino-cpu")
