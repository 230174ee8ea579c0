"""The protocol every engine is used through."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from deploykit.errors import ServingError
from deploykit.signature import Arrays

_RUNTIMES: Final = {"onnxruntime-cpu": "deploykit_serving.runtimes.onnxruntime_cpu"}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a session runs.

    Attributes:
        threads: threads inside one operator.
        spin: let idle threads spin; lowest latency for one stream, wasteful in a server.
    """

    threads: int = 1
    spin: bool = False


class Session(Protocol):
    """A loaded model; ``run`` may be called from several threads."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name; inputs have been checked against the signature."""
        ...


def open_session(model: bytes, runtime: str = "onnxruntime-cpu", options: RuntimeOptions | None = None) -> Session:
    """Load a model into a runtime.

    Args:
        model: the checked bytes of the file, never a path: what was verified is what runs.

    Raises:
        ServingError: no such runtime, or the runtime refuses the model; says which and why.
    """
    if runtime not in _RUNTIMES:
        raise ServingError(f"no runtime {runtime!r}; there are: {', '.join(sorted(_RUNTIMES))}")
    session: Session = importlib.import_module(_RUNTIMES[runtime]).open_session(model, options or RuntimeOptions())
    return session
