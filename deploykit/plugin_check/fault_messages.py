"""From what a test raised to what the plugin's author should read: a message, not a traceback."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final

from deploykit.errors import DeploykitError

_HEAD: Final = "Traceback (most recent call last):"


def fault_message(error: BaseException, packages: Collection[str]) -> str:
    """Return the text of an assertion or of an error of ours as it is; for anything else also where it was raised.

    Args:
        packages: the plugin's top-level packages; the last frame inside one of them is what the author can mend.
    """
    text = _without_traceback(str(error).strip())
    if isinstance(error, AssertionError):
        return text or _bare_assertion(error.__traceback__)
    if isinstance(error, DeploykitError) and text:
        return text
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{said}\nraised {_place(error.__traceback__, packages)}"


def _without_traceback(text: str) -> str:
    """Return a text that quotes a process's last words with only what that process raised in the end."""
    if '  File "' not in text:
        return text
    lines = text.replace(_HEAD, "").splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip() and not line.startswith(" "))


def _bare_assertion(trace: TracebackType | None) -> str:
    frame = traceback.extract_tb(trace)[-1]
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"does not hold: {line} ({Path(frame.filename).name}:{frame.lineno})"


def _place(trace: TracebackType | None, packages: Collection[str]) -> str:
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if set(Path(frame.filename).parts) & set(packages)]
    frame = (own or list(frames))[-1]
    parts = Path(frame.filename).parts
    start = next((index for index, part in enumerate(parts) if part in packages), len(parts) - 1)
    where = f"in {Path(*parts[start:])}:{frame.lineno}, {frame.name}"
    return f"{where}: {frame.line}" if frame.line else where
