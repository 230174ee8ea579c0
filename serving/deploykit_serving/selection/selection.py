"""``select``: from a catalogue of measured bundles and a budget to the variant that is measured to meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from deploykit.bundle import Bundle
from deploykit.errors import ConfigError
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.recorded import recorded_hosts
from deploykit_serving.profiling.schema import Profile
from deploykit_serving.selection.candidates import (
    Candidate,
    LeftOut,
    candidates_of,
    names_of_metrics,
    profile_of,
)
from deploykit_serving.selection.catalogue_bundles import check_interchangeable, open_catalogue
from deploykit_serving.selection.choosing import Selection, choose
from deploykit_serving.selection.installed import Installed, installed_runtimes
from deploykit_serving.selection.request import Request

__all__ = ["Request", "Selection", "select"]

Ask = Callable[[Iterable[str]], dict[str, Installed]]


def select(catalogue: Sequence[Path] | Path, request: Request, *, installed: Ask = installed_runtimes) -> Selection:
    """Choose among everything that was measured; reads profiles and proofs, measures nothing.

    Args:
        catalogue: bundles and folders of bundles.
        installed: tells what this machine has of the runtimes of these names.

    Returns:
        the answer, whose ``chosen`` is ``None`` where nothing meets everything; :meth:`Selection.require` raises then.

    Raises:
        BundleError: a path leads to no bundle, or two bundles have one name.
        ConfigError: the bundles cannot answer the same requests; a metric, runtime or host that was asked for is
            nowhere in the catalogue.
    """
    paths = [catalogue] if isinstance(catalogue, Path) else list(catalogue)
    bundles, left_out = open_catalogue(paths, request.task)
    check_interchangeable(bundles)
    here = fingerprint().id
    host = request.host or here
    foreign = host != here
    if foreign:
        _check_host(bundles, host)
    profiles: list[tuple[Bundle, Profile]] = []
    for bundle in bundles:
        profile = profile_of(bundle, host)
        if isinstance(profile, LeftOut):
            left_out.append(profile)
        else:
            profiles.append((bundle, profile))
    runtimes = {entry.runtime for _, profile in profiles for entry in profile.variants}
    have = installed(runtimes)
    candidates: list[Candidate] = []
    for bundle, profile in profiles:
        found, further = candidates_of(bundle, profile, have, foreign=foreign)
        candidates += found
        left_out += further
    _check_names(candidates, request, bundles)
    return choose(candidates, request, host=host, foreign=foreign, left_out=left_out)


def _check_host(bundles: Sequence[Bundle], host: str) -> None:
    there = sorted({name for bundle in bundles for name in recorded_hosts(bundle)})
    if host not in there:
        raise ConfigError(
            f"no bundle of the catalogue has a profile of host {host}; there are of: {', '.join(there) or 'none'}"
        )


def _check_names(candidates: Sequence[Candidate], request: Request, bundles: Sequence[Bundle]) -> None:
    if not candidates:
        return
    known = names_of_metrics(candidates)
    for name in request.floors:
        if name not in known:
            task = bundles[0].manifest.task
            whose = f"the metric of task {task!r}" if task else "what verify measured here"
            raise ConfigError(f"--min: no metric {name!r}; {whose} is: {', '.join(known) or 'not known, verify first'}")
    runtimes = sorted({candidate.runtime for candidate in candidates})
    for name in request.runtimes:
        if name not in runtimes:
            raise ConfigError(f"nothing was measured in runtime {name!r}; it was in: {', '.join(runtimes)}")
    threads = sorted({candidate.threads for candidate in candidates})
    for count in request.threads:
        if count not in threads:
            raise ConfigError(
                f"nothing was measured with {count} thread(s); it was with: {', '.join(map(str, threads))}"
            )
