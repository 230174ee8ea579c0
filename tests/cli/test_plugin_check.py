"""``deploykit plugin check``: what an author reads of a good plugin and of each fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.faulty_plugins import CONTRACT_FAULTS, DECODER, DISCOVERY_FAULTS, EXAMPLES, NOTHING
from tests.cli.plugin_projects import CommandLine, by_hand, written


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def decoder(folder: Path, implementation: str = NOTHING, tests: str = EXAMPLES, init: str = DECODER) -> Path:
    """Write a project that offers a decoder called ``mine``."""
    files = {"deploykit_mine/__init__.py": init, "deploykit_mine/mine.py": implementation}
    return by_hand(folder, files | ({"tests/test_mine.py": tests} if tests else {}))


def test_a_good_plugin_that_is_not_installed(call: CommandLine, tmp_path: Path) -> None:
    code, out, err = call("plugin", "check", written("decoder", tmp_path))
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].startswith("plugin best-class (deploykit-best-class 0.1.0), contract 1, loaded in ")
    assert lines[1:3] == ["  hooks: deploykit_decoders", "  offers: decoder best-class"]
    assert "plugin" in lines
    assert "decoder best-class: DecoderContract" in lines
    assert any(line.startswith("ok") and line.endswith("Discovery imports nothing heavy.") for line in lines)
    assert any("It neither writes into a model's outputs nor hands them out" in line for line in lines)
    assert " 0 failed, 0 skipped in " in lines[-1]
    assert "FAILED" not in out


def test_an_installed_plugin_by_name_and_as_json(call: CommandLine) -> None:
    code, out, _ = call("plugin", "check", "serving", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["ok"] is True
    assert report["counts"]["failed"] == 0
    assert report["subject"].startswith("serving ")
    (fact,) = report["facts"]
    offers = fact["offers"]
    assert "runtime onnxruntime-cpu" in offers
    made = next(check for check in report["checks"] if check["name"] == "made")
    assert made == {
        "group": "runtime onnxruntime-cpu", "name": "made", "outcome": "ok", "message": "",
        "says": "It is a deploykit.Runtime that can be made.", "seconds": made["seconds"],
    }  # fmt: skip
    groups = {check["group"] for check in report["checks"]}
    assert groups == {"plugin", *offers, *(f"{offer}: RuntimeContract" for offer in offers)}
    assert report["seconds"] > 0


@pytest.mark.parametrize("fault", DISCOVERY_FAULTS)
def test_a_fault_that_shows_before_anything_runs(call: CommandLine, tmp_path: Path, fault: str) -> None:
    files, text = DISCOVERY_FAULTS[fault]
    code, out, err = call("plugin", "check", by_hand(tmp_path, files), "--quick")
    assert (code, err) == (1, "")
    assert "FAILED " in out
    assert text in out


@pytest.mark.parametrize("fault", CONTRACT_FAULTS)
def test_a_fault_that_the_contract_finds(call: CommandLine, tmp_path: Path, fault: str) -> None:
    changes, text = CONTRACT_FAULTS[fault]
    code, out, err = call("plugin", "check", decoder(tmp_path, **changes))
    assert (code, err) == (1, "")
    assert text in out


def test_one_fault_is_told_once_and_not_tried_for_ever(call: CommandLine, tmp_path: Path) -> None:
    broken = NOTHING.replace("        if ", "        raise KeyError('mine')\n        if ")
    code, out, _ = call("plugin", "check", decoder(tmp_path, broken))
    assert code == 1
    assert "(the 3 checks before it failed with one and the same message; mend that first)" in out
    assert out.count("KeyError: 'mine'\n    raised in deploykit_mine/mine.py:11, decode") == 1


def test_a_decoder_without_examples_says_what_is_missing(call: CommandLine, tmp_path: Path) -> None:
    code, out, _ = call("plugin", "check", decoder(tmp_path, tests=""), "--json")
    (check,) = [check for check in json.loads(out)["checks"] if check["outcome"] == "skipped"]
    assert code == 0
    assert check["group"] == "decoder mine: DecoderContract"
    assert check["message"].startswith("only its author knows what to try it on: write a test with a DecoderContract")


def test_a_plugin_that_never_ends_is_ended(call: CommandLine, tmp_path: Path) -> None:
    endless = by_hand(tmp_path, {"deploykit_mine/__init__.py": "import time\ntime.sleep(1000)\n"})
    code, out, _ = call("plugin", "check", endless, "--timeout", "2")
    assert code == 1
    assert "the process that checks the plugin took more than 2 s while the plugin was loaded" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        ("hard = copy.deepcopy(soft.model)", "hard = soft.model", "harden changed the soft form's tensors"),
        ("return HardForm(hard)", "return HardForm(soft.model)", "steps.sigmoid: the hard form's module"),
        ("np.where(w < 0, -", "np.where(w < 0, ", "the hard form differs from its oracle: output 'logits'"),
        ("straight_through(one_bit(weight), weight)", "one_bit(weight.detach())", "no gradient ever reaches"),
    ],
)  # fmt: skip
def test_a_method_that_breaks_a_promise(call: CommandLine, tmp_path: Path, right: str, wrong: str, text: str) -> None:
    project = written("layer", tmp_path)
    file = project / "src" / "deploykit_steps" / "sigmoid.py"
    source = file.read_text()
    assert source.count(right) == 1
    file.write_text(source.replace(right, wrong))
    code, out, err = call("plugin", "check", project, "--quick", "--json")
    checks = json.loads(out)["checks"]
    assert (code, err) == (1, "")
    assert any(text in check["message"] for check in checks if check["outcome"] == "failed")
    left_out = {check["group"]: check["message"] for check in checks if check["name"] == "all"}
    assert left_out == {
        f"method steps.sigmoid: {contract}": "left out with --quick"
        for contract in ("ExportContract", "ServingContract")
    }


@pytest.mark.slow
def test_the_whole_check_of_a_new_layer_plugin(call: CommandLine, tmp_path: Path) -> None:
    code, out, _ = call("plugin", "check", written("layer", tmp_path), "--json")
    report = json.loads(out)
    assert code == 0
    groups = {check["group"].partition(": ")[2] for check in report["checks"] if check["outcome"] == "ok"}
    assert {"MethodContract", "ExportContract", "ServingContract"} <= groups


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"pyproject.toml": "[project\n"}, "pyproject.toml is no valid TOML: "),
        ({"pyproject.toml": "project = 3\n"}, "pyproject.toml gives no name"),
        ({"pyproject.toml": "[tool.x]\n"}, "pyproject.toml gives no name: write [project] with name and version"),
        (
            {"pyproject.toml": "[project]\nname = 'mine'\n"},
            "has no entry point for deploykit, which could not find the plugin: write [project.entry-points.deploykit]",
        ),
        (
            {},
            "entry point 'mine' names the module 'deploykit_mine', which is neither in src/ nor beside pyproject.toml "
            "nor one folder further down; correct [project.entry-points.deploykit], or install the plugin",
        ),
    ],
)
def test_a_folder_without_a_plugin(call: CommandLine, tmp_path: Path, files: Mapping[str, str], text: str) -> None:
    code, out, err = call("plugin", "check", by_hand(tmp_path, files))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert text in err


def test_what_is_no_plugin_at_all(call: CommandLine, tmp_path: Path) -> None:
    code, _, err = call("plugin", "check", tmp_path)
    assert (code, err) == (
        1, f"error: {tmp_path} has no pyproject.toml, so it is no plugin's project; give the folder that has one\n"
    )  # fmt: skip
    code, _, err = call("plugin", "check", "rooted")
    assert (code, err) == (1, "error: 'rooted' is neither a folder nor an installed plugin. Did you mean 'routed'?\n")


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_without_the_kits_own_needs(call: CommandLine, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = call("plugin", "check", "plain")
    text = f"error: {package} is not installed; install the extra: pip install -c constraints.txt '.[testing]'\n"
    assert (code, err) == (1, text)


def test_the_help_tells_what_is_checked(call: CommandLine) -> None:
    code, out, _ = call("plugin", "check", "--help")
    assert code == 0
    for words in ("--quick", "--json", "--timeout", "deploykit plugin check ./deploykit-steps", "exit code 1"):
        assert words in out
