"""What is wrong with a request, as an HTTP status and a sentence that says what was wanted."""

from __future__ import annotations


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


def shown(value: object, limit: int = 80) -> str:
    """Return a value of the caller's as short text that is safe to send back."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
