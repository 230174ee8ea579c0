"""A crash, a full disk or a kill at any instant leaves the old bundle whole, or the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploykit import bundle_writer, hookimpl
from deploykit.bundle_writer import write_bundle
from deploykit.errors import BundleError
from deploykit.registry import Registry

Parts = tuple[dict[str, Any], dict[str, bytes]]


def names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def faulty_writes(folder: Path, fault: str, before: str) -> list[dict[str, Any]]:
    """Write a bundle again and again in processes that meet a fault a little later each time."""
    script = Path(__file__).with_name("faulty_writer.py")
    command = [sys.executable, str(script), str(folder), fault, before]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    records: list[dict[str, Any]] = json.loads(done.stdout)
    return records


@pytest.mark.parametrize("before", ["nothing", "old"])
@pytest.mark.parametrize("fault", ["kill", "full"])
def test_a_fault_at_any_instant(tmp_path: Path, fault: str, before: str) -> None:
    records = faulty_writes(tmp_path, fault, before)
    assert len(records) > 20  # the faults did fall into the middle of it
    for position, record in enumerate(records):
        assert record["status"] in ({"killed"} if fault == "kill" else {"written", "refused"}), (position, record)
        assert record["left"] in {before, "new"}, (position, record)
        if record["status"] == "written":
            assert record["left"] == "new"
        if "what was there before is untouched" in record["message"]:
            assert record["left"] == before, (position, record)
        assert record["next"] == "new", (position, record)  # the next write succeeds and tidies up
        assert record["beside"] == [], (position, record)
    assert {record["left"] for record in records} == {before, "new"}


def test_a_full_disk_is_told_and_leaves_the_old_bundle(tmp_path: Path) -> None:
    (record,) = faulty_writes(tmp_path, "limit", "old")
    assert record["status"] == "refused"
    assert record["message"].endswith("was not written: File too large; what was there before is untouched")
    assert (record["left"], record["next"], record["beside"]) == ("old", "new", [])


def test_without_an_exchanging_rename(
    tmp_path: Path, old_parts: Parts, new_parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer.ctypes, "CDLL", lambda *_, **__: object())  # type: ignore[attr-defined]
    path = tmp_path / "small.bundle"
    write_bundle(path, *old_parts)
    assert write_bundle(path, *new_parts).manifest.facts["stamp"] == "new"
    assert names(tmp_path) == {"small.bundle"}


def test_the_temporary_folder_of_a_living_writer_is_left_alone(tmp_path: Path, old_parts: Parts) -> None:
    living = tmp_path / f".small.bundle.tmp-{os.getppid()}-00000000"
    dead = tmp_path / ".small.bundle.tmp-99999999-00000000"
    odd = tmp_path / ".small.bundle.tmp-x"
    for folder in (living, dead, odd):
        folder.mkdir()
    write_bundle(tmp_path / "small.bundle", *old_parts)
    assert living.exists()
    assert not dead.exists()
    assert not odd.exists()


def test_only_a_bundle_is_replaced(tmp_path: Path, old_parts: Parts) -> None:
    precious = tmp_path / "thesis.bundle"
    precious.mkdir()
    (precious / "chapter").write_text("years of work")
    with pytest.raises(BundleError, match=r"thesis.bundle exists and is no bundle; choose another place"):
        write_bundle(precious, *old_parts)
    assert (precious / "chapter").read_text() == "years of work"
    file = tmp_path / "file.bundle"
    file.write_text("x")
    link = tmp_path / "link.bundle"
    link.symlink_to(precious)
    for path in (file, link):
        with pytest.raises(BundleError, match=r"is a link or a file; a bundle is a folder of its own"):
            write_bundle(path, *old_parts)
    with pytest.raises(BundleError, match=r"a bundle's folder must end in '.bundle', got 'small'"):
        write_bundle(tmp_path / "small", *old_parts)


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path, old_parts: Parts) -> None:
    (tmp_path / "small.bundle").mkdir()
    assert write_bundle(tmp_path / "small.bundle", *old_parts).read("empty") == b""
    assert write_bundle(tmp_path / "a/b/small.bundle", *old_parts).path.is_dir()


def test_a_manifest_that_does_not_fit_writes_nothing(tmp_path: Path, old_parts: Parts) -> None:
    fields, files = old_parts
    with pytest.raises(ValueError, match=r"file 'models/onnx.onnx' is not listed"):
        write_bundle(tmp_path / "small.bundle", fields, {"README.md": files["README.md"]})
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "manifest.json"])
def test_a_file_name_that_leads_outside_writes_nothing(tmp_path: Path, old_parts: Parts, name: str) -> None:
    fields, files = old_parts
    with pytest.raises(BundleError, match=r"not a plain path inside the bundle"):
        write_bundle(tmp_path / "deep" / "small.bundle", fields, {**files, name: b"x"})
    assert names(tmp_path) == set()


def test_listeners_are_told_and_cannot_undo_it(
    tmp_path: Path, old_parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Path] = []

    class Listener:
        @hookimpl
        def deploykit_bundle_written(self, path: Path) -> None:
            told.append(path)

    class Shy:
        @hookimpl
        def deploykit_bundle_written(self) -> None:
            told.append(Path("shy"))

    class Grumpy:
        @hookimpl
        def deploykit_bundle_written(self, path: Path) -> None:
            raise RuntimeError("no")

    registry = Registry([])
    for listener in (Listener(), Grumpy(), Shy()):
        registry.manager.register(listener, name=type(listener).__name__.lower())
    monkeypatch.setattr(bundle_writer, "installed", lambda: registry)
    path = tmp_path / "small.bundle"
    with pytest.warns(UserWarning, match=r"plugin 'grumpy' failed in deploykit_bundle_written: no"):
        bundle = write_bundle(path, *old_parts)
    assert set(told) == {path, Path("shy")}
    assert bundle.manifest.name == "small"
