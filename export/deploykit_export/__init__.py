"""Soft form to hard form to files, and the proofs."""

from __future__ import annotations

__all__: list[str] = []
