"""The same figures for programs: one JSON document, and one CSV line a percentile."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from deploykit_serving.report.series import Series
from deploykit_serving.report.subject import Subject
from deploykit_serving.report.trade_off import on_front

RECORD_VERSION: Final = 1
COLUMNS: Final = (
    "bundle", "variant", "role", "runtime", "runtime_version", "threads", "host", "metric_name", "metric", "on_front",
    "file_bytes", "batch", "load", "streams", "rate", "through", "throughput", "calls", "stable", "rejected",
    "percentile", "value_ms", "low_ms", "high_ms", "bound_ms", "samples", "needed", "invalid", "failure",
)  # fmt: skip


def as_json(
    subjects: Sequence[Subject], series: Sequence[Series], *, created: str, host_id: str, command: str, version: str
) -> str:
    """Return everything the page shows, and the profiles it was made from."""
    front = on_front(series, 0.5)
    document = {
        "version": RECORD_VERSION,
        "created": created,
        "deploykit": version,
        "host": host_id,
        "command": command,
        "bundles": [_bundle(subject) for subject in subjects],
        "series": [
            {
                "name": one.name,
                "bundle": one.subject.manifest.name,
                "variant": one.measured.variant,
                "runtime": one.measured.runtime,
                "threads": one.measured.threads,
                "metric": one.metric,
                "on_front": one.name in front,
            }
            for one in series
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False, default=str) + "\n"


def as_csv(series: Sequence[Series]) -> str:
    """Return one line a percentile of every point; a series without points has one line with its failure."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    front = on_front(series, 0.5)
    for one in series:
        for row in _rows(one, one.name in front):
            writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    return buffer.getvalue()


def _bundle(subject: Subject) -> dict[str, Any]:
    manifest = subject.manifest
    return {
        "name": manifest.name,
        "method": manifest.method,
        "task": manifest.task,
        "created": manifest.created,
        "config": manifest.config,
        "facts": manifest.facts,
        "sizes": {entry.name: subject.size(entry.name) for entry in manifest.variants},
        "lacks": [{"what": lack.what, "why": lack.why, "command": lack.command} for lack in subject.lacks],
        "proofs": None if subject.proofs is None else subject.proofs.model_dump(mode="json"),
        "profile": None if subject.profile is None else subject.profile.model_dump(mode="json"),
    }


def _rows(one: Series, front: bool) -> Iterator[dict[str, Any]]:
    measured = one.measured
    shared = {
        "bundle": one.subject.manifest.name,
        "variant": measured.variant,
        "role": measured.role,
        "runtime": measured.runtime,
        "runtime_version": measured.runtime_version,
        "threads": measured.threads,
        "host": "" if one.subject.profile is None else one.subject.profile.host.id,
        "metric_name": one.group[1],
        "metric": one.metric,
        "on_front": front,
        "file_bytes": one.subject.size(measured.variant),
        "failure": measured.failure,
    }
    if not measured.points:
        yield shared
    for point in measured.points:
        load = point.load
        at = {"batch": point.batch, "load": load.kind, "streams": load.streams, "rate": load.rate,
              "through": load.through, "throughput": point.throughput, "calls": point.calls, "stable": point.stable,
              "rejected": point.rejected, "invalid": point.invalid}  # fmt: skip
        for entry in point.percentiles:
            yield shared | at | {"percentile": entry.q} | entry.model_dump(exclude={"q"})


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = " ".join(value.split())
        # Spreadsheets take these for the start of a formula.
        return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
    return value
