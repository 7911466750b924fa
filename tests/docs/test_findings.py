"""The page about verdicts names every finding that the code can have, and every probe: no more, no fewer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import trainwright
from trainwright.diagnosis.curves import LEAST_EPOCHS, last_third
from trainwright.diagnosis.rules import DESCRIPTIVE, RULES
from trainwright.workflows.lr import RULE
from trainwright.workflows.probe_changes import PROBES

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
SOURCES = sorted(Path(trainwright.__file__).parent.rglob("*.py"))


def section(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    return PAGE.split(f"## {heading}\n", 1)[1].split("\n#", 1)[0]


def tables(text: str) -> list[list[list[str]]]:
    """The cells of the rows of each table, without its head."""
    found = [block.splitlines()[2:] for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in rows] for rows in found]


def names_in(source: Path) -> Iterator[str]:
    """The names that a file writes out where it makes a finding."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        given = [word.value for word in node.keywords if word.arg == "rule"] if node.func.id == "Finding" else []
        given += node.args[:1] if node.func.id == "finding" else []
        yield from (one.value for one in given if isinstance(one, ast.Constant))


def test_every_rule_has_its_line_in_the_order_in_which_findings_are_told():
    first, _ = tables(section("Every finding"))

    assert [row[0] for row in first] == [f"`{rule.__name__.replace('_', '-')}`" for rule in RULES]


def test_the_findings_that_describe_are_the_last_ones_as_the_page_says():
    first, _ = tables(section("Every finding"))

    assert {row[0].strip("`") for row in first[-4:]} == set(DESCRIPTIVE)


def test_the_window_of_a_finding_is_the_one_that_is_looked_at():
    (row,) = [row for row in tables(section("Every finding"))[0] if row[0] == "`still-improving`"]

    assert LEAST_EPOCHS == len(last_third(range(6))) == 4
    assert "over the last third of the epochs, but at least the last four (of 6 epochs 4), the unseen score" in row[1]


def test_no_finding_is_made_anywhere_that_the_page_does_not_name():
    written = {name for source in SOURCES for name in names_in(source)} | {RULE}
    named = {row[0].strip("`") for table in tables(section("Every finding")) for row in table}

    assert len(written) > 10
    assert written <= named
    assert named == written | {rule.__name__.replace("_", "-") for rule in RULES}


def test_every_probe_has_its_line():
    (probes,) = tables(section("Underfitting needs a reference"))

    assert {row[1].strip("`") for row in probes} == set(PROBES)
