"""A bundle is read only if every file is the one the manifest describes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit import Bundle, open_bundle
from deploykit.bundle_writer import extend_bundle, write_bundle
from deploykit.errors import BundleError, BundleTamperedError

Parts = tuple[dict[str, Any], dict[str, bytes]]
NAMES = ["README.md", "models/onnx.onnx", "proofs/deep/export.json"]
_REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@pytest.fixture
def bundle(tmp_path: Path, old_parts: Parts) -> Bundle:
    return write_bundle(tmp_path / "small.bundle", *old_parts)


def test_what_was_written_is_read_back(bundle: Bundle, old_parts: Parts) -> None:
    fields, files = old_parts
    again = open_bundle(str(bundle.path))
    assert {name: again.read(name) for name in again.manifest.files} == files
    assert again.manifest == bundle.manifest
    assert again.manifest.facts == fields["facts"]
    assert again.names("proofs") == ["proofs/deep/export.json"]
    assert again.names("proof") == []
    assert [item.name for item in bundle.path.parent.iterdir()] == ["small.bundle"]


def test_a_bundle_is_extended_and_stripped(bundle: Bundle) -> None:
    changed = extend_bundle(bundle, {"profiles/a.json": b"[]"}, {"facts": {"stamp": "more"}}, drop=("empty",))
    assert changed.read("profiles/a.json") == b"[]"
    assert "empty" not in changed.manifest.files
    assert not (bundle.path / "empty").exists()
    assert changed.manifest.facts == {"stamp": "more"}
    assert changed.read("README.md") == b"# old\n"


def test_a_file_that_is_not_listed_cannot_be_read(bundle: Bundle) -> None:
    for name in ("manifest.json", "../x", "models"):
        with pytest.raises(BundleError, match=r"the manifest lists no file"):
            bundle.read(name)


@_REUSED
@given(data=st.data())
def test_any_flipped_byte_is_found(bundle: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    path = bundle.path / name
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[position] ^= data.draw(st.integers(1, 255))
    try:
        path.write_bytes(flipped)
        with pytest.raises(BundleTamperedError, match=rf"'{name}' was changed after the bundle was written: sha256 is"):
            open_bundle(bundle.path)
    finally:
        path.write_bytes(whole)


@_REUSED
@given(data=st.data())
def test_any_other_length_is_found(bundle: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    path = bundle.path / name
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    changed = data.draw(st.sampled_from([whole[:cut], whole + b"x", whole * 2]))
    try:
        path.write_bytes(changed)
        with pytest.raises(BundleTamperedError, match=rf"'{name}' has \d+ bytes; the manifest says {len(whole)}"):
            open_bundle(bundle.path)
    finally:
        path.write_bytes(whole)


def _replace_by_link(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def _hard_link(path: Path) -> None:
    os.link(path, path.parents[2] / "elsewhere")


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_folder(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    shutil.move(path.parent, elsewhere)
    path.parent.symlink_to(elsewhere)


def _extra(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def tamper(path: Path) -> None:
        make(path.with_name("extra"))

    return tamper


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (Path.unlink, "'models/onnx.onnx' cannot be opened as a plain file.*No such file"),
        (_replace_by_link, "'models/onnx.onnx' cannot be opened as a plain file inside the bundle"),
        (_hard_link, "'models/onnx.onnx' has 2 hard links; wanted a file of its own"),
        (_replace_by_pipe, "'models/onnx.onnx' is not a regular file"),
        (_replace_by_folder, "'models/onnx.onnx' is not a regular file"),
        (_link_folder, "'models' is not listed in the manifest"),
        (_extra(Path.touch), "'models/extra' is not listed in the manifest; remove it"),
        (_extra(os.mkfifo), "'models/extra' is not listed"),
        (_extra(lambda path: path.symlink_to("/")), "'models/extra' is not listed"),
        (_extra(lambda path: path.symlink_to("nowhere")), "'models/extra' is not listed"),
    ],
)
def test_tampering_is_refused_and_the_file_named(bundle: Bundle, tamper: Callable[[Path], None], words: str) -> None:
    tamper(bundle.path / "models/onnx.onnx")
    with pytest.raises(BundleTamperedError, match=words):
        open_bundle(bundle.path)


def test_a_linked_folder_is_not_entered_even_by_a_single_read(bundle: Bundle) -> None:
    _link_folder(bundle.path / "models/onnx.onnx")
    with pytest.raises(BundleTamperedError, match=r"'models/onnx.onnx' cannot be opened as a plain file"):
        bundle.read("models/onnx.onnx")


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle.path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["../elsewhere", "/etc/hostname", "models/../../elsewhere", "a\\b", "./README.md", "models//x", ".", "", "a\0b"],
)
def test_a_manifest_cannot_lead_outside(bundle: Bundle, name: str) -> None:
    (bundle.path.parent / "elsewhere").write_text("secret")
    rewrite(bundle, lambda content: content["files"].update({name: {"size": 6, "sha256": "0" * 64}}))
    with pytest.raises(BundleTamperedError, match=r"which is not a plain path inside the bundle"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("size", [2**40, 2**62, 2**63, 2**80])
def test_a_size_made_up_is_no_reason_to_allocate(bundle: Bundle, size: int) -> None:
    rewrite(bundle, lambda content: content["files"]["README.md"].update(size=size))
    with pytest.raises(BundleTamperedError, match=rf"'README.md' has 6 bytes; the manifest says {size}"):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("signature"), "manifest.json is not valid: signature: Field required"),
        (lambda c: c.update(surprise=1), "manifest.json is not valid: surprise: Extra inputs"),
        (lambda c: c["files"]["empty"].update(sha256="0"), "not valid: files.empty.sha256"),
        (lambda c: c["files"]["empty"].update(size=-1), "not valid: files.empty.size"),
        (lambda c: c.update(variants=[]), "there is no variant of the hard form"),
        (lambda c: c["variants"].append(c["variants"][0]), "variant names must be unique"),
        (lambda c: c["variants"][0].update(file="models/no.onnx"), "file 'models/no.onnx' is not listed"),
        (lambda c: c["variants"][0].update(name="../x"), "variants.0.name"),
        (lambda c: c.update(name="../x"), "not valid: name"),
        (lambda c: c.update(schema_version="one"), "not valid: schema_version"),
        (lambda c: c.pop("schema_version"), "not valid: schema_version"),
        (lambda c: c.update(schema_version=0), "schema version 0; this deploykit reads 1: export again"),
        (lambda c: (c.clear(), c.update(schema_version=2, new="way")), "schema version 2; this deploykit reads 1"),
    ],
)
def test_a_malformed_manifest_says_where(
    bundle: Bundle, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(BundleError, match=words):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":' * 100_000, b'{"schema_version": 1}x', b"\0"]
)
def test_a_manifest_that_is_no_document(bundle: Bundle, raw: bytes) -> None:
    (bundle.path / "manifest.json").write_bytes(raw)
    with pytest.raises(BundleError, match=r"manifest.json is not valid: "):
        open_bundle(bundle.path)


def test_a_manifest_too_large_is_not_parsed(bundle: Bundle) -> None:
    path = bundle.path / "manifest.json"
    path.write_bytes(path.read_bytes() + b" " * (4 << 20))
    with pytest.raises(BundleError, match=r"manifest.json is larger than 4194304 bytes"):
        open_bundle(bundle.path)


def test_a_manifest_that_is_a_link_or_a_pipe(bundle: Bundle) -> None:
    path = bundle.path / "manifest.json"
    path.rename(bundle.path.parent / "manifest.json")
    path.symlink_to(bundle.path.parent / "manifest.json")
    with pytest.raises(BundleError, match=r"no readable bundle at .*'manifest.json' cannot be opened as a plain file"):
        open_bundle(bundle.path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match=r"no readable bundle at .*'manifest.json' is not a regular file"):
        open_bundle(bundle.path)


def test_where_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*: wanted a folder holding manifest.json"):
        open_bundle(tmp_path / "none.bundle")
    with pytest.raises(BundleError, match=r"no readable bundle at .*No such file"):
        open_bundle(tmp_path)
