"""Soft-to-hard maths that several families share; torch only."""

from __future__ import annotations

from deploykit.decision_marks import mark_decision

__all__ = ["mark_decision"]
