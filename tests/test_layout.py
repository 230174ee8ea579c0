"""The rooms of the house are as the rules say."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploykit import hookspecs, installed

ROOT = Path(__file__).resolve().parents[1]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]  # fmt: skip
SOURCES = [path for path in TRACKED if path.suffix == ".py"]
PLUGINS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["deploykit"]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("deploykit_"))


def _implemented(path: Path) -> set[str]:
    """Return the hooks a file implements."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(item, ast.Name) and item.id == "hookimpl" for item in node.decorator_list)
    }


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert len(HOOKS) >= 5


@pytest.mark.parametrize("folder", ["export", "serving", "plugins", "tests"])
def test_folders_that_hold_packages_are_none(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_every_package_is_typed_and_uniquely_named() -> None:
    packages = [
        path.parent for path in TRACKED if path.match("deploykit*/__init__.py") and path.parts[-3] != "deploykit"
    ]
    names = [package.name for package in packages]
    assert len(set(names)) == len(names)
    assert [package.name for package in packages if not (package / "py.typed").exists()] == []


def test_every_plugin_has_an_entry_point_and_every_entry_point_a_plugin() -> None:
    homes = [path for room in ("export", "serving", "plugins") for path in (ROOT / room).glob("*/__init__.py")]
    offering = {path.parent.name for path in homes if _implemented(path)}
    assert offering == set(PLUGINS.values())


def test_no_file_is_longer_than_300_lines() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in long.items() if count > 300} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "common", "core", "helpers", "helper", "base", "misc"}
    modules = [path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts]
    assert [str(path) for path in modules if {path.stem, path.parent.name} & empty] == []


def test_no_text_names_a_machine() -> None:
    paths = re.compile(rb"/home/[a-z]|/Users/[A-Z]|/root/")
    found = [
        str(path.relative_to(ROOT))
        for path in TRACKED
        if path != Path(__file__).resolve() and b"\0" not in (data := path.read_bytes()) and paths.search(data)
    ]
    assert found == []


def test_nothing_reads_or_writes_a_pickle() -> None:
    words = re.compile(
        r"^\s*(?:import|from) (?:pickle|cloudpickle|joblib|dill)\b|\btorch\.(?:save|load)\(", re.MULTILINE
    )
    assert [str(path) for path in SOURCES if words.search(path.read_text())] == []


def test_no_room_of_the_frame_knows_a_methods_name() -> None:
    # Help texts and docstrings may give one as an example; the demo's default is which methods it shows.
    names = {card.name for card in installed().methods.values()} | {
        f"deploykit_{card.family}" for card in installed().methods.values()
    }
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for room in ("deploykit", "export", "serving")
        for path in SOURCES
        if path.is_relative_to(ROOT / room) and path != ROOT / "deploykit" / "cli" / "demo.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_implemented_by_a_plugin_or_by_a_test(hook: str) -> None:
    assert (getattr(hookspecs, hook).__doc__ or "").count("\n") > 2, "a hook is a promise in prose"
    homes = [path for path in SOURCES if path.parent != ROOT / "deploykit"]
    assert any(f"def {hook}(" in path.read_text() for path in homes)
