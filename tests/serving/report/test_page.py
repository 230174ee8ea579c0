"""The page as text: complete, alone, safe, and the same for the same bundles."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deploykit.bundle import open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit_serving.profiling.schema import profile_file
from deploykit_serving.report.writing import Report, make_report
from tests.serving.report.conftest import NASTY
from tests.serving.report.written import HOST, measured, profile, proofs, write_reported


class Elements(HTMLParser):
    """Collects tags with their attributes, and the text that is seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def elements(made: Report) -> Elements:
    return Elements(made.page)


def test_nothing_is_fetched_and_nothing_runs(made: Report, elements: Elements) -> None:
    tags = Counter(tag for tag, _ in elements.tags)
    assert {"script", "link", "img", "iframe", "object", "embed", "image", "foreignobject", "base"} & set(tags) == set()
    for tag, attributes in elements.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "xlink:href", "src", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    assert "@import" not in made.page
    assert re.findall(r"url\((?!#)", made.page) == []
    assert "://" not in made.page
    policies = [attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes]
    assert policies
    assert policies[0].startswith("default-src 'none'")


def test_texts_of_bundles_are_shown_as_they_are_and_never_as_markup(made: Report, elements: Elements) -> None:
    assert "<script" not in made.page
    # As a fact's name and value, a setting, a tool's version, a proof's name and what it found, and the command.
    assert elements.text.count(NASTY) >= 8


def test_texts_inside_drawings_are_escaped_too(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "b.bundle", profiled=False)
    sha256 = bundle.manifest.files["models/hard.onnx"].sha256
    ugly = measured(sha256, runtime=NASTY, runtime_version=NASTY, failure=NASTY)
    layers = ugly.layers
    assert layers is not None
    named = tuple(layer.model_copy(update={"name": NASTY + layer.name}) for layer in layers.layers)
    ugly = ugly.model_copy(update={"layers": layers.model_copy(update={"layers": named})})
    hops = (proofs(bundle.manifest).hops[0].model_copy(update={"name": '" style="x:url(a)" <b>模型'}),)
    report = proofs(bundle.manifest, metric_name=NASTY, hops=hops)
    further = {
        profile_file(HOST.id): profile((ugly,)).model_dump_json().encode(),
        "proofs/verify.json": report.model_dump_json().encode(),
    }
    extend_bundle(bundle, further)
    page = make_report([bundle.path], host_id=HOST.id).page
    elements = Elements(page)
    assert "<script" not in page
    assert {"script", "b"} & {tag for tag, _ in elements.tags} == set()
    assert not any("x:url" in attributes.get("style", "") for _, attributes in elements.tags)
    assert '" style="x:url(a)" <b>模型' in elements.text


def test_ids_are_unique_and_every_reference_leads_to_one(made: Report, elements: Elements) -> None:
    ids = Counter(attributes["id"] for _, attributes in elements.tags if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    used = {attributes["href"][1:] for _, attributes in elements.tags if attributes.get("href", "").startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", made.page))
    assert used
    assert used - set(ids) == set()


def test_every_part_is_there(elements: Elements) -> None:
    headings = {
        "Accuracy against latency", "What is lost on the way", "How latencies are spread", "Batches", "Under load",
        "Time by layer", "Size, memory, first answer", "How the figures were made", "Troubles", "Missing",
        "Against the float model",
    }  # fmt: skip
    assert [heading for heading in headings if heading not in elements.text] == []
    for said in (
        "p99.9 refused: 3000 of 4603 calls",
        "profiling slowed it 1.31x",
        "it fell behind",
        "failed proof",
        "deploykit verify",
        "deploykit profile",
        "gated, floor 0.07 ms",
        "no counter to read",
        "equal bit for bit",
        "2.20x [2.10, 2.30]",
        "A Processor",
        "Python 3.11.7",
        "1.5 cores granted",
        "This is not the machine the page was made on.",
    ):
        assert said in elements.text, said


def test_every_chart_stands_beside_a_table(made: Report) -> None:
    sections = re.findall(r'<section id="([\w-]+)".*?</section>', made.page, re.DOTALL)
    bodies = dict(zip(sections, re.findall(r"<section .*?</section>", made.page, re.DOTALL), strict=True))
    charted = {name for name, body in bodies.items() if "<figure" in body}
    assert charted >= {"trade-off", "gaps", "histograms", "batches", "loads", "layers", "footprint"}
    assert [name for name in charted if "<table" not in bodies[name]] == []


def test_no_stand_in_of_a_colour_is_left(made: Report) -> None:
    styles = re.findall(r'style="([^"]*)"', made.page)
    assert any("var(--series-0)" in style for style in styles)
    assert [style for style in styles if re.search(r"#0000(0[1-5]|f\d)", style)] == []


def test_the_same_bundles_give_the_same_page(folder: Path, made: Report) -> None:
    again = make_report([folder], host_id=HOST.id, command=f"deploykit report {NASTY}", created="2026-01-03T00:00:00Z")
    assert again == made


def test_a_bundle_without_measurements_still_makes_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    write_reported(tmp_path / "bare.bundle", proven=False, profiled=False)
    report = make_report([tmp_path], host_id=HOST.id)
    text = Elements(report.page).text
    assert "never verified" in text
    assert f"not measured on host {HOST.id}" in text
    assert report.lacks[0].startswith("bare has no proofs: never verified; run: deploykit verify ")
    assert report.lacks[1].startswith(f"bare has no profile: not measured on host {HOST.id}; run: deploykit profile ")


def test_another_hosts_profile_is_named_but_not_shown(tmp_path: Path) -> None:
    write_reported(tmp_path / "a.bundle")
    report = make_report([tmp_path])
    assert "How latencies are spread" not in report.page
    assert f"there are profiles of {HOST.id}, shown with --host" in report.page


def test_a_stale_profile_and_stale_proofs_are_missing_with_the_reason(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle")
    extend_bundle(bundle, {"models/hard.onnx": b"another"})
    report = make_report([tmp_path], host_id=HOST.id)
    assert any("models/hard.onnx' was changed since" in lack for lack in report.lacks)
    assert any("stale: variant 'hard' has changed since" in lack for lack in report.lacks)
    assert "How latencies are spread" not in report.page


def test_a_measurement_that_crashed_is_shown(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle", profiled=False)
    sha256 = bundle.manifest.files["models/hard.onnx"].sha256
    broken = measured(sha256, points=(), failure="crashed with SIGSEGV", layers=None, memory=None, cold_start=None)
    content = profile((broken,), comparisons=()).model_dump_json().encode()
    extend_bundle(bundle, {profile_file(HOST.id): content})
    text = Elements(make_report([tmp_path], host_id=HOST.id).page).text
    assert "failed measurement crashed with SIGSEGV" in text
    assert "not usable" in text


def test_many_troubles_are_named_and_told_behind_a_click(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle", profiled=False)
    sha256 = bundle.manifest.files["models/hard.onnx"].sha256
    broken = tuple(
        measured(sha256, runtime=f"engine-{number:02}", points=(), failure=f"crash {number}", layers=None)
        for number in range(13)
    )
    extend_bundle(bundle, {profile_file(HOST.id): profile(broken).model_dump_json().encode()})
    page = make_report([tmp_path], host_id=HOST.id).page
    part = page[page.index('<section id="troubles"') :]
    part = part[: part.index("</section>")]
    assert "failed measurement: hard@engine-00/1, hard@engine-01/1," in part
    assert "<summary>all 13</summary>" in part
    assert part.index("<details>") < part.index("crash 12")


def test_files_that_are_no_report_of_proofs_are_told(tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle", profiled=False)
    for content in (b"nonsense", b"[]", b'{"version": 2}'):
        extend_bundle(open_bundle(bundle.path), {"proofs/verify.json": content})
        lacks = make_report([tmp_path], host_id=HOST.id).lacks
        assert any("is not a report of deploykit verify" in lack for lack in lacks), content
