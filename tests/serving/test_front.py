"""The application in process: fuzz, the gate, decoders, time limits and readiness."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from deploykit.decoder import Decoder
from deploykit.errors import SignatureError
from deploykit.signature import Arrays, Signature, TensorSpec
from deploykit_serving.catalogue import Catalogue
from deploykit_serving.front import Front
from deploykit_serving.input_gate import InputGate
from deploykit_serving.loading import load_models
from deploykit_serving.metrics import Metrics
from deploykit_serving.page_timeout import Timeout
from deploykit_serving.patience import Patience
from deploykit_serving.settings import ServingSettings

INFER = "/v2/models/affine/infer"


async def _no_pages(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def front(catalogue: Catalogue, **changes: Any) -> Front:
    return Front(_no_pages, catalogue, ServingSettings(**changes), Metrics(CollectorRegistry()))


async def asked(
    app: Any, path: str, body: bytes = b"", headers: dict[bytes, bytes] | None = None, method: str = "POST"
) -> tuple[int, bytes]:
    """Send one request and return status and body."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list((headers or {}).items())}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def ask(app: Any, *arguments: Any, **named: Any) -> tuple[int, bytes]:
    return asyncio.run(asked(app, *arguments, **named))


@pytest.fixture(scope="module")
def app(bundles: list[Path]) -> Front:
    return front(Catalogue(load_models(bundles)))


class Largest(Decoder):
    """Which output is the largest."""

    outputs = (TensorSpec(name="label", dtype="int64", shape=("batch",)),)

    def decode(self, outputs: Arrays) -> Arrays:
        return {"label": outputs["y"].argmax(axis=1)}


def test_a_decoder_answers_instead_of_or_beside_the_outputs(bundles: list[Path]) -> None:
    models = load_models(bundles[:1])
    models["affine"].decoder = Largest()
    app = front(Catalogue(models))
    request: dict[str, Any] = {
        "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [0] * 4 + [-1] * 4}],
        "parameters": {"decode": True},
    }
    status, body = ask(app, INFER, json.dumps(request).encode())
    assert status == 200
    expected = {"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 0]}
    assert json.loads(body)["outputs"] == [expected]
    request["outputs"] = [{"name": "y"}, {"name": "label"}]
    status, body = ask(app, INFER, json.dumps(request).encode())
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["y", "label"]


def test_an_internal_failure_is_500_and_tells_nothing(bundles: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Largest):
        def decode(self, outputs: Arrays) -> Arrays:
            raise RuntimeError("secret path")

    models = load_models(bundles[:1])
    models["affine"].decoder = Failing()
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[0,0,0,0]}],"parameters":{"decode":true}}'
    status, answer = ask(front(Catalogue(models)), INFER, body)
    assert (status, b"secret" in answer) == (500, False)
    assert "secret path" in caplog.text


def test_while_loading_it_lives_and_is_not_ready() -> None:
    app = front(Catalogue())
    assert ask(app, "/v2/health/live", method="GET")[0] == 200
    assert ask(app, "/v2/health/ready", method="GET") == (503, b'{"ready":false,"state":"loading"}')
    assert ask(app, INFER, b"{}")[0] == 503


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "z", ""]) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | JSON_VALUES,
        "datatype": st.sampled_from(["FP32", "FP16", "BOOL", "INT64", "BYTES"]) | JSON_VALUES,
        "data": st.lists(st.floats(-10, 10, width=32), max_size=8) | JSON_VALUES,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}) | JSON_VALUES,
    },
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSORS, max_size=3) | JSON_VALUES,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["y", "q"])}), max_size=2) | JSON_VALUES,
        "parameters": JSON_VALUES,
        "id": JSON_VALUES,
    },
).map(lambda value: json.dumps(value).encode())
LENGTHS = st.none() | st.integers(-2, 300).map(lambda number: str(number).encode()) | st.binary(max_size=6)


@settings(max_examples=400, deadline=None)
@given(body=st.binary(max_size=200) | REQUESTS, tail=st.binary(max_size=40), length=LENGTHS, exact=st.booleans())
def test_no_body_is_answered_with_5xx(app: Front, body: bytes, tail: bytes, length: bytes | None, exact: bool) -> None:
    if exact:
        length = str(len(body)).encode()
    headers = {} if length is None else {b"inference-header-content-length": length}
    status, answer = ask(app, INFER, body + tail, headers)
    assert status == 200 or (400 <= status < 500 and json.loads(answer)["error"])


@settings(max_examples=300, deadline=None)
@given(
    path=st.text(max_size=30).map(lambda text: "/v2/" + text) | st.lists(
        st.sampled_from(["models", "affine", "infer", "ready", "versions", "1", "", "health", "\ud800"]), max_size=6
    ).map(lambda parts: "/".join(["/v2", *parts])),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"]),
)  # fmt: skip
def test_no_path_is_answered_with_5xx(app: Front, path: str, method: str) -> None:
    status, _ = ask(app, path, method=method)
    assert status == 200 or 400 <= status < 500


NUMBERS = st.floats(width=32) | st.sampled_from([-10.0, 10.0, 0.0])


@settings(max_examples=300, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=3), numbers=st.lists(NUMBERS, min_size=1, max_size=4),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_the_gate_agrees_with_the_signature(shape: list[int], numbers: list[float], dtype: str) -> None:
    signature = Signature.model_validate(
        {
            "inputs": [{"name": "x", "shape": ["batch", 4], "minimum": -10, "maximum": 10}],
            "outputs": [{"name": "y", "shape": ["batch"]}],
            "dims": {"batch": {"max": 3}},
        }
    )
    arrays = {"x": np.resize(np.array(numbers, dtype), shape)}
    try:
        signature.check_inputs(arrays)
        wanted = True
    except SignatureError:
        wanted = False
    assert InputGate(signature).fits(arrays) is wanted


def test_a_body_that_does_not_come_is_408(bundles: list[Path]) -> None:
    app = front(Catalogue(load_models(bundles[:1])), body_timeout=0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": INFER, "headers": []}, never, send))
    assert sent[0]["status"] == 408


def test_requests_leave_no_timer_behind(app: Front) -> None:
    async def pending() -> int:
        for _ in range(200):
            await asked(app, INFER, b"{}")
            await asked(Timeout(_no_pages, 60.0), "/")
        scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
        return sum(not timer.cancelled() for timer in scheduled)

    assert asyncio.run(pending()) <= 2


def test_a_page_that_hangs_is_504() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    assert ask(Timeout(hangs, 0.05), "/")[0] == 504


def test_patience_lets_others_cancel() -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(Patience(60).wait(asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
