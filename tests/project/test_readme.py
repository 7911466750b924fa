"""The README's file tree is the repository's, and the commands that it names exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "trainwright"


def tree() -> list[str]:
    """Paths of the file tree: the first word of each line in its code block; an indented one is below the last folder."""
    block = re.search(r"## Where things are\n.*?```text\n(.*?)```", README, re.DOTALL)
    assert block is not None
    paths: list[str] = []
    folder = ""
    for line in block[1].splitlines():
        path = line.split()[0]
        paths.append(folder + path if line.startswith(" ") else path)
        folder = folder if line.startswith(" ") else path
    return paths


@pytest.mark.parametrize("path", tree())
def test_what_the_tree_names_is_there(path):
    assert (ROOT / path).exists()


def test_the_tree_names_every_module_and_room_of_the_package():
    rooms = {f"src/trainwright/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {f"src/trainwright/{path.name}" for path in PACKAGE.glob("*.py")}

    assert (rooms | modules) - set(tree()) == set()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))))
def test_a_target_that_is_named_is_in_the_makefile(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
