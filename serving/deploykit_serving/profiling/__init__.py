"""Latency one can trust: closed loop, intervals, interleaved pairs, batch sweep, bound to the host it was taken on."""

from __future__ import annotations

__all__: list[str] = []
