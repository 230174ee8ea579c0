"""Proofs about one written file: what it weighs, what it executes, which routes it takes, how fast it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.decisions import Decision, agreement
from deploykit.manifest import VariantEntry
from deploykit.signature import Arrays
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.proof_report import Proof
from deploykit_export.shrinkage import measure_shrinkage

if TYPE_CHECKING:
    from deploykit_export.torch_hops import Forms
    from deploykit_export.verification import Speed


def prove_file(bundle: Bundle, variant: VariantEntry, batch: Arrays) -> list[Proof]:
    """Prove that a file shrank and executes as promised."""
    promise = bundle.manifest.promise
    data = bundle.read(variant.file)
    shrinkage = measure_shrinkage(data, promise)
    figures: dict[str, float | int | str] = {"weight_bytes": shrinkage.weight_bytes}
    figures |= {f"bytes of {dtype}": count for dtype, count in shrinkage.bytes_by_dtype.items()}
    detail = "; ".join(shrinkage.faults) or f"constants take {shrinkage.weight_bytes:,} bytes"
    baseline = next((item for item in bundle.manifest.variants if item.role == "baseline"), None)
    if baseline is not None:
        before = measure_shrinkage(bundle.read(baseline.file), type(promise)()).weight_bytes
        figures["baseline_weight_bytes"] = before
        if not shrinkage.faults:
            detail += f", the float model {before:,}"
    proofs = [
        Proof(
            name=f"shrinkage {variant.name}", status="failed" if shrinkage.faults else "passed", detail=detail,
            figures=figures,
        )
    ]  # fmt: skip
    if "onnxruntime" in variant.targets:
        proofs.append(_prove_work(bundle, variant, batch))
    return proofs


def _prove_work(bundle: Bundle, variant: VariantEntry, batch: Arrays) -> Proof:
    name = f"executed work {variant.name}"
    promised = bundle.manifest.promise.macs
    count = len(next(iter(batch.values()))) if variant.dynamic_batch else 1
    sizes = sorted({1, count})
    data = bundle.read(variant.file)
    try:
        works = {
            size: executed_work(data, {key: array[:size] for key, array in batch.items()}) for size in sizes
        }  # fmt: skip
    except Exception as error:
        return Proof(name=name, status="failed", detail=f"the file does not run under the profiler: {error}")
    figures: dict[str, float | int | str] = {
        f"macs per sample at batch {size}": work.macs // size for size, work in works.items()
    }
    if promised is None:
        return Proof(name=name, status="passed", detail="counted; the method promises nothing", figures=figures)
    figures["promised"] = promised
    over = [size for size, work in works.items() if work.macs > promised * size]
    found = ", ".join(f"{work.macs / size:,.0f} at batch {size}" for size, work in works.items())
    return Proof(
        name=name, status="failed" if over else "passed",
        detail=f"multiply-accumulates executed a sample: {found}; promised at most {promised:,}", figures=figures,
    )  # fmt: skip


def prove_decisions(
    bundle: Bundle, variant: VariantEntry, forms: Forms, batches: list[dict[str, NDArray[Any]]]
) -> list[Proof]:
    """Prove that the decisions marked in a file are those of the hard form, and that they vary with the input."""
    if not variant.dynamic_batch:
        return []
    data = bundle.read(variant.file)
    parts = [marked_decisions(data, batch) for batch in batches]
    if not parts or not parts[0]:
        return []
    hard = forms.decisions(forms.hard.module, batches)
    proofs = []
    for name in parts[0]:
        value = np.concatenate([part[name] for part in parts])
        proof = f"route {variant.name} {name}"
        if name not in hard:
            proofs.append(
                Proof(name=proof, status="failed", detail=f"the hard form knows no decision {name!r}; it has "
                      f"{', '.join(hard) or 'none'}")
            )  # fmt: skip
            continue
        if value.shape != hard[name].value.shape:
            proofs.append(
                Proof(name=proof, status="failed", detail=f"the file marks {value.shape} decisions {name!r}; the hard "
                      f"form has {hard[name].value.shape}")
            )  # fmt: skip
            continue
        found = agreement(Decision(value.astype(np.int64)), hard[name])
        kinds = len(np.unique(value.reshape(len(value), -1), axis=0))
        detail = f"{found.total} decisions, {found.different} differ, {found.near_ties} near ties; {kinds} routes taken"
        proofs.append(
            Proof(
                name=proof, status="failed" if found.different else "passed", detail=detail,
                figures={"total": found.total, "different": found.different, "near_ties": found.near_ties,
                         "routes": kinds},
            )
        )  # fmt: skip
    return proofs


def prove_speed(bundle: Bundle, speeds: Callable[[Bundle], Mapping[str, Speed]] | str) -> list[Proof]:
    """Mark every variant that was not measured to be faster than the float model it replaces."""
    if isinstance(speeds, str):
        return [Proof(name="speed", status="not run", detail=speeds)]
    proofs = []
    for name, speed in speeds(bundle).items():
        faster = speed.low > 1.0
        text = f"{speed.ratio:.2f} times the float model's speed (95 % interval {speed.low:.2f} to {speed.high:.2f})"
        proofs.append(
            Proof(
                name=f"speed {name}", status="passed" if faster else "marked",
                detail=text if faster else f"{text}: not faster, will not be selected",
                figures={"ratio": speed.ratio, "low": speed.low, "high": speed.high},
            )
        )  # fmt: skip
    return proofs
