"""What is drawn and written are the figures that were measured: against slow, obvious ways to count."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deploykit.errors import BundleError, ConfigError
from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.report import canvas as drawing
from deploykit_serving.report.histograms import binned
from deploykit_serving.report.series import Series, line_up
from deploykit_serving.report.subject import find_bundles, read_subject
from deploykit_serving.report.trade_off import on_front
from deploykit_serving.report.writing import Report, make_report, write_report
from tests.serving.report.written import CPU, HOST, latencies, measured, write_reported


def _series(folder: Path) -> list[Series]:
    return line_up([read_subject(path, HOST.id) for path in find_bundles([folder])])


@pytest.mark.parametrize("bins", [1, 7, 60])
def test_bins_hold_what_counting_one_by_one_finds(bins: int) -> None:
    times: NDArray[np.int64] = latencies(0.3, 2000)
    held = Histogram()
    held.record_many(times)
    edges = np.geomspace(times.min() / 1.1, times.max() * 1.1, bins + 1) / 1e6
    heights = binned(held, edges)
    assert heights.sum() == pytest.approx(len(times))
    slow = [sum(low <= time / 1e6 < high for time in times) for low, high in itertools.pairwise(edges)]
    # A bucket is at most 0.1 % wide; only what lies within it of an edge may be counted in the neighbour.
    near = [sum(abs(time / 1e6 / edge - 1) < 0.002 for time in times) for edge in edges]
    for index, (mine, theirs) in enumerate(zip(heights, slow, strict=True)):
        assert abs(mine - theirs) <= near[index] + near[index + 1] + 1e-6


def test_calls_beyond_the_axis_are_left_out() -> None:
    held = Histogram()
    held.record_many(np.array([1000, 2000, 50_000], np.int64))
    assert binned(held, np.array([0.0005, 0.0015, 0.003])) == pytest.approx([1, 1])


def test_the_front_holds_what_no_other_beats(tmp_path: Path) -> None:
    write_reported(tmp_path / "slow-good.bundle", median_ms=0.4, metric=0.99)
    write_reported(tmp_path / "fast-poor.bundle", median_ms=0.1, metric=0.9)
    write_reported(tmp_path / "slow-poor.bundle", median_ms=0.5, metric=0.89)
    write_reported(tmp_path / "other-task.bundle", median_ms=0.9, metric=0.1, task="pages")
    series = _series(tmp_path)
    assert on_front(series, 0.5) == {
        f"{name}/hard@{CPU}/1" for name in ("slow-good", "fast-poor", "other-task")
    }  # fmt: skip
    # Nothing supports p99.9 here, so nothing is known to be on its front.
    assert on_front(series, 0.999) == set()


def test_metrics_belong_to_the_file_in_its_runtime(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle", metric=0.93)
    subject = read_subject(bundle.path, HOST.id)
    assert subject.metric_in(CPU, "hard") == 0.93
    assert subject.metric_in("other-engine", "hard") is None  # it was not run
    assert subject.metric_in(CPU, "float") is None


def test_labels_are_as_short_as_they_may_be(tmp_path: Path) -> None:
    write_reported(tmp_path / "one" / "a.bundle")
    assert [one.label for one in _series(tmp_path / "one")] == ["hard", "float"]
    write_reported(tmp_path / "one" / "b.bundle")
    assert [one.label for one in _series(tmp_path / "one")] == ["a/hard", "a/float", "b/hard", "b/float"]
    subject = read_subject(tmp_path / "one" / "a.bundle", HOST.id)
    assert subject.profile is not None
    more = measured("0" * 64, threads=2)
    again = subject.profile.model_copy(update={"variants": (*subject.profile.variants, more)})
    labels = [one.label for one in line_up([replace(subject, profile=again)])]
    assert labels == [f"hard@{CPU}/1", f"float@{CPU}/1", f"hard@{CPU}/2"]


def test_bundles_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_reported(tmp_path / folder / "a.bundle")
    names = [one.name for one in line_up([read_subject(tmp_path / f / "a.bundle", HOST.id) for f in ("one", "two")])]
    assert len(set(names)) == 4


def test_forty_two_series_differ_in_colour_or_marker() -> None:
    assert len({(drawing.colour(index), drawing.marker(index)) for index in range(42)}) == 42
    assert len({drawing.glyph(index) for index in range(42)}) == 42


def test_csv_and_json_hold_the_figures_of_the_profile(made: Report, folder: Path) -> None:
    series = _series(folder)
    rows = list(csv.DictReader(io.StringIO(made.rows)))
    assert len(rows) == sum(len(point.percentiles) for one in series for point in one.measured.points)
    document = json.loads(made.record)
    assert [one["name"] for one in document["series"]] == [one.name for one in series]
    first = next(one for one in series if one.name.startswith("second/hard"))
    profile = next(item["profile"] for item in document["bundles"] if item["name"] == "second")
    assert first.subject.profile is not None
    assert profile == first.subject.profile.model_dump(mode="json")
    entry = first.measured.points[1].percentiles[2]
    wanted = {"bundle": "second", "variant": "hard", "batch": "2", "load": "closed", "streams": "1",
              "through": "process", "percentile": "0.99"}  # fmt: skip
    found = [row for row in rows if wanted.items() <= row.items()]
    assert len(found) == 1
    assert float(found[0]["value_ms"]) == entry.value_ms
    assert float(found[0]["bound_ms"]) == entry.bound_ms
    assert found[0]["metric"] == "0.96"
    refused = [row for row in rows if row["percentile"] == "0.999"]
    assert {row["value_ms"] for row in refused} == {""}
    assert {row["needed"] for row in refused} == {"4603"}
    assert {row["invalid"] for row in rows} == {"", "it fell behind"}
    lacks = next(item["lacks"] for item in document["bundles"] if item["name"] == "bare")
    assert [lack["what"] for lack in lacks] == ["proofs", "profile"]


def test_the_page_shows_the_figures_of_the_profile(made: Report, folder: Path) -> None:
    for one in _series(folder):
        entry = one.latency(0.5)
        assert entry is not None
        assert f"{entry.value_ms:.4g} [{entry.low_ms:.4g}, {entry.high_ms:.4g}]" in made.page


def test_points_lie_where_their_numbers_say(made: Report, folder: Path) -> None:
    """The marks of the first chart are as far apart, across, as the logarithms of the latencies."""
    chart = made.page[made.page.index('id="front0-p50-') :]
    chart = chart[: chart.index("</svg>")]
    marks = re.findall(r'<g id="front0-p50-tip\d+" class="tip"><title>(\S+): (\w+).*?<use [^>]*x="([\d.]+)"', chart,
                       re.DOTALL)  # fmt: skip
    places = {label: float(x) for label, _, x in marks}
    values = {one.label: entry.value_ms for one in _series(folder) if (entry := one.latency(0.5)) and entry.value_ms}
    assert set(places) == set(values)
    assert len(places) >= 4
    logs = np.log([values[name] for name in places])
    slope, offset = np.polyfit(logs, list(places.values()), 1)
    assert slope > 0
    assert np.abs(slope * logs + offset - list(places.values())).max() < 0.5


def test_files_are_written_whole_or_not_at_all(made: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "r.html"
    files = write_report(made, output)
    assert [path.name for path in files] == ["r.html", "r.json", "r.csv"]
    assert output.read_text() == made.page
    before = [path.read_bytes() for path in files]

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"r\.html was not written: No space left on device; choose another place"):
        write_report(made, output)
    assert [path.read_bytes() for path in files] == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_place_that_cannot_be_written_to_is_told(made: Report, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.html, got 'report\.txt'"):
        write_report(made, tmp_path / "report.txt")
    with pytest.raises(ConfigError, match="was not written: No such file or directory"):
        write_report(made, tmp_path / "nowhere" / "report.html")


def test_paths_that_lead_to_no_bundle_are_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle in the folder .*deploykit export RUN"):
        make_report([tmp_path])
    with pytest.raises(BundleError, match="is neither a bundle nor a folder of bundles"):
        make_report([tmp_path / "missing"])
    with pytest.raises(BundleError, match=r"no bundle at .*x\.bundle"):
        make_report([tmp_path / "x.bundle"])


def test_a_bundle_named_twice_is_shown_once(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle")
    assert find_bundles([tmp_path, bundle.path, tmp_path]) == [bundle.path]
