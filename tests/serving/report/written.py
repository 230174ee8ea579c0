"""Bundles with proofs and profiles for reports, written without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit import Bundle
from deploykit.bundle_writer import write_bundle
from deploykit.manifest import Manifest
from deploykit.proof_binding import claims_digest, proven_files
from deploykit_export.proof_report import DecisionCount, HopResult, Proof, ProofReport
from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.profiling.schema import (
    ColdStart,
    Comparison,
    Energy,
    Host,
    Layer,
    Layers,
    Load,
    Memory,
    PercentileEntry,
    Point,
    Profile,
    Settings,
    VariantProfile,
    profile_file,
)
from deploykit_serving.profiling.statistics import percentile

HOST = Host(
    id="0123456789ab", cpu="A Processor", architecture="x86_64", flags=("avx2",), cores=4, usable_cores=2, quota=1.5,
    governor="", system="Linux 6.1", python="3.11.7", numpy="2.3", onnxruntime="onnxruntime 1.24", memory_gib=8.0,
    clock_mhz=None, load=0.1,
)  # fmt: skip
CPU = "onnxruntime-cpu"


def latencies(median_ms: float, count: int = 3000, seed: int = 0) -> Any:
    """Return nanoseconds with a tail, shape (count,)."""
    rng = np.random.default_rng(seed)
    slow = np.where(rng.random(count) < 0.03, rng.uniform(1.5, 3.0, count), 1.0)
    return (median_ms * rng.lognormal(0.0, 0.06, count) * slow * 1e6).astype(np.int64)


def point(median_ms: float, *, batch: int = 1, count: int = 3000, seed: int = 0, **changes: Any) -> Point:
    """Return a point whose figures were computed from :func:`latencies`."""
    times = latencies(median_ms, count, seed)
    held = Histogram()
    held.record_many(times)
    entries = []
    for q in (0.5, 0.9, 0.99, 0.999):
        found = percentile(times / 1e6, q)
        entries.append(
            PercentileEntry(
                q=q, samples=found.samples, needed=found.needed, value_ms=found.value, low_ms=found.low,
                high_ms=found.high, bound_ms=found.bound,
            )
        )  # fmt: skip
    blocks = np.median(times[: count // 20 * 20].reshape(20, -1), axis=1) / 1e6
    fields: dict[str, Any] = {
        "batch": batch, "stable": True, "spread": 0.03, "calls": count, "throughput": batch / (times.mean() / 1e9),
        "percentiles": tuple(entries), "histogram": held.encode(), "blocks_ms": tuple(blocks.tolist()), "rejected": 0.1,
    }  # fmt: skip
    return Point(**fields | changes)


def measured(sha256: str, variant: str = "hard", median_ms: float = 0.2, **changes: Any) -> VariantProfile:
    """Return everything one variant can have: a sweep, loads of all kinds, layers, costs."""
    points = [point(median_ms * batch**0.8, batch=batch, seed=batch) for batch in (1, 2, 4)]
    points += [
        point(median_ms * 1.2, load=Load(kind="open", streams=2, rate=rate), invalid="it fell behind" if rate > 3000
              else "")
        for rate in (1000.0, 2000.0, 4000.0)
    ]  # fmt: skip
    points += [point(median_ms * 1.5, load=Load(streams=streams)) for streams in (2, 4)]
    points.append(point(median_ms * 4, load=Load(through="http")))
    fields: dict[str, Any] = {
        "variant": variant, "role": "hard", "sha256": sha256, "runtime": CPU, "runtime_version": "1.24", "threads": 1,
        "points": tuple(points), "stopped": "batch 4 is the largest asked for",
        "cold_start": ColdStart(import_ms=120.0, load_ms=12.0, first_ms=1.5),
        "memory": Memory(loaded_mib=12.5, peak_mib=15.25), "energy": Energy(joules=None, source="no counter to read"),
        "layers": Layers(batch=1, inflation=1.31, layers=tuple(
            Layer(name=f"/net/{index}/Gemm", operator="Gemm", calls=9, median_us=40.0 / index, share=1 / index / 3.2)
            for index in range(1, 15)
        )),
    }  # fmt: skip
    return VariantProfile(**fields | changes)


def profile(variants: tuple[VariantProfile, ...], **changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "created": "2026-01-02T03:04:05Z", "host": HOST,
        "settings": Settings(seconds=30.0, overhead_ns=95.0, inputs="held-out samples", canary_floor_ms=0.07),
        "variants": variants,
        "comparisons": (
            Comparison(variant="hard", baseline="float", batch=1, ratio=2.2, low=2.1, high=2.3, pairs=300, block=12),
        ),
    }  # fmt: skip
    return Profile(**fields | changes)


def proofs(manifest: Manifest, metric: float = 0.975, **changes: Any) -> ProofReport:
    hops = (
        HopResult(name="soft", metric=0.98),
        HopResult(name="hard", compared_with="soft", metric=metric, max_abs=1e-6, max_ulp=12,
                  decisions={"bit": DecisionCount(total=100, different=1, near_ties=1)}),
        HopResult(name=f"{CPU} hard", compared_with="hard", metric=metric, max_abs=2e-6, max_ulp=20),
        HopResult(name="other-engine hard", status="not run", reason="not installed"),
        HopResult(name="http hard", compared_with=f"{CPU} hard", metric=metric, max_abs=0.0, max_ulp=0),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "files": proven_files(manifest), "claims": claims_digest(manifest), "samples": 450, "metric_name": "accuracy",
        "hops": hops, "proofs": (Proof(name="parity hard", status="passed", detail="fits"),), "seconds": 1.0,
    }  # fmt: skip
    return ProofReport(**fields | changes)


def write_reported(
    path: Path,
    *,
    median_ms: float = 0.2,
    metric: float = 0.975,
    proven: bool = True,
    profiled: bool = True,
    width: int = 4,
    proof_changes: dict[str, Any] | None = None,
    **manifest: Any,
) -> Bundle:
    """Write a bundle with a hard variant and a float one; its files are no models, since nobody runs them."""
    files = {"models/hard.onnx": b"h" * 1200, "models/float.onnx": b"f" * 4800}
    fields: dict[str, Any] = {
        "name": path.stem, "created": "2026-01-01T00:00:00Z", "method": "plain.passthrough", "task": "digits",
        "signature": {
            "inputs": [{"name": "x", "shape": ["batch", width]}], "outputs": [{"name": "y", "shape": ["batch", 3]}],
            "dims": {"batch": {"max": 64}},
        },
        "variants": [
            {"name": "hard", "file": "models/hard.onnx"},
            {"name": "float", "role": "baseline", "file": "models/float.onnx"},
        ],
        **manifest,
    }  # fmt: skip
    bundle = write_bundle(path, fields, files)
    further: dict[str, bytes] = {}
    if proven:
        further["proofs/verify.json"] = (
            proofs(bundle.manifest, metric, **proof_changes or {}).model_dump_json().encode()
        )
    if profiled:
        hashes = {name: bundle.manifest.files[f"models/{name}.onnx"].sha256 for name in ("hard", "float")}
        taken = profile(
            (measured(hashes["hard"], median_ms=median_ms),
             measured(hashes["float"], "float", median_ms * 2, role="baseline", layers=None, memory=None))
        )  # fmt: skip
        further[profile_file(HOST.id)] = taken.model_dump_json().encode()
    return write_bundle(path, fields, files | further)
