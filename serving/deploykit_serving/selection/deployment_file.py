"""From a selection to a deployment file, written in one step."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from deploykit.errors import BundleError, ConfigError
from deploykit_serving.profiling.schema import Load
from deploykit_serving.selection.candidates import Candidate
from deploykit_serving.selection.choosing import Selection
from deploykit_serving.selection.deployment import Deployed, Deployment, Latency
from deploykit_serving.selection.judging import Verdict, counted, find_point
from deploykit_serving.selection.request import load_text
from deploykit_serving.selection.units import percentile_name

SUFFIX: Final = ".json"


def deployment_of(selection: Selection, file: Path, name: str = "") -> Deployment:
    """Return what is written for a selection: the chosen variant first, then the others on the Pareto front.

    All of them meet the budget and every other constraint.

    Args:
        file: where it will lie; paths of bundles are relative to its folder.
        name: the model's name at the server; by default the task's, or without a task the chosen bundle's.

    Raises:
        BudgetError, ServingError: nothing was chosen; as :meth:`Selection.require`.
        ConfigError: the name is not usable, or the chosen variant was not measured with one stream in process.
    """
    first = selection.require()
    chosen = first.candidate
    request = selection.request
    name = name or chosen.task or chosen.name.partition("/")[0]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"--name {name!r}: wanted letters, digits, '.', '_' and '-', the first a letter or a digit")
    others = [item for item in selection.front if item.candidate.name != chosen.name]
    variants = [found for found in (_deployed(item, file) for item in (first, *others)) if found is not None]
    if not variants or variants[0].name != chosen.name:
        raise ConfigError(
            f"{chosen.name}: nothing supported was measured with one stream in process, which serve predicts from; "
            f"profile it so too: deploykit profile {chosen.path}"
        )
    return Deployment(
        name=name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=selection.host,
        percentile=request.budget.percentile,
        budget_ms=request.budget.ms,
        floors=dict(request.floors),
        batch=request.batch,
        load=load_text(request.load),
        variants=tuple(variants),
    )


def write_deployment(selection: Selection, file: Path, name: str = "") -> Deployment:
    """Write the deployment file of a selection, replacing an earlier deployment file in one step.

    Raises:
        BudgetError, ServingError: nothing was chosen; nothing is written.
        ConfigError: something else than a deployment file is there, or the name is not usable; nothing is written.
        BundleError: the disk did not take it; what was there is untouched.
    """
    deployment = deployment_of(selection, file, name)
    check_place(file)
    content = deployment.model_dump_json(indent=2).encode() + b"\n"
    temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise BundleError(f"{file} was not written: {error.strerror or error}; what was there is untouched") from error
    return deployment


def check_place(file: Path) -> None:
    """Make sure that nothing but a deployment file would be replaced.

    Raises:
        ConfigError: the name does not end in ``.json``, or something else is there.
    """
    if file.suffix != SUFFIX:
        raise ConfigError(f"a deployment file's name must end in {SUFFIX}, as serve expects it; got {file.name!r}")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise ConfigError(f"{file} is a link or no plain file; choose another place, nothing was written")
    if not file.exists():
        return
    try:
        Deployment.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        raise ConfigError(
            f"{file} exists and is no deployment file; choose another place, nothing was written"
        ) from error


def _deployed(verdict: Verdict, file: Path) -> Deployed | None:
    candidate = verdict.candidate
    latencies = tuple(_latencies(candidate))
    if not latencies:
        return None
    return Deployed(
        name=candidate.name,
        bundle=_relative(candidate.path, file.parent),
        manifest_sha256=candidate.manifest_sha256,
        variant=candidate.variant,
        runtime=candidate.runtime,
        runtime_version=candidate.runtime_version,
        threads=candidate.threads,
        metric=candidate.metric,
        bound_ms=verdict.latency_ms,
        latencies=latencies,
    )


def _latencies(candidate: Candidate) -> Iterable[Latency]:
    """Bounds with one stream in process, at every batch size whose figures may be used."""
    for batch in sorted({point.batch for point in candidate.points}):
        point = find_point(candidate.points, batch, Load())
        if point is None or point.invalid or not point.stable:
            continue
        # What the server promises must be what was judged: the bound, not the percentile below it.
        bounds = {percentile_name(item.q): counted(item) for item in point.percentiles}
        supported = {name: bound for name, bound in bounds.items() if bound is not None}
        if supported:
            yield Latency(batch=batch, ms=supported)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
