"""The README is executed: its Python blocks in order in one process, its shell blocks in order in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def _blocks(kind: str) -> str:
    return "\n".join(text for language, text in BLOCKS if language == kind)


def _run(command: list[str], script: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, input=script, cwd=folder, env={**os.environ, "PATH": path}, text=True, capture_output=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_readme_shows_both_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_every_block_is_of_a_kind_that_is_tested_or_only_shown() -> None:
    assert {language for language, _ in BLOCKS} <= {"python", "sh", "text", "toml"}


@pytest.mark.slow
def test_python_blocks_run(tmp_path: Path) -> None:
    output = _run([sys.executable, "-"], _blocks("python"), tmp_path)
    assert "float" in output
    assert (tmp_path / "mine.bundle" / "manifest.json").is_file()


@pytest.mark.slow
def test_shell_blocks_run(tmp_path: Path) -> None:
    # -m gives the script job control, which `kill %1` needs; a script has none by default.
    output = _run(["bash", "-e", "-m", "-s"], _blocks("sh"), tmp_path)
    assert "pruned.gate" in output
    assert "every proof that ran holds" in output
    assert '"gate"' in output
