"""The same files in other runtimes: their answers are compared with those of ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.hard_form import FLOAT32, Tolerance
from deploykit.manifest import VariantEntry
from deploykit.signature import Arrays
from deploykit_export.answer_proofs import Runner, compared, prove_determinism, signature_fault
from deploykit_export.proof_report import HopResult, Proof
from deploykit_export.torch_hops import joined

REFERENCE: Final = "onnxruntime-cpu"


@dataclass(frozen=True, slots=True)
class OtherRuntime:
    """A runtime beside the reference.

    Attributes:
        open_variant: loads a variant of a bundle; a text says why the runtime cannot run on this machine.
        targets: it runs variants that are written for any of these.
        asked: somebody named it: then it must run at least one variant.
    """

    open_variant: Callable[[Bundle, VariantEntry], Runner] | str
    targets: tuple[str, ...] = ("onnxruntime",)
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What every runtime is asked, and what ONNX Runtime on the CPU answered.

    Attributes:
        batches: the batches for a variant.
        answers: of the reference runtime, by variant; without those that it refused.
        fallback: name and answers of the form that stands in where the reference runtime refused a variant.
        metric: the task's metric of some answers.
    """

    bundle: Bundle
    batches: Callable[[VariantEntry], list[dict[str, NDArray[Any]]]]
    answers: Mapping[str, Arrays]
    fallback: tuple[str, Arrays] | None
    metric: Callable[[Arrays], float | None]


def run_other(runtime: str, other: OtherRuntime, asked: Asked) -> tuple[list[HopResult], list[Proof]]:
    """Run every file that is for a runtime in it, twice.

    A runtime that is not here, or takes none of the files, says nothing about the bundle, unless it was asked for.
    """
    if isinstance(other.open_variant, str):
        return _left_out(runtime, other, other.open_variant)
    variants = [item for item in asked.bundle.manifest.hard_variants if set(item.targets) & set(other.targets)]
    if not variants:
        return _left_out(runtime, other, f"no variant is written for {' or '.join(other.targets)}")
    hops: list[HopResult] = []
    proofs: list[Proof] = []
    refused = []
    for variant in variants:
        name = f"{runtime} {variant.name}"
        try:
            session = other.open_variant(asked.bundle, variant)
            signature = asked.bundle.manifest.signature
            parts = [session.run(batch) for batch in asked.batches(variant)]
            again = [session.run(batch) for batch in asked.batches(variant)]
            answers, repeated = joined(parts, signature), joined(again, signature)
        except Exception as error:  # whatever a foreign engine raises, this file does not run there
            refused.append(str(error))
            hops.append(HopResult(name=name, status="not run", reason=str(error) or type(error).__name__))
            continue
        known = asked.answers.get(variant.name)
        reference = asked.fallback if known is None else (f"{REFERENCE} {variant.name}", known)
        hop, proof = compared(
            name, f"parity {name}", answers, reference, tolerance=_allowed(asked.bundle), metric=asked.metric(answers),
            wrong=signature_fault(parts, signature), bound="allowed",
        )  # fmt: skip
        hops.append(hop)
        proofs += [proof, prove_determinism(name, answers, repeated)]
    if other.asked and len(refused) == len(variants):
        detail = f"it runs no file of this bundle: {refused[0]}"
        proofs.append(Proof(name=f"parity {runtime}", status="failed", detail=detail))
    return hops, proofs


def _left_out(runtime: str, other: OtherRuntime, reason: str) -> tuple[list[HopResult], list[Proof]]:
    hop = HopResult(name=runtime, status="not run", reason=reason)
    if not other.asked:
        return [hop], []
    return [hop], [
        Proof(name=f"parity {runtime}", status="failed", detail=f"it was asked for and did not run: {reason}")
    ]


def _allowed(bundle: Bundle) -> Tolerance:
    """Return the method's tolerance, and no less than float32 allows: another engine adds up in another order."""
    promised = bundle.manifest.promise.tolerance.value()
    return Tolerance(max(promised.absolute, FLOAT32.absolute), max(promised.relative, FLOAT32.relative))
