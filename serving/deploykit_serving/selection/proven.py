"""What ``verify`` found of a bundle, as far as a choice rests on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from deploykit.bundle import Bundle
from deploykit.proof_binding import stale_reason
from deploykit_export.proof_report import HopResult, ProofReport
from deploykit_serving.proofs import VERIFICATION
from deploykit_serving.runtimes import REFERENCE


@dataclass(frozen=True, slots=True)
class Proven:
    """The proofs of one bundle.

    Attributes:
        fault: why no variant of the bundle may be chosen; empty if proofs are in order.
        samples: how many held-out samples the metric rests on.
        hops: by runtime and variant, ``onnxruntime-cpu qlinear``.
        equal: names of the proofs that passed, and of those that failed and somebody accepted.
        mend: the command that proves the bundle again.
    """

    fault: str = ""
    metric_name: str = ""
    samples: int = 0
    hops: Mapping[str, HopResult] = field(default_factory=dict)
    equal: frozenset[str] = frozenset()
    mend: str = ""

    def metric(self, variant: str, runtime: str) -> float | None:
        """Return the metric that a file has in a runtime; ``None`` if it is not known or no finite number."""
        hop = self.hops.get(f"{runtime} {variant}")
        return None if hop is None or hop.metric is None or not math.isfinite(hop.metric) else hop.metric

    def missing(self, variant: str, runtime: str) -> str:
        """Return why the answers of a file in a runtime are not proven, or nothing if they are."""
        if self.fault:
            return self.fault
        hop = self.hops.get(f"{runtime} {variant}")
        if hop is None:
            return f"verify did not compare its answers in {runtime}: {self.mend} --runtime {runtime}"
        if hop.status != "run":
            said = next(iter(hop.reason.splitlines()), "") or "no reason was given"
            return f"verify could not run it in {runtime}: {said}"
        if not hop.compared_with:
            return f"verify ran it in {runtime} and had nothing to compare its answers with: {self.mend}"
        # The reference names its proof by the variant alone.
        parity = f"parity {variant}" if runtime == REFERENCE else f"parity {hop.name}"
        if parity not in self.equal:
            return f"its answers in {runtime} are not proven equal, {parity!r} did not pass: {self.mend}"
        if hop.metric is not None and not math.isfinite(hop.metric):
            return f"its metric in {runtime} is {hop.metric}, no finite number: {self.mend}"
        # What is equal to something unproven is not proven.
        equal_to_reference = runtime != REFERENCE and hop.compared_with == f"{REFERENCE} {variant}"
        return self.missing(variant, REFERENCE) if equal_to_reference else ""


def read_proofs(bundle: Bundle) -> Proven:
    """Return what was proven of a bundle; what is wrong with the proofs stands in ``fault``."""
    mend = f"deploykit verify {bundle.path}"
    if VERIFICATION not in bundle.manifest.files:
        return Proven(fault=f"never verified: {mend}", mend=mend)
    try:
        report = ProofReport.model_validate_json(bundle.read(VERIFICATION))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        return Proven(fault=f"{VERIFICATION} cannot be read ({where}: {first['msg']}): {mend}", mend=mend)
    accepted = {acceptance.proof for acceptance in bundle.manifest.accepted}
    failed = next((proof for proof in report.failures if proof.name not in accepted), None)
    fault = ""
    if stale := stale_reason(bundle.manifest, report.model_dump()):
        fault = f"its proofs are stale, {stale}: {mend}"
    elif failed is not None:
        detail = next(iter(failed.detail.splitlines()), "")
        fault = f"proof {failed.name!r} failed: {detail}; mend it, or accept it: {mend} --accept REASON"
    hops = {hop.name: hop for hop in report.hops}
    equal = frozenset(
        proof.name for proof in report.proofs
        if proof.status == "passed" or (proof.status == "failed" and proof.name in accepted)
    )  # fmt: skip
    return Proven(
        fault=fault, metric_name=report.metric_name, samples=report.samples, hops=hops, equal=equal, mend=mend
    )
