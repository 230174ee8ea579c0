"""Profiles that a bundle carries: read back, and never used for another host or another file without being asked."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from deploykit.bundle import Bundle
from deploykit.errors import BundleError
from deploykit_serving.profiling.schema import FOLDER, PROFILE_VERSION, Profile, profile_file


def recorded_hosts(bundle: Bundle) -> list[str]:
    """Return the ids of the hosts a bundle has profiles of."""
    return [name.removeprefix(f"{FOLDER}/").removesuffix(".json") for name in bundle.names(FOLDER)]


def read_profile(bundle: Bundle, host_id: str, versions: Mapping[str, str] | None = None) -> Profile:
    """Return the profile of one host; that of another machine than this must have been asked for by its id.

    Args:
        versions: what this machine has of each runtime by name; those named are checked, and none by default, for
            asking a runtime for its version may import it.

    Raises:
        BundleError: there is none for this host, it is malformed or of another version, it says it is another host's,
            or it is stale because a variant's file or a runtime's version has changed since.
    """
    profile = read_any(bundle, host_id)
    name = profile_file(host_id)
    for measured in profile.variants:
        entry = bundle.manifest.variant(measured.variant)
        if entry is None or bundle.manifest.files[entry.file].sha256 != measured.sha256:
            raise BundleError(
                f"{bundle.path}: {name} is stale: variant {measured.variant!r} has changed since; "
                f"run: deploykit profile {bundle.path}"
            )
        now = (versions or {}).get(measured.runtime, measured.runtime_version)
        # A runtime that could not run had no version; nothing was measured with it.
        if measured.runtime_version and now != measured.runtime_version:
            raise BundleError(
                f"{bundle.path}: {name} is stale: {measured.name} was measured with {measured.runtime_version}, and "
                f"this is {now}; run: deploykit profile {bundle.path} --runtime {measured.runtime}"
            )
    return profile


def read_any(bundle: Bundle, host_id: str) -> Profile:
    """Return the profile of one host, even if files or runtimes have changed since; errors as :func:`read_profile`."""
    name = profile_file(host_id)
    if name not in bundle.manifest.files:
        others = ", ".join(recorded_hosts(bundle)) or "none"
        raise BundleError(
            f"{bundle.path}: no profile of host {host_id} (profiles of: {others}); run: deploykit profile {bundle.path}"
        )
    data = bundle.read(name)
    again = f"run: deploykit profile {bundle.path}"
    version = _version(data)
    # First: what another version is like, this one's fields cannot tell.
    if version is not None and version != PROFILE_VERSION:
        raise BundleError(
            f"{bundle.path}: {name} has version {version}; this deploykit reads {PROFILE_VERSION}; {again}"
        )
    try:
        profile = Profile.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise BundleError(f"{bundle.path}: {name} is not valid: {where}: {fault['msg']}; {again}") from error
    if profile.host.id != host_id:
        raise BundleError(f"{bundle.path}: {name} was taken on host {profile.host.id}, not {host_id}; {again}")
    return profile


def _version(data: bytes) -> object:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content.get("version") if isinstance(content, dict) else None
