"""The lock pins every package with hashes, covers what pyproject.toml declares, and names no package index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPARED_WITH = {
    "rivals": {"fastai", "optuna"},
    "search-rivals": {"dehb", "neural-pipeline-search", "onnxruntime", "optuna", "syne-tune"},
}  # extras of what benchmarks compare with, and the packages in them
LOCKED = [Requirement(entry.split(" \\\n")[0]) for entry in re.split(r"\n(?=\S)", LOCK.strip())]


def declared() -> list[Requirement]:
    """All but what benchmarks compare with, which is in extras that nothing else takes in."""
    every = PROJECT["project"]["optional-dependencies"]
    extras = [lines for name, lines in every.items() if name not in COMPARED_WITH]
    lines = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(x for extra in extras for x in extra),
    ]
    return [requirement for line in lines if (requirement := Requirement(line)).name != "trainwright"]


def test_every_entry_is_one_version_with_hashes():
    entries = re.split(r"\n(?=\S)", LOCK.strip())

    loose = [
        entry
        for entry in entries
        if not re.fullmatch(r"\S+==\S+( ; [^\\]+)?( \\\n +--hash=sha256:[0-9a-f]{64})+", entry)
    ]

    assert loose == []


def test_no_package_index_is_named():
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links", LOCK)


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_what_is_declared_is_locked_in_its_range(requirement):
    versions = [str(locked.specifier)[2:] for locked in LOCKED if locked.name == canonicalize_name(requirement.name)]

    assert versions != []
    assert all(requirement.specifier.contains(version) for version in versions)


@pytest.mark.parametrize("extra", COMPARED_WITH)
def test_what_benchmarks_compare_with_is_in_an_extra_that_nothing_takes_in(extra):
    extras = PROJECT["project"]["optional-dependencies"]
    own = [line for name, lines in extras.items() if name not in COMPARED_WITH for line in lines]
    others = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *own)]
    rivals = {Requirement(line).name for line in extras[extra]}

    assert rivals == COMPARED_WITH[extra]
    assert {other.name for other in others} & (rivals - {"optuna", "onnxruntime"}) == set()
    assert not any(extra in other.extras for other in others)
