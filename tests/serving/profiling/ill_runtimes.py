"""Runtimes that do in a measuring process what no test could survive in its own; a plugin, see ``ill_plugin``.

What they do begins when a file exists whose path an environment variable gives, or at a call's number.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from deploykit.cards import RuntimeCard
from deploykit.hookspecs import hookimpl
from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit.signature import Arrays
from deploykit_serving.runtimes.onnxruntime_cpu import OnnxRuntimeSession

deploykit_contract = 1
WORDS = "the engine says its last words"


@hookimpl
def deploykit_runtimes() -> Iterable[RuntimeCard]:
    for name, kind in (("crashing", "Crashing"), ("hanging", "Hanging"), ("leaving", "Leaving"), ("absent", "Absent")):
        yield RuntimeCard(name=name, summary=f"{name} runtime of the tests", implementation=f"ill_runtimes:{kind}")


class _Ill(Runtime):
    """Runs well at batch 1 and falls ill at batch 2."""

    def version(self) -> str:
        return "ill 1"

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        return _IllSession(OnnxRuntimeSession(model, options), self)

    def fall_ill(self) -> None:
        raise NotImplementedError


class _IllSession:
    def __init__(self, session: OnnxRuntimeSession, runtime: _Ill) -> None:
        self._session, self._runtime = session, runtime

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        if len(next(iter(inputs.values()))) > 1:
            self._runtime.fall_ill()
        return self._session.run(inputs)


class Crashing(_Ill):
    """Dies as native code does."""

    def fall_ill(self) -> None:
        print(WORDS, file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(_Ill):
    """Never comes back."""

    def fall_ill(self) -> None:
        print(WORDS, file=sys.stderr, flush=True)
        while True:
            time.sleep(1.0)


class Leaving(_Ill):
    """Ends the process as if that were its own."""

    def fall_ill(self) -> None:
        os._exit(7)


class Absent(_Ill):
    """Cannot run here."""

    def missing(self) -> str:
        return "there is no such device; buy one"
