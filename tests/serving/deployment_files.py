"""Deployment files over small bundles, with latencies that the tests make up; and the application that answers them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry

from deploykit.bundle import open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.making import make_runtime
from deploykit.proof_binding import claims_digest, proven_files
from deploykit_export.proof_report import HopResult, Proof, ProofReport
from deploykit_serving.catalogue import Catalogue
from deploykit_serving.front import Front
from deploykit_serving.metrics import Metrics
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.runtimes import REFERENCE
from deploykit_serving.selection.deployment import Deployed, Deployment, Latency
from deploykit_serving.settings import ServingSettings

INFER: Final = "/v2/models/chosen/infer"
MS: Final = {"slow": 400.0, "middle": 100.0, "fast": 10.0}
METRICS: Final = {"slow": 0.99, "middle": 0.95, "fast": 0.9}


def name_of(variant: str, bundle: str = "affine", runtime: str = REFERENCE) -> str:
    """Return the full name of a variant."""
    return f"{bundle}/{variant}@{runtime}/1"


def proven(bundle: Path, *runtimes: str) -> Path:
    """Add made-up proofs of every variant in these runtimes, the reference if none is named."""
    found = open_bundle(bundle)
    names = [variant.name for variant in found.manifest.variants]
    hops = [f"{runtime} {name}" for runtime in runtimes or (REFERENCE,) for name in names]
    report = ProofReport(
        files=proven_files(found.manifest), claims=claims_digest(found.manifest), samples=40, metric_name="accuracy",
        hops=tuple(HopResult(name=name, compared_with="hard", metric=0.9, max_abs=0.0) for name in hops),
        proofs=tuple(Proof(name=f"parity {name}", status="passed", detail="the same") for name in (*names, *hops)),
        seconds=1.0,
    )  # fmt: skip
    return extend_bundle(found, {"proofs/verify.json": report.model_dump_json().encode()}).path


def deployed(bundle: Path, variant: str, ms: float, metric: float | None, **changes: Any) -> Deployed:
    """Return one entry; takes ten times as long for a batch of 16."""
    runtime = changes.get("runtime", REFERENCE)
    fields: dict[str, Any] = {
        "name": name_of(variant, bundle.stem, runtime),
        "bundle": bundle.name,
        "manifest_sha256": hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
        "variant": variant,
        "runtime": runtime,
        "runtime_version": make_runtime(REFERENCE).version(),
        "threads": 1,
        "metric": metric,
        "latencies": (Latency(batch=1, ms={"p99": ms}), Latency(batch=16, ms={"p99": 10 * ms})),
        **changes,
    }
    return Deployed(**fields)


def write_deployment(folder: Path, *variants: Deployed, file: str = "deployment.json", **changes: Any) -> Path:
    """Write a deployment file, measured on this host."""
    fields: dict[str, Any] = {
        "name": "chosen", "created": "2026-01-01T00:00:00Z", "host": fingerprint().id, "percentile": 0.99,
        "budget_ms": 500.0, "batch": 1, "variants": variants, **changes,
    }  # fmt: skip
    path = folder / file
    path.write_text(Deployment(**fields).model_dump_json())
    return path


def three(bundle: Path, ms: Mapping[str, float] = MS, **changes: Any) -> tuple[Deployed, ...]:
    """Return the entries of the bundle's variants ``slow``, ``middle`` and ``fast``."""
    return tuple(deployed(bundle, name, ms[name], METRICS[name], **changes) for name in MS)


def front(models: Any, **changes: Any) -> tuple[Front, CollectorRegistry]:
    """Return the application over loaded models, and where its metrics are."""
    registry = CollectorRegistry()
    settings = ServingSettings(**changes)
    return Front(_no_pages, Catalogue(models), settings, Metrics(registry)), registry


async def _no_pages(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no page was asked for")


class Reply:
    """What came back."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body

    @property
    def variant(self) -> str:
        """The short name of the variant that answered."""
        return self.headers["deploykit-variant"].partition("/")[2].partition("@")[0]

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


async def asked(app: Front, rows: int = 1, headers: dict[str, str] | None = None, **parameters: Any) -> Reply:
    """Send one request as JSON to the deployment."""
    data = np.ones((rows, 4)).ravel().tolist()
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await app({"type": "http", "method": "POST", "path": INFER, "headers": pairs}, receive, send)
    return Reply(sent[0]["status"], sent[0]["headers"], sent[1]["body"])


def ask(app: Front, rows: int = 1, headers: dict[str, str] | None = None, **parameters: Any) -> Reply:
    return asyncio.run(asked(app, rows, headers, **parameters))
