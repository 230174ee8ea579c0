"""A server that answers everything with the same numbers: what the serving contract must not believe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def careless_server(outputs: list[dict[str, Any]]) -> Iterator[str]:
    """Answer every request with 200, these outputs, and other inputs than there are; gives the base URL."""
    body = json.dumps({"inputs": [{"name": "z"}], "outputs": outputs}).encode()

    class Careless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
