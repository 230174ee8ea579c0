"""deploykit: carry a model from its trainable relaxation to a proven, measured, served hard form.

Importing this package imports neither torch nor pydantic; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from deploykit.hookspecs import hookimpl

if TYPE_CHECKING:
    from deploykit.bundle import Bundle, open_bundle
    from deploykit.cards import DecoderCard, MethodCard, Paper, RuntimeCard, TargetCard, TaskCard
    from deploykit.contract_version import CONTRACT_VERSION
    from deploykit.decisions import Agreement, Decision, Decisions, agreement
    from deploykit.decoder import Decoder, DecoderConfig
    from deploykit.errors import ContractError, DeploykitError, ExportError, ServingError, SignatureError
    from deploykit.hard_form import FLOAT32, HardForm, Lowering, Promise, Tolerance
    from deploykit.lifecycle import binding_of, harden, on_step, penalty, prepare
    from deploykit.making import make_decoder, make_method, make_runtime, make_target, make_task
    from deploykit.method import Method, MethodConfig
    from deploykit.outputs import named_outputs
    from deploykit.registry import Registry, installed
    from deploykit.runtime import Runtime, RuntimeOptions, Session
    from deploykit.signature import Arrays, Dim, Signature, TensorSpec
    from deploykit.target import Target, Written
    from deploykit.task import Samples, Task
    from deploykit.training_plan import TrainingPlan, UpperLevel

__all__ = [
    "CONTRACT_VERSION",
    "FLOAT32",
    "Agreement",
    "Arrays",
    "Bundle",
    "ContractError",
    "Decision",
    "Decisions",
    "Decoder",
    "DecoderCard",
    "DecoderConfig",
    "DeploykitError",
    "Dim",
    "ExportError",
    "HardForm",
    "Lowering",
    "Method",
    "MethodCard",
    "MethodConfig",
    "Paper",
    "Promise",
    "Registry",
    "Runtime",
    "RuntimeCard",
    "RuntimeOptions",
    "Samples",
    "ServingError",
    "Session",
    "Signature",
    "SignatureError",
    "Target",
    "TargetCard",
    "Task",
    "TaskCard",
    "TensorSpec",
    "Tolerance",
    "TrainingPlan",
    "UpperLevel",
    "Written",
    "agreement",
    "binding_of",
    "harden",
    "hookimpl",
    "installed",
    "make_decoder",
    "make_method",
    "make_runtime",
    "make_target",
    "make_task",
    "named_outputs",
    "on_step",
    "open_bundle",
    "penalty",
    "prepare",
]

_HOMES: Final = {
    "bundle": ("Bundle", "open_bundle"),
    "cards": ("DecoderCard", "MethodCard", "Paper", "RuntimeCard", "TargetCard", "TaskCard"),
    "contract_version": ("CONTRACT_VERSION",),
    "decisions": ("Agreement", "Decision", "Decisions", "agreement"),
    "decoder": ("Decoder", "DecoderConfig"),
    "errors": ("ContractError", "DeploykitError", "ExportError", "ServingError", "SignatureError"),
    "hard_form": ("FLOAT32", "HardForm", "Lowering", "Promise", "Tolerance"),
    "lifecycle": ("binding_of", "harden", "on_step", "penalty", "prepare"),
    "making": ("make_decoder", "make_method", "make_runtime", "make_target", "make_task"),
    "method": ("Method", "MethodConfig"),
    "outputs": ("named_outputs",),
    "registry": ("Registry", "installed"),
    "runtime": ("Runtime", "RuntimeOptions", "Session"),
    "signature": ("Arrays", "Dim", "Signature", "TensorSpec"),
    "target": ("Target", "Written"),
    "task": ("Samples", "Task"),
    "training_plan": ("TrainingPlan", "UpperLevel"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'deploykit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"deploykit.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
