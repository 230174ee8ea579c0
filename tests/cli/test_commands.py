"""The command line: messages, exit codes and JSON, through the installed program's own entry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploykit import open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.cli.main import run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one epoch was trained and exported by the installed command."""
    folder = tmp_path_factory.mktemp("work")
    program = str(Path(sys.executable).with_name("deploykit"))
    for arguments in (
        ["train", "plain.passthrough", "--task", "digits", "--network", "mlp", "--epochs", "1", "--out", "run"],
        ["export", "run", "--out", "plain.bundle"],
    ):
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "plain.bundle", tmp_path / "plain.bundle"))


def test_methods_as_table_and_as_json(call: Call) -> None:
    code, out, _ = call("methods")
    assert code == 0
    assert "plain.passthrough" in out
    code, out, _ = call("methods", "--json")
    listed = json.loads(out)
    assert code == 0
    assert listed["failures"] == []
    (entry,) = [item for item in listed["methods"] if item["name"] == "plain.passthrough"]
    assert entry["tasks"] == ["digits"]
    code, out, _ = call("methods", "plain.passthrough")
    assert out.startswith("plain.passthrough: any module as it is")
    code, out, _ = call("methods", "plain.passthrough", "--json")
    assert json.loads(out)["settings"] == {}


def test_an_unknown_method_suggests_the_nearest_without_a_traceback(call: Call) -> None:
    for arguments in (("methods", "plain.passthrogh"), ("train", "plain.passthrogh")):
        code, out, err = call(*arguments)
        assert code == 1
        assert err.startswith("error: no method 'plain.passthrogh' among ")
        assert "Did you mean 'plain.passthrough'?" in err
        assert "Traceback" not in out + err


def test_an_unknown_setting_is_told(call: Call, tmp_path: Path) -> None:
    code, _, err = call("train", "plain.passthrough", "--task", "digits", "--rate", "3", "--out", tmp_path / "r")
    assert code == 1
    assert "error: plain.passthrough has no flag --rate. It has: no flags." in err
    code, _, err = call("train", "pruned.gate", "--kep", "0.5", "--out", tmp_path / "r")
    assert code == 1
    assert "pruned.gate has no flag --kep. Did you mean --keep?" in err
    code, _, err = call("train", "pruned.gate", "--keep", "1.5", "--out", tmp_path / "r")
    assert code == 1
    assert "error: pruned.gate: --keep should be less than or equal to 1, got 1.5" in err
    code, _, err = call("train", "routed.fff", "--leaf-width", "wide", "--out", tmp_path / "r")
    assert code == 1
    assert "error: routed.fff: --leaf-width should be a valid integer, unable to parse" in err
    code, _, err = call("train", "plain.passthrough", "stray", "--out", tmp_path / "r")
    assert code == 1
    assert "did not understand 'stray': settings are given as --name value" in err
    assert not (tmp_path / "r").exists()


def test_plugins_are_shown_with_their_hooks(call: Call) -> None:
    code, out, _ = call("plugins", "--json")
    assert code == 0
    plugins = {item["name"]: item for item in json.loads(out)["plugins"]}
    assert plugins["plain"]["hooks"] == ["deploykit_methods"]
    assert plugins["plain"]["distribution"] == "deploykit"
    code, out, _ = call("plugins")
    assert code == 0
    assert "method plain.passthrough" in out
    assert "runtime onnxruntime-cpu" in out


@pytest.mark.parametrize("arguments", [("nonsense",), ("methods", "--nonsense"), ("inspect",)])
def test_wrong_usage_ends_with_two(call: Call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments)[0] == 2


def test_help_names_every_verb_and_the_exit_codes(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    verbs = (
        "methods", "plugins", "train", "harden", "export", "verify", "profile", "select", "serve", "inspect", "demo",
        "runtimes", "report", "compare",
    )  # fmt: skip
    for word in (*verbs, "Exit codes: 0 done, 1 something to mend, 2 wrong usage, 3 a proof failed"):
        assert word in out


def test_a_trained_run_is_hardened_and_refused_twice(call: Call, trained: Path) -> None:
    code, out, _ = call("harden", trained / "run", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["soft"] == found["hard"] > 0.3
    assert found["decisions"]["argmax"] == {"total": 128, "different": 0, "near_ties": 0}
    code, _, err = call("train", "plain.passthrough", "--network", "mlp", "--epochs", "1", "--out", trained / "run")
    assert code == 1
    assert "holds a run already; go on with --resume" in err
    code, _, err = call("harden", trained)
    assert code == 1
    assert "no training run at" in err


def test_inspect(call: Call, bundle: Path) -> None:
    code, out, _ = call("inspect", bundle, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((bundle / "manifest.json").read_text())
    code, out, _ = call("inspect", bundle)
    assert "image float32[batch, 1, 8, 8]" in out
    assert "not verified yet: deploykit verify" in out
    code, _, err = call("inspect", bundle / "models")
    assert code == 1
    assert "no readable bundle at" in err


def test_one_flipped_weight_byte_is_named(call: Call, bundle: Path) -> None:
    path = bundle / "models/onnx.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for verb in ("verify", "inspect"):
        code, out, err = call(verb, bundle)
        assert code != 0
        assert "'models/onnx.onnx' was changed after the bundle was written" in err
        assert "Traceback" not in out + err


def test_verify_writes_its_report_into_the_bundle(call: Call, bundle: Path) -> None:
    code, out, err = call("verify", bundle, "--no-http", "--no-speed", "--samples", "64", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert json.loads(open_bundle(bundle).read("proofs/verify.json")) == report
    reasons = {hop["name"]: hop["reason"] for hop in report["hops"]}
    assert reasons["http"] == "left out with --no-http"
    code, out, _ = call("inspect", bundle)
    assert "0 failed" in out


def test_a_failing_proof_ends_with_three_unless_accepted(call: Call, bundle: Path) -> None:
    opened = open_bundle(bundle)
    broken: dict[str, Any] = {"promise": {**opened.manifest.promise.model_dump(), "weight_bytes": 1}}
    extend_bundle(opened, {}, broken)
    quick = ("--no-http", "--no-speed", "--samples", "32")
    code, out, _ = call("verify", bundle, *quick)
    assert code == 3
    assert "promised were at most 1" in out.replace("\n", " ")
    assert open_bundle(bundle).manifest.accepted == ()
    code, _, _ = call("verify", bundle, *quick, "--accept", "known, issue 12")
    assert code == 0
    promised, entry = open_bundle(bundle).manifest.accepted
    assert promised.proof == "promise"
    assert (entry.proof, entry.reason) == ("shrinkage onnx", "known, issue 12")
    assert json.loads((bundle / "proofs/verify.json").read_text())["accepted"] == "known, issue 12"
    assert "accepted in spite of shrinkage onnx: known, issue 12" in call("inspect", bundle)[1]


@pytest.mark.parametrize(
    ("without", "arguments", "words"),
    [
        ("lightning_fabric", ("train", "pruned.gate"), r"lightning_fabric is not installed; .*'.\[export\]'"),
        ("torch", ("methods", "pruned.gate"), r"torch is not installed; .*'.\[export\]'"),
        ("torch", ("harden", "run"), r"torch is not installed; .*'.\[export\]'"),
        ("onnx", ("export", "model.onnx"), r"onnx is not installed; .*'.\[export\]'"),
        ("onnx", ("verify", "plain.bundle"), r"onnx is not installed; .*'.\[export\]'"),
        ("bentoml", ("serve", "plain.bundle"), r"bentoml is not installed; .*'.\[serve\]'"),
        (
            "onnxruntime",
            ("serve", "plain.bundle"),
            r"plain.bundle: variant 'onnx': runtime 'onnxruntime-cpu' cannot run here: "
            r"onnxruntime is not installed; .*'.\[serve\]'",
        ),
    ],
)
def test_a_missing_package_names_its_extra(trained: Path, without: str, arguments: tuple[str, ...], words: str) -> None:
    blocked = f"import sys; sys.modules.update({{name: None for name in ({without!r}, '_bentoml_impl')}})"
    program = f"{blocked}; sys.argv = ['deploykit', *{arguments!r}]; from deploykit.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=trained, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert re.fullmatch(f"error: {words}", done.stderr.splitlines()[-1]), done.stderr
    assert "Traceback" not in done.stderr


def test_an_accelerator_that_is_not_there(call: Call, tmp_path: Path) -> None:
    code, _, err = call("train", "plain.passthrough", "--accelerator", "abacus", "--out", tmp_path / "run")
    assert code == 1
    assert "error: no training with accelerator 'abacus', devices 1, strategy 'auto': " in err
    assert not (tmp_path / "run").exists()


def test_an_interrupted_training_says_how_to_go_on(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit_training import training

    real = training.train

    def interrupted(*arguments: Any, report: Any, **further: Any) -> Any:
        def stop(record: Any) -> None:
            report(record)
            raise KeyboardInterrupt

        return real(*arguments, report=stop, **further)

    monkeypatch.setattr(training, "train", interrupted)
    run_folder = tmp_path / "run"
    arguments = ("train", "plain.passthrough", "--network", "mlp", "--epochs", "2", "--out", run_folder)
    code, _, err = call(*arguments)
    assert code == 130
    assert f"interrupted after 1 of 2 epochs; give the same command with --resume to go on from {run_folder}" in err
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["deploykit", *map(str, arguments), "--resume"])
    with pytest.raises(SystemExit) as exit_info:
        run()
    assert exit_info.value.code in {0, None}


def test_an_onnx_file_that_is_none(call: Call, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    code, _, err = call("export", tmp_path / "bad.onnx", "--out", tmp_path / "bad.bundle")
    assert code == 1
    assert "error: not a valid ONNX model" in err
    code, _, err = call("export", tmp_path / "gone.onnx", "--out", tmp_path / "bad.bundle")
    assert code == 1
    assert "gone.onnx: No such file" in err
    assert not (tmp_path / "bad.bundle").exists()
