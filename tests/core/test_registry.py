"""The registry: plugins are found by entry point, broken ones are reported and stop nobody."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from deploykit.errors import DuplicateNameError, MissingExtraError, PluginError, UnknownNameError
from deploykit.making import make_decoder, make_method, make_task
from deploykit.registry import Registry, load_implementation

Plugin = Callable[[str, str], EntryPoint]

GOOD = """
    from deploykit import MethodCard, hookimpl

    @hookimpl
    def deploykit_methods():
        yield MethodCard(name="steps.sigmoid", summary="s", implementation="nowhere:Sigmoid", tasks=("digits",))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Write a module that nobody has imported yet and return its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, source: str) -> EntryPoint:
        module = f"plugin_{uuid.uuid4().hex}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        return EntryPoint(name=name, value=module, group="deploykit")

    return make


def cards_of(hook: str, card: str) -> str:
    return f"""
        from deploykit import DecoderCard, MethodCard, TaskCard, hookimpl

        @hookimpl
        def {hook}():
            return [{card}]
    """


def test_cards_of_every_kind_are_listed_sorted(plugin: Plugin) -> None:
    registry = Registry(
        [
            plugin("z", cards_of("deploykit_methods", 'MethodCard("b.two", "s", "m:A"), MethodCard("a.one", "s", "m:A")')),  # noqa: E501
            plugin("t", cards_of("deploykit_tasks", 'TaskCard("letters", "s", "m:A")')),
            plugin("d", cards_of("deploykit_decoders", 'DecoderCard("boxes", "s", "m:A")')),
        ]
    )  # fmt: skip
    assert list(registry.methods) == ["a.one", "b.two"]
    assert list(registry.tasks) == ["letters"]
    assert list(registry.decoders) == ["boxes"]
    assert registry.failures == []
    assert [(record.name, record.hooks) for record in registry.plugins] == [
        ("d", ("deploykit_decoders",)), ("t", ("deploykit_tasks",)), ("z", ("deploykit_methods",)),
    ]  # fmt: skip
    assert all(record.seconds > 0 for record in registry.plugins)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('no licence')", "did not load: RuntimeError: no licence"),
        ("import sys; sys.exit('go away')", "did not load: SystemExit: go away"),
        ("def broken(:", "did not load: SyntaxError"),
        (
            cards_of("deploykit_method", ""),
            "misuses a hook: .*unknown hook 'deploykit_method'.*Did you mean 'deploykit_methods'",
        ),
        (cards_of("deploykit_methods", "").replace("():", "(path):"), "misuses a hook: .*deploykit_methods"),
        (cards_of("deploykit_methods", "'a.one'"), "deploykit_methods must yield MethodCard, got str"),
        (
            cards_of("deploykit_methods", 'TaskCard("letters", "s", "m:A")'),
            "deploykit_methods must yield MethodCard, got TaskCard",
        ),
        (cards_of("deploykit_tasks", "").replace("[]", "None"), "deploykit_tasks must return TaskCards, got NoneType"),
        (cards_of("deploykit_methods", "").replace("[]", "'a.b'"), "must return MethodCards, got str"),
        (cards_of("deploykit_methods", "").replace("[]", "7"), "must return MethodCards, got int"),
        (cards_of("deploykit_methods", 'MethodCard("One", "s", "m:A")'), "ValueError: method name must read"),
        (cards_of("deploykit_methods", 'MethodCard("a.one", "s", "m")'), "implementation must read"),
    ],
)
def test_a_broken_plugin_is_reported_and_stops_nobody(plugin: Plugin, source: str, words: str) -> None:
    registry = Registry([plugin("a_broken", source), plugin("good", GOOD)])
    assert list(registry.methods) == ["steps.sigmoid"]
    (failure,) = registry.failures
    assert failure.startswith("plugin 'a_broken' ")
    with pytest.raises(UnknownNameError, match=words):  # who asks for its method learns why there is none
        registry.method_card("a.one")


def test_a_plugin_that_fails_late_leaves_none_of_its_cards(plugin: Plugin) -> None:
    source = cards_of("deploykit_methods", 'MethodCard("a.one", "s", "m:A"), 7')
    assert list(Registry([plugin("half", source)]).methods) == []


def test_a_module_that_is_not_there(plugin: Plugin) -> None:
    registry = Registry([EntryPoint("gone", "no_such_module_at_all", "deploykit"), plugin("good", GOOD)])
    assert registry.failures == [
        "plugin 'gone' did not load: ModuleNotFoundError: No module named 'no_such_module_at_all'"
    ]
    assert "steps.sigmoid" in registry.methods


def test_two_plugins_with_one_method_name_are_both_named(plugin: Plugin) -> None:
    registry = Registry([plugin("first", GOOD), plugin("second", GOOD)])
    assert "steps.sigmoid" not in registry.methods
    wanted = "method 'steps.sigmoid' is registered by the plugins 'first' and 'second'; uninstall one"
    with pytest.raises(DuplicateNameError, match=wanted):
        registry.method_card("steps.sigmoid")
    assert any("'first' and 'second'" in line for line in registry.failures)


def test_two_plugins_under_one_entry_point_name_leave_the_first_whole(plugin: Plugin) -> None:
    listener = GOOD + "\n    @hookimpl\n    def deploykit_cli():\n        return []\n"
    registry = Registry([plugin("same", listener), plugin("same", cards_of("deploykit_methods", ""))])
    assert len(registry.failures) == 1
    assert "another entry point has its name or its module" in registry.failures[0]
    assert "steps.sigmoid" in registry.methods
    assert [impl.plugin_name for impl in registry.manager.hook.deploykit_cli.get_hookimpls()] == ["same"]


def test_one_module_under_two_entry_points_is_used_once(plugin: Plugin) -> None:
    first = plugin("first", GOOD)
    registry = Registry([first, EntryPoint("second", first.value, "deploykit")])
    assert len(registry.failures) == 1
    assert registry.failures[0].startswith("plugin 'second' did not load")
    assert registry.method_card("steps.sigmoid").family == "steps"


def test_an_unknown_name_suggests_the_nearest(plugin: Plugin) -> None:
    registry = Registry([plugin("good", GOOD)])
    with pytest.raises(UnknownNameError, match=r"no method 'steps.sigmiod' among 1\. Did you mean 'steps.sigmoid'\?"):
        registry.method_card("steps.sigmiod")
    with pytest.raises(UnknownNameError, match=r"no method 'qqq' among 1\. There are: steps.sigmoid\."):
        registry.method_card("qqq")
    with pytest.raises(UnknownNameError, match=r"no task 'digits' among 0\. There are: none\."):
        registry.task_card("digits")
    with pytest.raises(UnknownNameError, match=r"no decoder 'boxes'"):
        registry.decoder_card("boxes")


def test_an_implementation_that_does_not_import(plugin: Plugin) -> None:
    registry = Registry([plugin("good", GOOD)])
    with pytest.raises(PluginError, match=r"steps.sigmoid: cannot import 'nowhere:Sigmoid': ModuleNotFoundError"):
        make_method("steps.sigmoid", registry=registry)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("torch", r"torch is not installed; install the extra: .*'\.\[export\]'"),
        ("cv2.dnn", r"cv2 is not installed; install the extra: .*'\.\[text\]'"),
        ("onnxruntime", r"onnxruntime is not installed; install the extra: .*'\.\[serve\]'"),
    ],
)
def test_an_implementation_that_needs_an_extra(plugin: Plugin, tmp_path: Path, module: str, words: str) -> None:
    needy = f"needy_{uuid.uuid4().hex}"
    # What Python raises where the package is not there; here it is.
    (tmp_path / f"{needy}.py").write_text(f"raise ModuleNotFoundError('No module named {module}', name={module!r})")
    registry = Registry([plugin("p", cards_of("deploykit_methods", f'MethodCard("a.one", "s", "{needy}:A")'))])
    with pytest.raises(MissingExtraError, match=words):
        make_method("a.one", registry=registry)


def test_other_failed_imports_are_of_no_extra() -> None:
    assert MissingExtraError.from_import(ModuleNotFoundError("no", name="numbers_of_mine")) is None
    assert MissingExtraError.from_import(ImportError("cannot import name 'x' from 'torch'", name="torch")) is None


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("json:dumps", "'json:dumps' is a function, wanted a class"),
        ("json:JSONDecoder", "must be a subclass of deploykit.Method, got json.decoder.JSONDecoder"),
        ("deploykit:Method", "'deploykit:Method' lacks decisions, harden, oracle.*; every plugin writes those"),
        ("json:Nothing", "cannot import 'json:Nothing': AttributeError"),
    ],
)
def test_an_implementation_of_the_wrong_kind(plugin: Plugin, target: str, words: str) -> None:
    source = cards_of("deploykit_methods", f'MethodCard("a.one", "s", "{target}")')
    with pytest.raises(PluginError, match=words):
        make_method("a.one", registry=Registry([plugin("p", source)]))


def test_tasks_and_decoders_of_the_wrong_kind(plugin: Plugin) -> None:
    registry = Registry(
        [
            plugin("t", cards_of("deploykit_tasks", 'TaskCard("letters", "s", "json:JSONDecoder")')),
            plugin("d", cards_of("deploykit_decoders", 'DecoderCard("boxes", "s", "json:JSONDecoder")')),
        ]
    )
    with pytest.raises(PluginError, match=r"letters: .* must be a subclass of deploykit.Task"):
        make_task("letters", registry)
    with pytest.raises(PluginError, match=r"boxes: .* must be a subclass of deploykit.Decoder"):
        make_decoder("boxes", registry=registry)


def test_a_card_leads_to_its_class() -> None:
    from deploykit import MethodCard

    assert load_implementation(MethodCard("a.one", "s", "json:JSONDecoder")).__name__ == "JSONDecoder"


def test_listing_imports_no_implementation(plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "costly.py").write_text("raise RuntimeError('imported')")
    source = cards_of("deploykit_methods", 'MethodCard("a.one", "s", "costly:A")')
    registry = Registry([plugin("p", source)])
    assert list(registry.methods) == ["a.one"]
    assert registry.failures == []


def test_installed_methods_are_listed_without_torch() -> None:
    code = (
        "import sys; from deploykit.registry import Registry; r = Registry(); assert r.methods; "
        "print(sorted({'torch', 'onnx', 'bentoml', 'onnxruntime', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
