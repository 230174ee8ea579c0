"""The pages keep up with the code: every hook with its arguments, every public name, every link, every file."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deploykit
from deploykit import hookspecs, testing

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("deploykit_"))
REFERENCE = set(re.findall(r"^::: ([\w.]+)$", "\n".join(p.read_text() for p in DOCS.rglob("*.md")), re.MULTILINE))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_exactly_its_arguments(hook: str) -> None:
    headings = re.findall(r"^## (deploykit_\w+)\((.*)\)$", (DOCS / "hooks.md").read_text(), re.MULTILINE)
    documented = {name: [argument for argument in arguments.split(", ") if argument] for name, arguments in headings}
    assert documented.get(hook) == list(inspect.signature(getattr(hookspecs, hook)).parameters)


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## (deploykit_\w+)", (DOCS / "hooks.md").read_text(), re.MULTILINE)) == set(HOOKS)


@pytest.mark.parametrize("name", [name for name in deploykit.__all__ if name not in {"hookimpl", "FLOAT32"}])
def test_every_public_name_stands_in_the_reference(name: str) -> None:
    home = deploykit._HOME_OF[name]
    assert f"deploykit.{home}" in REFERENCE or f"deploykit.{home}.{name}" in REFERENCE


@pytest.mark.parametrize("target", sorted(REFERENCE))
def test_every_reference_leads_somewhere(target: str) -> None:
    module, _, attribute = target, "", ""
    while True:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            found = getattr(importlib.import_module(module), attribute)
        break
    assert found.__doc__


def test_every_page_is_in_the_navigation_and_every_entry_a_page() -> None:
    entries = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert entries == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_the_glossary_has_the_words_of_the_frame() -> None:
    words = set(re.findall(r"^\| ([a-z ]+) \|", (DOCS / "glossary.md").read_text(), re.MULTILINE))
    kinds = {card.kind for card in deploykit.cards.CARD_HOOKS.values()}
    assert kinds | {"soft form", "hard form", "bundle", "variant", "gap", "decision", "profile"} <= words


def test_every_suite_of_the_kit_is_explained() -> None:
    text = (DOCS / "howto" / "testing.md").read_text()
    assert [name for name in testing.__all__ if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (tmp_path / "site" / "howto" / "task.html").read_text()
    assert "class Wine" in re.sub(r"<[^>]+>", "", page)  # the example's source was put in
    pages = [file.read_text() for file in (tmp_path / "site" / "reference").glob("*.html")]
    assert [role for text in pages for role in re.findall(r":(?:class|func|meth|mod):", text)] == []
    addresses = re.findall(r'(?:src|href)="(https?://[^"]+)"', page)
    assert [address for address in addresses if not address.startswith("https://squidfunk.github.io")] == []
