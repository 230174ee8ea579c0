from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploykit.bundle import open_bundle
from deploykit.errors import ServingError, SignatureError
from deploykit.signature import Signature, TensorSpec
from deploykit_serving.profiling.closed_loop import record
from deploykit_serving.profiling.http_call import HttpCall, http_call
from deploykit_serving.profiling.open_loop import open_loop
from deploykit_serving.profiling.streams import run_streams
from tests.serving.conftest import affine

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 3)),)
)
INPUTS = [{"x": np.full((2, 4), factor, dtype=np.float32)} for factor in (1.0, 2.0, 3.0)]


def _y(body: bytes) -> np.ndarray:
    """Read the answer as the protocol says: JSON up to its end, then the tensor's bytes."""
    document, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    (output,) = document["outputs"]
    assert output["name"] == "y"
    return np.frombuffer(body[end:], dtype=np.float32).reshape(output["shape"])


def test_answers_are_those_of_the_model_for_each_input_in_turn(server: str) -> None:
    with http_call(server, "affine", None, INPUTS, SIGNATURE) as call:
        for arrays in [*INPUTS, INPUTS[0]]:
            np.testing.assert_allclose(_y(call()), affine(arrays["x"]), rtol=1e-6)


def test_the_named_variant_answers(server: str) -> None:
    with http_call(server, "affine", "float", INPUTS, SIGNATURE) as call:
        np.testing.assert_allclose(_y(call()), 2 * affine(INPUTS[0]["x"]), rtol=1e-6)


def test_one_connection_is_kept(server: str) -> None:
    with http_call(server, "affine", None, INPUTS, SIGNATURE) as call:
        call()
        port = call._socket.getsockname()[1]
        times = record(call, seconds=60.0, at_most=50)
        assert call._socket.getsockname()[1] == port
        assert call._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert len(times) == 50


def test_a_server_is_measured_by_the_same_loops(server: str) -> None:
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(http_call(server, "affine", None, INPUTS, SIGNATURE)) for _ in range(3)]
        closed = run_streams(calls, seconds=60.0, at_most=20)
        opened = open_loop(calls, rate=100.0, seconds=0.5)
    assert closed.fairness == 1.0
    assert 20 <= len(closed.times) <= 60  # without those that were made after the first stream had ended
    assert len(opened.times) == opened.asked


def test_a_refusal_is_raised_in_the_servers_words(server: str) -> None:
    with http_call(server, "affine", "nowhere", INPUTS, SIGNATURE) as call:
        with pytest.raises(ServingError, match=r"answered 4\d\d: .*nowhere"):
            call()
        with pytest.raises(ServingError, match="no answer"):
            call()


def test_an_unknown_model_is_raised(server: str) -> None:
    with http_call(server, "affin/e", None, INPUTS, SIGNATURE) as call, pytest.raises(ServingError, match="404"):
        call()


def test_inputs_are_checked_before_anything_is_sent(bundles: list[Path]) -> None:
    signature = open_bundle(bundles[0]).manifest.signature
    wrong = [{"x": np.zeros((1, 5), dtype=np.float32)}]
    with pytest.raises(SignatureError, match="input 'x'"):
        http_call("http://127.0.0.1:9", "affine", None, wrong, signature)
    with pytest.raises(ValueError, match="at least one input"):
        http_call("http://127.0.0.1:9", "affine", None, [], signature)


@pytest.mark.parametrize("url", ["https://127.0.0.1:3000", "127.0.0.1:3000", "http://", "http://127.0.0.1:99999"])
def test_only_plain_http_is_spoken(url: str) -> None:
    with pytest.raises(ServingError, match="wanted a base URL as http://127"):
        http_call(url, "affine", None, INPUTS, SIGNATURE)


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ServingError, match=r"cannot be reached: .*is the server running"):
        http_call(f"http://127.0.0.1:{port}", "affine", None, INPUTS, SIGNATURE)


@contextlib.contextmanager
def _answering(*pieces: bytes, stay: bool = False) -> Iterator[str]:
    """Serve one connection that answers any request with these pieces, then closes or keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                for piece in pieces:
                    connection.sendall(piece)
                if stay:
                    done.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def test_an_answer_may_come_in_any_pieces() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh: 5\r\n\r\nabcde"
    with _answering(*(answer[i : i + 1] for i in range(len(answer)))) as url, HttpCall(url, [b"x"]) as call:
        assert call() == b"abcde"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "without status or length"),
        (b"SSH-2.0-x\r\n\r\n", "without status or length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "closed the connection"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 16\r\n\r\n" + b'{"error":"busy"}', "answered 503: busy"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "answered 500: nothing"),
        (b"x" * 70_000, "head does not end"),
    ],
    ids=["no length", "no http", "torn body", "nothing", "refused", "silent refusal", "endless head"],
)
def test_other_answers_are_errors_in_words(answer: bytes, words: str) -> None:
    with _answering(answer) as url, HttpCall(url, [b"x"]) as call, pytest.raises(ServingError, match=words):
        call()


def test_silence_ends_with_the_timeout() -> None:
    with (
        _answering(stay=True) as url,
        HttpCall(url, [b"x"], timeout=0.2) as call,
        pytest.raises(ServingError, match=r"no answer within 0\.2 s"),
    ):
        call()
