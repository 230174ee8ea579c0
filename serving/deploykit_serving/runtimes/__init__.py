"""What executes a variant: one small file an engine, behind one protocol."""

from __future__ import annotations

from deploykit.runtime import RuntimeOptions, Session
from deploykit_serving.runtimes.opening import REFERENCE, open_session, open_variant

__all__ = ["REFERENCE", "RuntimeOptions", "Session", "open_session", "open_variant"]
