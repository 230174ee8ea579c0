"""What plugins cost: discovery of a hundred, the check of one, and the lines an author has to write.

Run: python -m benchmarks.plugins
"""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.figure import Figure, main
from deploykit import installed
from deploykit.plugin_check.staging import stage
from deploykit.scaffold import KINDS, plugin_names, write_project
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.statistics import percentile

PLUGINS: Final = 100
DISCOVERY_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 60.0
LINES: Final = 40
_LAYOUT: Final = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
_DISCOVER: Final = (
    "import json, time; started = time.perf_counter(); from deploykit import installed; found = installed(); "
    "print(json.dumps([time.perf_counter() - started, len(found.plugins), found.failures]))"
)


def measure() -> list[Figure]:
    """Measure all three; the plugins are written by ``deploykit plugin new``'s own code."""
    with tempfile.TemporaryDirectory(prefix="deploykit-plugins-") as folder:
        home = Path(folder)
        project = write_project(plugin_names("steps.sigmoid", KINDS["layer"], installed()), KINDS["layer"], home)
        return [_discovery(home), _check(project), _lines(project)]


def code_lines(text: str) -> int:
    """Count the lines of Python that hold code: no blank lines, no comments, no docstrings."""
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            told.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in _LAYOUT for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - told)


def lines_of(project: Path) -> int:
    """Count the code of a plugin's package, its tests and its packaging left out."""
    return sum(code_lines(file.read_text(encoding="utf-8")) for file in (project / "src").rglob("*.py"))


def hundred_plugins(home: Path) -> Path:
    """Write a hundred generated plugins as an installer would lay them out, and return the folder for the path."""
    site = home / "site"
    for number in range(PLUGINS):
        names = plugin_names(f"generated{number}.sigmoid", KINDS["layer"], installed())
        project = write_project(names, KINDS["layer"], home)
        shutil.copytree(project / "src", site, dirs_exist_ok=True)
        stage(site, names.distribution, "0.1.0", {names.family: names.package})
        shutil.rmtree(project)
    return site


def _discovery(home: Path, starts: int = 25) -> Figure:
    """Read the registry in new processes, with a hundred more plugins and without, in turns and in random order."""
    site = str(hundred_plugins(home))
    ours: list[float] = []
    all_of_them: list[float] = []
    _discover(site, [])  # fills the disk's cache
    interleave(
        lambda: _discover("", ours), lambda: _discover(site, all_of_them),
        seconds=0.0, at_least=starts, at_most=starts, block=1,
    )  # fmt: skip
    found, without = (percentile(np.array(seconds), 0.5) for seconds in (all_of_them, ours))
    assert found.value is not None
    assert found.high is not None
    assert without.value is not None
    return Figure(
        name=f"discovery of {PLUGINS} plugins beside ours",
        target=f"under {DISCOVERY_SECONDS} s",
        measured=f"{found.value:.3f} s",
        interval=f"{found.low:.3f} to {found.high:.3f} s, median of {found.samples} processes",
        met=found.high < DISCOVERY_SECONDS,
        beside=f"importing the registry's code included; ours alone, in the same run: {without.value:.3f} s",
    )


def _discover(site: str, taken: list[float]) -> None:
    path = os.pathsep.join(part for part in (site, os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(
        [sys.executable, "-c", _DISCOVER], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    seconds, plugins, failures = json.loads(done.stdout)
    if failures or (site and plugins <= PLUGINS):
        raise RuntimeError(f"found {plugins} plugins; {failures}")
    taken.append(seconds)


def _check(project: Path) -> Figure:
    """Run ``deploykit plugin check`` as its author does."""
    command = [str(Path(sys.executable).with_name("deploykit")), "plugin", "check", str(project), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    counts = json.loads(done.stdout)["counts"]
    return Figure(
        name="`deploykit plugin check` on a new layer plugin",
        target=f"under {CHECK_SECONDS:g} s",
        measured=f"{seconds:.1f} s",
        interval="one run",
        met=done.returncode == 0 and seconds < CHECK_SECONDS,
        beside=f"{counts['ok']} checks ok, {counts['failed']} failed, {counts['skipped']} skipped",
    )


def _lines(project: Path) -> Figure:
    count = lines_of(project)
    return Figure(
        name="a minimal layer plugin",
        target=f"at most {LINES} lines of code",
        measured=f"{count} lines",
        interval="counted",
        met=count <= LINES,
        beside="what `deploykit plugin new` writes, without blank lines, comments, docstrings, tests and packaging",
    )


if __name__ == "__main__":
    main(measure)
