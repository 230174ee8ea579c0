"""How the figures came about: hosts, settings, failures, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deploykit_serving.profiling.schema import Host, Profile
from deploykit_serving.report.blocks import Section, Table, load_words
from deploykit_serving.report.series import Series
from deploykit_serving.report.subject import Subject

_MOST_TROUBLES: Final = 12


def missing(subjects: Sequence[Subject]) -> Section:
    """List what bundles do not carry, and the command that makes it."""
    rows = tuple((subject.manifest.name, lack.what, lack.why, lack.command)
                 for subject in subjects for lack in subject.lacks)  # fmt: skip
    tables = (Table(("bundle", "missing", "why", "mend it with"), rows),) if rows else ()
    return Section("missing", "Missing", tables=tables)


def troubles(subjects: Sequence[Subject], series: Sequence[Series]) -> Section:
    """List failed measurements, points that must not be used, unstable ones, and failed proofs."""
    rows: list[tuple[str, ...]] = []
    for subject in subjects:
        accepted = {item.proof: item.reason for item in subject.manifest.accepted}
        for proof in subject.proofs.failures if subject.proofs else ():
            said = f"; accepted: {accepted[proof.name]}" if proof.name in accepted else ""
            rows.append((subject.manifest.name, "failed proof", f"{proof.name}: {proof.detail}{said}"))
    for one in series:
        if one.measured.failure:
            rows.append((one.label, "failed measurement", one.measured.failure))
        # One line for what happened at several points.
        places: dict[tuple[str, str], list[str]] = {}
        for point in one.measured.points:
            where = f"batch {point.batch}, {load_words(point)}"
            if point.invalid:
                places.setdefault(("invalid", point.invalid), []).append(where)
            elif not point.stable:
                apart = "" if point.spread is None else f" (last windows {point.spread:.0%} apart)"
                places.setdefault(("not stable", "the warm-up never settled"), []).append(f"{where}{apart}")
        rows += [(one.label, kind, f"{reason}: {'; '.join(found)}") for (kind, reason), found in places.items()]
    tables = (Table(("what", "trouble", "said"), tuple(rows), title=f"all {len(rows)}"),) if rows else ()
    made = "What failed, may not be used, or never settled."
    if len(rows) <= _MOST_TROUBLES:
        return Section("troubles", "Troubles", made, tables=tables)
    names: dict[str, set[str]] = {}
    for name, kind, _ in rows:
        names.setdefault(kind, set()).add(name)
    note = "; ".join(f"{kind}: {', '.join(sorted(found))}" for kind, found in names.items())
    return Section("troubles", "Troubles", made, folded=tables, notes=(f"{note}.",))


def comparisons(series: Sequence[Series]) -> Section:
    """Say each comparison with the float model."""
    profiles: dict[int, tuple[str, Profile]] = {}
    for one in series:
        if one.subject.profile is not None:
            profiles[id(one.subject)] = (one.subject.manifest.name, one.subject.profile)
    rows = tuple(
        (name, f"{item.variant}@{item.runtime}/{item.threads}", str(item.batch), f"{item.ratio:.3f}",
         f"{item.low:.3f}", f"{item.high:.3f}", str(item.pairs), item.verdict)
        for name, profile in profiles.values()
        for item in profile.comparisons
    )  # fmt: skip
    columns = ("bundle", "variant", "batch#", "times as fast#", "low#", "high#", "pairs#", "verdict")
    return Section(
        "comparisons",
        "Against the float model",
        "Measured in turns, in random order, so that what disturbs one disturbs the other. 95 % interval of the ratio.",
        tables=(Table(columns, rows),) if rows else (),
    )


def origins(subjects: Sequence[Subject]) -> Section:
    """Tell host and settings of every profile, and how the bundles were made."""
    profiles = [(subject.manifest.name, subject.profile) for subject in subjects if subject.profile is not None]
    rows = []
    for name, profile in profiles:
        canary = profile.settings.canary_floor_ms
        rows.append(
            (
                name,
                profile.created,
                f"{profile.settings.seconds:g}",
                profile.settings.inputs,
                f"{profile.settings.overhead_ns:.0f}",
                "windows not gated" if canary is None else f"gated, floor {canary:.4g} ms",
                ", ".join(sorted({f"{item.runtime} {item.runtime_version}".strip() for item in profile.variants})),
            )
        )
    made = tuple(
        (subject.manifest.name, subject.manifest.method or "made elsewhere", subject.manifest.task or "-",
         ", ".join(f"{key}={value}" for key, value in subject.manifest.config.items()) or "-",
         ", ".join(f"{key} {value}" for key, value in subject.manifest.toolchain.items()) or "-",
         subject.manifest.created)
        for subject in subjects
    )  # fmt: skip
    facts = tuple((subject.manifest.name, key, value) for subject in subjects
                  for key, value in subject.manifest.facts.items())  # fmt: skip
    columns = ("bundle", "measured", "seconds#", "inputs", "loop ns#", "canary", "runtimes")
    hosts = {profile.host.id: profile.host for _, profile in profiles}
    return Section(
        "origins",
        "How the figures were made",
        "Loop ns: what the timing loop reads when it calls nothing; part of every latency. Canary: a fixed small "
        "network that runs between windows; windows beside a slow canary are left out.",
        tables=(
            *((Table(columns, tuple(rows)),) if rows else ()),
            *(_host(host) for host in hosts.values()),
        ),
        folded=(
            Table(
                ("bundle", "method", "task", "settings", "made with", "written"), made, title="how bundles were made"
            ),
            *((Table(("bundle", "fact", "value"), facts, title="facts the bundles state"),) if facts else ()),
        ),
    )


def _host(host: Host) -> Table:
    quota = "none" if host.quota is None else f"{host.quota:g} cores"
    rows = (
        ("processor", f"{host.cpu}, {host.architecture}"),
        ("cores", f"{host.cores}, usable {host.usable_cores}, quota {quota}"),
        ("instruction sets", ", ".join(host.flags) or "unknown"),
        ("memory", f"{host.memory_gib:g} GiB"),
        ("clock", "unknown" if host.clock_mhz is None else f"{host.clock_mhz:.0f} MHz"),
        ("governor", host.governor or "not readable"),
        ("load at the start", "unknown" if host.load is None else f"{host.load:.2f}"),
        ("system", host.system),
        ("versions", f"Python {host.python}, NumPy {host.numpy}, {host.onnxruntime}"),
    )
    return Table((f"host {host.id}", ""), rows)
