"""What is wrong with a request, as an HTTP status and a sentence that says what was wanted."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any, Final

_SHOWN: Final = 80


class RequestFault(Exception):  # noqa: N818 - the caller's fault, not an error of ours
    """The caller must change the request (4xx) or wait (503).

    Attributes:
        status: HTTP status.
        message: goes to the caller as ``{"error": message}``; holds nothing internal.
        headers: further response headers.
    """

    def __init__(self, message: str, status: int = 400, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class _Short(reprlib.Repr):
    """Looks at the first few items of what a caller sent, which may have millions."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _SHOWN

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        return super().repr_dict(dict(islice(x.items(), self.maxdict)), level)


_SHORT: Final = _Short()


def shown(value: object) -> str:
    """Return a value of the caller's as short text that is safe to send back."""
    text = repr(value[: _SHOWN + 1]) if isinstance(value, str) else _SHORT.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
