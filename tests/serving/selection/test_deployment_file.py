"""The deployment file: what is in it, where it may be written, and that it is written whole or not at all."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploykit.errors import BudgetError, BundleError, ConfigError
from deploykit_serving.profiling.schema import Load
from deploykit_serving.selection.choosing import Selection
from deploykit_serving.selection.deployment import Deployment
from deploykit_serving.selection.deployment_file import write_deployment
from deploykit_serving.selection.request import Budget, Request
from deploykit_serving.selection.selection import select
from tests.serving.selection.made_catalogues import (
    HERE,
    Made,
    another_host,
    contents,
    document,
    have_all,
    point,
    write_measured,
)

REQUEST = Request(Budget(0.99, 20.0), floors={"accuracy": 0.5})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three that meet 20 ms at p99, on the front, one that is beaten and one that is too slow."""
    catalogue = tmp_path / "bundles"
    points = [point(8.0), point(20.0, batch=4), point(70.0, batch=16, samples=100), point(90.0, batch=32, samples=3),
              point(30.0, batch=8, stable=False), point(30.0, load=Load(streams=4))]  # fmt: skip
    write_measured(catalogue, "best", [Made("v", points, metric=0.99, threads=2)])
    write_measured(catalogue, "middle", [Made("v", [point(2.0)], metric=0.9)])
    write_measured(catalogue, "fast", [Made("v", [point(1.0)], metric=0.8)])
    write_measured(catalogue, "beaten", [Made("v", [point(3.0)], metric=0.85)])
    write_measured(catalogue, "slow", [Made("v", [point(12.0)], metric=1.0)])
    write_measured(catalogue, "poor", [Made("v", [point(0.1)], metric=0.4)])
    return catalogue


def chosen_from(folder: Path, request: Request = REQUEST) -> Selection:
    return select(folder, request, installed=have_all)


def test_the_chosen_one_first_then_the_front(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "deployment.json"
    written = write_deployment(chosen_from(folder), file)
    assert Deployment.model_validate_json(file.read_bytes()) == written
    assert [item.name for item in written.variants] == ["best/v@engine/2", "middle/v@engine/1", "fast/v@engine/1"]
    assert (written.name, written.host, written.percentile, written.budget_ms) == ("digits", HERE.id, 0.99, 20.0)
    assert (written.batch, written.floors) == (1, {"accuracy": 0.5})
    best = written.variants[0]
    assert best.bundle == "../bundles/best.bundle"
    manifest = (file.parent / best.bundle / "manifest.json").read_bytes()
    assert best.manifest_sha256 == hashlib.sha256(manifest).hexdigest()
    assert (best.variant, best.runtime, best.runtime_version, best.threads) == ("v", "engine", "engine 1.0", 2)
    assert best.metric == 0.99
    # One stream only; p99 of 100 calls is not supported, nor is anything of 3 calls or of what was not stable.
    # Bounds lie 1.1 times above what was measured.
    assert [item.batch for item in best.latencies] == [1, 4, 16]
    assert best.latencies[0].ms == pytest.approx({"p50": 8.8, "p90": 13.2, "p99": 17.6})
    assert best.latencies[1].ms == pytest.approx({"p50": 22.0, "p90": 33.0, "p99": 44.0})
    assert best.latencies[2].ms == pytest.approx({"p50": 77.0, "p90": 115.5})


def test_the_file_carries_what_was_judged(folder: Path, tmp_path: Path) -> None:
    selection = chosen_from(folder)
    written = write_deployment(selection, tmp_path / "d.json")
    judged = {item.candidate.name: item.latency_ms for item in selection.verdicts}
    assert written.load == "closed:1"
    for item in written.variants:
        assert item.bound_ms == item.latencies[0].ms["p99"] == judged[item.name]
        assert item.bound_ms <= written.budget_ms
    many = chosen_from(folder, Request(Budget(0.5, 40.0), load=Load(streams=4)))
    written = write_deployment(many, tmp_path / "d.json")
    assert written.load == "closed:4"
    assert written.variants[0].bound_ms == pytest.approx(33.0)


def _changed(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    first, *rest = path
    copy: Any = list(document) if isinstance(document, list) else dict(document)
    copy[first] = _changed(copy[first], tuple(rest), value) if rest else value
    return copy


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
@pytest.mark.parametrize(
    "path",
    [
        ("variants", 0, "latencies", 0, "ms", "p99"), ("variants", 0, "bound_ms"), ("variants", 0, "metric"),
        ("floors", "accuracy"), ("budget_ms",),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_no_deployment(
    folder: Path, tmp_path: Path, path: tuple[str | int, ...], value: float
) -> None:
    write_deployment(chosen_from(folder), tmp_path / "d.json")
    changed = _changed(document(tmp_path / "d.json"), path, value)
    if path[-1] in ("metric", "accuracy") and math.isfinite(value):
        Deployment.model_validate(changed)
        return
    words = "should be greater than 0" if value in (0.0, -1.0) else "should be (a finite number|greater than 0)"
    with pytest.raises(ValidationError, match=words):
        Deployment.model_validate(changed)


@pytest.mark.parametrize("batches", [(4, 1), (1, 1), (1, 4, 4)])
def test_batches_ascend_each_once(folder: Path, tmp_path: Path, batches: tuple[int, ...]) -> None:
    write_deployment(chosen_from(folder), tmp_path / "d.json")
    latencies = [{"batch": batch, "ms": {"p99": 1.0}} for batch in batches]
    changed = _changed(document(tmp_path / "d.json"), ("variants", 0, "latencies"), latencies)
    words = rf"variant 'best/v@engine/2': batches must ascend, each once, got {re.escape(str(list(batches)))}"
    with pytest.raises(ValidationError, match=words):
        Deployment.model_validate(changed)


def test_with_latency_first_the_fastest_leads(folder: Path, tmp_path: Path) -> None:
    request = Request(REQUEST.budget, floors=REQUEST.floors, prefer="latency")
    written = write_deployment(chosen_from(folder, request), tmp_path / "d.json", name="mine")
    assert [item.name.partition("/")[0] for item in written.variants] == ["fast", "best", "middle"]
    assert written.name == "mine"


def test_nothing_is_written_where_nothing_was_chosen(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    with pytest.raises(BudgetError, match="nothing meets the budget"):
        write_deployment(chosen_from(folder, Request(Budget(0.5, 0.01))), file)
    write_deployment(chosen_from(folder), file)
    before = file.read_bytes()
    with pytest.raises(BudgetError):
        write_deployment(chosen_from(folder, Request(Budget(0.5, 0.01))), file)
    assert file.read_bytes() == before


def test_the_file_of_another_host_says_so(tmp_path: Path) -> None:
    other = another_host()
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])], host=other)
    written = write_deployment(chosen_from(tmp_path, Request(Budget(0.5, 9.0), host=other.id)), tmp_path / "d.json")
    assert written.host == other.id != HERE.id


def test_only_a_deployment_file_is_replaced(folder: Path, tmp_path: Path) -> None:
    selection = chosen_from(folder)
    file = tmp_path / "d.json"
    write_deployment(selection, file, name="first")
    write_deployment(selection, file, name="second")
    assert document(file)["name"] == "second"
    for content in ("", "{}", '{"version": 1, "name": "package"}', "\x00"):
        other = tmp_path / "other.json"
        other.write_text(content)
        with pytest.raises(ConfigError, match=r"other\.json exists and is no deployment file; .* nothing was written"):
            write_deployment(selection, other)
        assert other.read_text() == content
    link = tmp_path / "link.json"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="is a link or no plain file"):
        write_deployment(selection, link)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match="is a link or no plain file"):
        write_deployment(selection, tmp_path / "folder.json")
    with pytest.raises(ConfigError, match=r"must end in \.json, as serve expects it; got 'd\.yaml'"):
        write_deployment(selection, tmp_path / "d.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundles", "d.json", "folder.json", "link.json", "other.json",
    ]  # fmt: skip


def test_a_place_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = contents(tmp_path)
    with pytest.raises(BundleError, match=r"d\.json was not written: .*; what was there is untouched"):
        write_deployment(chosen_from(folder), tmp_path / "file" / "d.json")
    assert contents(tmp_path) == before


def test_names_that_no_model_can_have(folder: Path, tmp_path: Path) -> None:
    for name in ("../x", "a b", ".hidden", "é"):
        with pytest.raises(ConfigError, match=r"wanted letters, digits, '\.', '_' and '-'"):
            write_deployment(chosen_from(folder), tmp_path / "d.json", name=name)
    assert not (tmp_path / "d.json").exists()


def test_without_a_one_stream_measurement_there_is_nothing_to_predict_from(tmp_path: Path) -> None:
    through = Load(through="http")
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0, load=through)])], task="")
    selection = chosen_from(tmp_path, Request(Budget(0.5, 9.0), load=through))
    assert selection.require().candidate.name == "a/v@engine/1"
    with pytest.raises(ConfigError, match="a/v@engine/1: nothing supported was measured with one stream in process"):
        write_deployment(selection, tmp_path / "d.json")
    write_measured(tmp_path, "a", [Made("v", [point(1.0, load=through), point(0.5)])], task="")
    selection = chosen_from(tmp_path, Request(Budget(0.5, 9.0), load=through))
    assert write_deployment(selection, tmp_path / "d.json").name == bundle.manifest.name
