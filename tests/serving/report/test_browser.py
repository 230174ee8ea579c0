"""The page in a real browser, cut off from everything but the file itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploykit_serving.report.writing import make_report
from tests.serving.report.written import HOST, write_reported

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is on PATH")

# Texts that stick out of their drawing by more than two pixels.
STICKING_OUT = """() => [...document.querySelectorAll("figure svg text")].filter(text => {
  const outer = text.closest("svg").getBoundingClientRect(), inner = text.getBoundingClientRect();
  return inner.left < outer.left - 2 || inner.right > outer.right + 2 || inner.top < outer.top - 2
    || inner.bottom > outer.bottom + 2;
}).map(text => text.textContent)"""
SIZES = """() => [...document.querySelectorAll("figure svg")].map(svg => {
  const box = svg.getBoundingClientRect(), marks = svg.querySelectorAll("path, use").length;
  return [box.width, box.height, marks];
})"""
# The least contrast of a text in a drawing with the paper below it, as WCAG counts it.
CONTRAST = """() => {
  const shine = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = shine(getComputedStyle(document.querySelector("section")).backgroundColor);
  return Math.min(...[...document.querySelectorAll("figure svg text")].map(text => {
    const ink = shine(getComputedStyle(text).fill);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page that was loaded, with whatever it complained of or asked the world for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.set_default_timeout(120_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.route("**/*", self._decide)
        self.page.goto(file.as_uri())

    def _decide(self, route: Any) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
            return
        self.asked.append(route.request.url)
        route.abort()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")], ids=str)
def test_it_opens_offline_and_every_chart_is_seen_whole(
    browser: Any, page_file: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, page_file, width, scheme)
    page = opened.page
    sizes = page.evaluate(SIZES)
    assert len(sizes) >= 15
    assert [size for size in sizes if size[0] < 250 or size[1] < 60 or size[2] < 5] == []
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) >= 4.5
    shot = tmp_path / "page.png"
    page.screenshot(path=str(shot), full_page=True)
    assert shot.stat().st_size > 50_000
    assert opened.complaints == []
    assert opened.asked == []
    page.close()


def test_marks_tell_their_numbers_and_tables_unfold(browser: Any, page_file: Path) -> None:
    page = Opened(browser, page_file, 1280, "light").page
    tips = page.evaluate('[...document.querySelectorAll("#trade-off .tip > title")].map(tip => tip.textContent)')
    assert any("second/hard: accuracy 0.96, p50 " in tip for tip in tips)
    table = page.locator("#batches details table")
    assert not table.is_visible()
    page.locator("#batches summary").click()
    assert table.is_visible()
    assert "batch 4 is the largest asked for" in table.inner_text()
    page.close()


def test_on_paper_the_tables_are_open(browser: Any, page_file: Path) -> None:
    page = Opened(browser, page_file, 1000, "light").page
    page.emulate_media(media="print")
    heights = page.evaluate(
        '[...document.querySelectorAll("details table")].map(t => t.getBoundingClientRect().height)'
    )
    assert heights
    assert min(heights) > 20
    assert page.pdf().startswith(b"%PDF")
    page.close()


def test_a_page_over_many_variants_still_fits(browser: Any, tmp_path: Path) -> None:
    for number in range(5):
        name = f"a-rather-long-name-of-a-bundle-{number}"
        write_reported(tmp_path / f"{name}.bundle", median_ms=0.1 * (number + 1), metric=0.9 + number / 100)
    file = tmp_path / "report.html"
    file.write_text(make_report([tmp_path], host_id=HOST.id).page)
    for width in (1280, 400):
        page = Opened(browser, file, width, "light").page
        assert page.evaluate(STICKING_OUT) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
