"""A real server over a deployment of models that really take different times, asked by real clients."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.http as triton
from typer.testing import CliRunner

from deploykit.cli.main import app
from deploykit.errors import ServingError
from deploykit_serving import launch
from deploykit_serving.client import Client, Served, infer
from deploykit_serving.launch import running
from tests.serving.conftest import WriteAffine, model_bytes
from tests.serving.deployment_files import MS, name_of, proven, three, write_deployment
from tests.serving.wire import GOOD

X = np.ones((1, 4), np.float32)
ROUNDS = {"slow": 20_000, "middle": 2_000, "fast": 1}
# What the loop adds is nothing, but no optimiser can know that.
LOOPED = """
<ir_version: 8, opset_import: ["" : 18]>
looped (float[batch, 4] x) => (float[batch, 3] y)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3] b = {0.5, -0.5, 0.25},
 int64 rounds = {ROUNDS}, bool go_on = {1}, float hundred = {100}>
{ spun = Loop(rounds, go_on, x) <body = round (int64 i, bool on, float[batch, 4] was)
    => (bool still, float[batch, 4] now) { still = Identity(on) now = Min(was, hundred) }>
  h = MatMul(spun, w)
  y = Add(h, b) }
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, write_affine: WriteAffine) -> Path:
    """A file that claims minutes, so that no machine is too slow for it."""
    files = {
        f"models/{name}.onnx": model_bytes(LOOPED.replace("{ROUNDS}", f"{{{rounds}}}"))
        for name, rounds in ROUNDS.items()
    }
    variants = [{"name": name, "file": f"models/{name}.onnx"} for name in ROUNDS]
    bundle = proven(write_affine(tmp_path_factory.mktemp("deployed"), files=files, variants=variants))
    ms = {name: 100 * value for name, value in MS.items()}
    return write_deployment(bundle.parent, *three(bundle, ms), budget_ms=50_000)


@pytest.fixture(scope="module")
def url(file: Path, bundles: list[Path]) -> Iterator[str]:
    with running([file, bundles[0]], threads=1, queue=100) as address:
        yield address


@pytest.mark.parametrize("binary", [True, False])
def test_our_client_gives_budgets_and_is_told_who_answered(url: str, binary: bool) -> None:
    with Client(url) as client:
        times = {}
        for budget, variant in ((None, "slow"), (30_000, "middle"), (5_000, "fast")):
            answer = client.infer("chosen", {"x": X}, budget_ms=budget, binary=binary)
            assert answer["y"].tolist() == [[22.5, 25.5, 30.25]]
            assert client.served.variant == name_of(variant)
            assert client.served.queue_us is not None
            assert client.served.compute_us is not None
            times[variant] = client.served.compute_us
        assert times["slow"] > times["fast"]
        with pytest.raises(
            ServingError, match=r"answered 503: no variant can answer within 5 ms: the fastest, .*/fast@"
        ):
            client.infer("chosen", {"x": X}, budget_ms=5)
        assert client.served == Served()
        with pytest.raises(ServingError, match="answered 400: parameter 'latency_budget_ms' must be a number"):
            client.infer("chosen", {"x": X}, budget_ms=-5)
        client.infer("affine", {"x": X})
        assert client.served == Served("onnx")
        with pytest.raises(ServingError, match="served without measured latencies"):
            client.infer("affine", {"x": X}, budget_ms=60_000)
    assert infer(url, "chosen", {"x": X}, budget_ms=60_000)["y"].tolist() == [[22.5, 25.5, 30.25]]


def test_tritonclient_gives_them_too(url: str) -> None:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        x = triton.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(X)
        metadata = client.get_model_metadata("chosen")
        assert metadata["parameters"]["default_variant"] == name_of("slow")
        result = client.infer("chosen", [x], parameters={"latency_budget_ms": 30_000})
        assert result.as_numpy("y").tolist() == [[22.5, 25.5, 30.25]]
        assert result.get_response()["parameters"]["variant"] == name_of("middle")
        result = client.infer("chosen", [x], headers={"latency-budget-ms": "5000"})
        assert result.get_response()["parameters"]["variant"] == name_of("fast")


def test_many_callers_at_once_are_all_answered_and_counted(url: str) -> None:
    before = _choices(url)
    found: list[str] = []

    def call() -> None:
        with Client(url) as client:
            for _ in range(10):
                assert client.infer("chosen", {"x": X})["y"].tolist() == [[22.5, 25.5, 30.25]]
                found.append(client.served.variant)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 80
    after = _choices(url)
    for name in set(found):
        counted = sum(count - before.get(key, 0) for key, count in after.items() if f'variant="{name}"' in key)
        assert counted == found.count(name)
    # Two slow ones ahead are already more than the deployment's budget, as the file has it.
    assert set(found) > {name_of("slow")}


def test_a_large_body_and_a_compressed_one_are_answered(url: str) -> None:
    x = np.tile(np.arange(-8, 8, dtype=np.float32), 1024).reshape(4096, 4)
    with Client(url) as client:
        whole = client.infer("chosen", {"x": x}, variant="fast")["y"]
        assert np.array_equal(whole[:1], client.infer("affine", {"x": x[:1]})["y"])


def test_a_file_that_is_not_served_is_said(file: Path, tmp_path: Path) -> None:
    foreign = file.with_name("foreign.json")
    foreign.write_text(file.read_text().replace('"host":"', '"host":"elsewhere-'))
    with pytest.raises(ServingError, match=r"(?s)did not come up.*measured on host elsewhere-"), running([foreign]):
        pytest.fail("it came up")
    with running([foreign], foreign_latencies=True) as url:
        assert infer(url, "chosen", {"x": X}, variant="fast")["y"].tolist() == [[22.5, 25.5, 30.25]]


def test_the_command_serves_it_and_shows_what_it_rests_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def ready(*paths: Any, on_ready: Any, **further: Any) -> None:
        given.update(further)
        on_ready("http://127.0.0.1:3001")

    monkeypatch.setattr(launch, "serve", ready)
    shown = CliRunner().invoke(app, ["serve", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "affine/slow@onnxruntime-cpu/1 (metric 0.99, p99 4e+04 ms at batch 1, warm run" in shown.output
    assert "/v2/models/chosen/infer" in shown.output
    assert "foreign_latencies" not in given
    foreign = file.with_name("foreign.json")
    foreign.write_text(file.read_text().replace('"host":"', '"host":"elsewhere-'))
    refused = CliRunner().invoke(app, ["serve", str(foreign)])
    assert isinstance(refused.exception, ServingError)
    shown = CliRunner().invoke(app, ["serve", str(foreign), "--foreign-latencies"])
    assert "warning   latencies may not hold here: measured on host elsewhere-" in shown.output
    assert given["foreign_latencies"] is True


def _choices(url: str) -> dict[str, float]:
    """Return the counts of choices by their labels, after one request that carries them over."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines if line.startswith("deploykit_choices_total{")
    }  # fmt: skip


def test_a_request_without_anything_new_is_still_answered(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/v2/models/affine/infer", GOOD, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    assert json.loads(reply.read()).keys() == {"model_name", "model_version", "outputs"}
    assert (reply.getheader("deploykit-variant"), reply.getheader("deploykit-queue-us")) == ("onnx", None)
    connection.close()
