"""Verbs of plugins: used when they fit, left out and reported when they do not."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploykit import hookimpl, installed
from deploykit.cli.plugin_verbs import add_plugin_verbs


def hello(name: str = "you") -> None:
    """Greet somebody."""
    typer.echo(f"hello {name}")


def unreadable(number: int | str) -> None:
    """Take this or that."""


@pytest.fixture
def plugin() -> Iterator[Callable[[Any], None]]:
    records = []

    def offer(returned: Any) -> None:
        def deploykit_cli() -> Any:
            if isinstance(returned, BaseException):
                raise returned
            return returned

        module = types.ModuleType("verbs")
        module.deploykit_cli = hookimpl(deploykit_cli)  # type: ignore[attr-defined]
        records.append(installed().offer(module, "verbs"))

    yield offer
    for record in records:
        installed().withdraw(record)


def app() -> typer.Typer:
    made = typer.Typer()
    made.command("train")(hello)
    made.command("export")(hello)
    add_plugin_verbs(made)
    return made


def test_a_verb_is_added(plugin: Callable[[Any], None]) -> None:
    plugin([("greet", hello)])
    done = CliRunner().invoke(app(), ["greet", "--name", "all"])
    assert done.output == "hello all\n"
    assert installed().failures == []


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([("train", hello)], "offers a verb 'train', which exists already; rename it"),
        ([("greet", hello), ("greet", hello)], "offers a verb 'greet', which exists already; rename it"),
        (RuntimeError("no licence"), "failed in deploykit_cli: RuntimeError: no licence"),
        (
            [("greet", unreadable), ("greet", hello)],
            "offers a verb 'greet' that typer cannot read: AssertionError: Typer currently doesn't support Union types",
        ),
        (SystemExit("bye"), "failed in deploykit_cli: SystemExit: bye"),
        (None, "misuses a hook: deploykit_cli must yield pairs of a name and a function, got None"),
        ([hello], "misuses a hook: deploykit_cli must yield pairs of a name and a function, got "),
        ({"greet": hello}, "misuses a hook: deploykit_cli must yield pairs of a name and a function, got ('greet',)"),
    ],
)
def test_a_verb_that_does_not_fit_is_left_out(plugin: Callable[[Any], None], returned: Any, words: str) -> None:
    plugin(returned)
    made = app()
    assert CliRunner().invoke(made, ["train"]).output == "hello you\n"
    (failure,) = installed().failures
    assert failure.startswith(f"plugin 'verbs' {words}")
