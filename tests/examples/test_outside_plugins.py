"""The example plugins, installed as anybody's packages are, do their work from the command line to the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploykit.plugin_check.private_names import private_names

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples" / "plugins").glob("*/pyproject.toml"))
Run = Callable[..., str]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install every example into a folder of its own, from its source, without touching this environment."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(folder), *map(str, EXAMPLES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def run(site: Path, home: Path) -> Run:
    """Run a program where the examples are installed; what it prints, if it ends well."""

    def call(*arguments: str, program: tuple[str, ...] = ("-m", "deploykit")) -> str:
        done = subprocess.run(
            [sys.executable, *program, *arguments], cwd=home, capture_output=True, text=True, check=False, timeout=240,
            env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def bundle(run: Run, home: Path) -> Path:
    """Train the plain method on the plugin's task and export it with the plugin's target."""
    run("train", "plain.passthrough", "--task", "wine", "--out", "run")
    run("export", "run", "--target", "c-header", "--out", "wine.bundle")
    return home / "wine.bundle"


def test_there_is_an_example_of_each_kind() -> None:
    offered = {re.search(r"def deploykit_(\w+)", path.read_text())[1] for path in _entry_modules()}  # type: ignore[index]
    assert offered == {"tasks", "targets", "runtimes", "decoders", "cli"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_no_example_touches_a_private_name(example: Path) -> None:
    sources = list(example.rglob("*.py"))
    uses = [use.text() for source in sources for use in private_names(source, source.name, frozenset())]
    assert sources
    assert uses == []


def test_all_are_found_and_whole(run: Run) -> None:
    found = json.loads(run("plugins", "--json"))
    assert found["failures"] == []
    assert found["remarks"] == []
    mine = {item["name"]: item for item in found["plugins"] if item["distribution"].startswith("deploykit-example-")}
    assert {name: item["offers"] for name, item in mine.items()} == {
        "c-header": ["target c-header"], "onnx-reference": ["runtime onnx-reference"],
        "top-labels": ["decoder top-labels"], "weights": [], "wine": ["task wine"],
    }  # fmt: skip
    assert {item["version"] for item in mine.values()} == {"0.1.0"}
    assert {item["contract"] for item in mine.values()} == {1}


@pytest.mark.slow
def test_the_target_writes_a_header_a_compiler_would_take(bundle: Path) -> None:
    text = (bundle / "targets" / "c-header" / "onnx" / "onnx.h").read_text()
    model = (bundle / "models" / "onnx.onnx").read_bytes()
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", text)) == model
    assert f"onnx_onnx_length = {len(model)};" in text
    assert "measurements float32[batch, 13]" in text


@pytest.mark.slow
def test_the_runtime_gives_a_second_opinion(run: Run, bundle: Path) -> None:
    report = json.loads(run("verify", str(bundle), "--runtime", "onnx-reference", "--no-speed", "--json"))
    hops = {hop["name"]: hop for hop in report["hops"]}
    assert hops["soft"]["metric"] > 0.9  # the task was learnt
    assert hops["onnx-reference onnx"]["metric"] == hops["hard"]["metric"]
    proofs = {proof["name"]: proof["status"] for proof in report["proofs"]}
    assert proofs["parity onnx-reference onnx"] == proofs["determinism onnx-reference onnx"] == "passed"


@pytest.mark.slow
def test_the_runtime_serves_and_the_decoder_decodes(run: Run, bundle: Path) -> None:
    program = """
import json, sys, urllib.request
import numpy as np
from deploykit import open_bundle
from deploykit_export.heldout import HELDOUT, unpack
from deploykit_export.onnx_import import import_onnx
from deploykit_serving.launch import running
from pathlib import Path

trained = open_bundle(sys.argv[1])
held = unpack(trained.read(HELDOUT))
bundle = import_onnx(
    trained.read("models/onnx.onnx"), Path("decoded.bundle"), decoder="top-labels", samples=held["input"]
)
x = held["input"]["measurements"][:2]
with running([bundle.path], unproven=True, runtime="onnx-reference") as url:
    body = {
        "inputs": [{"name": "measurements", "shape": [2, 13], "datatype": "FP32", "data": x.ravel().tolist()}],
        "parameters": {"decode": True},
    }
    request = urllib.request.Request(
        f"{url}/v2/models/decoded/infer", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request))
print(json.dumps({"answer": answer, "logits": held["output"]["logits"][:2].tolist()}))
"""
    printed = json.loads(run(str(bundle), program=("-c", program)))
    label, probability = printed["answer"]["outputs"]
    assert (label["name"], probability["name"]) == ("label", "probability")
    for row, logits in enumerate(printed["logits"]):
        ranked = sorted(range(3), key=lambda k: -logits[k])
        assert label["data"][3 * row : 3 * row + 3] == ranked
        assert sum(probability["data"][3 * row : 3 * row + 3]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_the_verb_tells_where_the_bytes_are(run: Run, bundle: Path) -> None:
    out = run("weights", str(bundle), "--largest", "1")
    assert re.search(r"onnx: [\d,]+ bytes, 4 tensors\n +[\d,]+  (?:float\[32, 13\]|float\[13, 32\])", out), out
    assert "weights" in run("--help")


def _entry_modules() -> list[Path]:
    return [path for example in EXAMPLES for path in example.glob("*/__init__.py")]
