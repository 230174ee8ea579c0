"""What the registry notices of plugins that load: heavy imports with their time, offers, later faults."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from deploykit import MethodCard, RuntimeCard, Signature, TargetCard, Written, hookimpl, installed
from deploykit.cards import Card
from deploykit.errors import PluginError, UnknownNameError
from deploykit.making import make_runtime, make_target
from deploykit.registry import Registry
from deploykit.runtime import Runtime
from deploykit.target import Target
from deploykit.testing import offered


def test_a_heavy_import_at_discovery_is_told_with_its_time(tmp_path: Path) -> None:
    # In a process of its own: here everything heavy was imported long ago.
    (tmp_path / "greedy.py").write_text("import sklearn.utils\n")
    (tmp_path / "modest.py").write_text("import json\n")
    program = """
from importlib.metadata import EntryPoint
from deploykit.registry import Registry
registry = Registry([EntryPoint(name, name, "deploykit") for name in ("greedy", "modest")])
print(registry.failures, *registry.remarks, sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    failures, *remarks = done.stdout.splitlines()
    assert failures == "[]"
    (remark,) = remarks
    assert remark.startswith("plugin 'greedy' imports scipy, sklearn at discovery, which took ")
    assert remark.endswith(
        "s of everybody's start; import it in the module that the card names, not in the module of the entry point"
    )


def test_a_record_says_what_is_offered() -> None:
    module = types.ModuleType("several")
    cards: dict[str, list[Card]] = {
        "deploykit_methods": [MethodCard("steps.sigmoid", "s", "m:A")],
        "deploykit_targets": [TargetCard("header", "s", "m:B")],
        "deploykit_runtimes": [RuntimeCard("slow", "s", "m:C")],
    }
    for hook, offers in cards.items():
        setattr(module, hook, hookimpl(lambda offers=tuple(offers): offers))
    registry = Registry([])
    record = registry.offer(module, "several")
    assert record.failure == ""
    assert set(record.offers) == {"method steps.sigmoid", "target header", "runtime slow"}
    assert list(registry.targets) == ["header"]
    assert list(registry.runtimes) == ["slow"]
    registry.withdraw(record)
    assert not {*registry.methods, *registry.targets, *registry.runtimes}
    assert registry.plugins == []


def test_a_later_fault_is_recorded_once() -> None:
    registry = Registry([])
    registry.offer(types.ModuleType("late"), "late")
    registry.report("late", "offers a verb 'train', which exists already; rename it")
    registry.report("late", "something else")
    assert registry.failures == ["plugin 'late' offers a verb 'train', which exists already; rename it"]


def test_targets_and_runtimes_must_be_of_their_kind() -> None:
    with offered(targets={"odd": Runtime}, runtimes={"odd": Target}):
        with pytest.raises(PluginError, match=r"odd: .* must be a subclass of deploykit.Target, got .*Runtime"):
            make_target("odd")
        with pytest.raises(PluginError, match=r"odd: .* must be a subclass of deploykit.Runtime, got .*Target"):
            make_runtime("odd")
    with offered(targets={"bare": Target}), pytest.raises(PluginError, match="lacks write; every plugin writes those"):
        make_target("bare")
    with pytest.raises(UnknownNameError, match=r"no runtime 'onnxruntime'.* Did you mean 'onnxruntime-cpu'\?"):
        make_runtime("onnxruntime")


def _target(files: str) -> type[Target]:
    class Made(Target):
        def write(self, variant: str, model: bytes, signature: Signature) -> Written:
            return Written({files: model})

    return Made


def test_classes_of_one_name_are_offered_apart() -> None:
    unspeakable = type("<made up>", (_target("c"),), {})
    classes = {"one": _target("a"), "two": _target("b"), "three": unspeakable}
    with offered(targets=classes):
        assert {name: type(make_target(name)) for name in classes} == classes


def test_what_is_offered_for_a_test_is_gone_after_it() -> None:
    class Odd(Target):
        pass

    with offered(targets={"odd": Odd}):
        assert "odd" in installed().targets
    assert "odd" not in installed().targets
    with pytest.raises(ValueError, match="target name must be lower case"), offered(targets={"Odd": Odd}):
        pass
    assert installed().failures == []


def test_a_plugin_that_was_refused_takes_nothing_with_it() -> None:
    registry = Registry([])
    kept = types.ModuleType("kept")
    kept.deploykit_methods = hookimpl(lambda: [MethodCard("steps.sigmoid", "s", "m:A")])  # type: ignore[attr-defined]
    assert registry.offer(kept, "steps").failure == ""
    second = registry.offer(types.ModuleType("second"), "steps")
    assert "another entry point has its name" in second.failure
    registry.withdraw(second)
    assert list(registry.methods) == ["steps.sigmoid"]
    assert [record.name for record in registry.plugins] == ["steps"]
    assert registry.failures == []


LOADING = """
import sys
from importlib.metadata import EntryPoint
from deploykit.registry import Registry
registry = Registry([EntryPoint(name, name, "deploykit") for name in ("talkative", "wrong")])
print(*registry.failures)
"""


@pytest.mark.parametrize("traced", [False, True])
def test_where_a_plugin_failed_and_what_it_printed(tmp_path: Path, traced: bool) -> None:
    (tmp_path / "talkative.py").write_text("print('hello from a plugin')\n")
    (tmp_path / "wrong.py").write_text("numbers = {}\nnumbers['x']\n")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""} | ({"DEPLOYKIT_TRACEBACK": "1"} if traced else {})
    done = subprocess.run(
        [sys.executable, "-c", LOADING], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "plugin 'wrong' did not load: KeyError: 'x' (wrong.py, line 2)\n"  # and nothing else
    assert "hello from a plugin" in done.stderr
    assert ("Traceback" in done.stderr) is traced
