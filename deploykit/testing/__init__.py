"""Tests every method must pass, for its author to subclass: three lines run everything.

from deploykit.testing import ExportContract, MethodContract

class TestMine(MethodContract, ExportContract):
    name = "family.mine"
"""

from __future__ import annotations

from deploykit.testing.export_contract import ExportContract
from deploykit.testing.method_contract import MethodContract
from deploykit.testing.offering import offered

__all__ = ["ExportContract", "MethodContract", "offered"]
