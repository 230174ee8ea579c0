"""Run every benchmark in a process of its own, one after the other, and write the pages in docs/ that hold the figures.

Run: python -m benchmarks.run_all [PAGE or NAME ...]. A page is written anew with what was run for it. Missed targets
are written down like met ones; exit 1 only if a benchmark did not run to its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.schema import Host

PAGES: Final = {
    "benchmarks": ("startup", "plugins", "binarized", "pruned", "routed", "pipeline", "methods", "serving"),
    "benchmarks-latency": ("measuring", "latency_table", "selection", "choice", "openvino"),
}
"""Pages of docs/ and the benchmarks whose figures they hold."""
BENCHMARKS: Final = tuple(name for names in PAGES.values() for name in names)
_ROOT: Final = Path(__file__).parent.parent
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run_all(names: tuple[str, ...], page: Path) -> bool:
    """Run benchmarks, write a page, and tell whether all of them ran to their end."""
    host = fingerprint()
    rows: list[str] = []
    notes: list[str] = []
    complete = True
    for name in names:
        print(f"{name} ...", flush=True)
        found, problem = run(name)
        if problem:
            complete = False
            print(f"  did not finish: {problem}")
            rows.append(f"| {name} | | did not finish | | no | `python -m benchmarks.{name}` |")
            notes.append(f"- **{name}**: {_cell(problem)}")
            continue
        for figure in found:
            print(f"  {figure['name']}: {figure['measured']} ({figure['interval']}); wanted {figure['target']}")
            rows.append(row(figure, name))
            if figure["beside"]:
                notes.append(f"- **{_cell(figure['name'])}**: {_cell(figure['beside'])}")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(host, rows, notes, load_after=fingerprint().load), encoding="utf-8")
    print(f"written: {page.name}")
    return complete


def run(name: str, timeout: float = 1800.0) -> tuple[list[dict[str, Any]], str]:
    """Run one benchmark; returns its figures, or none and what went wrong."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout, env={**os.environ, **_ONE_THREAD},
            cwd=_ROOT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [], f"took longer than {timeout:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return [], lines[-1] if lines else f"exit code {done.returncode}"
    figures: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["figures"]
    return figures, ""


def row(figure: dict[str, Any], name: str) -> str:
    """Return one line of the table."""
    met = {True: "yes", False: "**no**", None: "-"}[figure["met"]]
    cells = (
        figure["name"], figure["target"], figure["measured"], figure["interval"], met,
        f"`python -m benchmarks.{name}`",
    )  # fmt: skip
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def text(host: Host, rows: list[str], notes: list[str], *, load_after: float | None) -> str:
    """Return the page."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    quota = "no limit" if host.quota is None else f"{host.quota:g} cores"
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Written by `python -m benchmarks.run_all` on {when}; do not edit. Everything runs on one thread; what is",
            "compared is measured in turns, in random order, in one run. Intervals are 95 % and rest on ranks alone. A",
            "speed is met only if the lower end of its interval reaches the target by the clock on the wall and by CPU",
            "time as well: on a busy machine the first can flatter either side.",
            "",
            "| figure | target | measured | interval | met | command |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Beside the numbers:",
            "",
            *notes,
            "",
            f"## Host {host.id}",
            "",
            f"- {host.cpu}, {host.architecture}, {host.cores} cores ({host.usable_cores} usable, quota {quota}), "
            f"{host.memory_gib:g} GiB",
            f"- instruction sets: {', '.join(host.flags)}",
            f"- {host.system}, Python {host.python}, numpy {host.numpy}, {host.onnxruntime}",
            f"- load average when it began {_number(host.load)}, when it ended {_number(load_after)} (ours included); "
            f"governor {host.governor or 'not readable'}, clock {_number(host.clock_mhz)} MHz",
            "",
        ]
    )


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "not readable" if value is None else f"{value:g}"


if __name__ == "__main__":
    chosen = set(sys.argv[1:]) or set(PAGES)
    if unknown := chosen - {*BENCHMARKS, *PAGES}:
        sys.exit(f"no benchmark {sorted(unknown)[0]!r}; there are: {', '.join((*PAGES, *BENCHMARKS))}")
    complete = True
    for title, members in PAGES.items():
        if wanted := members if title in chosen else tuple(name for name in members if name in chosen):
            complete &= run_all(wanted, _ROOT / "docs" / f"{title}.md")
    sys.exit(0 if complete else 1)
