"""Proofs about a file's answers: they fit the signature, no sample sees another, they are those recorded at export."""

from __future__ import annotations

from typing import Any, Final, Protocol

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import SignatureError
from deploykit.hard_form import Tolerance
from deploykit.manifest import VariantEntry
from deploykit.signature import BATCH, Arrays, Signature
from deploykit_export.form_proofs import text
from deploykit_export.gap import fault, max_absolute, max_ulp, within
from deploykit_export.heldout import HELDOUT, unpack
from deploykit_export.proof_report import HopResult, Proof
from deploykit_export.torch_hops import joined

FEW: Final = 8


class Runner(Protocol):
    """Something that answers batches: a runtime's session, or a server behind HTTP."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        ...


def singles(batch: Arrays, *, everything: bool = False) -> list[dict[str, NDArray[Any]]]:
    """Return the first few samples of a batch, or all, as batches of one."""
    count = len(next(iter(batch.values())))
    return [
        {name: array[index : index + 1] for name, array in batch.items()}
        for index in range(count if everything else min(count, FEW))
    ]


def sampled(signature: Signature) -> tuple[str, ...]:
    """Return the outputs that have a row for each sample."""
    if not signature.batched:
        return ()
    return tuple(spec.name for spec in signature.outputs if spec.shape[:1] == (BATCH,))


def signature_fault(parts: list[dict[str, NDArray[Any]]], signature: Signature) -> str:
    """Say what in the answers does not fit the signature (NaN never does); nothing if all does."""
    try:
        for part in parts:
            signature.check_outputs(part)
    except SignatureError as error:
        return str(error)
    return ""


def compared(
    hop: str,
    proof: str,
    answers: Arrays,
    reference: tuple[str, Arrays] | None,
    *,
    tolerance: Tolerance,
    metric: float | None,
    wrong: str,
    bound: str = "promised",
) -> tuple[HopResult, Proof]:
    """Compare a hop's answers with those of another; return the hop and the proof of parity.

    Args:
        reference: name and answers of the hop to compare with, if there is one.
        wrong: what is known to be wrong beforehand.
        bound: what the tolerance is.
    """
    if reference is None:
        detail = wrong or "there is no hard form to compare with"
        return HopResult(name=hop, metric=metric), Proof(
            name=proof, status="failed" if wrong else "not run", detail=detail
        )
    name, wanted = reference
    distance, ulp = max_absolute(answers, wanted), max_ulp(answers, wanted)
    result = HopResult(name=hop, compared_with=name, metric=metric, max_abs=distance, max_ulp=ulp)
    wrong = wrong or fault(answers, wanted, tolerance)
    detail = f"largest difference from {name}: {distance:.3g}; {bound}: {text(tolerance)}"
    return result, Proof(
        name=proof,
        status="failed" if wrong else "passed",
        detail=f"{detail}; {wrong}" if wrong else detail,
        figures={"max_abs": distance} | ({} if ulp is None else {"max_ulp": ulp}),
    )


def prove_determinism(name: str, answers: Arrays, again: Arrays) -> Proof:
    """Prove that two runs on the same samples give the same bits.

    Args:
        name: of the file, and of the runtime where that is not the reference.
    """
    exact = within(answers, again, Tolerance())
    return Proof(
        name=f"determinism {name}",
        status="passed" if exact else "failed",
        detail="two runs give the same bits" if exact else "two runs on the same samples differ",
    )


def prove_batch(bundle: Bundle, variant: VariantEntry, answers: Arrays, ones: Arrays) -> Proof:
    """Prove that a sample gets the same answer alone as in a batch.

    Args:
        answers: to all samples, in batches.
        ones: to the first few, one by one; empty if the file knows no batches.
    """
    name = f"batch {variant.name}"
    told = {key: ones[key] for key in sampled(bundle.manifest.signature) if key in ones}
    if not told:
        return Proof(name=name, status="not run", detail="the file takes one sample at a time")
    head = {key: answers[key][: len(array)] for key, array in told.items()}
    wrong = fault(told, head, bundle.manifest.promise.tolerance.value())
    distance = max_absolute(told, head)
    detail = "samples alone and in a batch get the same answer"
    if wrong:
        detail = f"a sample alone and in a batch differ by {distance:.3g}: {wrong}"
    return Proof(
        name=name, status="failed" if wrong else "passed", detail=detail, figures={"max_abs": distance}
    )  # fmt: skip


def prove_recorded(bundle: Bundle, variant: VariantEntry, session: Runner) -> Proof:
    """Compare with the answers that travel with the bundle, which a server tests itself by."""
    name = f"recorded {variant.name}"
    if HELDOUT not in bundle.manifest.files:
        return Proof(name=name, status="not run", detail="the bundle holds no samples")
    groups = unpack(bundle.read(HELDOUT))
    if not groups.get("input") or not groups.get("output"):
        return Proof(name=name, status="failed", detail=f"{HELDOUT} holds no inputs or no outputs")
    signature = bundle.manifest.signature
    one_by_one = signature.batched and not variant.dynamic_batch
    try:
        batches = singles(groups["input"], everything=True) if one_by_one else [groups["input"]]
        answers = joined([session.run(batch) for batch in batches], signature)
    except Exception as error:
        return Proof(name=name, status="failed", detail=f"the file does not run on {HELDOUT}: {error}")
    count = len(next(iter(groups["input"].values())))
    detail = f"the file answers the bundle's {count} samples as recorded at export"
    if wrong := fault(answers, groups["output"], bundle.manifest.promise.tolerance.value()):
        detail = f"the file does not answer the bundle's samples as recorded at export: {wrong}"
    return Proof(name=name, status="failed" if wrong else "passed", detail=detail)
