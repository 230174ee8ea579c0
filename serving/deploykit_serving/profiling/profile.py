"""Profile a bundle: every variant measured in a process of its own, and each hard one against the float baseline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deploykit.bundle import Bundle, open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit_serving.profiling.campaign import Campaign, Note, Report
from deploykit_serving.profiling.closed_loop import overhead_ns
from deploykit_serving.profiling.comparison import compare_with_baseline, faster_variants
from deploykit_serving.profiling.findings import comparisons, variant_entries
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.journal import Journal, opened_journal
from deploykit_serving.profiling.merging import merged_with_earlier
from deploykit_serving.profiling.plan import ProfileOptions, make_plan
from deploykit_serving.profiling.sample_inputs import SampleInputs
from deploykit_serving.profiling.schema import Profile, Settings, profile_file

__all__ = ["ProfileOptions", "compare_with_baseline", "faster_variants", "measure_bundle", "profile_bundle"]


def profile_bundle(
    path: Path,
    options: ProfileOptions | None = None,
    *,
    report: Report | None = None,
    note: Note | None = None,
) -> Bundle:
    """Measure a bundle and publish it again with the profile of this host inside.

    Profiles of other hosts stay. In an earlier one of this host the entries that were measured again are replaced, and
    others stay unless they are stale. Until the end the bundle is not touched: what is finished is kept in a journal
    beside it, from which the next call with the same options goes on.

    Args:
        report: told what is measured and how much is done, from 0 to 1.
        note: told what is taken over from an interrupted call, and from the earlier profile.

    Raises:
        BundleError: the bundle or the journal cannot be read or written.
        ServingError: the bundle holds no variant for a runtime that was named. A variant that crashes, hangs or is
            refused is no error: its entry says so in ``failure``.
        UnknownNameError: no such runtime.
    """
    options, note = options or ProfileOptions(), note or _silent
    bundle = open_bundle(path)
    host = fingerprint()
    # Before anything is written: a wrong name must leave nothing behind.
    make_plan(bundle, options, host.id)
    with opened_journal(bundle.path, host.id, fresh=options.fresh) as journal:
        profile = _measure(bundle, options, journal, report or _quiet, note)
        merged, words = merged_with_earlier(bundle, profile)
        for word in words:
            note(word)
        content = merged.model_dump_json(indent=2).encode() + b"\n"
        published = extend_bundle(bundle, {profile_file(host.id): content})
        journal.remove()
    return published


def measure_bundle(bundle: Bundle, options: ProfileOptions | None = None, *, report: Report | None = None) -> Profile:
    """Measure a bundle on this host without writing anything; arguments and errors as :func:`profile_bundle`."""
    return _measure(bundle, options or ProfileOptions(), Journal(), report or _quiet, _silent)


def _measure(bundle: Bundle, options: ProfileOptions, journal: Journal, tell: Report, note: Note) -> Profile:
    host = fingerprint()
    units = make_plan(bundle, options, host.id)
    campaign = Campaign(bundle, units, journal, http=options.http, tell=tell, note=note)
    if campaign.taken_over:
        note(f"{campaign.taken_over} measurements of an interrupted call are taken over; --fresh would make them again")
    if campaign.left_out:
        note(f"{campaign.left_out} measurements of an interrupted call were made otherwise; they go when this one ends")
    inputs = SampleInputs(bundle).source
    findings = campaign.run()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Profile(
        created=created,
        host=host,
        settings=Settings(
            seconds=options.seconds,
            overhead_ns=overhead_ns() if findings.overhead_ns is None else findings.overhead_ns,
            inputs=inputs,
            canary_floor_ms=findings.canary_floor_ms,
        ),
        variants=variant_entries(units, findings, created),
        comparisons=comparisons(units, findings),
    )


def _quiet(what: str, done: float) -> None:
    return None


def _silent(words: str) -> None:
    return None
