"""Bad requests to a real server: always 4xx with a message that says what was wanted."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

INFER = "/v2/models/affine/infer"
GOOD: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 1.0, 1.0, 1.0]}


def changed(**changes: Any) -> bytes:
    return json.dumps({"inputs": [{**GOOD, **changes}]}).encode()


@pytest.fixture(scope="module")
def http(server: str) -> Any:
    with httpx.Client(base_url=server, timeout=20) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"{", "malformed JSON"),
        (b"[]", "wanted a JSON object"),
        (b'{"inputs": []}', "'inputs' must be a list of tensors"),
        (b'{"inputs": [1]}', "input 0 must be an object"),
        (b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,1,1,1]}]}', "malformed JSON"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (changed(shape=[1, 5], data=[1.0] * 5), r"wanted float32[batch, 4], got float32[1, 5]"),
        (changed(shape=[4]), "1 dimensions instead of 2"),
        (changed(shape=[2, 4]), "wants 8 numbers, 'data' holds 4"),
        (changed(shape=[-1, 4]), "sizes in 'shape' must be whole numbers"),
        (changed(shape=[1 << 40, 1 << 40]), "larger than any request"),
        (changed(shape=[0, 4], data=[]), "'batch' must be at least 1"),
        (changed(shape="x"), "'shape' must be a list"),
        (changed(datatype="FP64"), "wanted float32[batch, 4], got float64[1, 4]"),
        (changed(datatype="BYTES"), "datatype must be one of BOOL"),
        (changed(datatype=7), "datatype must be one of BOOL"),
        (changed(datatype="FP16"), "FP16 has no JSON form"),
        (changed(data=["1", "2", "3", "4"]), "must hold numbers"),
        (changed(data=[True] * 4), "must hold numbers"),
        (changed(data=[None] * 4), "must hold numbers"),
        (changed(data=[[1.0], [1.0, 2.0], 3.0]), "or lists nested as 'shape' says: [1, 4]"),
        (changed(data=[[1.0], [1.0], [1.0], [1.0]]), "or lists nested as 'shape' says: [1, 4]"),
        (changed(data=7), "'data' must be a list"),
        (changed(data=[1e39, 1.0, 1.0, 1.0]), "NaN or infinity"),
        (changed(data=[11.0, 1.0, 1.0, 1.0]), "values from 1 to 11; wanted -10 to 10"),
        (changed(datatype="INT8", data=[300, 1, 1, 1]), "do not fit int8"),
        (changed(datatype="INT32"), "must hold whole numbers"),
        (changed(name="z"), "input 'x' is missing"),
        (changed(name=3), "'name' must be a string"),
        (changed(parameters={"shared_memory_region": "r"}), "shared memory is not offered"),
        (changed(parameters={"binary_data_size": 16}), "both 'data' and 'binary_data_size'"),
        (json.dumps({"inputs": [GOOD, GOOD]}).encode(), "is given twice"),
        (json.dumps({"inputs": [GOOD], "id": 3}).encode(), "'id' must be a string"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "q"}]}).encode(), "no output 'q'; there are: y"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "y"}] * 2}).encode(), "asked for twice"),
        (json.dumps({"inputs": [GOOD], "outputs": [7]}).encode(), "must be an object with a string 'name'"),
        (json.dumps({"inputs": [GOOD], "parameters": {"a": [1]}}).encode(), "must be a string, number or boolean"),
        (json.dumps({"inputs": [GOOD], "parameters": {"variant": "q"}}).encode(), "there are: onnx, single, float"),
        (json.dumps({"inputs": [GOOD], "parameters": {"decode": True}}).encode(), "has no decoder"),
        (json.dumps({"inputs": [GOOD], "parameters": {"decode": 1}}).encode(), "must be true or false"),
        (json.dumps({"inputs": [GOOD], "parameters": {"sequence_id": 1}}).encode(), "keep no state"),
    ],
)
def test_a_bad_body_is_400_and_says_what_was_wanted(http: httpx.Client, body: bytes, words: str) -> None:
    answer = http.post(INFER, content=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


HEADER = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
NUMBERS = np.ones(4, np.float32).tobytes()


@pytest.mark.parametrize(
    ("length", "body", "words"),
    [
        ("99999999999", HEADER + NUMBERS, "the body has only"),
        ("9" * 400, HEADER + NUMBERS, "must be the JSON header's length"),
        ("-1", HEADER + NUMBERS, "must be the JSON header's length"),
        ("\u00b2", HEADER + NUMBERS, "must be the JSON header's length"),
        (str(len(HEADER)), HEADER + NUMBERS[:-1], "wanted 16 bytes of binary data, the body has 15 left"),
        (str(len(HEADER)), HEADER + NUMBERS + b"z", "1 bytes more"),
        (str(len(HEADER)), HEADER.replace(b":16", b":12") + NUMBERS, "takes 16 bytes"),
        ("0", NUMBERS + b"z", "takes 16 bytes (one sample), got 17"),
        (str(len(HEADER)), HEADER + np.full(4, np.nan, np.float32).tobytes(), "NaN or infinity"),
    ],
)
def test_bad_binary_data_is_400(http: httpx.Client, length: str, body: bytes, words: str) -> None:
    headers = [(b"inference-header-content-length", length.encode("latin-1"))]
    answer = http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_an_unknown_model_is_404_with_the_nearest_name(http: httpx.Client) -> None:
    answer = http.post("/v2/models/afine/infer", content=changed())
    assert (answer.status_code, answer.json()["error"]) == (404, "no model 'afine'. Did you mean 'affine'?")
    assert http.get("/v2/models/affine/versions/2").status_code == 404
    assert http.get("/v2/models/%2e%2e%2fetc/ready").status_code == 404
    assert http.get("/v2/models/%ff").status_code == 404


def test_a_wrong_method_is_405_with_the_right_one(http: httpx.Client) -> None:
    answer = http.get(INFER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert http.post("/v2").status_code == 405


@pytest.mark.parametrize(
    "kind", ["application/vnd.bentoml+pickle", "multipart/form-data", "application/x-www-form-urlencoded", "text/plain"]
)
def test_other_content_types_are_415_on_every_path(http: httpx.Client, kind: str) -> None:
    for path in (INFER, "/", "/metrics"):
        answer = http.post(path, content=changed(), headers={"content-type": kind})
        assert answer.status_code == 415
        assert "wanted application/json or application/octet-stream" in answer.json()["error"]


def test_a_body_beyond_16_mib_is_413_declared_or_streamed_or_decompressed(http: httpx.Client) -> None:
    limit = 16 << 20
    at_limit = http.post(INFER, content=changed() + b" " * (limit - len(changed())))
    assert at_limit.status_code == 200
    assert http.post(INFER, content=b" " * (limit + 1)).status_code == 413
    parts = (b" " * (1 << 20) for _ in range(17))
    assert http.post(INFER, content=parts).status_code == 413
    bomb = gzip.compress(b" " * (limit + 1))
    answer = http.post(INFER, content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "decompressed too" in answer.json()["error"]


def test_compressed_bodies_are_read_and_broken_ones_refused(http: httpx.Client) -> None:
    for name, packed in (("gzip", gzip.compress(changed())), ("deflate", zlib.compress(changed()))):
        headers = {"content-encoding": name}
        assert http.post(INFER, content=packed, headers=headers).status_code == 200
        broken = http.post(INFER, content=packed[:-3], headers=headers)
        assert (broken.status_code, broken.json()["error"]) == (400, f"the body is not one complete {name} stream")
    answer = http.post(INFER, content=changed(), headers={"content-encoding": "br"})
    assert (answer.status_code, "wanted gzip or deflate" in answer.json()["error"]) == (415, True)


def test_random_paths_make_no_series(http: httpx.Client) -> None:
    def series() -> int:
        lines = http.get("/metrics").text.splitlines()
        return sum(not line.startswith("#") for line in lines)

    http.get("/nothing/0")
    http.get("/v2/models/none0/ready")
    before = series()
    for number in range(1, 200):
        http.get(f"/nothing/{number}")
        http.get(f"/v2/models/none{number}/ready")
    assert series() <= before + 2
    assert "nothing" not in http.get("/metrics").text
