"""Proofs about one written file: what it weighs, what it executes, which routes it takes, how fast it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.decisions import Decision, agreement
from deploykit.manifest import VariantEntry
from deploykit.signature import Arrays
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.proof_report import Proof
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_export.torch_hops import joined_decision, sizes_of

if TYPE_CHECKING:
    from deploykit_export.proof_report import Status
    from deploykit_export.torch_hops import Forms
    from deploykit_export.verification import Speed


_ALONE: Final = 8
_NEAR_TIES: Final = 0.05


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
    else:
        detail = f"the file is for {', '.join(variant.targets) or 'no runtime'}, whose work is not counted"
        proofs.append(Proof(name=f"executed work {variant.name}", status="not run", detail=detail))
    return proofs


def _prove_work(bundle: Bundle, variant: VariantEntry, batch: Arrays) -> Proof:
    name = f"executed work {variant.name}"
    promised = bundle.manifest.promise.macs
    data = bundle.read(variant.file)
    batched = bundle.manifest.signature.batched
    count = len(next(iter(batch.values()))) if batched else 1
    # Several samples alone: a route that costs more than promised must not hide in a batch's mean.
    runs = [(1, slice(index, index + 1)) for index in range(min(count, _ALONE))]
    if variant.dynamic_batch and count > 1:
        runs.append((count, slice(0, count)))
    works: dict[int, int] = {}
    uncounted: set[str] = set()
    try:
        for size, rows in runs:
            work = executed_work(data, {key: array[rows] for key, array in batch.items()} if batched else batch)
            works[size] = max(works.get(size, 0), work.macs)
            uncounted |= set(work.uncounted)
    except Exception as error:
        return Proof(name=name, status="failed", detail=f"the file does not run under the profiler: {error}")
    figures: dict[str, float | int | str] = {
        f"macs per sample at batch {size}": macs // size for size, macs in works.items()
    }
    figures |= _baseline_work(bundle, {key: array[:1] for key, array in batch.items()} if batched else batch)
    missed = f"; the work of {', '.join(sorted(uncounted))} cannot be counted" if uncounted else ""
    if promised is None:
        detail = f"counted; the method promises nothing{missed}"
        return Proof(name=name, status="marked", detail=detail, figures=figures)
    figures["promised"] = promised
    over = [size for size, macs in works.items() if macs > promised * size]
    found = ", ".join(f"{macs / size:,.0f} at batch {size}" for size, macs in works.items())
    return Proof(
        name=name, status="failed" if over or uncounted else "passed",
        detail=f"multiply-accumulates executed a sample: {found}; promised at most {promised:,}{missed}",
        figures=figures,
    )  # fmt: skip


def _baseline_work(bundle: Bundle, inputs: Arrays) -> dict[str, float | int | str]:
    """Return what the float model executes, so that people see what speed is compared with."""
    baseline = next((item for item in bundle.manifest.variants if item.role == "baseline"), None)
    if baseline is None:
        return {}
    try:
        return {"baseline_macs": executed_work(bundle.read(baseline.file), inputs).macs}
    except Exception:
        return {}  # it is no part of the proof


def prove_decisions(
    bundle: Bundle, variant: VariantEntry, forms: Forms, batches: list[dict[str, NDArray[Any]]]
) -> list[Proof]:
    """Prove that the decisions marked in a file are those of the hard form; tell whether they vary with the input."""
    data = bundle.read(variant.file)
    parts = [marked_decisions(data, batch) for batch in batches]
    hard = forms.decisions(forms.hard.module, batches)
    if not parts[0]:
        detail = f"the file marks no decision; {', '.join(sorted(hard)) or 'none'} shows in the answers only"
        return [Proof(name=f"route {variant.name}", status="not run", detail=detail)]
    sizes = sizes_of(batches, bundle.manifest.signature)
    proofs = []
    for name in parts[0]:
        value = joined_decision([Decision(part[name].astype(np.int64)) for part in parts], sizes).value
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
        found = agreement(Decision(value), hard[name])
        kinds = len(np.unique(value.reshape(len(value), -1), axis=0)) if value.ndim else 1
        detail = f"{found.total} decisions, {found.different} differ, {found.near_ties} near ties; {kinds} routes taken"
        status: Status = "failed" if found.different else "passed"
        if status == "passed" and kinds == 1 and sum(sizes) > 1:
            status, detail = "marked", f"{detail}: nothing is shown of the others"
        elif status == "passed" and found.near_ties > max(3, _NEAR_TIES * found.total):
            # Margins come from the author: ties that are no exception would excuse any disagreement.
            status, detail = "failed", f"{detail}; more than {_NEAR_TIES:.0%} cannot all be ties"
        proofs.append(
            Proof(
                name=proof, status=status, detail=detail,
                figures={"total": found.total, "different": found.different, "near_ties": found.near_ties,
                         "routes": kinds},
            )
        )  # fmt: skip
    return proofs


def prove_speed(bundle: Bundle, speeds: Callable[[Bundle], Mapping[str, Speed]] | str) -> list[Proof]:
    """Mark every variant that was not measured to be faster than the float model it replaces."""
    if isinstance(speeds, str):
        return [Proof(name="speed", status="not run", detail=speeds)]
    measured = speeds(bundle)
    proofs = [
        Proof(name=f"speed {variant.name}", status="not run", detail="the stopwatch gave nothing for it")
        for variant in bundle.manifest.hard_variants if variant.name not in measured
    ]  # fmt: skip
    for name, speed in measured.items():
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
