"""Files to answers and measurements: runtimes, profiling, protocol, service. Imports no torch."""

from __future__ import annotations

__all__: list[str] = []
