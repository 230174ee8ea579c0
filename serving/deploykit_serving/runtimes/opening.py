"""From a runtime's name and a model's bytes to a session."""

from __future__ import annotations

from typing import Final

from deploykit.errors import RegistryError, ServingError
from deploykit.making import make_runtime
from deploykit.runtime import RuntimeOptions, Session

REFERENCE: Final = "onnxruntime-cpu"
"""The runtime that every other one is compared with."""


def open_session(model: bytes, runtime: str = REFERENCE, options: RuntimeOptions | None = None) -> Session:
    """Load a model into a runtime.

    Args:
        model: the checked bytes of the file, never a path: what was verified is what runs.
        runtime: the name of a registered runtime.

    Raises:
        ServingError: no such runtime, it cannot run on this machine, or it refuses the model; says which and why.
    """
    try:
        engine = make_runtime(runtime)
    except RegistryError as error:
        raise ServingError(str(error)) from error
    if reason := engine.missing():
        raise ServingError(f"runtime {runtime!r} cannot run here: {reason}")
    try:
        return engine.open_session(model, options or RuntimeOptions())
    except ServingError:
        raise
    except Exception as error:  # engines' exceptions share no base class
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ServingError(f"{runtime} refuses the model: {first[:300]}") from error
