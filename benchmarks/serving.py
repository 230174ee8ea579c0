"""Requests a second of the server with a tiny model, in turns with a Starlette service that does nothing.

Binary V2 requests of four numbers over 16 kept connections, one worker each. The baseline reads the body and answers
with as many bytes: everything the server does beside, the model included, comes on top. The client writes bytes it
has made before and counts bytes, so that it costs far less than either server.

Run: python -m benchmarks.serving
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import onnx

from benchmarks.figure import Figure, main
from deploykit.bundle_writer import write_bundle
from deploykit_serving.launch import running
from deploykit_serving.profiling.statistics import paired_ratio

CONNECTIONS: Final = 16
REQUESTS: Final = 2000
PAIRS: Final = 25
_MODEL: Final = """
<ir_version: 8, opset_import: ["" : 18]>
tiny (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>
{ y = MatMul(x, w) }
"""
_SIGNATURE: Final = {
    "inputs": [{"name": "x", "shape": ["batch", 4], "minimum": -10, "maximum": 10}],
    "outputs": [{"name": "y", "shape": ["batch", 3]}],
}


class Load:
    """Kept connections to one server, each with one request under way."""

    def __init__(self, url: str, request: bytes) -> None:
        parts = urlsplit(url)
        self._selector = selectors.DefaultSelector()
        self._request = request
        for _ in range(CONNECTIONS):
            connection = socket.create_connection((parts.hostname, parts.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ, connection)
        connection.sendall(request)
        self.answer = connection.recv(1 << 16)  # a tiny answer comes in one piece
        if not self.answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{url} answered {self.answer[:200]!r}")
        self._process = _process(parts.port or 80)

    def run(self, requests: int) -> tuple[float, float]:
        """Send requests; returns seconds by the wall and of the server's CPU time, each for one request."""
        size = len(self.answer)
        connections: list[socket.socket] = [key.data for key in self._selector.get_map().values()]
        got = dict.fromkeys(connections, 0)
        busy, started = self._busy(), time.perf_counter()
        for connection in connections:
            connection.sendall(self._request)
        done, sent = 0, len(connections)
        while done < requests:
            for key, _ in self._selector.select():
                connection = key.data
                got[connection] += len(connection.recv(1 << 16))
                if got[connection] < size:
                    continue
                got[connection] = 0
                done += 1
                if sent < requests:
                    sent += 1
                    connection.sendall(self._request)
        return (time.perf_counter() - started) / requests, (self._busy() - busy) / requests

    def _busy(self) -> float:
        files = (self._process / "task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def measure() -> list[Figure]:
    """Run both servers side by side and load them in turns, in random order."""
    header = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],'
    header += b'"parameters":{"binary_data_output":true}}'
    body = header + np.ones(4, np.float32).tobytes()
    request = (
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(header), len(body))
    ) + body
    with tempfile.TemporaryDirectory() as folder, running([_bundle(Path(folder))]) as url:
        ours = Load(url, request)
        size = len(ours.answer.partition(b"\r\n\r\n")[2])
        with _bare_service(size) as bare_url:
            bare = Load(bare_url, request)
            order = np.random.default_rng(0)
            seconds = np.empty((2, 2, PAIRS))  # server, clock, pair
            for load in (ours, bare):
                load.run(REQUESTS)
            for pair in range(PAIRS):
                for which in order.permutation(2):
                    seconds[which, :, pair] = (ours, bare)[which].run(REQUESTS)
    wall, busy = (paired_ratio(seconds[1, clock], seconds[0, clock]) for clock in (0, 1))
    rates = 1 / np.median(seconds[:, 0], axis=1)
    costs = np.median(seconds[:, 1], axis=1) * 1e6
    return [
        Figure(
            name=f"served binary requests of a tiny model, {CONNECTIONS} connections, against bare Starlette",
            target="none yet; the bar of the next release: 1.0",
            measured=f"{wall.ratio:.2f}x",
            interval=f"{wall.low:.2f} to {wall.high:.2f}, {wall.pairs} pairs",
            met=None,
            beside=f"{rates[0]:.0f} requests a second against {rates[1]:.0f}; CPU time of the server for one: "
            f"{costs[0]:.0f} us against {costs[1]:.0f} us, {busy.ratio:.2f}x ({busy.low:.2f} to {busy.high:.2f})",
        )
    ]


def _bundle(folder: Path) -> Path:
    model = onnx.parser.parse_model(_MODEL).SerializeToString()
    manifest = {
        "name": "tiny", "created": "2026-01-01T00:00:00Z", "method": "plain.passthrough", "signature": _SIGNATURE,
        "variants": [{"name": "onnx", "file": "models/onnx.onnx"}],
    }  # fmt: skip
    return write_bundle(folder / "tiny.bundle", manifest, {"models/onnx.onnx": model}).path


@contextlib.contextmanager
def _bare_service(size: int) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare_service", str(port), str(size)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _process(port: int) -> Path:
    """Return the folder in /proc of the process that answers on ``port``: of those that listen the youngest."""
    listening = {
        f"socket:[{fields[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port:04X}") and fields[3] == "0A"
    }
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in listening for link in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return Path(f"/proc/{max(found)}")


if __name__ == "__main__":
    main(measure)
