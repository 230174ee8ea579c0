"""Proofs about the two forms and about the promise itself: oracle, decisions, and whether the promise says anything."""

from __future__ import annotations

import numpy as np

from deploykit.decisions import Decisions
from deploykit.hard_form import FLOAT32, HardForm, Promise, Tolerance
from deploykit.manifest import PromiseEntry, ToleranceEntry
from deploykit.signature import Arrays
from deploykit_export.gap import fault, max_absolute, within
from deploykit_export.proof_report import Proof
from deploykit_export.torch_hops import Forms


def promise_entry(promise: Promise) -> PromiseEntry:
    """Return a promise as the manifest holds it."""
    return PromiseEntry(
        tolerance=ToleranceEntry(absolute=promise.tolerance.absolute, relative=promise.tolerance.relative),
        weight_bytes=promise.weight_bytes,
        weight_dtypes=promise.weight_dtypes,
        small_initializer=promise.small_initializer,
        macs=promise.macs,
        absent=promise.absent,
        forbidden_operators=promise.forbidden_operators,
    )


def prove_promise(recorded: PromiseEntry, hard: HardForm | None) -> Proof:
    """Prove that the bundle promises what the method promises, and say so where that is nothing."""
    if hard is not None and (made := promise_entry(hard.promise)) != recorded:
        other = [name for name in type(made).model_fields if getattr(made, name) != getattr(recorded, name)]
        texts = [f"{name} {getattr(recorded, name)!r} instead of {getattr(made, name)!r}" for name in other]
        return Proof(
            name="promise", status="failed",
            detail=f"the bundle does not promise what its method promises: {'; '.join(texts)}",
        )  # fmt: skip
    missing = [name for name in ("weight_bytes", "macs") if getattr(recorded, name) is None]
    if missing:
        return Proof(
            name="promise", status="marked",
            detail=f"nothing is promised of {' and '.join(missing)}, so nothing is proven of it",
        )  # fmt: skip
    return Proof(name="promise", status="passed", detail="size and work are bounded")


def prove_tolerance(answers: Arrays, batched: tuple[str, ...], tolerance: Tolerance) -> Proof:
    """Prove that comparing answers means something: one sample's answer must not pass for another's."""
    count = min((len(answers[name]) for name in batched), default=0)
    if count < 2:
        return Proof(name="tolerance", status="not run", detail="there are no two samples to tell apart")
    told = {name: answers[name] for name in batched}
    others = {name: np.roll(array, 1, axis=0) for name, array in told.items()}
    if not within(others, told, tolerance):
        return Proof(name="tolerance", status="passed", detail="it tells the samples' answers apart")
    if within(others, told, FLOAT32):
        return Proof(
            name="tolerance", status="marked", detail="all samples get the same answer, so comparing them proves little"
        )
    return Proof(
        name="tolerance", status="failed",
        detail=f"{text(tolerance)} takes one sample's answer for another's; promise less",
    )  # fmt: skip


def prove_oracle(forms: Forms, inputs: Arrays, tolerance: Tolerance) -> Proof:
    """Compare the hard form with its slow reference.

    Whether the oracle really goes another way than the hard form cannot be told from outside.
    """
    try:
        wanted = forms.oracle(inputs)
    except Exception as error:
        return Proof(name="oracle", status="failed", detail=f"the oracle failed: {error}")
    got = forms.run(forms.hard.module, [dict(inputs)])
    wrong = fault(got, wanted, tolerance)
    distance = max_absolute(got, wanted)
    detail = (
        f"hard form against its slow reference on {len(next(iter(inputs.values())))} samples: largest difference "
        f"{distance:.3g}; promised: {text(tolerance)}"
    )
    return Proof(
        name="oracle", status="failed" if wrong else "passed", detail=f"{detail}; {wrong}" if wrong else detail,
        figures={"max_abs": distance},
    )  # fmt: skip


def prove_same_decisions(soft: Decisions, hard: Decisions) -> Proof:
    """Prove that the two forms can be compared: the same decisions, in the same shapes."""
    if set(soft) != set(hard):
        detail = f"the soft form decides {sorted(soft)}, the hard form {sorted(hard)}"
        return Proof(name="decisions", status="failed", detail=detail)
    for name, decision in soft.items():
        if decision.value.shape != hard[name].value.shape:
            detail = f"{name!r} is {decision.value.shape} in the soft form, {hard[name].value.shape} in the hard form"
            return Proof(name="decisions", status="failed", detail=detail)
    if not soft:
        return Proof(name="decisions", status="marked", detail="the method names no decision, so none is compared")
    return Proof(name="decisions", status="passed", detail=f"both forms know {', '.join(sorted(soft))}")


def text(tolerance: Tolerance) -> str:
    """Say a tolerance in words."""
    if tolerance.exact:
        return "equal bit for bit"
    return f"within {tolerance.absolute:g} + {tolerance.relative:g} x |value|"
