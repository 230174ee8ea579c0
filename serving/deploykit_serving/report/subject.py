"""One bundle as a report sees it: what it proves, what was measured of it on one host, and what is missing."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from deploykit.bundle import MANIFEST, SUFFIX, Bundle, open_bundle
from deploykit.errors import BundleError
from deploykit.manifest import Manifest
from deploykit.proof_binding import stale_reason
from deploykit_export.proof_report import ProofReport
from deploykit_serving.profiling.recorded import read_profile, recorded_hosts
from deploykit_serving.profiling.schema import Profile
from deploykit_serving.proofs import VERIFICATION


@dataclass(frozen=True, slots=True)
class Lack:
    """Something a bundle does not carry.

    Attributes:
        what: ``proofs`` or ``profile``.
        why: in words.
        command: makes it; empty where none is known.
    """

    what: str
    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A bundle and what it says about itself.

    Attributes:
        proofs: what ``verify`` found of these very files; ``None`` if there is nothing that can be relied on.
        profile: of the host the report is about; ``None`` likewise.
        lacks: why one of them is missing.
    """

    bundle: Bundle
    proofs: ProofReport | None
    profile: Profile | None
    lacks: tuple[Lack, ...]

    @property
    def manifest(self) -> Manifest:
        """The bundle's own words."""
        return self.bundle.manifest

    def size(self, variant: str) -> int | None:
        """Return the bytes of a variant's file."""
        entry = self.manifest.variant(variant)
        return None if entry is None else self.manifest.files[entry.file].size

    def metric_in(self, runtime: str, variant: str) -> float | None:
        """Return the task's metric of a variant in a runtime, larger is better; ``None`` if nobody has measured it."""
        hops = () if self.proofs is None else self.proofs.hops
        found = next((hop for hop in hops if hop.name == f"{runtime} {variant}" and hop.status == "run"), None)
        return None if found is None or found.metric is None or math.isnan(found.metric) else found.metric


def read_subject(path: Path, host_id: str) -> Subject:
    """Read a bundle, its proofs and its profile of one host.

    What is missing, stale or malformed becomes a :class:`Lack`.

    Raises:
        BundleError: the bundle itself cannot be read.
    """
    bundle = open_bundle(path)
    lacks: list[Lack] = []
    proofs = _proofs(bundle, lacks)
    profile = _profile(bundle, host_id, lacks)
    return Subject(bundle, proofs, profile, tuple(lacks))


def find_bundles(paths: Sequence[Path]) -> list[Path]:
    """Return the bundles among paths, and those that lie directly in the folders among them, each once, in order.

    Raises:
        BundleError: a path is neither, or there is no bundle in it.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.suffix == SUFFIX or (path / MANIFEST).is_file():
            inside = [path]
        elif not path.is_dir():
            raise BundleError(f"{path} is neither a bundle nor a folder of bundles; a bundle's folder ends in {SUFFIX}")
        else:
            inside = sorted(item for item in path.iterdir() if (item / MANIFEST).is_file() and item.name[0] != ".")
            if not inside:
                raise BundleError(f"no bundle in the folder {path}; write one with: deploykit export RUN")
        for item in inside:
            found.setdefault(item.resolve(), item)
    return list(found.values())


def _proofs(bundle: Bundle, lacks: list[Lack]) -> ProofReport | None:
    command = f"deploykit verify {shlex.quote(str(bundle.path))}"
    if VERIFICATION not in bundle.manifest.files:
        lacks.append(Lack("proofs", "never verified", command))
        return None
    try:
        content = json.loads(bundle.read(VERIFICATION))
        report = ProofReport.model_validate(content)
        stale = stale_reason(bundle.manifest, content)
    except (ValueError, ValidationError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        lacks.append(Lack("proofs", f"{VERIFICATION} is not a report of deploykit verify: {reason}", command))
        return None
    if stale:
        lacks.append(Lack("proofs", f"{VERIFICATION} is about other files: {stale}", command))
        return None
    return report


def _profile(bundle: Bundle, host_id: str, lacks: list[Lack]) -> Profile | None:
    command = f"deploykit profile {shlex.quote(str(bundle.path))}"
    hosts = recorded_hosts(bundle)
    if host_id not in hosts:
        others = f"; there are profiles of {', '.join(hosts)}, shown with --host" if hosts else ""
        lacks.append(Lack("profile", f"not measured on host {host_id}{others}", command))
        return None
    try:
        return read_profile(bundle, host_id)
    except BundleError as error:
        lacks.append(Lack("profile", str(error), command))
        return None
