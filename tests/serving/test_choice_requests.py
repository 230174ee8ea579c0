"""Requests to a deployment, in process: which variant answers, what is refused, and what a queue changes."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.decoder import Decoder
from deploykit.signature import Arrays, TensorSpec
from deploykit_serving.front import Front
from deploykit_serving.loading import load_models
from tests.serving.conftest import AFFINE_SINGLE, WriteAffine, model_bytes
from tests.serving.deployment_files import (
    INFER,
    MS,
    ask,
    asked,
    deployed,
    front,
    name_of,
    proven,
    three,
    write_deployment,
)

VARIANTS = [{"name": name, "file": "models/onnx.onnx"} for name in ("slow", "middle", "fast")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_affine: WriteAffine) -> Path:
    return proven(write_affine(tmp_path_factory.mktemp("deployed"), variants=VARIANTS))


@pytest.fixture
def app(bundle: Path) -> Front:
    return front(load_models([write_deployment(bundle.parent, *three(bundle))]))[0]


@pytest.mark.parametrize(
    ("budget", "variant"),
    [(None, "slow"), (100_000, "slow"), (60_000, "slow"), (30_000, "middle"), (5_000, "fast")],
)
def test_the_best_variant_within_the_budget_answers(bundle: Path, budget: float | None, variant: str) -> None:
    # Minutes, so that no busy machine can be too slow for them.
    ms = {name: value * 100 for name, value in MS.items()}
    app, _ = front(load_models([write_deployment(bundle.parent, *three(bundle, ms), file="minutes.json")]))
    reply = ask(app) if budget is None else ask(app, latency_budget_ms=budget)
    assert (reply.status, reply.variant) == (200, variant)
    answer = json.loads(reply.body)
    assert answer["model_name"] == "chosen"
    assert answer["outputs"][0]["data"] == [22.5, 25.5, 30.25]
    assert answer["parameters"] == {
        "variant": name_of(variant),
        "queue_us": int(reply.headers["deploykit-queue-us"]),
        "compute_us": int(reply.headers["deploykit-compute-us"]),
    }


def test_header_and_parameter_of_both_the_smaller_counts(app: Front) -> None:
    minute = 60_000
    assert "cannot" not in ask(app, headers={"latency-budget-ms": str(minute)}).body.decode()
    for header, parameter in ((minute, 1), (1, minute)):
        reply = ask(app, headers={"latency-budget-ms": str(header)}, latency_budget_ms=parameter)
        assert reply.status == 503
        assert "within 1 ms" in reply.error


@pytest.mark.parametrize("value", [0, -1, True, "5", "5ms", float("1e999")])
def test_bad_parameters_are_refused_with_what_was_got(app: Front, value: object) -> None:
    reply = ask(app, latency_budget_ms=value)
    assert reply.status == 400
    if value != float("inf"):  # which is no JSON
        assert f"'latency_budget_ms' must be a number of milliseconds above 0, got {value!r}" in reply.error


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "5ms", "1_0", "1e999", "0x5", "5,5", "9" * 400])
def test_bad_headers_are_refused_with_what_was_got(app: Front, value: str) -> None:
    reply = ask(app, headers={"latency-budget-ms": value})
    assert reply.status == 400
    assert "latency-budget-ms must be a number of milliseconds above 0, got '" in reply.error
    assert value[:60] in reply.error


@pytest.mark.parametrize("where", ["header", "parameter"])
def test_a_bundle_without_latencies_takes_no_budget(bundle: Path, where: str) -> None:
    app, _ = front({"chosen": load_models([bundle])["affine"]})
    given: dict[str, Any] = {"headers": {"latency-budget-ms": "5"}} if where == "header" else {"latency_budget_ms": 5}
    reply = ask(app, **given)
    assert (reply.status, "without measured latencies" in reply.error) == (400, True)
    reply = ask(app)
    assert (reply.status, reply.headers["deploykit-variant"]) == (200, "slow")
    assert "parameters" not in json.loads(reply.body)


def test_what_nothing_can_meet_is_refused_and_not_asked_to_come_again(app: Front) -> None:
    reply = ask(app, latency_budget_ms=9)
    assert reply.status == 503
    assert f"no variant can answer within 9 ms: the fastest, '{name_of('fast')}', is predicted to take" in reply.error
    assert "retry-after" not in reply.headers


def test_a_named_variant_wins_by_full_or_short_name(app: Front) -> None:
    for name in (name_of("middle"), "middle"):
        assert ask(app, variant=name).variant == "middle"
        assert ask(app, variant=name, latency_budget_ms=60_000).variant == "middle"
    reply = ask(app, variant="middle", latency_budget_ms=50)
    assert reply.status == 503
    assert f"variant '{name_of('middle')}' cannot answer within 50 ms: it is predicted to take 100 ms" in reply.error
    reply = ask(app, variant="medium")
    assert reply.status == 400
    assert "has no variant 'medium'; there are: affine/slow@onnxruntime-cpu/1, affine/middle@" in reply.error


def test_the_batch_counts(app: Front) -> None:
    # 16 samples take ten times as long: of the three only the fast one is left at 900 ms.
    reply = ask(app, rows=16, latency_budget_ms=900)
    assert reply.variant == "fast" or reply.status == 503  # on a machine that needs 800 ms for looking at it
    assert ask(app, rows=16, latency_budget_ms=90).status == 503


def test_a_variant_for_single_samples_is_no_candidate_for_more(tmp_path: Path, write_affine: WriteAffine) -> None:
    variants = [
        {"name": "single", "file": "models/single.onnx", "dynamic_batch": False},
        {"name": "onnx", "file": "models/onnx.onnx"},
    ]
    files = {"models/single.onnx": model_bytes(AFFINE_SINGLE)}
    bundle = proven(write_affine(tmp_path, files=files, variants=variants))
    file = write_deployment(tmp_path, deployed(bundle, "single", 1, 0.9), deployed(bundle, "onnx", 2, 0.8))
    app, _ = front(load_models([file]))
    assert [ask(app, rows).variant for rows in (1, 2)] == ["single", "onnx"]
    assert "takes one sample at a time" in ask(app, 2, variant="single").error
    app, _ = front(load_models([write_deployment(tmp_path, deployed(bundle, "single", 1, 0.9))]))
    assert "takes one sample at a time, got 2" in ask(app, 2).error


class Largest(Decoder):
    outputs = (TensorSpec(name="label", dtype="int64", shape=("batch",)),)

    def decode(self, outputs: Arrays) -> Arrays:
        return {"label": outputs["y"].argmax(axis=1)}


def test_decoders_wishes_and_raw_bodies_work_as_for_bundles(bundle: Path) -> None:
    models = load_models([write_deployment(bundle.parent, *three(bundle))])
    app, _ = front(models)
    assert "has no decoder" in ask(app, decode=True).error
    models["chosen"].decoder = Largest()
    assert json.loads(ask(app, decode=True).body)["outputs"][0]["data"] == [2]

    async def raw() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": np.ones(4, np.float32).tobytes(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"inference-header-content-length", b"0"), (b"latency-budget-ms", b"60000")]
        await app({"type": "http", "method": "POST", "path": INFER, "headers": headers}, receive, send)
        return sent

    start, body = asyncio.run(raw())
    assert start["status"] == 200
    assert dict(start["headers"])[b"deploykit-variant"] == name_of("slow").encode()
    assert np.frombuffer(body["body"][-12:], np.float32).tolist() == [22.5, 25.5, 30.25]


def test_a_slow_machine_is_noticed(bundle: Path) -> None:
    """Every answer takes far longer than the nanoseconds that were promised: soon nothing is promised any more."""
    ms = dict.fromkeys(MS, 1e-6)
    app, _ = front(load_models([write_deployment(bundle.parent, *three(bundle, ms), file="nano.json")]))

    async def main() -> list[int]:
        return [(await asked(app, latency_budget_ms=60_000)).status for _ in range(20)]

    assert set(asyncio.run(main())) == {200}
    measured = app._catalogue.models["chosen"].choice
    assert measured is not None
    now = time.perf_counter()
    slow, middle, _ = measured.candidates(1, 1, False, now)
    assert slow.seconds > 3e-9
    assert middle.seconds == pytest.approx(1e-9)
