"""Compare two recorded profiles: nothing is measured, and what lies between two runs is part of the doubt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from deploykit.bundle import Bundle
from deploykit.errors import ConfigError
from deploykit_serving.profiling.recorded import read_profile
from deploykit_serving.profiling.schema import PROFILE_VERSION, Point, Profile
from deploykit_serving.profiling.significance import FEWEST, compare_runs
from deploykit_serving.report.blocks import percent_name
from deploykit_serving.report.difference import Compared, beside
from deploykit_serving.report.series import plain
from deploykit_serving.report.subject import Subject, read_subject

_LIMIT: Final = 64 << 20


def read_profile_file(path: Path) -> Profile:
    """Read a profile from a JSON file of its own, whatever host it is of.

    Raises:
        ConfigError: the file cannot be read, or is no profile of this version.
    """
    try:
        if os.path.getsize(path) > _LIMIT:
            raise ConfigError(f"{path} has more than {_LIMIT >> 20} MiB; that is no profile")
        profile = Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise ConfigError(
            f"{path} is not a profile: {where}: {fault['msg']}; wanted the file HOST.json of a bundle's folder profiles"
        ) from error
    if profile.version != PROFILE_VERSION:
        raise ConfigError(f"{path} is a profile of version {profile.version}; this deploykit reads {PROFILE_VERSION}")
    return profile


def compare_bundles_recorded(
    first: Bundle, second: Bundle, hosts: tuple[str, str], pairs: dict[str, str] | None, batch: int | None
) -> list[Compared]:
    """Compare what two bundles carry, or one bundle of two hosts; arguments as :func:`compare_profiles`.

    Raises:
        BundleError: a profile is missing or stale.
    """
    profiles = (read_profile(first, hosts[0]), read_profile(second, hosts[1]))
    subjects = (read_subject(first.path, hosts[0]), read_subject(second.path, hosts[1]))
    return compare_profiles(*profiles, pairs, batch, subjects=subjects)


def compare_profiles(
    first: Profile,
    second: Profile,
    pairs: dict[str, str] | None = None,
    batch: int | None = None,
    subjects: tuple[Subject, Subject] | None = None,
) -> list[Compared]:
    """Compare every point of one stream that both profiles hold: same runtime, threads and batch.

    Args:
        pairs: which variant of the first against which of the second; by default those of the same name.
        batch: only this one.
        subjects: the bundles, where metric and size are to be put beside.

    Raises:
        ConfigError: they have nothing in common.
    """
    found = []
    hosts = "" if first.host.id == second.host.id else f", on hosts {first.host.id} and {second.host.id}"
    for mine in first.variants:
        wanted = mine.variant if pairs is None else pairs.get(mine.variant, "")
        theirs = second.of(wanted, mine.runtime, mine.threads)
        if theirs is None:
            continue
        for point in filter(plain, mine.points):
            other = next((item for item in theirs.points if plain(item) and item.batch == point.batch), None)
            if other is not None and batch in {None, point.batch}:
                item = _compare((mine.name, theirs.name), point, other, hosts)
                variants = mine.variant, theirs.variant
                found.append(beside(item, subjects, (mine.runtime,) * 2, variants) if subjects else item)
    if not found:
        raise ConfigError(
            f"the two runs have no point in common (variant, runtime, threads{' and batch' if batch is None else ''}"
            f"{f', at batch {batch}' if batch is not None else ''}); A holds {_held(first)}; B holds {_held(second)}"
        )
    return found


def _compare(names: tuple[str, str], mine: Point, theirs: Point, hosts: str) -> Compared:
    how = f"two runs, {len(mine.blocks_ms)} and {len(theirs.blocks_ms)} blocks{hosts}"
    shared = []
    for entry in mine.percentiles:
        other = theirs.percentile(entry.q)
        if other is not None and entry.value_ms is not None and other.value_ms is not None:
            shared.append((percent_name(entry.q), entry.value_ms, other.value_ms))
    unusable = [f"in {which} {reason}" for which, point in (("A", mine), ("B", theirs)) if (reason := _unusable(point))]
    difference = None if unusable else compare_runs(mine.blocks_ms, theirs.blocks_ms)
    return Compared(
        *names, mine.batch, how, difference, "; ".join(unusable), percentiles=tuple(shared)
    )  # fmt: skip


def _unusable(point: Point) -> str:
    if point.invalid:
        return f"the point is invalid: {point.invalid}"
    if len(point.blocks_ms) < FEWEST:
        return f"it has {len(point.blocks_ms)} blocks, which says nothing; {FEWEST} are needed: profile longer"
    return ""


def _held(profile: Profile) -> str:
    return ", ".join(entry.name for entry in profile.variants) or "nothing"
