"""``deploykit report``: what bundles prove and cost, as one page that opens offline."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles, or folders of them.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page; JSON and CSV are put beside it.")] = Path(
        "report.html"
    ),
    host: Annotated[
        str, typer.Option(metavar="ID", help="Show profiles of this host; of this machine by default.")
    ] = "",
) -> None:
    """Write a page with accuracy against latency, gaps, histograms, curves and layers, and its numbers beside it.

    Nothing is measured: it shows what `deploykit verify` and `deploykit profile` wrote, and says what is missing.

    Examples: deploykit report bundles/gate.bundle · deploykit report bundles -o pages/report.html
    """  # fmt: skip
    from deploykit_serving.report.writing import make_report, write_report

    asked = ["deploykit", "report", *map(str, paths), "-o", str(output), *(("--host", host) if host else ())]
    made = make_report(paths, host_id=host, command=shlex.join(asked))
    page, record, rows = write_report(made, output)
    for lack in made.lacks:
        typer.echo(lack)
    typer.echo(f"{page} ({page.stat().st_size / 1e3:,.0f} kB), its numbers in {record} and {rows}")
