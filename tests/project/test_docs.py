"""What the documents refer to exists: links between them, and the headings that docstrings cite."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
HEADINGS = re.findall(r"^## (.+)$", (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8"), re.MULTILINE)
SOURCES = sorted(ROOT.glob("src/**/*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(document):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))

    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_heading_that_a_docstring_cites_is_in_the_statistics():
    text = " ".join(" ".join(source.read_text(encoding="utf-8").split()) for source in SOURCES)

    cited = set(re.findall(r'statistics\.md, "([^"]+)"', text))

    assert "The gap" in cited
    assert cited - set(HEADINGS) == set()


def test_decisions_are_numbered_without_a_hole_and_listed():
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))

    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    assert [name for name in files if name not in (folder / "README.md").read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/decisions/[0-9]*.md")), ids=lambda path: path.name[:4])
def test_a_decision_has_its_four_parts(document):
    headings = re.findall(r"^## (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)

    assert headings == ["Context", "Options", "Choice", "Price"]
