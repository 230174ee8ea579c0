"""How a server ends and what it does when its workers die, seen from outside, with real processes and signals."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploykit_serving.settings import ServingSettings

pytestmark = pytest.mark.slow

BODY: Final = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,1,1,1]}]}'
HEAD: Final = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Running:
    """A server as an operator starts it."""

    def __init__(self, bundles: list[Path], log: Path, workers: int, environment: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        settings = ServingSettings(bundles=tuple(bundles[:1]), port=self.port, workers=workers, drain_timeout=20)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploykit_serving.launch", settings.model_dump_json()],
                stdout=output, stderr=output, start_new_session=True, env={**os.environ, **environment},
            )  # fmt: skip

    def ask(self, path: str, body: bytes | None = None, timeout: float = 10.0) -> int:
        """Return the status; an OSError is a refusal, a TimeoutError a hang."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("/v2/health/ready") == 200
        return False

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return {
            int(pid) for file in children for pid in file.read_text().split()
            if b"DeploykitServer" in Path(f"/proc/{pid}/cmdline").read_bytes()
        }  # fmt: skip


def until(condition: Callable[[], Any], seconds: float = 30.0) -> float:
    """Wait for a condition; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never happened"
        time.sleep(0.05)
    return time.monotonic() - started


Start = Callable[..., Running]


@pytest.fixture
def start(bundles: list[Path], tmp_path: Path) -> Iterator[Start]:
    servers: list[Running] = []

    def begin(workers: int = 1, **environment: str) -> Running:
        servers.append(Running(bundles, tmp_path / "log", workers, environment))
        until(servers[-1].ready)
        until(lambda: len(servers[-1].workers()) == workers)
        return servers[-1]

    yield begin
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_finishes_what_is_under_way_and_refuses_the_rest(start: Start, workers: int) -> None:
    server = start(workers)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as slow:
        slow.sendall(HEAD + BODY[:20])
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        for _ in range(10):
            with pytest.raises(OSError) as refused:  # noqa: PT011 - the kind is what is checked
                server.ask("/v2/health/ready")
            assert not isinstance(refused.value, TimeoutError)
            time.sleep(0.05)
        assert idle.recv(10) == b""
        idle.close()
        assert server.process.poll() is None
        slow.sendall(BODY[20:])
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert server.process.wait(10) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("environment", [{}, {"BENTOML_CONTAINERIZED": "1"}], ids=["plain", "containerized"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_replaced(start: Start, workers: int, environment: dict[str, str]) -> None:
    server = start(workers, **environment)
    before = server.workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    failed = 0

    def replaced() -> bool:
        nonlocal failed
        if workers > 1:
            try:
                failed += server.ask("/v2/models/affine/infer", BODY) != 200
            except OSError:
                failed += 1
        now = server.workers()
        return len(now) == workers and victim not in now

    until(replaced, 5)
    until(server.ready)
    assert server.ask("/v2/models/affine/infer", BODY) == 200
    assert failed <= 1  # the connection the dead one may have taken


@pytest.mark.parametrize("wait", [0.0, 0.3, 1.0])
def test_no_worker_outlives_a_killed_server_not_even_one_that_is_starting(start: Start, wait: float) -> None:
    server = start(1)
    (victim,) = server.workers()
    os.kill(victim, signal.SIGKILL)
    until(lambda: server.workers() - {victim}, 5)
    workers = server.workers() - {victim}
    time.sleep(wait)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    until(lambda: not any(_runs(pid) for pid in workers), 15)


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"DeploykitServer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def test_every_worker_answers_and_metrics_add_up(start: Start) -> None:
    server = start(2)
    for _ in range(60):
        assert server.ask("/v2/models/affine/infer", BODY) == 200
    time.sleep(1.0)  # the other worker's counts come in batches
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert found['deploykit_answers_total{model="affine",route="infer",status="200"}'] == 60
    assert found['deploykit_answer_seconds_count{model="affine",route="infer"}'] == 60
    assert found['deploykit_answer_seconds_bucket{le="+Inf",model="affine",route="infer"}'] == 60
    assert 0 < found['deploykit_answer_seconds_sum{model="affine",route="infer"}'] < 60


def test_workers_that_cannot_load_end_the_server(start: Start, bundles: list[Path]) -> None:
    server = start(2)
    file = bundles[0] / "models/onnx.onnx"
    good = file.read_bytes()
    try:
        file.write_bytes(good[:-1] + b"\x00")
        for _ in range(3):
            for pid in server.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        assert server.process.wait(60) != 0
        assert "workers died 10 times within 60 seconds" in server.log.read_text()
    finally:
        file.write_bytes(good)
