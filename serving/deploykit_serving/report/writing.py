"""Report: read bundles, write page, JSON and CSV side by side, each whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploykit.errors import ConfigError
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.report.costs import footprint, layers
from deploykit_serving.report.gaps import gaps
from deploykit_serving.report.histograms import histograms
from deploykit_serving.report.origins import comparisons, missing, origins, troubles
from deploykit_serving.report.page import page
from deploykit_serving.report.records import as_csv, as_json
from deploykit_serving.report.series import Series, line_up
from deploykit_serving.report.subject import Subject, find_bundles, read_subject
from deploykit_serving.report.sweeps import batches, loads
from deploykit_serving.report.trade_off import trade_off


@dataclass(frozen=True, slots=True)
class Report:
    """A report as texts.

    Attributes:
        page: HTML.
        record: JSON.
        rows: CSV.
        lacks: what is missing, with the command that makes it; one sentence each.
    """

    page: str
    record: str
    rows: str
    lacks: tuple[str, ...]


def make_report(
    paths: Sequence[Path], *, host_id: str = "", command: str = "deploykit report", created: str = ""
) -> Report:
    """Make a report of bundles, and of those in folders.

    Args:
        host_id: whose profiles to show; this machine's by default.
        command: how it was asked for; stands in the page.
        created: ISO time that stands in the page; now by default.

    Raises:
        BundleError: a path leads to no bundle, or one cannot be read.
        MissingExtraError: Matplotlib is not installed.
    """
    here = fingerprint().id
    host = host_id or here
    subjects = [read_subject(path, host) for path in find_bundles(paths)]
    series = line_up(subjects)
    created = created or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    sections = (
        missing(subjects),
        trade_off(series),
        troubles(subjects, series),
        comparisons(series),
        gaps(subjects),
        histograms(series),
        batches(series),
        loads(series),
        layers(series),
        footprint(series),
        origins(subjects),
    )
    return Report(
        page=page(_title(subjects), _lead(subjects, series, host, here, created), sections, command),
        record=as_json(subjects, series, created=created, host_id=host, command=command, version=_version()),
        rows=as_csv(series),
        lacks=tuple(f"{subject.manifest.name} has no {lack.what}: {lack.why}; run: {lack.command}"
                    for subject in subjects for lack in subject.lacks),
    )  # fmt: skip


def write_report(report: Report, output: Path) -> tuple[Path, Path, Path]:
    """Write page, JSON and CSV; the names differ in their ends only.

    Args:
        output: the page, ``NAME.html``.

    Returns:
        the three files.

    Raises:
        ConfigError: the name has another end, or the folder cannot be written to.
    """
    if output.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"the page's name must end in .html, got {output.name!r}; JSON and CSV are put beside it")
    names = (output, output.with_suffix(".json"), output.with_suffix(".csv"))
    for path, text in zip(names, (report.page, report.record, report.rows), strict=True):
        _write(path, text)
    return names


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} was not written: {error.strerror or error}; choose another place with -o") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _title(subjects: Sequence[Subject]) -> str:
    names = [subject.manifest.name for subject in subjects]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _lead(subjects: Sequence[Subject], series: Sequence[Series], host: str, here: str, created: str) -> list[str]:
    profiles = [subject.profile for subject in subjects if subject.profile is not None]
    hard = sum(len(subject.manifest.hard_variants) for subject in subjects)
    bundles = "1 bundle" if len(subjects) == 1 else f"{len(subjects)} bundles"
    writings = "1 writing" if hard == 1 else f"{hard} writings"
    lead = [
        f"{bundles} with {writings} of hard forms, {len(series)} measured, counting each runtime and number of threads."
    ]
    if profiles:
        taken = profiles[0].host
        quota = "" if taken.quota is None else f", {taken.quota:g} cores granted"
        other = "" if host == here else " This is not the machine the page was made on."
        days = sorted({profile.created[:10] for profile in profiles})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        seconds = sum(profile.settings.seconds for profile in profiles)
        lead.append(f"Measured on {when} for {seconds:g} s on host {host}: {taken.cpu}, {taken.cores} cores{quota}, "
                    f"{taken.system}, {taken.onnxruntime}.{other}")  # fmt: skip
    lead.append(f"deploykit {_version()}, page made {created}.")
    return lead


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("deploykit")
    except importlib.metadata.PackageNotFoundError:
        return "from a source tree"
