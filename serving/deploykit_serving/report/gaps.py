"""What is lost on the way: the same samples through every hop, and the proofs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from deploykit_export.proof_report import HopResult, ProofReport
from deploykit_serving.report.blocks import Chart, Section, Table
from deploykit_serving.report.canvas import ALARM, GRID, INK, MUTED, Canvas, canvas, colour, plain_number
from deploykit_serving.report.subject import Subject

_MANY_ULP: Final = 10**6


def gaps(subjects: Sequence[Subject]) -> Section:
    """Draw metric and largest difference of each hop, a chart a bundle; list hops and proofs."""
    proven = [(subject, subject.proofs) for subject in subjects if subject.proofs is not None]
    charts = [_chart(subject, report, number) for number, (subject, report) in enumerate(proven) if _run(report)]
    hops = tuple(row for subject, report in proven for row in _hop_rows(subject, report))
    proofs = tuple(
        (subject.manifest.name, proof.name, _state(subject, proof.name, proof.status), proof.detail)
        for subject, report in proven
        for proof in report.proofs
    )
    columns = ("bundle", "hop", "metric#", "max abs#", "max ulp#", "compared with", "decisions agree", "state")
    return Section(
        key="gaps",
        heading="What is lost on the way",
        made="The same held-out samples through the soft form, the hard form, the file in each runtime and the server. "
        "Left the task's metric, right the largest difference of any output element from the hop it is compared with.",
        charts=tuple(chart for chart in charts if chart is not None),
        folded=(
            *((Table(columns, hops, title="hops, exact numbers"),) if hops else ()),
            *((Table(("bundle", "proof", "state", "found"), proofs, title="proofs"),) if proofs else ()),
        ),
        notes=tuple(_verdict(subject, report) for subject, report in proven),
    )


def _run(report: ProofReport) -> list[HopResult]:
    return [hop for hop in report.hops if hop.status == "run"]


def _state(subject: Subject, name: str, status: str) -> str:
    reasons = [item.reason for item in subject.manifest.accepted if item.proof == name]
    return f"{status}, accepted: {reasons[0]}" if status == "failed" and reasons else status


def _verdict(subject: Subject, report: ProofReport) -> str:
    counts = {status: sum(proof.status == status for proof in report.proofs) for status in
              ("passed", "failed", "marked", "not run")}  # fmt: skip
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    lost = f"; most of the {report.metric_name} was lost at the hop {report.lost_at}" if report.lost_at else ""
    return f"{subject.manifest.name}: {report.samples} samples; proofs: {words or 'none'}{lost}."


def _hop_rows(subject: Subject, report: ProofReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for hop in report.hops:
        agree = ", ".join(
            f"{name} {1 - (count.different + count.near_ties) / max(1, count.total):.2%}"
            for name, count in hop.decisions.items()
        )
        ulp = "-" if hop.max_ulp is None else str(hop.max_ulp) if hop.max_ulp < _MANY_ULP else "> 10^6"
        rows.append(
            (
                subject.manifest.name,
                hop.name,
                "-" if hop.metric is None else f"{hop.metric:.6g}",
                "-" if hop.max_abs is None else f"{hop.max_abs:.3g}",
                ulp,
                hop.compared_with or "-",
                agree or "-",
                hop.status if hop.status == "run" else f"not run: {(hop.reason.splitlines() or [''])[0]}",
            )
        )
    return rows


def _chart(subject: Subject, report: ProofReport, number: int) -> Chart:
    hops = report.hops
    metrics = [(row, hop.metric) for row, hop in enumerate(hops) if hop.status == "run" and hop.metric is not None]
    with canvas(f"gap{number}", 440, 78 + 27 * len(hops)) as drawing:
        left, right = drawing.figure.subplots(1, 2, sharey=True)
        for row, metric in metrics:
            (dot,) = left.plot([metric], [row], marker="o", color=colour(number), markersize=7.5)
            drawing.tip(dot, f"{hops[row].name}: {report.metric_name} {metric:.6g}")
        left.plot([metric for _, metric in metrics], [row for row, _ in metrics], color=MUTED, linewidth=1, zorder=1)
        _differences(drawing, right, hops, number)
        names = [hop.name if len(hop.name) < 27 else f"…{hop.name[-25:]}" for hop in hops]
        left.set_yticks(range(len(hops)), names)
        left.set_ylim(len(hops) - 0.4, -0.6)
        values = [metric for _, metric in metrics] or [0.0]
        room = max((max(values) - min(values)) * 0.2, abs(max(values)) * 0.01, 1e-3)
        left.set_xlim(min(values) - room, max(values) + room)
        left.set_xlabel(report.metric_name or "metric")
        left.xaxis.set_major_locator(_few())
        left.xaxis.set_major_formatter(lambda value, _: plain_number(round(value, 10)))
        right.set_xlabel("max abs difference")
        for axes in (left, right):
            axes.grid(color=GRID)
            axes.tick_params(labelcolor=INK)
            axes.tick_params(axis="y", length=0)
        svg = drawing.svg(f"metric and largest difference of {len(hops)} hops of {subject.manifest.name}")
    return Chart(subject.manifest.name, svg)


def _differences(drawing: Canvas, axes: Any, hops: Sequence[HopResult], number: int) -> None:
    positive = [hop.max_abs for hop in hops if hop.max_abs]
    floor = min(positive, default=1e-6) / 30
    top = max(positive, default=1e-6)
    axes.set_xscale("log")
    axes.set_xlim(floor, top * 30)
    axes.xaxis.set_major_locator(_few(log=True))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    for row, hop in enumerate(hops):
        if hop.status != "run":
            axes.annotate("not run", (0.03, row), xycoords=axes.get_yaxis_transform(), va="center", fontsize=9.5,
                          color=ALARM)  # fmt: skip
        elif hop.max_abs == 0:
            axes.annotate("equal bit for bit", (0.03, row), xycoords=axes.get_yaxis_transform(), va="center",
                          fontsize=9.5, color=MUTED)  # fmt: skip
        elif hop.max_abs is not None:
            (bar,) = axes.barh([row], [hop.max_abs], color=colour(number), height=0.5)
            drawing.tip(bar, f"{hop.name}: {hop.max_abs:.3g} from {hop.compared_with}")
            axes.annotate(f"{hop.max_abs:.1e}", (hop.max_abs, row), xytext=(4, 0), textcoords="offset points",
                          va="center", fontsize=9.5, color=INK)  # fmt: skip


def _few(*, log: bool = False) -> Any:
    from matplotlib.ticker import LogLocator, MaxNLocator

    return LogLocator(numticks=4) if log else MaxNLocator(3)
