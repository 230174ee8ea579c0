"""The gallery of broken plugins, part one: what the registry tells the author when it looks for plugins."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
import typer

from deploykit import installed, make_method
from deploykit.cli.plugin_verbs import add_plugin_verbs
from deploykit.errors import DuplicateNameError, PluginError
from deploykit.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


def entry_point(name: str) -> EntryPoint:
    return EntryPoint(name, f"tests.core.gallery.{name}", "deploykit")


NOT_LOADED = {
    "imports_what_is_not_there": "did not load: ModuleNotFoundError: No module named 'numbers_of_mine'",
    "misspells_a_hook": (
        "misuses a hook: unknown hook 'deploykit_method' in plugin .*misspells_a_hook.*"
        r"Did you mean 'deploykit_methods'\?"
    ),
    "asks_a_hook_for_more": (
        r"misuses a hook: Plugin 'asks_a_hook_for_more' for hook 'deploykit_methods'\n.*"
        r"Argument\(s\) {'folder'} are declared in the hookimpl but can not be found in the hookspec"
    ),
    "returns_one_card": "did not load: PluginError: deploykit_methods must return MethodCards, got MethodCard",
    "yields_names": "did not load: PluginError: deploykit_methods must yield MethodCard, got str",
    "is_of_a_later_contract": (
        "was written for plugin contract 99, this deploykit speaks 1; upgrade deploykit, or install an older version "
        "of the plugin"
    ),
    "is_of_an_earlier_contract": (
        "was written for plugin contract 0, this deploykit speaks 1; install a newer version of the plugin, or ask "
        "its author"
    ),
}


@pytest.mark.parametrize("name", NOT_LOADED)
def test_a_plugin_that_cannot_be_used_is_told_why(name: str) -> None:
    registry = Registry([entry_point(name)])
    (failure,) = registry.failures
    assert re.match(f"plugin {name!r} {NOT_LOADED[name]}", failure, re.DOTALL), failure
    assert not registry.methods


def test_claims_a_taken_name() -> None:
    (ours,) = (point for point in entry_points(group="deploykit") if point.name == "tasks")
    registry = Registry([ours, entry_point("claims_a_taken_name")])
    words = (
        "task 'digits' is registered by the plugins 'claims_a_taken_name' and 'tasks'; uninstall one or rename its task"
    )
    assert registry.failures == [words]
    with pytest.raises(DuplicateNameError, match=words):
        registry.task_card("digits")
    assert "pages" in registry.tasks, "only the name is in question, not the plugin"


def test_imports_torch_at_discovery() -> None:
    program = (
        "from importlib.metadata import EntryPoint; from deploykit.registry import Registry; "
        "r = Registry([EntryPoint('prompt', 'tests.core.gallery.imports_torch_at_discovery', 'deploykit')]); "
        "print(*r.failures, *r.remarks, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    (remark,) = done.stdout.splitlines()
    assert re.fullmatch(
        r"plugin 'prompt' imports (\w+, )*torch at discovery, which took \d+\.\d\d s of everybody's start; import it "
        "in the module that the card names, not in the module of the entry point",
        remark,
    ), remark


def test_takes_a_verb_that_exists() -> None:
    app = typer.Typer()
    app.command("train")(lambda: None)
    entry = entry_point("takes_a_verb_that_exists")
    record = installed().offer(entry.load(), entry.name)
    try:
        add_plugin_verbs(app)
        assert installed().failures == [
            "plugin 'takes_a_verb_that_exists' offers a verb 'train', which exists already; rename it"
        ]
    finally:
        installed().withdraw(record)


LATE = {
    "names_no_class": (
        "gallery.renamed",
        "gallery.renamed: cannot import 'tests.core.gallery.names_no_class:OldName': AttributeError: module "
        "'tests.core.gallery.names_no_class' has no attribute 'OldName'",
    ),
    "lacks_a_method": (
        "gallery.half",
        "gallery.half: 'tests.core.gallery.lacks_a_method:Half' lacks decisions, oracle; every plugin writes those",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_a_card_that_leads_nowhere_is_told_when_it_is_used(name: str) -> None:
    method, words = LATE[name]
    registry = Registry([entry_point(name)])
    assert registry.failures == [], "nothing is imported before it is used"
    with pytest.raises(PluginError) as told:
        make_method(method, registry=registry)
    assert str(told.value) == words


CAUGHT = {
    *NOT_LOADED, *LATE, "claims_a_taken_name", "imports_torch_at_discovery", "takes_a_verb_that_exists",
}  # fmt: skip
