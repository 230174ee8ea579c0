"""Targets: what a plugin writes goes into the bundle with its hashes; what it refuses is told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from onnx import parser

from deploykit import Bundle, Signature, Target, Written, open_bundle
from deploykit.errors import ContractError, ExportError
from deploykit.making import make_target
from deploykit.testing import offered
from deploykit_export.bundle_targets import add_target, target_report
from deploykit_export.onnx_import import import_onnx

RELU = """<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }"""


class Zipped(Target):
    """The ONNX file, compressed."""

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({"model.onnx.gz": gzip.compress(model, mtime=0)}, {"bytes before": len(model)})


class Elsewhere(Zipped):
    def missing(self) -> str:
        return "no such machine; buy one"


class Picky(Zipped):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        raise ExportError(f"{variant} has a Relu")


class Engine(Zipped):
    starts_from: ClassVar[str] = "tensorrt"


class Wordless(Zipped):
    returned: ClassVar[object] = None

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return self.returned  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with offered(targets={item.__name__.lower(): item for item in (Zipped, Elsewhere, Picky, Engine, Wordless)}):
        yield


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return import_onnx(parser.parse_model(RELU).SerializeToString(), tmp_path / "m.bundle")


def test_a_target_writes_into_the_bundle(bundle: Bundle) -> None:
    written = open_bundle(add_target(bundle, make_target("zipped")).path)
    (file,) = written.names("targets")
    assert file == "targets/zipped/onnx/model.onnx.gz"
    assert gzip.decompress(written.read(file)) == written.read("models/onnx.onnx")
    report = json.loads(written.read(target_report("zipped")))
    assert report == {
        "onnx": {"written": True, "files": [file], "facts": {"bytes before": len(written.read("models/onnx.onnx"))}}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("elsewhere", "target 'elsewhere' cannot be written here: no such machine; buy one"),
        ("picky", "target 'picky' could write no variant: onnx: onnx has a Relu"),
        ("engine", "no variant is written for 'tensorrt', which 'engine' starts from"),
    ],
)
def test_what_cannot_be_written_changes_nothing(bundle: Bundle, target: str, words: str) -> None:
    before = (bundle.path / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match=words):
        add_target(bundle, make_target(target))
    assert (bundle.path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, r"target 'wordless': write must return deploykit.Written, got NoneType"),
        (Written({}), "target 'wordless': write returned no file; raise ExportError for what cannot be written"),
        (Written({"../up": b""}), r"a file's name is relative, of letters, .* got '../up'"),
        (Written({"/etc/passwd": b""}), r"a file's name is relative, of letters, .* got '/etc/passwd'"),
        (Written({"a": "text"}), r"file 'a' is a str; wanted bytes"),  # type: ignore[dict-item]
        (Written({"a": b""}, {"size": np.float32(1)}), r"fact 'size' is a float32; wanted text or Python's own number"),  # type: ignore[dict-item]
    ],
)
def test_what_a_target_returns_is_checked(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, returned: object, words: str
) -> None:
    monkeypatch.setattr(Wordless, "returned", returned)
    with pytest.raises(ContractError, match=words):
        add_target(bundle, make_target("wordless"))
