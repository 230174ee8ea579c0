"""``deploykit plugin check`` looks at the whole plugin, and at nothing that lies about in the caller's folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from deploykit.plugin_check.module_names import top_package
from tests.cli.faulty_plugins import DECODER, EXAMPLES, NOTHING
from tests.cli.plugin_projects import CommandLine, by_hand


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def spaced(folder: Path) -> Path:
    made = folder / "my plugins"
    made.mkdir()
    return made


def checks_of(out: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in json.loads(out)["checks"]}


def test_stray_files_in_the_callers_folder_are_nobodys(
    call: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = tmp_path / "stray"
    stray.mkdir()
    for name in ("pytest", "pluggy"):
        (stray / f"{name}.py").write_text("raise RuntimeError('a stray file was imported')\n")
    files = {"deploykit_mine/__init__.py": DECODER, "deploykit_mine/mine.py": NOTHING, "tests/test_mine.py": EXAMPLES}
    project = by_hand(tmp_path, files)
    monkeypatch.chdir(stray)
    code, out, err = call("plugin", "check", project)
    assert (code, err) == (0, ""), out


def test_what_only_the_projects_folder_has_is_missing(
    call: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "src/deploykit_mine/__init__.py": DECODER,
        "src/deploykit_mine/mine.py": f"import beside_the_project\n{NOTHING}",
        "beside_the_project.py": "",
    }
    monkeypatch.chdir(by_hand(tmp_path, files))
    code, out, _ = call("plugin", "check", ".")
    assert code == 1
    assert "ModuleNotFoundError: No module named 'beside_the_project'" in out


@pytest.mark.parametrize(
    "value", ["one", "one.two", "one:three", "one.two:three.four", " one : three", "one [extra]", "one.two:x [extra]"]
)
def test_the_package_is_cut_out_of_what_an_entry_point_says(value: str) -> None:
    assert top_package(value) == "one"


def test_an_entry_point_that_names_an_object_is_scanned_too(call: CommandLine, tmp_path: Path) -> None:
    files = {
        "deploykit_mine/__init__.py": "from deploykit import hookimpl\n\n\nclass Plugin:\n    @hookimpl\n"
        "    def deploykit_decoders(self):\n        return ()\n\n\nplugin = Plugin()\n",
        "deploykit_mine/other.py": "from deploykit.registry import _Shelf\n",
    }
    project = by_hand(tmp_path, files, package="deploykit_mine:plugin")
    code, out, _ = call("plugin", "check", project, "--json")
    assert code == 1
    (fault,) = [item for item in json.loads(out)["checks"] if item["outcome"] == "failed"]
    assert fault["name"] == "public names"
    assert fault["message"].startswith("deploykit_mine/other.py:1 uses deploykit.registry._Shelf\n")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("[1]", "plugin 'mine' deploykit_contract must be a whole number such as 1, got [1]"),
        ("True", "plugin 'mine' deploykit_contract must be a whole number such as 1, got True"),
        ("99", "plugin 'mine' was written for plugin contract 99, this deploykit speaks 1; upgrade deploykit"),
        ("0", "plugin 'mine' was written for plugin contract 0, this deploykit speaks 1; install a newer version"),
    ],
)
def test_a_refused_version_fails_where_it_is_asked_for(call: CommandLine, tmp_path: Path, said: str, text: str) -> None:
    project = by_hand(tmp_path, {"deploykit_mine/__init__.py": f"deploykit_contract = {said}\n{DECODER}"})
    code, out, _ = call("plugin", "check", project, "--json")
    version = checks_of(out)["version"]
    assert (code, version["outcome"]) == (1, "failed")
    assert version["message"].startswith(text)


def test_a_plugin_that_did_not_load_was_not_asked_for_its_version(call: CommandLine, tmp_path: Path) -> None:
    project = by_hand(tmp_path, {"deploykit_mine/__init__.py": "import nobody_has_this"})
    _, out, _ = call("plugin", "check", project, "--json")
    version = checks_of(out)["version"]
    assert (version["outcome"], version["message"]) == ("skipped", "it did not load, so it could not be asked")


def test_commands_to_copy_survive_a_shell(call: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deploykit

    home = tmp_path / "deploy kit"
    (home / "deploykit").mkdir(parents=True)
    (home / "constraints.txt").touch()
    monkeypatch.setattr(deploykit, "__file__", str(home / "deploykit" / "__init__.py"))
    out_folder = spaced(tmp_path)
    code, out, _ = call("plugin", "new", "best-class", "--kind", "decoder", "--out", out_folder)
    project = str(out_folder / "deploykit-best-class")
    first, second = (shlex.split(line) for line in out.splitlines()[2:4])
    assert code == 0
    assert first == ["deploykit", "plugin", "check", project]
    assert second == ["pip", "install", "-c", str(home / "constraints.txt"), "-e", project]


def test_a_project_made_in_a_folder_with_a_space_can_be_checked(call: CommandLine, tmp_path: Path) -> None:
    code, out, _ = call("plugin", "new", "best-class", "--kind", "decoder", "--out", spaced(tmp_path))
    assert code == 0
    _, _, *words = shlex.split(out.splitlines()[2])
    code, out, _ = call("plugin", *words, "--quick")
    assert code == 0, out
