"""Profiles that a bundle carries: read back, and never used for another host or another file without being asked."""

from __future__ import annotations

from pydantic import ValidationError

from deploykit.bundle import Bundle
from deploykit.errors import BundleError
from deploykit_serving.profiling.schema import FOLDER, PROFILE_VERSION, Profile, profile_file


def recorded_hosts(bundle: Bundle) -> list[str]:
    """Return the ids of the hosts a bundle has profiles of."""
    return [name.removeprefix(f"{FOLDER}/").removesuffix(".json") for name in bundle.names(FOLDER)]


def read_profile(bundle: Bundle, host_id: str) -> Profile:
    """Return the profile of one host.

    Raises:
        BundleError: there is none for this host, it is malformed or of another version, it says it is another host's,
            or it is stale because a variant's file has changed since.
    """
    name = profile_file(host_id)
    if name not in bundle.manifest.files:
        others = ", ".join(recorded_hosts(bundle)) or "none"
        raise BundleError(
            f"{bundle.path}: no profile of host {host_id} (profiles of: {others}); run: deploykit profile {bundle.path}"
        )
    try:
        profile = Profile.model_validate_json(bundle.read(name))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise BundleError(f"{bundle.path}: {name} is not valid: {where}: {fault['msg']}; profile again") from error
    if profile.version != PROFILE_VERSION:
        raise BundleError(
            f"{bundle.path}: {name} has version {profile.version}; this deploykit reads {PROFILE_VERSION}: "
            "profile again"
        )
    if profile.host.id != host_id:
        raise BundleError(f"{bundle.path}: {name} was taken on host {profile.host.id}, not {host_id}; profile again")
    for measured in profile.variants:
        entry = bundle.manifest.variant(measured.variant)
        if entry is None or bundle.manifest.files[entry.file].sha256 != measured.sha256:
            raise BundleError(
                f"{bundle.path}: {name} is stale: variant {measured.variant!r} has changed since; profile again"
            )
    return profile
