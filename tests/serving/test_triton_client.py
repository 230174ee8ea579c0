"""NVIDIA's client, unmodified, against a real server; and our own beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from deploykit.errors import ServingError
from deploykit_serving.client import Client, infer

RESULTS = {"flag": "not_flag", "small": "same", "big": "less", "wide": "twice", "half": "neg"}


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Any]:
    with triton.InferenceServerClient(server.removeprefix("http://")) as client:
        yield client


def mixed_arrays() -> dict[str, Any]:
    return {
        "flag": np.array([[True, False, True]]),
        "small": np.array([[0, 7, 255]], np.uint8),
        "big": np.array([[-(2**62) - 1, 0, 2**62 + 1]], np.int64),
        "wide": np.array([[0.1, -1e300, 5e-324]]),
        "half": np.array([[0.1, -2.0, 65504.0]], np.float16),
    }


def triton_inputs(arrays: dict[str, Any], binary: bool) -> list[Any]:
    from tritonclient.utils import np_to_triton_dtype

    inputs = []
    for name, array in arrays.items():
        inputs.append(triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array, binary_data=binary or array.dtype == np.float16)
    return inputs


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("mixed", "1")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("affine")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["parameters"] == {"variants": "onnx,single,float", "default_variant": "onnx"}


@pytest.mark.parametrize("binary", [True, False])
def test_every_dtype_goes_there_and_back(client: Any, binary: bool) -> None:
    arrays = mixed_arrays()
    outputs = [triton.InferRequestedOutput(name, binary_data=binary or name == "neg") for name in RESULTS.values()]
    result = client.infer("mixed", triton_inputs(arrays, binary), outputs=outputs, request_id="7")
    assert result.get_response()["id"] == "7"
    np.testing.assert_array_equal(result.as_numpy("not_flag"), ~arrays["flag"])
    np.testing.assert_array_equal(result.as_numpy("same"), arrays["small"])
    np.testing.assert_array_equal(result.as_numpy("less"), -arrays["big"])
    np.testing.assert_array_equal(result.as_numpy("twice"), arrays["wide"] * 2)
    np.testing.assert_array_equal(result.as_numpy("neg"), -arrays["half"])


def test_only_requested_outputs_come(client: Any) -> None:
    result = client.infer(
        "mixed", triton_inputs(mixed_arrays(), True), outputs=[triton.InferRequestedOutput("same", binary_data=False)]
    )
    assert [output["name"] for output in result.get_response()["outputs"]] == ["same"]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests(client: Any, compression: str) -> None:
    x = np.ones((2, 4), np.float32)
    result = client.infer("affine", triton_inputs({"x": x}, True), request_compression_algorithm=compression)
    np.testing.assert_array_equal(result.as_numpy("y"), np.tile(np.array([22.5, 25.5, 30.25], np.float32), (2, 1)))


def test_errors_arrive_as_words(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"wanted float32\[batch, 4\], got float32\[1, 3\]"):
        client.infer("affine", triton_inputs({"x": np.ones((1, 3), np.float32)}, True))
    with pytest.raises(InferenceServerException, match="Did you mean 'mixed'"):
        client.infer("mixd", triton_inputs({"x": np.ones((1, 4), np.float32)}, True))


@pytest.mark.parametrize("binary", [True, False])
def test_our_client_is_exact_to_the_bit(server: str, binary: bool) -> None:
    small = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    first = infer(server, "affine", {"x": small}, binary=True)["y"]
    assert np.array_equal(infer(server, "affine", {"x": small}, binary=binary)["y"].view(np.uint32), first.view("u4"))


def test_variants_are_chosen_by_name(server: str) -> None:
    x = np.ones((1, 4), np.float32)
    with Client(server) as client:
        assert client.infer("affine", {"x": x}, variant="single")["y"].tolist() == [[22.5, 25.5, 30.25]]
        assert client.infer("affine", {"x": x}, variant="float")["y"].tolist() == [[45.0, 51.0, 60.5]]
        with pytest.raises(ServingError, match=r"takes one sample at a time \('batch' 1\), got 2"):
            client.infer("affine", {"x": np.ones((2, 4), np.float32)}, variant="single")
        with pytest.raises(ServingError, match="there are: onnx, single, float"):
            client.infer("affine", {"x": x}, variant="trt")


def test_large_bodies_take_the_threads_and_answer_the_same(server: str) -> None:
    x = np.tile(np.arange(-8, 8, dtype=np.float32), 1024).reshape(4096, 4)
    with Client(server) as client:
        whole = client.infer("affine", {"x": x})["y"]
        assert np.array_equal(whole[:1], client.infer("affine", {"x": x[:1]})["y"])


def test_nobody_listening_is_said(server: str) -> None:
    with pytest.raises(ServingError, match="no answer"):
        infer("http://127.0.0.1:9", "affine", {"x": np.ones((1, 4), np.float32)}, timeout=2)
    with pytest.raises(ServingError, match="wanted a base URL"):
        Client("127.0.0.1:9")
