"""``deploykit verify``: the same samples through every hop, and the proofs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploykit.cli.options import AsJson, BundlePath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploykit.bundle import Bundle
    from deploykit_export.proof_report import ProofReport

_MANY_ULP: Final = 10**6


def verify(
    bundle: BundlePath,
    samples: Annotated[int, typer.Option(min=1, help="At most this many held-out samples.")] = 512,
    http: Annotated[bool, typer.Option(help="Also ask a real server over HTTP.")] = True,
    speed: Annotated[bool, typer.Option(help="Also time every variant against the float model.")] = True,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Fail if this runtime runs no file; may be given again. All that can run are compared."),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(min=0, help="How far any hop's metric may fall below the soft form's; the task says by default."),
    ] = None,
    accept: Annotated[
        str, typer.Option(metavar="REASON", help="Publish in spite of failed proofs; the reason is recorded.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Prove a bundle: soft, hard, file and server agree, the file shrank, routes skip work. Exit code 3 if not.

    Examples: deploykit verify b.bundle --max-loss 0.01 · deploykit verify b.bundle --accept "known, issue 12"
    """
    from deploykit.bundle import open_bundle
    from deploykit.cli.output import print_json

    opened = open_bundle(bundle)
    report = run_proofs(opened, samples=samples, http=http, speed=speed, max_loss=max_loss, runtimes=runtime or ())
    if accept and report.failures:
        report = report.model_copy(update={"accepted": accept})
    publish(opened, report)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        show(report)
    if report.failures and not accept:
        raise typer.Exit(3)


def run_proofs(
    opened: Bundle,
    *,
    samples: int = 512,
    http: bool = True,
    speed: bool = True,
    max_loss: float | None = None,
    runtimes: Sequence[str] = (),
) -> ProofReport:
    """Run every proof that can run here."""
    from deploykit.cli.surroundings import surroundings
    from deploykit_export.verification import verify_bundle

    return verify_bundle(
        opened, surroundings(http=http, speed=speed, runtimes=runtimes), samples=samples, max_loss=max_loss
    )


def publish(opened: Bundle, report: ProofReport) -> Bundle:
    """Write the report into the bundle; a failure stands there too, so that nobody serves it unknowingly."""
    from deploykit.bundle_writer import extend_bundle

    # Acceptances are about the failures of one report; a new report starts without any.
    entries = []
    if report.accepted:
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entries = [{"proof": proof.name, "reason": report.accepted, "when": when} for proof in report.failures]
    content = report.model_dump_json(indent=2).encode() + b"\n"
    return extend_bundle(opened, {"proofs/verify.json": content}, {"accepted": tuple(entries)})


def show(report: ProofReport) -> None:
    """Print hops and proofs as tables."""
    from deploykit.cli.output import number, print_table

    hops, reasons = [], []
    for hop in report.hops:
        if hop.status == "not run":
            hops.append((hop.name, "-", "-", "-", "-", "not run"))
            reasons.append(f"{hop.name} was not run: {hop.reason.splitlines()[0]}")
            continue
        decided = ", ".join(
            f"{name} {1 - (count.different + count.near_ties) / max(1, count.total):.2%}"
            for name, count in list(hop.decisions.items())[:3]
        )
        # Around zero every difference is millions of units in the last place; the absolute one says more there.
        ulp = "-" if hop.max_ulp is None else str(hop.max_ulp) if hop.max_ulp < _MANY_ULP else "> 10^6"
        hops.append((hop.name, number(hop.metric), number(hop.max_abs, 3), ulp, hop.compared_with or "-", decided))
    columns = ("hop", report.metric_name or "metric", "max abs", "max ulp", "compared with", "decisions agree")
    print_table(f"{report.samples} held-out samples", columns, hops, right=columns[1:4])
    for reason in reasons:
        typer.echo(reason)
    print_table("", ("proof", "state", "found"), [(item.name, item.status, item.detail) for item in report.proofs])
    if report.lost_at:
        typer.echo(f"most of the {report.metric_name} was lost at the hop: {report.lost_at}")
    failed = len(report.failures)
    skipped = sum(proof.status == "not run" for proof in report.proofs)
    verdict = f"{failed} failed" if failed else "every proof that ran holds"
    if failed and report.accepted:
        verdict += f", accepted: {report.accepted}"
    typer.echo(f"{verdict}{f', {skipped} could not run' if skipped else ''}, {report.seconds:.1f} s")
