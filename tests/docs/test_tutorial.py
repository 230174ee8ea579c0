"""The tutorial is followed word for word: every block in its order, files where their titles say, in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())


def _script() -> str:
    """Return the page as a shell script."""
    parts = []
    for number, (language, title, text) in enumerate(BLOCKS):
        end = f"END_OF_BLOCK_{number}"
        if language == "sh":
            parts.append(text)
        elif title:
            parts.append(f"cat > {title} <<'{end}'\n{text}{end}\n")
        else:
            parts.append(f"python - <<'{end}'\n{text}{end}\n")
    return "".join(parts)


def _environment(folder: Path) -> dict[str, str]:
    """Make an environment that sees what is installed here, for a plugin is going to be installed into it."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = sysconfig.get_paths()["purelib"]
    # A line that begins with import is run: the folder's own .pth files count too, which a bare path would not do.
    (site / "surroundings.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    # The console script of deploykit itself belongs to the surrounding environment; here it needs its own.
    script = folder / "bin" / "deploykit"
    script.write_text(f"#!{folder}/bin/python\nfrom deploykit.cli.main import run\nrun()\n")
    script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def test_every_block_is_run() -> None:
    assert {language for language, _, _ in BLOCKS} == {"sh", "python"}
    text = _script()
    for words in ("plugin new", "pip install", "plugin check", "train ", "export ", "verify ", "serve ", "infer("):
        assert words in text


@pytest.mark.slow
def test_the_tutorial_works_word_for_word(tmp_path: Path) -> None:
    environment = _environment(tmp_path / "environment")
    home = tmp_path / "home"
    home.mkdir()
    (home / "deploykit").symlink_to(ROOT)
    done = subprocess.run(
        # -m gives the script job control, which `kill %1` needs.
        ["bash", "-e", "-m", "-s"], input=_script(), cwd=home, env=environment, text=True, capture_output=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    assert "every proof that ran holds" in done.stdout
    said = re.search(r"the digit is a (\d) and was labelled (\d)", done.stdout)
    assert said is not None
    assert said[1] == said[2]
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    assert "deploykit-steps" not in installed  # the surrounding environment stays as it was
