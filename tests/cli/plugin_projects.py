"""Plugin projects for tests: written by the command, by the scaffold, or by hand with a fault in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from deploykit import installed
from deploykit.cli.main import run
from deploykit.plugin_check.staging import stage
from deploykit.scaffold import KINDS, plugin_names, write_project

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = {
    "layer": "steps.sigmoid", "architecture": "hidden.bits", "task": "wine", "target": "packed",
    "runtime": "evaluator", "decoder": "best-class", "command": "sizes",
}  # fmt: skip


class CommandLine:
    """Runs ``deploykit ARGUMENTS`` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        self._monkeypatch.setenv("COLUMNS", "200")
        self._monkeypatch.setattr(sys, "argv", ["deploykit", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return int(exit_info.value.code or 0), out, err


def written(kind: str, out: Path, name: str = "") -> Path:
    """Write a project from its templates."""
    names = plugin_names(name or NAMES[kind], KINDS[kind], installed())
    return write_project(names, KINDS[kind], out)


def by_hand(folder: Path, files: Mapping[str, str], *, package: str = "deploykit_mine") -> Path:
    """Write a project called ``mine`` with an entry point of that name, and these files."""
    project = folder / "mine"
    pyproject = f"""
        [project]
        name = "deploykit-mine"
        version = "0.3.0"
        [project.entry-points.deploykit]
        mine = "{package}"
    """
    for path, text in {"pyproject.toml": pyproject, **files}.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text, encoding="utf-8")
    return project


def import_path(projects: Sequence[Path], home: Path) -> str:
    """Return a PYTHONPATH under which projects are found as if they were installed."""
    folders: list[Path] = []
    for project in projects:
        package = next(item.name for item in (project / "src").iterdir() if item.is_dir())
        point = {package.removeprefix("deploykit_").replace("_", "-"): package}
        folders += [stage(home / project.name, project.name, "0.1.0", point), project / "src"]
    return os.pathsep.join(map(str, folders))


def pytest_on(projects: Sequence[Path], home: Path) -> subprocess.CompletedProcess[str]:
    """Run the projects' own tests in one process, as their authors do, with their own settings."""
    home.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(projects[0] / "pyproject.toml"),
         *(str(project / "tests") for project in projects)],
        cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": import_path(projects, home / "staged")},
    )  # fmt: skip
