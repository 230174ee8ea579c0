"""Candidates: every variant in every runtime and number of threads that a host's profile speaks of."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deploykit.bundle import MANIFEST, Bundle
from deploykit.errors import BundleError
from deploykit.manifest import Manifest
from deploykit_serving.profiling.recorded import read_profile
from deploykit_serving.profiling.schema import Comparison, Point, Profile, VariantProfile
from deploykit_serving.selection.installed import Installed
from deploykit_serving.selection.proven import Proven, read_proofs


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant of one bundle in one runtime with one number of threads, and everything that was measured of it.

    Attributes:
        name: ``BUNDLE/VARIANT@RUNTIME/THREADS``, BUNDLE being the bundle's own name.
        metric: as ``verify`` found it for this file in this runtime, larger is better; ``None`` if it is not known.
        samples: how many held-out samples the metric rests on.
        size: bytes of the variant's file.
        peak_mib: memory of the host at the peak of a run; ``None`` if it was not measured.
        memory_batch: samples of that run.
        comparisons: with the float model, in this runtime with these threads.
        uncompared: why there are none or not all.
        guarded: whether the bundle holds a float model that it could be compared with.
        faults: why it must not be chosen, whatever is asked for.
    """

    name: str
    path: Path
    manifest_sha256: str
    variant: str
    runtime: str
    runtime_version: str
    threads: int
    task: str = ""
    metric: float | None = None
    metric_name: str = ""
    samples: int = 0
    size: int = 0
    peak_mib: float | None = None
    memory_batch: int = 1
    points: tuple[Point, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    uncompared: str = ""
    guarded: bool = False
    faults: tuple[str, ...] = ()

    @property
    def mend(self) -> str:
        """The command that measures it again."""
        return f"deploykit profile {self.path}"

    @property
    def rank(self) -> float | None:
        """The metric in steps of one sample, 1 / ``samples``: what lies closer together counts as equal.

        For a share of right answers this changes nothing but the last bits of a division; of any other metric it
        takes the digits away that so many samples cannot support.
        """
        if self.metric is None or not self.samples or not math.isfinite(self.metric):
            return self.metric
        return round(self.metric * self.samples) / self.samples


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of the catalogue that is no candidate, and why."""

    name: str
    reason: str


def profile_of(bundle: Bundle, host: str) -> Profile | LeftOut:
    """Return a bundle's profile of a host, or why there is none that counts."""
    try:
        return read_profile(bundle, host)
    except BundleError as error:
        # The name stands before it; the path at the front would say the same again.
        return LeftOut(bundle.manifest.name, str(error).removeprefix(f"{bundle.path}: "))


def candidates_of(
    bundle: Bundle, profile: Profile, installed: Mapping[str, Installed], *, foreign: bool = False
) -> tuple[list[Candidate], list[LeftOut]]:
    """Return every candidate of one bundle, and the hard variants that are none because nothing was measured of them.

    Args:
        installed: what this machine has of each runtime in the profile.
        foreign: the choice is for another host, so that what is missing here does not matter.

    Raises:
        BundleError: the bundle was changed or written anew after it was opened.
    """
    proven = read_proofs(bundle)
    written = (bundle.path / MANIFEST).read_bytes()
    if Manifest.model_validate_json(written) != bundle.manifest:
        raise BundleError(f"{bundle.path} was written anew while it was read; select again")
    digest = hashlib.sha256(written).hexdigest()
    found = [
        _candidate(bundle, digest, profile, entry, proven, [*_unusable(bundle, entry, installed, foreign)])
        for entry in profile.variants
    ]
    times = Counter(candidate.name for candidate in found)
    twice = (f"the profile speaks of it more than once: deploykit profile {bundle.path}",)
    found = [replace(item, faults=item.faults + twice) if times[item.name] > 1 else item for item in found]
    measured = {entry.variant for entry in profile.variants}
    left_out = [
        LeftOut(f"{bundle.manifest.name}/{entry.name}", f"not measured: deploykit profile {bundle.path}")
        for entry in bundle.manifest.hard_variants if entry.name not in measured
    ]  # fmt: skip
    return found, left_out


def _candidate(
    bundle: Bundle, digest: str, profile: Profile, entry: VariantProfile, proven: Proven, unusable: Sequence[str]
) -> Candidate:
    manifest = bundle.manifest
    written = manifest.variant(entry.variant)
    # read_profile has made sure of it; a profile of something else is stale.
    assert written is not None
    return Candidate(
        name=f"{manifest.name}/{entry.name}",
        path=bundle.path,
        manifest_sha256=digest,
        variant=entry.variant,
        runtime=entry.runtime,
        runtime_version=entry.runtime_version,
        threads=entry.threads,
        task=manifest.task,
        metric=proven.metric(entry.variant, entry.runtime),
        metric_name=proven.metric_name,
        samples=proven.samples,
        size=manifest.files[written.file].size,
        peak_mib=None if entry.memory is None else entry.memory.peak_mib,
        memory_batch=1 if entry.memory is None else entry.memory.batch,
        points=entry.points,
        comparisons=tuple(
            item for item in profile.comparisons
            if (item.variant, item.runtime, item.threads) == (entry.variant, entry.runtime, entry.threads)
        ),
        guarded=any(item.role == "baseline" for item in manifest.variants),
        uncompared=entry.uncompared,
        faults=tuple(_faults(written.role, entry, proven)) or tuple(unusable),
    )  # fmt: skip


def _faults(role: Literal["hard", "baseline"], entry: VariantProfile, proven: Proven) -> Iterable[str]:
    if role == "baseline":
        yield "the float model that the hard form replaces; verify proves hard forms only"
        return
    if entry.failure:
        yield f"the measurement failed: {next(iter(entry.failure.splitlines()), '')}"
    if missing := proven.missing(entry.variant, entry.runtime):
        yield missing


def _unusable(
    bundle: Bundle, entry: VariantProfile, installed: Mapping[str, Installed], foreign: bool
) -> Iterable[str]:
    here = installed.get(entry.runtime, Installed(missing="it was not asked for"))
    if here.unserved:
        yield f"{entry.runtime} is never served: {here.unserved}"
    elif foreign:
        return
    elif here.missing:
        yield f"{entry.runtime} cannot run here: {here.missing}"
    elif here.version != entry.runtime_version:
        yield (
            f"stale: measured with {entry.runtime_version or 'an unnamed version'}, installed is "
            f"{here.version or 'an unnamed version'}: deploykit profile {bundle.path}"
        )


def names_of_metrics(candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of the metrics that are known."""
    return sorted({candidate.metric_name for candidate in candidates if candidate.metric_name})
