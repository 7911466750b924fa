"""`improve` and `finalise` on the command line."""

from __future__ import annotations

import json

import pytest

from trainwright.cli.improve import show_study

SMALL = ["--recipe=story", "--epochs=2", "--set=network.width=8", "--set=data.image_size=16", "--threads=1", "--workers=1"]


def test_a_budget_that_is_none_is_a_usage_error(cli, digits, runs):
    done = cli("improve", digits, "--budget=soon", f"--runs={runs}", "--json")

    assert done.code == 2
    assert json.loads(done.out)["where"] == "--budget"
    assert "Write for example 90s, 10m or 1h30m." in done.err


def test_data_that_is_not_there_is_refused_before_anything_is_written(cli, tmp_path):
    done = cli("improve", tmp_path / "nothing", f"--runs={tmp_path / 'runs'}")

    assert done.code == 3
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "studies").exists()


def test_the_test_part_of_a_run_that_is_not_there_cannot_be_opened(cli, tmp_path):
    done = cli("finalise", "nobody", f"--runs={tmp_path / 'runs'}")

    assert done.code != 0
    assert "no such run" in done.err or "no runs" in done.err


def test_a_study_is_shown_with_its_rounds_the_gain_and_the_next_command():
    result = {
        "study": "mine",
        "metric": "accuracy",
        "rounds": [
            {
                "round": 1,
                "epochs": 10,
                "control": {"run": "mine-001", "score": 0.7},
                "arms": [
                    {
                        "remedy": "augmentation",
                        "score": 0.78,
                        "gain": {"value": 0.08, "low": 0.05, "high": 0.11},
                        "verdict": "adopted",
                        "adopted": True,
                    },
                    {"remedy": "dropout", "score": None, "gain": None, "verdict": "hopeless", "adopted": False},
                ],
            }
        ],
        "summary": "What helped: augmentation.",
        "noise_floor": 0.011,
        "best": {"run": "mine-004", "trained_on": "train+val"},
        "seconds": 580.0,
        "budget_seconds": 600.0,
        "folder": "studies/mine",
    }

    text = show_study(result)

    assert "● augmentation" in text
    assert "+8.0 points (+5.0 to +11.0)  adopted" in text
    assert "dropout" in text and "hopeless" in text
    assert "Seed alone moves the accuracy by 1.1 points" in text
    assert text.endswith("next: trainwright finalise mine    (opens the test part: once)")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_way_tells_its_story_and_opens_the_test_part(cli, digits, tmp_path):
    runs = tmp_path / "runs"
    done = cli("improve", digits, *SMALL, "--budget=60s", "--name=mine", f"--runs={runs}", "--mirrors=none")
    opened = cli("finalise", "mine", f"--runs={runs}", "--json")

    assert (done.code, opened.code) == (0, 0)
    assert "= Baseline: accuracy" in done.err
    assert "next: trainwright finalise mine" in done.out
    assert json.loads(opened.out)["opened_before"] == 0
