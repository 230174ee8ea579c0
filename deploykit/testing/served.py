"""A real server over a bundle, started once and kept until another bundle is asked for."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploykit.bundle import Bundle

_BLOCK: Final = textwrap.dedent(
    """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "torchvision"):
                raise ImportError(f"a serving process has no {name}: decoders and runtimes must do without")

    sys.meta_path.insert(0, Block())
    """
)
"""Python reads this as ``sitecustomize`` in every process of the server, before anything else of ours."""

_MAX_BODY: Final = 1 << 28
"""Bytes: a batch of pictures as JSON is larger than a server takes by default."""


class _OneServer:
    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._of: Path | None = None
        self._url = ""

    def url(self, bundle: Bundle) -> str:
        from deploykit_serving.launch import running

        if self._of != bundle.path:
            self.close()
            with _without_torch():
                self._url = self._open.enter_context(
                    running([bundle.path], threads=1, drain_timeout=1, max_body=_MAX_BODY)
                )
            self._of = bundle.path
        return self._url

    def close(self) -> None:
        self._of = None
        self._open.close()


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Let processes that are started now find no torch."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="deploykit-no-torch-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(_BLOCK)
        os.environ["PYTHONPATH"] = folder if before is None else os.pathsep.join([folder, before])
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


_server: Final = _OneServer()
atexit.register(_server.close)


def served(bundle: Bundle) -> str:
    """Return the base URL of a server over a bundle, in whose processes torch cannot be imported.

    Raises:
        ServingError: it did not come up; ends with the tail of its log.
    """
    return _server.url(bundle)
