"""``deploykit select`` as people call it: answers, exit codes, messages, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploykit.cli.main import run
from deploykit_serving.profiling.schema import Load
from deploykit_serving.selection.deployment import Deployment
from deploykit_serving.selection.installed import installed_runtimes
from tests.serving.selection.made_catalogues import HERE, Made, another_host, contents, point, write_measured

Call = Callable[..., tuple[int, str, str]]
ENGINE = "onnxruntime-cpu"


@pytest.fixture(scope="module")
def version() -> str:
    """The version of the runtime that is really installed, for profiles that are not stale."""
    return installed_runtimes([ENGINE])[ENGINE].version


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``deploykit select ARGUMENTS`` in this process; gives exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "400")

    def do(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deploykit", "select", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(exit_info.value.code or 0), out, err

    return do


@pytest.fixture
def folder(tmp_path: Path, version: str) -> Path:
    catalogue = tmp_path / "bundles"
    for name, ms, metric in (("slow", 4.0, 0.99), ("fast", 1.0, 0.95), ("poor", 0.5, 0.8)):
        made = Made("v", [point(ms), point(3 * ms, batch=4)], runtime=ENGINE, version=version, metric=metric)
        write_measured(catalogue, name, [made])
    return catalogue


def test_the_best_within_the_budget(call: Call, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    code, out, err = call(folder, "--budget", "p99=5ms", "--min", "accuracy=0.9", "-o", file)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        "fast/v@onnxruntime-cpu/1: p99 2 ms, at most 2.2 ms with 99 % confidence, within 5 ms, accuracy 0.95"
    )
    assert out.splitlines()[1].startswith("a closed loop does not see stalls between its calls, and fast/v@")
    assert "5 of 6 candidates rejected; --explain says why" in out
    assert f"written: {file}, 1 variant; serve it: deploykit serve {file}" in out
    assert Deployment.model_validate_json(file.read_bytes()).variants[0].name == "fast/v@onnxruntime-cpu/1"
    code, out, _ = call(folder, "--budget", "p99=9ms", "--json", "-o", file)
    answer = json.loads(out)
    assert (code, answer["chosen"], answer["deployment"]) == (0, "slow/v@onnxruntime-cpu/1", str(file))
    assert [name.partition("/")[0] for name in answer["front"]] == ["slow", "fast", "poor"]


def test_an_impossible_budget_ends_with_four(call: Call, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    code, out, err = call(folder, "--budget", "p99=1ms", "--min", "accuracy=0.9", "-o", file)
    assert (code, out) == (4, "")
    assert err == (
        "error: nothing meets the budget; the nearest is poor/v@onnxruntime-cpu/1: p99 1.1 ms (bound), 0.1 ms over "
        "1 ms; accuracy 0.8, 0.1 below 0.9\n"
    )
    assert not file.exists()
    code, out, err = call(folder, "--budget", "p99=1ms", "--json")
    answer = json.loads(out)
    assert code == 4
    assert (answer["chosen"], answer["nearest"]) == (None, "poor/v@onnxruntime-cpu/1")
    assert err.startswith("error: nothing meets the budget; ")


def test_explain_names_every_candidate_and_why_not(call: Call, folder: Path) -> None:
    code, out, _ = call(folder, "--budget", "p99=5ms", "--min", "accuracy=0.9", "--explain")
    assert code == 0
    (slow,) = [line for line in out.splitlines() if line.startswith("slow/v@onnxruntime-cpu/1")]
    assert slow.rstrip().endswith("8.8         p99 8.8 ms (bound), 3.8 ms over 5 ms")
    (poor,) = [line for line in out.splitlines() if line.startswith("poor/v@onnxruntime-cpu/1")]
    assert poor.rstrip().endswith("accuracy 0.8, 0.1 below 0.9")
    (fast, _) = [line for line in out.splitlines() if line.startswith("fast/v@onnxruntime-cpu/1")]
    assert fast.split()[-1] == "yes"
    assert out.count("the float model that the hard form replaces") == 3
    assert f"batch 1, closed:1; measured on host {HERE.id}" in out
    code, out, _ = call(folder, "--budget", "p99=1us", "--explain")
    assert code == 4
    assert "poor/v@onnxruntime-cpu/1" in out


def test_of_an_open_loop_it_says_which_point_answered(call: Call, tmp_path: Path, version: str) -> None:
    points = [point(1.0, load=Load(kind="open", streams=2, rate=90.0))]
    write_measured(tmp_path, "a", [Made("v", points, runtime=ENGINE, version=version)])
    arguments = (tmp_path, "--budget", "p99=5ms", "--load", "open:50")
    code, out, _ = call(*arguments)
    assert code == 0
    assert out.splitlines()[0].startswith("a/v@onnxruntime-cpu/1: p99 at open:90 with 2 stream(s) 2 ms, at most 2.2 ms")
    assert "a closed loop" not in out
    assert "measured at open:90 with 2 stream(s)" in call(*arguments, "--explain")[1]
    answer = json.loads(call(*arguments, "--json")[1])
    loads = {item["name"]: item["load"] for item in answer["candidates"]}
    assert loads["a/v@onnxruntime-cpu/1"] == "open:90 with 2 stream(s)"
    assert answer["hint"] == ""


def test_another_host_is_labelled(call: Call, tmp_path: Path) -> None:
    other = another_host()
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], runtime=ENGINE)], host=other)
    code, _, err = call(tmp_path, "--budget", "p99=5ms")
    assert code == 1
    assert f"no profile of host {HERE.id} (profiles of: {other.id})" in err
    code, out, err = call(tmp_path, "--budget", "p99=5ms", "--host", other.id, "-o", tmp_path / "d.json")
    assert code == 0
    assert out.startswith("a/v@onnxruntime-cpu/1: ")
    assert err == f"measured on host {other.id}, which is not this one: nothing here was measured\n"
    assert Deployment.model_validate_json((tmp_path / "d.json").read_bytes()).host == other.id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "p99=5"), "error: --budget 'p99=5': '5' has no unit; wanted us, µs, ms or s, as in 5ms"),
        (("--budget", "p99=5ms", "--budget", "p50=1ms"), "error: one --budget at a time, got 2: p99=5ms, p50=1ms"),
        (("--budget", "p99=5ms", "--min", "f1=0.9"),
         "error: --min: no metric 'f1'; the metric of task 'digits' is: accuracy"),
        (("--budget", "p99=5ms", "--min", "accuracy=1", "--min", "accuracy=2"),
         "error: --min accuracy is given twice: 1 and 2"),
        (("--budget", "p99=5ms", "--max-memory", "200"), "error: --max-memory: '200' has no unit; wanted B, kB"),
        (("--budget", "p99=5ms", "--max-size", "0MB"), "error: --max-size: '0MB': a size must be above 0"),
        (("--budget", "p99=5ms", "--load", "much"), "error: --load 'much': wanted closed, closed:STREAMS"),
        (("--budget", "p99=5ms", "--prefer", "size"), "error: prefer must be 'metric' or 'latency', got 'size'"),
        (("--budget", "p99=5ms", "--host", "here"), "error: a host's id has 12 digits 0-9a-f"),
        (("--budget", "p99=5ms", "-o", "d.yaml"), "error: a deployment file's name must end in .json"),
        (("--budget", "p99=5ms", "--runtime", "cuda"), "error: nothing was measured in runtime 'cuda'"),
        (("--budget", "p99=5ms", "--batch", "2"), "error: no variant of the catalogue can be judged:\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(call: Call, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    before = contents(folder)
    code, _, err = call(folder, *arguments)
    assert code == 1
    assert err.startswith(words)
    assert contents(folder) == before


def test_wrong_usage_ends_with_two(call: Call, folder: Path) -> None:
    assert call(folder)[0] == 2
    assert call("--budget", "p99=5ms")[0] == 2
    assert call(folder, "--budget", "p99=5ms", "--batch", "0")[0] == 2


def test_selecting_imports_no_engine_and_no_training_stack(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from deploykit.cli.main import run\n"
        "sys.argv = ['deploykit', 'select', *sys.argv[1:]]\n"
        "try: run()\n"
        "except SystemExit as stopped: assert not stopped.code, stopped.code\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'openvino', 'bentoml', 'scipy'} & set(sys.modules)))"
    )
    arguments = [str(folder), "--budget", "p99=5ms", "--explain", "-o", str(tmp_path / "d.json")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "d.json").exists()
