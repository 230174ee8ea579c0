"""Tests every plugin must pass, for its author to subclass: three lines run everything.

from deploykit.testing import ExportContract, MethodContract, ServingContract

class TestMine(MethodContract, ExportContract, ServingContract):
    name = "family.mine"

Likewise for decoders, tasks, targets and runtimes. Needs the extra ``testing``.
"""

from __future__ import annotations

from deploykit.testing.decoder_contract import DecoderContract
from deploykit.testing.export_contract import ExportContract
from deploykit.testing.method_contract import MethodContract
from deploykit.testing.offering import offered
from deploykit.testing.runtime_contract import RuntimeContract
from deploykit.testing.serving_contract import ServingContract
from deploykit.testing.target_contract import TargetContract
from deploykit.testing.task_contract import TaskContract

__all__ = [
    "DecoderContract",
    "ExportContract",
    "MethodContract",
    "RuntimeContract",
    "ServingContract",
    "TargetContract",
    "TaskContract",
    "offered",
]
