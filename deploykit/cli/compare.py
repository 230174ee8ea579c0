"""``deploykit compare``: is B faster than A, or was it luck; two bundles, or two recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import AsJson

if TYPE_CHECKING:
    from deploykit_serving.report.difference import Compared

_RUNTIME = "onnxruntime-cpu"


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A bundle, or a profile's JSON file.")],
    second: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="Another; may be left out with two --host.", show_default=False)
    ] = None,
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Only this one; NAME_IN_A=NAME_IN_B for two of different names.")
    ] = "",
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a call; 1, or all that were recorded.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="To measure, for everything together.")] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one operator.")] = 1,
    runtime: Annotated[str, typer.Option(help="What executes the files.")] = _RUNTIME,
    recorded: Annotated[bool, typer.Option("--recorded", help="Measure nothing: compare what profile wrote.")] = False,
    host: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="With --recorded: whose profile; twice for A's and B's.")
    ] = None,
    fail_if_slower: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, help="Exit with 3 if B is shown to be slower by more than this."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether B is faster than A, with an interval and the chance that it was luck.

    Two bundles are measured in turns, here and now, on the same inputs. Two recorded runs (profile files, --recorded,
    or two hosts) are compared by blocks, with a stated doubt for what lies between any two runs.

    Examples: deploykit compare old.bundle new.bundle · deploykit compare a.json b.json --fail-if-slower 5
    · deploykit compare new.bundle --host 0123456789ab --host ba9876543210
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit_serving.report.difference import table

    found = _compared(
        first, second, variant=variant, batch=batch, seconds=seconds, threads=threads, runtime=runtime,
        recorded=recorded, hosts=host or [],
    )  # fmt: skip
    slower = [item for item in found if fail_if_slower is not None and item.slower_than(fail_if_slower)]
    if as_json:
        print_json({"first": str(first), "second": str(second or first), "compared": [item.as_json() for item in found],
                    "failed": bool(slower)})  # fmt: skip
    else:
        columns, rows = table(found)
        print_table("A/B above 1: B is faster", columns, rows, right=columns[2:-1])
        told: set[tuple[str, str]] = set()
        for item in found:
            for sentence in item.sentences(files=(item.first, item.second) not in told):
                typer.echo(sentence)
            told.add((item.first, item.second))
        if slower:
            typer.echo(f"{len(slower)} of {len(found)} slower by more than {fail_if_slower:g} %")
    if slower:
        raise typer.Exit(3)


def _compared(
    first: Path, second: Path | None, *, variant: str, batch: int | None, seconds: float, threads: int, runtime: str,
    recorded: bool, hosts: list[str],
) -> list[Compared]:  # fmt: skip
    from deploykit.bundle import open_bundle
    from deploykit.errors import ConfigError

    files = [path for path in (first, second) if path is not None and path.suffix == ".json"]
    if files:
        from deploykit_serving.report.recorded_runs import compare_profiles, read_profile_file

        if second is None or len(files) < 2:
            raise ConfigError(f"{files[0]} is a profile file; wanted two of them, or two bundles")
        return compare_profiles(read_profile_file(first), read_profile_file(second), _pair(variant), batch)
    if second is None and len(hosts) < 2:
        raise ConfigError(
            "one bundle alone has nothing to be compared with: give another, or two hosts: --host A --host B"
        )
    if len(hosts) > 2:
        raise ConfigError(f"wanted at most two --host, one for A and one for B, got {len(hosts)}")
    mine = open_bundle(first)
    theirs = open_bundle(second) if second is not None else mine
    from deploykit_serving.report.pairing import check_signatures, paired_variants

    check_signatures(mine, theirs)
    if recorded or hosts:
        from deploykit_serving.profiling.host import fingerprint
        from deploykit_serving.report.recorded_runs import compare_bundles_recorded

        both = hosts or [fingerprint().id]
        return compare_bundles_recorded(mine, theirs, (both[0], both[-1]), _pair(variant), batch)

    from deploykit_serving.report.side_by_side import compare_bundles

    return compare_bundles(
        mine, theirs, paired_variants(mine, theirs, variant), runtime=runtime, threads=threads, batch=batch or 1,
        seconds=seconds, report=lambda what: typer.echo(f"measuring {what}", err=True),
    )  # fmt: skip


def _pair(variant: str) -> dict[str, str] | None:
    mine, _, theirs = variant.partition("=")
    return {mine: theirs or mine} if variant else None
