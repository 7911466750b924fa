"""No link leads nowhere: in the Markdown as it lies in the repository, and on the site as it is built."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def links(document: Path) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or []]
    return [
        str(child.attrs.get("href") or child.attrs.get("src"))
        for child in inline
        if child.type in ("link_open", "image")
    ]


def anchors(document: Path) -> set[str]:
    """What a code host calls each heading: lower case, punctuation left out, blanks as hyphens, a number where there are two."""
    found: list[str] = []
    tokens = MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8"))
    for token, text in itertools.pairwise(tokens):
        if token.type == "heading_open":
            plain = "".join(child.content for child in text.children or [])
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document):
    broken = []
    for link in links(document):
        parts = urlsplit(link)
        if not parts.scheme:
            target = (document.parent / unquote(parts.path)).resolve() if parts.path else document
            if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
                broken.append(link)

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_link_to_elsewhere_is_a_whole_address(document):
    elsewhere = [urlsplit(link) for link in links(document) if urlsplit(link).scheme]

    assert [
        part.geturl() for part in elsewhere if part.scheme != "https" or "." not in part.netloc or " " in part.path
    ] == []


class Page(HTMLParser):
    """What a page of the site refers to, and what of it can be referred to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []  # what a browser asks for by itself when it opens the page
        self.ids: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.fetched.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(given.get("href", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in (site / "site").rglob("*.html")}


def test_every_document_is_a_page_of_the_site(site):
    made = {path.relative_to(site / "site").with_suffix(".md").as_posix() for path in (site / "site").rglob("*.html")}
    wanted = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}

    assert {name.replace("README.md", "index.md") for name in wanted} - made == set()
    assert {"reference/command-line.md", "reference/recipe.md", "reference/python.md", "reference/json.md"} <= made
    assert {"examples/first-run.md", "examples/multi-label.md", "contributing.md", "changelog.md"} <= made


def test_every_document_of_the_site_is_in_its_menu(site):
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    staged = {path.relative_to(site / ".site").as_posix() for path in (site / ".site").rglob("*.md")}
    told = set(re.findall(r'= "([^"]+\.md)"', text))

    assert told - staged == set()
    assert {name for name in staged - told if not name.startswith("decisions/0")} == set()


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(pages):
    broken = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if file.name == "404.html" or parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            places = pages[target].ids if target in pages else {unquote(parts.fragment)}
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in places):
                broken.append(f"{file.name}: {link}")

    assert len(pages) > 40
    assert broken == []


def test_a_page_fetches_nothing_from_elsewhere_when_it_is_opened(site, pages):
    asked = {link for page in pages.values() for link in page.fetched if urlsplit(link).netloc}
    styles = " ".join(file.read_text(encoding="utf-8") for file in (site / "site").rglob("*.css"))

    assert asked == set()
    assert re.findall(r"url\(\s*['\"]?(https?:[^)]*)\)", styles) == []


def test_the_reference_shows_bars_and_angles_as_the_program_says_them(site):
    commands, fields = (
        (site / "site" / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("command-line", "recipe")
    )

    assert re.search(r"\\(\||&lt;|<)", commands + fields) is None
    assert "<code>--recipe NAME|FILE</code></td>" in commands
    assert "number &gt; 0, &lt; 1 or null</td>" in fields
