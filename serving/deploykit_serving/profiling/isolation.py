"""A measuring process: what crashes or hangs in it is told in words, and whoever waits for it goes on."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Final

from pydantic import ValidationError

from deploykit_serving.profiling.job import Job, Message

WORKER: Final = "deploykit_serving.profiling.measuring_worker"
_START: Final = 60.0
"""Seconds a process may take to import what it needs, on top of its job's limit."""
_LEAVE: Final = 10.0
_TAIL: Final = 600


def run_job(job: Job, hear: Callable[[Message], None]) -> str:
    """Run a job in a process of its own and pass on what it says as soon as it says it.

    The process is ended when this function is left in any way, and by the kernel if this process is killed.

    Args:
        hear: called with each message, in order, on this thread.

    Returns:
        why the job did not come to its end, in words; empty if it did.
    """
    # Files without a name: nothing is left of them, even if this process is killed.
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as log:
        task.write(job.model_dump_json().encode())
        task.seek(0)
        with _started(task, log) as (process, reader):
            return _listen(process, reader, log, job.limit, hear)


@contextlib.contextmanager
def _started(task: IO[bytes], log: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    reader, writer = os.pipe()
    process: subprocess.Popen[bytes] | None = None
    try:
        # What it prints goes to a file: nobody reads a pipe of words while it measures, and a full one would hang it.
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(writer), str(os.getpid())],
            stdin=task, stdout=log, stderr=log, pass_fds=(writer,), start_new_session=True,
            # Plugins that this process found must be found there, too.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )  # fmt: skip
        os.close(writer)
        writer = -1
        yield process, reader
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def _listen(
    process: subprocess.Popen[bytes], reader: int, log: IO[bytes], limit: float, hear: Callable[[Message], None]
) -> str:
    doing, within, rest = "starting", limit + _START, b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        deadline = time.monotonic() + within
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(reader, 1 << 16)
            if not data:
                return _ended(process, doing, log)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    message = Message.model_validate_json(line)
                except ValidationError:
                    return f"said something that is no message while {doing}: {line[:100]!r}"
                hear(message)
                if message.fault:
                    return message.fault
                if message.finished:
                    return ""
                doing = message.doing or doing
                within = message.within or within
            deadline = time.monotonic() + within
    return f"hung: {doing} did not end within {within:.3g} s and was stopped{_last_words(log)}"


def _ended(process: subprocess.Popen[bytes], doing: str, log: IO[bytes]) -> str:
    """Say how a process ended that has closed its end of the pipe without a last message."""
    try:
        status = process.wait(_LEAVE)
    except subprocess.TimeoutExpired:
        return f"hung: fell silent while {doing} and did not end{_last_words(log)}"
    if status < 0:
        return f"crashed with {_signal_name(-status)} while {doing}{_last_words(log)}"
    return f"ended with exit code {status} while {doing}{_last_words(log)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _TAIL))
    lines = log.read().decode(errors="replace").strip().splitlines()
    text = " | ".join(line.strip() for line in lines[-5:] if line.strip())
    return f"; last words: {text}" if text else ""
