"""Catalogues: which bundles count, hosts, names that are asked for, and that nothing is measured or changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deploykit.bundle_writer import extend_bundle
from deploykit.errors import BundleError, ConfigError, ServingError
from deploykit_serving.profiling.schema import Profile, profile_file
from deploykit_serving.selection.installed import installed_runtimes
from deploykit_serving.selection.request import Budget, Request
from deploykit_serving.selection.selection import select
from tests.serving.selection.made_catalogues import (
    HERE,
    SIGNATURE,
    Made,
    another_host,
    contents,
    have_all,
    point,
    write_measured,
)

EASY = Request(Budget(0.5, 100.0))


def test_bundles_and_folders_each_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_measured(tmp_path / "folder", name, [Made("v", [point(1.0)])])
    alone = write_measured(tmp_path, "c", [Made("v", [point(1.0)])]).path
    (tmp_path / "folder" / ".x.bundle.tmp-1-0").mkdir()
    (tmp_path / "folder" / "notes").mkdir()
    folder = tmp_path / "folder"
    before = contents(tmp_path)
    selection = select([folder, alone, folder / "a.bundle", folder / ".." / "c.bundle"], EASY, installed=have_all)
    assert sorted(item.candidate.name for item in selection.verdicts if item.meets) == [
        "a/v@engine/1", "b/v@engine/1", "c/v@engine/1",
    ]  # fmt: skip
    assert contents(tmp_path) == before


def test_paths_that_lead_to_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle and no folder of bundles at .*nowhere"):
        select(tmp_path / "nowhere", EASY)
    with pytest.raises(BundleError, match=r"holds no bundle: wanted folders NAME\.bundle in it"):
        select(tmp_path, EASY)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BundleError, match=r"no bundle and no folder of bundles at .*file"):
        select(file, EASY)


def test_a_bundle_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    broken = write_measured(tmp_path, "b", [Made("v", [point(0.1)])]).path
    (broken / "models" / "v.onnx").write_bytes(b"changed")
    selection = select(tmp_path, EASY, installed=have_all)
    assert selection.require().candidate.name == "a/v@engine/1"
    (left,) = selection.left_out
    assert left.name == "b.bundle"
    assert "'models/v.onnx'" in left.reason


def test_two_bundles_of_one_name(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_measured(tmp_path / folder, "a", [Made("v", [point(1.0)])])
    with pytest.raises(
        BundleError, match=r"two bundles of the catalogue are called 'a': .*x/a\.bundle and .*y/a\.bundle"
    ):
        select([tmp_path / "x", tmp_path / "y"], EASY)


@pytest.mark.parametrize(
    "other",
    [
        {"task": "letters"},
        {"signature": {**SIGNATURE, "inputs": [{"name": "x", "shape": ["batch", 5]}]}},
        {"signature": {**SIGNATURE, "outputs": [{"name": "z", "shape": ["batch", 3]}]}},
        {"signature": {**SIGNATURE, "inputs": [{"name": "x", "shape": ["batch", 4], "dtype": "float64"}]}},
        {"signature": {**SIGNATURE, "dims": {"batch": {"max": 8}}}},
        {"decoder": "boxes"},
    ],
)
def test_variants_of_one_deployment_must_answer_the_same_requests(tmp_path: Path, other: dict[str, Any]) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    write_measured(tmp_path, "b", [Made("v", [point(1.0)])])
    write_measured(tmp_path, "c", [Made("v", [point(1.0)])], **other)
    with pytest.raises(ConfigError) as error:
        select(tmp_path, EASY, installed=have_all)
    first, *groups, last = str(error.value).splitlines()
    assert first.endswith("task, signature and decoder must be the same for all bundles; these differ:")
    assert groups[0] == "  task digits, x float32[batch, 4] -> y float32[batch, 3]: a, b"
    assert groups[1].endswith(": c")
    assert last == "give the bundles of one group, or its task: --task NAME"


def test_words_in_a_signature_make_no_difference_and_a_task_can_be_asked_for(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    told = {**SIGNATURE, "inputs": [{"name": "x", "shape": ["batch", 4], "description": "four numbers"}]}
    write_measured(tmp_path, "b", [Made("v", [point(0.5)])], signature=told)
    assert select(tmp_path, EASY, installed=have_all).require().candidate.name == "b/v@engine/1"
    write_measured(tmp_path, "c", [Made("v", [point(0.1)])], task="letters")
    chosen = select(tmp_path, Request(EASY.budget, task="digits"), installed=have_all).require()
    assert chosen.candidate.name == "b/v@engine/1"
    with pytest.raises(ConfigError, match="no bundle of the catalogue is of task 'cats'; they are of: digits, letters"):
        select(tmp_path, Request(EASY.budget, task="cats"))


def test_names_that_are_nowhere_in_the_catalogue(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], threads=2)])
    with pytest.raises(ConfigError, match="no metric 'acc'; the metric of task 'digits' is: accuracy"):
        select(tmp_path, Request(EASY.budget, floors={"acc": 0.9}), installed=have_all)
    with pytest.raises(ConfigError, match="nothing was measured in runtime 'cuda'; it was in: engine"):
        select(tmp_path, Request(EASY.budget, runtimes=("cuda",)), installed=have_all)
    with pytest.raises(ConfigError, match=r"nothing was measured with 8 thread\(s\); it was with: 1, 2"):
        select(tmp_path, Request(EASY.budget, threads=(8,)), installed=have_all)


def test_another_host_is_never_taken_silently(tmp_path: Path) -> None:
    other = another_host()
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])], host=other)
    selection = select(tmp_path, EASY, installed=have_all)
    assert selection.host == HERE.id
    assert not selection.foreign
    with pytest.raises(ServingError, match=f"a: no profile of host {HERE.id} \\(profiles of: {other.id}\\)"):
        selection.require()
    asked = select(tmp_path, Request(EASY.budget, host=other.id), installed=lambda names: {})
    assert asked.foreign
    assert asked.host == other.id
    assert asked.require().candidate.name == "a/v@engine/1"
    with pytest.raises(ServingError, match=f"can be judged on host {other.id}, which is not this one"):
        select(tmp_path, Request(EASY.budget, host=other.id, batch=9)).require()
    with pytest.raises(ConfigError, match=f"no bundle .* has a profile of host {'0' * 12}; there are of: {other.id}"):
        select(tmp_path, Request(EASY.budget, host="0" * 12))


def test_stale_and_malformed_profiles_leave_the_whole_bundle_out(tmp_path: Path) -> None:
    write_measured(tmp_path, "good", [Made("v", [point(5.0)])])
    name = profile_file(HERE.id)
    stale = write_measured(tmp_path, "stale", [Made("v", [point(1.0)])])
    extend_bundle(stale, {"models/v.onnx": b"another"})
    bad = write_measured(tmp_path, "bad", [Made("v", [point(1.0)])])
    extend_bundle(bad, {name: b'{"version": 2}'})
    old = write_measured(tmp_path, "old", [Made("v", [point(1.0)])])
    extend_bundle(old, {name: old.read(name).replace(b'"version":2', b'"version":1')})
    moved = write_measured(tmp_path, "moved", [Made("v", [point(1.0)])])
    extend_bundle(moved, {name: moved.read(name).replace(HERE.id.encode(), another_host().id.encode())})
    selection = select(tmp_path, EASY, installed=have_all)
    assert selection.require().candidate.name == "good/v@engine/1"
    assert {item.candidate.name.partition("/")[0] for item in selection.verdicts} == {"good"}
    reasons = {item.name: item.reason for item in selection.left_out}
    assert sorted(reasons) == ["bad", "moved", "old", "stale"]
    assert all("profile" in reason for reason in reasons.values())
    assert "has changed since" in reasons["stale"]


def test_a_hard_variant_that_was_not_measured_is_named(tmp_path: Path) -> None:
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)]), Made("w", [])])
    content = bundle.read(profile_file(HERE.id)).decode()
    profile = Profile.model_validate_json(content)
    fewer = profile.model_copy(update={"variants": tuple(item for item in profile.variants if item.variant != "w")})
    extend_bundle(bundle, {profile_file(HERE.id): fewer.model_dump_json().encode()})
    (left,) = select(tmp_path, EASY, installed=have_all).left_out
    assert left.name == "a/w"
    assert left.reason == f"not measured: deploykit profile {bundle.path}"


def test_what_a_runtime_leaves_running_holds_nobody_up_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python runs this first in the process that asks: a child that keeps its output open and would run for long.
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, subprocess\n"
        f"pathlib.Path({str(tmp_path / 'number')!r}).write_text(str(subprocess.Popen(['sleep', '900']).pid))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = installed_runtimes(["no-such-runtime"])
    assert "no-such-runtime" in found["no-such-runtime"].missing
    state = Path("/proc", (tmp_path / "number").read_text(), "stat")
    deadline = time.monotonic() + 60.0
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.01)


def test_what_is_installed_is_asked_in_another_process() -> None:
    found = installed_runtimes(["onnxruntime-cpu", "no-such-runtime"])
    assert found["onnxruntime-cpu"].version.startswith("onnxruntime ")
    assert found["onnxruntime-cpu"].missing == ""
    assert "no-such-runtime" in found["no-such-runtime"].missing
    assert installed_runtimes([]) == {}
    hurried = installed_runtimes(["onnxruntime-cpu"], seconds=0.001)
    assert hurried["onnxruntime-cpu"].missing == "asked for its version, it said nothing within 0.001 s"
