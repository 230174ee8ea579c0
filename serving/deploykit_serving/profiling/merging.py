"""A profile taken anew and this host's earlier one: what was measured again replaces, the rest stays if it holds."""

from __future__ import annotations

from deploykit.bundle import Bundle
from deploykit.errors import BundleError, DeploykitError
from deploykit.making import make_runtime
from deploykit_serving.profiling.recorded import read_any
from deploykit_serving.profiling.schema import Profile, VariantProfile, profile_file


def merged_with_earlier(bundle: Bundle, profile: Profile) -> tuple[Profile, tuple[str, ...]]:
    """Return a new profile with what still holds of the host's earlier one, and what became of that in words.

    Raises:
        BundleTamperedError: the earlier profile is not the one that the bundle's manifest describes.
    """
    if profile_file(profile.host.id) not in bundle.manifest.files:
        return profile, ()
    try:
        earlier = read_any(bundle, profile.host.id)
    except BundleError as error:
        return profile, (f"the earlier profile of this host is replaced as a whole: {error}",)
    if earlier.settings.inputs != profile.settings.inputs:
        changed = f"it was measured with {earlier.settings.inputs}, and now with {profile.settings.inputs}"
        return profile, (f"the earlier profile of this host is replaced as a whole: {changed}",)
    fresh = {_key(entry) for entry in profile.variants}
    kept, words = [], []
    versions: dict[str, str | None] = {}
    stale = {_key(entry): _stale(bundle, entry, versions) for entry in earlier.variants}
    for entry in earlier.variants:
        if _key(entry) in fresh:
            continue
        if reason := stale[_key(entry)]:
            words.append(f"the earlier figures of {entry.name} are dropped: {reason}")
        else:
            kept.append(entry)
    if kept:
        words.append(f"earlier figures stay: {', '.join(entry.name for entry in kept)}")
    stays = {_key(entry) for entry in kept}
    compared = []
    for item in earlier.comparisons:
        if (item.variant, item.runtime, item.threads) not in stays:
            continue
        # The baseline may have been measured again, so that it is not among what stays: its file must be the same.
        if reason := stale.get((item.baseline, item.runtime, item.threads), "there are no figures of it"):
            where = f"{item.variant}@{item.runtime}/{item.threads} at batch {item.batch}"
            words.append(f"the earlier comparison of {where} with {item.baseline} is dropped: {reason}")
        else:
            compared.append(item)
    return (
        profile.model_copy(
            update={
                "variants": (*profile.variants, *kept),
                "comparisons": (*profile.comparisons, *compared),
            }
        ),
        tuple(words),
    )


def _key(entry: VariantProfile) -> tuple[str, str, int]:
    return entry.variant, entry.runtime, entry.threads


def _stale(bundle: Bundle, entry: VariantProfile, versions: dict[str, str | None]) -> str:
    variant = bundle.manifest.variant(entry.variant)
    if variant is None or bundle.manifest.files[variant.file].sha256 != entry.sha256:
        return "the file has changed since"
    if entry.runtime not in versions:
        versions[entry.runtime] = _version(entry.runtime)
    now = versions[entry.runtime]
    if now is None:
        return f"{entry.runtime} cannot run here any more"
    return "" if now == entry.runtime_version else f"{entry.runtime} was {entry.runtime_version} and is {now}"


def _version(runtime: str) -> str | None:
    try:
        engine = make_runtime(runtime)
        return None if engine.missing() else engine.version()
    except DeploykitError:
        return None
