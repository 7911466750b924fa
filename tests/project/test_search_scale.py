"""What `benchmarks/search_scale.py` measures, with few trials, and what it complains of."""

from __future__ import annotations

import json

import pytest

GOOD = {
    "strategy": "tpe", "asks": 10_000, "first_ms": 1.0, "last_ms": 1.9, "at_300_ms": 290.0, "resume_seconds": 4.9,
    "memory_mb": 700.0, "resumed_mb": 1100.0, "imports_mb": 640.0,
}  # fmt: skip


@pytest.fixture
def benchmark(benchmark_module):
    return benchmark_module("search_scale")


def test_a_study_is_asked_journaled_and_restored_from_its_journal_alone(benchmark, tmp_path):
    row = benchmark.measured("asha", 40, tmp_path)
    again = benchmark.resumed("asha", 40, tmp_path)

    lines = (tmp_path / "studies" / "scale" / "journal.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count("tell") == kinds.count("ask") == 40 + 1  # the next one is the second process's
    assert row["asks"] == 40
    assert 0 < again["resume_seconds"] < 60
    assert row["memory_mb"] >= row["imports_mb"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"last_ms": 2.1}, ["asks take 2.1 times as long at the end as at the beginning"]),
        ({"asks": 100, "last_ms": 2.1}, []),
        ({"resume_seconds": 5.5}, ["back after 5.5 s"]),
        ({"resumed_mb": 1200.0}, ["takes 560 MB beside its imports"]),
        ({"at_300_ms": 310.0}, ["decides in 310 ms at 300 recipes"]),
        ({"at_300_ms": 310.0, "strategy": "random"}, []),
    ],
)
def test_it_complains_of_what_misses_its_goal(benchmark, changed, said):
    assert benchmark.complaints(GOOD | changed) == said
