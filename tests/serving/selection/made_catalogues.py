"""Bundles with proofs and profiles of made-up numbers: nothing in them is ever run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle, write_bundle
from deploykit.manifest import Manifest
from deploykit.proof_binding import claims_digest, proven_files
from deploykit_export.proof_report import HopResult, Proof, ProofReport
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.schema import (
    Comparison,
    Host,
    Load,
    Memory,
    PercentileEntry,
    Point,
    Profile,
    Settings,
    VariantProfile,
    profile_file,
)
from deploykit_serving.profiling.statistics import samples_needed
from deploykit_serving.selection.installed import Installed

HERE = fingerprint()
VERSION = "engine 1.0"
SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": ["batch", 4]}],
    "outputs": [{"name": "y", "shape": ["batch", 3]}],
}


def have_all(names: Iterable[str]) -> dict[str, Installed]:
    """Tell that this machine has every runtime in the version that made-up profiles were measured with."""
    return {name: Installed(version=VERSION) for name in names}


def entry(q: float, ms: float, *, samples: int = 10_000, over: float = 1.1) -> PercentileEntry:
    """A percentile whose bound lies ``over`` times above it; refused where the samples are too few."""
    needed = samples_needed(q)
    known = samples >= needed
    return PercentileEntry(
        q=q,
        samples=samples,
        needed=needed,
        value_ms=ms if known else None,
        low_ms=ms * 0.98 if known else None,
        high_ms=ms * (1 + (over - 1) / 2) if known else None,
        bound_ms=ms * over if known else None,
    )


def point(ms: float, batch: int = 1, load: Load | None = None, **changes: Any) -> Point:
    """One point: p50 takes ``ms``, p90 1.5 times and p99 twice as long."""
    samples = changes.pop("samples", 10_000)
    over = changes.pop("over", 1.1)
    percentiles = tuple(
        entry(q, ms * times, samples=samples, over=over) for q, times in ((0.5, 1), (0.9, 1.5), (0.99, 2))
    )
    fields = {
        "batch": batch, "load": load or Load(), "stable": True, "spread": 0.01, "calls": samples,
        "throughput": 1000 * batch / ms, "percentiles": percentiles,
    }  # fmt: skip
    return Point(**(fields | changes))


@dataclass(frozen=True)
class Made:
    """One measured variant; ``faster`` is the ratio to the float model, ``None`` where it was not compared."""

    variant: str
    points: Sequence[Point]
    runtime: str = "engine"
    threads: int = 1
    metric: float | None = 0.9
    faster: float | None = 2.0
    failure: str = ""
    version: str = VERSION
    peak_mib: float | None = 50.0
    hop: Mapping[str, Any] | None = field(default_factory=dict)
    compared_batch: int = 1
    p: float | None = None
    memory_batch: int = 1


def write_measured(
    folder: Path,
    name: str,
    made: Sequence[Made],
    *,
    task: str = "digits",
    metric_name: str = "accuracy",
    samples: int = 400,
    proofs: Sequence[Proof] = (),
    host: Host = HERE,
    baseline: bool = True,
    size: int = 1000,
    verified: bool = True,
    **manifest: Any,
) -> Bundle:
    """Write a bundle whose profile and proofs say what ``made`` says."""
    names = dict.fromkeys(item.variant for item in made)
    files = {f"models/{variant}.onnx": variant.encode().ljust(size, b".") for variant in names}
    variants: list[dict[str, Any]] = [{"name": variant, "file": f"models/{variant}.onnx"} for variant in names]
    if baseline:
        files["models/float.onnx"] = b"float"
        variants.append({"name": "float", "role": "baseline", "file": "models/float.onnx"})
    fields = {
        "name": name, "created": "2026-01-01T00:00:00Z", "method": "plain.passthrough", "task": task,
        "signature": SIGNATURE, "variants": variants,
    } | manifest  # fmt: skip
    bundle = write_bundle(folder / f"{name}.bundle", fields, files)
    added = {profile_file(host.id): profile_of(bundle.manifest, made, host).model_dump_json().encode()}
    if verified:
        report = report_of(bundle.manifest, made, metric_name, samples, proofs)
        added["proofs/verify.json"] = report.model_dump_json().encode()
    return extend_bundle(bundle, added)


def profile_of(manifest: Manifest, made: Sequence[Made], host: Host) -> Profile:
    sha = {item.name: manifest.files[item.file].sha256 for item in manifest.variants}
    variants = [
        VariantProfile(
            variant=item.variant, role="hard", sha256=sha[item.variant], runtime=item.runtime,
            runtime_version=item.version, threads=item.threads, points=tuple(item.points), stopped="",
            failure=item.failure,
            memory=None if item.peak_mib is None else Memory(
                loaded_mib=1.0, peak_mib=item.peak_mib, batch=item.memory_batch
            ),
        )
        for item in made
    ]  # fmt: skip
    if "float" in sha:
        variants.append(
            VariantProfile(
                variant="float", role="baseline", sha256=sha["float"], runtime="engine", runtime_version=VERSION,
                threads=1,
                points=(point(0.001),), stopped="",
            )
        )  # fmt: skip
    comparisons = [
        Comparison(
            variant=item.variant, baseline="float", runtime=item.runtime, threads=item.threads,
            batch=item.compared_batch, ratio=item.faster, low=item.faster * 0.98, high=item.faster * 1.02,
            pairs=100, block=10, p=item.p,
        )
        for item in made if item.faster is not None
    ]  # fmt: skip
    return Profile(
        created="2026-01-01T00:00:00Z", host=host,
        settings=Settings(seconds=1.0, overhead_ns=50.0, inputs="random"),
        variants=tuple(variants), comparisons=tuple(comparisons),
    )  # fmt: skip


def report_of(
    manifest: Manifest, made: Sequence[Made], metric_name: str, samples: int, proofs: Sequence[Proof]
) -> ProofReport:
    hops = {
        f"{item.runtime} {item.variant}": HopResult(**{"metric": item.metric, "compared_with": "hard", **item.hop},
                                                    name=f"{item.runtime} {item.variant}")
        for item in made if item.hop is not None
    }  # fmt: skip
    told = {proof.name for proof in proofs}
    parities = ["parity " + name.removeprefix("onnxruntime-cpu ") for name in hops]
    equal = [Proof(name=name, status="passed", detail="equal") for name in parities if name not in told]
    return ProofReport(
        files=proven_files(manifest), claims=claims_digest(manifest), samples=samples, metric_name=metric_name,
        hops=tuple(hops.values()), proofs=(*proofs, *equal), seconds=1.0,
    )  # fmt: skip


def another_host() -> Host:
    """A host that this one is not."""
    other = hashlib.sha256(HERE.id.encode()).hexdigest()[:12]
    return HERE.model_copy(update={"id": other, "cpu": "another"})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to see that nothing was changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def document(path: Path) -> dict[str, Any]:
    """Read a JSON document."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
