"""What `benchmarks/never_worse.py` makes of the studies that were measured."""

import json
import sys

import pytest


@pytest.fixture
def benchmark(benchmark_module):
    return benchmark_module("never_worse")


def judged(benchmark, folder, gains, *, monkeypatch, seeds="0 1"):
    """The exit code with so many studies on digits; gains: (value, low, high) of each."""
    for seed, (value, low, high) in enumerate(gains):
        one = {
            "data": "digits",
            "seed": seed,
            "baseline": 0.9,
            "handed_over": 0.9 + value,
            "images": 270,
            "gain": {"value": value, "low": low, "high": high},
            "remedies": [],
            "seconds": 70.0,
        }
        (folder / f"digits.{seed}.json").write_text(json.dumps(one))
    command = ["never_worse.py", "--kept", "--only", "digits", "--seeds", *seeds.split(), "--results", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    return benchmark.main()


def test_a_loss_within_noise_is_none(benchmark, tmp_path, monkeypatch, capsys):
    assert judged(benchmark, tmp_path, [(0.03, 0.01, 0.05), (-0.01, -0.03, 0.01)], monkeypatch=monkeypatch) == 0
    assert "-1.0 (-3.0 to +1.0) points on 270 images" in capsys.readouterr().err


def test_a_loss_beyond_noise_fails(benchmark, tmp_path, monkeypatch):
    assert judged(benchmark, tmp_path, [(0.03, 0.01, 0.05), (-0.02, -0.03, -0.01)], monkeypatch=monkeypatch) == 4


def test_a_missing_study_fails(benchmark, tmp_path, monkeypatch):
    assert judged(benchmark, tmp_path, [(0.03, 0.01, 0.05)], monkeypatch=monkeypatch) == 4
