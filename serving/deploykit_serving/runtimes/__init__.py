"""What executes a variant: one small file an engine, behind one protocol."""

from __future__ import annotations

from deploykit_serving.runtimes.runtime import RuntimeOptions, Session, open_session

__all__ = ["RuntimeOptions", "Session", "open_session"]
