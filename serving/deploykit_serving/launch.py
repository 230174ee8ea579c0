"""Run a server: in the foreground for people, or beside the caller for tests, ``verify`` and ``demo``."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from deploykit.errors import DeploykitError, MissingExtraError, ServingError
from deploykit_serving.parent_process import end_with
from deploykit_serving.settings import PARENT, VARIABLE, ServingSettings

_IDENTIFIER: Final = "deploykit_serving.service:DeploykitServer"
_POLL: Final = 0.05
_PATIENCE: Final = 5.0
_LOG_TAIL: Final = 4000


def serve(
    bundles: Sequence[Path | str],
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int = 1,
    *,
    on_ready: Callable[[str], None] | None = None,
    **further: Any,
) -> None:
    """Serve bundles and deployments in the foreground until SIGTERM or SIGINT; requests in flight are finished first.

    Args:
        on_ready: called with the base URL, on a thread, once every model has passed its self-test.
        further: other fields of :class:`ServingSettings`.

    Raises:
        ServingError: a setting is out of range, the port is taken, or the workers die again and again.
        MissingExtraError: BentoML is not installed.
    """
    settings = _settings(bundles, host=host, port=port, workers=workers, **further)
    _check_port(settings.host, settings.port)
    with tempfile.TemporaryDirectory(prefix="deploykit-serving-") as home:
        os.environ.update(_environment(settings, Path(home)))
        try:
            from _bentoml_impl.server import serve_http

            from deploykit_serving import service
            from deploykit_serving.supervision import Supervisor
        except ImportError as error:
            raise MissingExtraError("bentoml", "serve") from error
        if on_ready is not None:
            waiter = threading.Thread(target=_tell_when_ready, args=[settings, on_ready], daemon=True)
            waiter.start()
        deploykit_service: Any = service.DeploykitServer  # a class no more: the decorator made it a Service
        deploykit_service.inject_config()
        server = serve_http(
            _IDENTIFIER,
            # The workers' own folder: no file of the caller's can hide a module from them.
            working_dir=home,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.drain_timeout,
            threaded=True,
        )
        Supervisor(server.arbiter).run()


@contextlib.contextmanager
def running(bundles: Sequence[Path | str], *, timeout: float = 60.0, **further: Any) -> Iterator[str]:
    """Serve bundles and deployments on a free local port for a while; yields the base URL of a server that is ready.

    Args:
        timeout: seconds until every model must be ready.
        further: other fields of :class:`ServingSettings`.

    Raises:
        ServingError: the server did not come up; ends with the tail of its log.
    """
    settings = _settings(bundles, **{"port": _free_port(), **further})
    # A file, not a pipe: a pipe nobody reads fills up and stops the server.
    with tempfile.TemporaryFile(prefix="deploykit-serving-", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploykit_serving.launch", settings.model_dump_json(), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if fault := _wait_until_ready(settings, timeout, process):
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
                tail = log.read().decode(errors="replace").strip()
                raise ServingError(f"the server did not come up: {fault}\n{tail}")
            yield _url(settings)
        finally:
            _end(process)


def _settings(bundles: Sequence[Path | str], **fields: Any) -> ServingSettings:
    if not bundles:
        raise ServingError("nothing to serve: give at least one bundle or deployment file")
    try:
        return ServingSettings(bundles=tuple(Path(bundle).absolute() for bundle in bundles), **fields)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ServingError(f"setting {where!r}: {fault['msg']}, got {fault['input']!r}") from error


def _environment(settings: ServingSettings, home: Path) -> dict[str, str]:
    """Return what the server's processes need; two servers never share a folder, which BentoML empties at start."""
    return {
        VARIABLE: settings.model_dump_json(),
        PARENT: str(os.getpid()),
        "BENTOML_HOME": str(home),
        "PROMETHEUS_MULTIPROC_DIR": str(home / "prometheus"),
        "BENTOML_DO_NOT_TRACK": "True",
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _url(settings: ServingSettings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port or --host"
            ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _state(settings: ServingSettings) -> str:
    """Return what the server says of itself; empty while it says nothing.

    At start the port first refuses, then accepts and stays silent until a worker is up: hence the time limit.
    """
    host = _url(settings).removeprefix("http://").rpartition(":")[0].strip("[]")
    connection = http.client.HTTPConnection(host, settings.port, timeout=1.0)
    try:
        connection.request("GET", "/v2/health/ready")
        return str(json.loads(connection.getresponse().read())["state"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        connection.close()


def _wait_until_ready(settings: ServingSettings, timeout: float, process: subprocess.Popen[bytes]) -> str:
    """Wait; return what went wrong, or nothing."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"it ended with exit code {process.returncode}"
        match _state(settings):
            case "ready":
                return ""
            case "failed":
                return "a model cannot be served"
        time.sleep(_POLL)
    return f"not ready after {timeout:g} seconds"


def _tell_when_ready(settings: ServingSettings, on_ready: Callable[[str], None]) -> None:
    while (state := _state(settings)) != "ready":
        if state == "failed":
            return
        time.sleep(_POLL)
    on_ready(_url(settings))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server: let it drain shortly, then kill what is left; its workers end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _main() -> int:
    parser = argparse.ArgumentParser(description="Serve bundles; settings as JSON.")
    parser.add_argument("settings")
    parser.add_argument("parent", type=int, nargs="?", help="The process to end with, by number.")
    arguments = parser.parse_args()
    settings = ServingSettings.model_validate_json(arguments.settings)
    if arguments.parent is not None and not end_with(arguments.parent):
        return 1
    try:
        fields = settings.model_dump(exclude={"bundles"})
        serve(settings.bundles, **fields)
    except DeploykitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
