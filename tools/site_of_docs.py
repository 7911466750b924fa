"""The documentation as a site: the pages in docs/, the reference made from the program, and the examples as pages.

`python tools/site_of_docs.py` builds it into `site/` without a network. Zensical is told to be strict: a link
or an anchor that leads nowhere ends the build with exit code 1.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import reference

ROOT = Path(__file__).parents[1]
CONFIG, STAGE = "zensical.toml", ".site"  # STAGE: what zensical reads, as CONFIG says; made anew each time
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")


def stage(target: Path) -> None:
    """Write everything that the site is built from into `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target)
    for file, page in extra_pages().items():
        write(
            target / page, (ROOT / file).read_text(encoding="utf-8") if file.endswith(".md") else as_page(ROOT / file)
        )
    for name, text in reference.pages().items():
        write(target / "reference" / name, text)
    homes = {
        f"docs/{path.relative_to(target).as_posix()}": path.relative_to(target).as_posix()
        for path in target.rglob("*.*")
    }
    homes |= extra_pages()
    for file, page in homes.items():
        if page.endswith(".md"):
            text = (target / page).read_text(encoding="utf-8")
            write(target / page, LINK.sub(lambda link, at=(file, page): moved(link[1], *at, homes), text))


def extra_pages() -> dict[str, str]:
    """Files outside of docs/ that the site shows, and where."""
    shown = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    examples = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb"))
    return shown | {f"examples/{path.name}": f"examples/{path.stem.replace('_', '-')}.md" for path in examples}


def moved(link: str, file: str, page: str, homes: dict[str, str]) -> str:
    """A link of `file` in the repository as `page` of the site has it. One to nothing on the site stays: the build tells."""
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(file), link))
    return posixpath.relpath(homes[leads_to], posixpath.dirname(page)) if leads_to in homes else link


def as_page(file: Path) -> str:
    """An example as a page: a notebook's cells in their order, a program whole."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return f"# {file.stem.replace('_', ' ').capitalize()}\n\n`examples/{file.name}`:\n\n```python\n{text}```\n"
    cells = [
        "".join(cell["source"]) if cell["cell_type"] == "markdown" else python(cell)
        for cell in json.loads(text)["cells"]
    ]
    title, *rest = cells
    return "\n\n".join([title, f"The notebook `examples/{file.name}`.", *rest]) + "\n"


def python(cell: dict[str, list[str]]) -> str:
    return f"```python\n{''.join(cell['source'])}\n```"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def build(place: Path) -> int:
    """Stage into `place`/.site and build `place`/site; returns zensical's exit code."""
    stage(place / STAGE)
    if place != ROOT:
        shutil.copy(ROOT / CONFIG, place)
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--clean", "--strict", "--config-file", str(place / CONFIG)]
    return subprocess.run(command, cwd=place, env=os.environ | {"NO_COLOR": "1"}).returncode


if __name__ == "__main__":
    sys.exit(build(ROOT))
