"""`improve` and `finalise` on the command line."""

from __future__ import annotations

import json

import pytest

import trainwright as tw
from trainwright.cli.improve import show_study
from trainwright.workflows.study import Conductor

SMALL = [
    "--recipe=story",
    "--epochs=2",
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--threads=1",
    "--workers=1",
]


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


def shown(gain=None, **more):
    arm = {"remedy": "dropout", "score": 0.5, "gain": gain, "verdict": "no evidence", "adopted": False}
    control = {"run": "mine-001", "score": None}
    content = {
        "study": "mine",
        "metric": "accuracy",
        "rounds": [{"round": 1, "verdict": "overfits.", "epochs": 10, "control": control, "arms": [arm]}],
        "summary": "Nothing.",
        "noise_floor": None,
        "unchanged_scores": [0.7],
        "best": {"run": "mine-004", "trained_on": "train"},
        "seconds": 1.0,
        "budget_seconds": 2.0,
        "folder": "studies/mine",
        "test_images": 40,
    }
    return show_study(content | more)


def test_a_gain_whose_ends_are_not_known_is_shown_without_them():
    assert "+8.0 points  not proven" in shown({"value": 0.08, "low": None, "high": None})


def test_a_gain_that_is_not_known_says_so():
    assert "cannot be told  not proven" in shown({"value": None, "low": None, "high": None})


def test_a_longer_training_is_shown_beside_the_rounds():
    gain = {"value": 0.1, "low": 0.03, "high": 0.18}
    one = {"run": "mine-002", "score": 0.8, "epochs": 24, "before": 12, "trainings": [1, 1], "gain": gain, "p": 0.01}

    text = shown(lengths=[{**one, "verdict": "adopted", "adopted": True}])

    assert "longer, at the end\n● 24 epochs in place of 12 " in text
    assert "accuracy 0.800  +10.0 points (+3.0 to +18.0), 1 against 1 trainings  adopted" in text


def test_a_study_without_time_for_a_remedy_says_so_and_what_to_do():
    cut = {"short_of_time": True, "warnings": ["1 epoch a training, not the recipe's 30: too small"]}

    text = shown(rounds=[], budget_seconds=89.5, **cut)

    assert "note: 1 epoch a training" in text
    assert text.endswith("or: the same with twice the budget, --budget 180s, so that remedies can be tried")
    assert "twice the budget" not in shown(budget_seconds=89.5, **cut)


def test_without_a_test_part_the_next_command_opens_none():
    text = shown(test_images=0)

    assert "finalise" not in text
    assert text.endswith("next: trainwright predict mine-004 IMAGE|FOLDER…    (there is no test part to open)")


@pytest.fixture
def begun(digits, tmp_path):
    """The folder of runs of a study that was stopped at the first step of its baseline."""
    recipe = tw.Recipe().changed({"network.width": 8, "data.image_size": 16, "optimizer.lr": 0.01, "precision": "fp32"})
    stopped = {"stop_asked": lambda: True, "workers": 1, "mirrors": (), "threads": 1}
    tw.improve(digits, recipe, name="mine", budget="1h", runs=tmp_path / "runs", **stopped)
    return tmp_path / "runs"


def test_resume_last_goes_on_with_the_study_of_the_newest_run(cli, begun, monkeypatch):
    monkeypatch.setattr(Conductor, "carry_out", lambda self: False)

    done = cli("resume", "last", f"--runs={begun}", "--json")

    assert done.json["where"] == "mine"
    assert "Go on with: trainwright resume mine" in done.err


def test_resume_of_a_run_of_a_study_goes_on_with_the_run(cli, begun, monkeypatch):
    monkeypatch.setattr(Conductor, "carry_out", lambda self: pytest.fail("the study was gone on with"))

    done = cli("resume", "mine-000", f"--runs={begun}", "--json", "--mirrors=none")

    assert done.json["run"] == "mine-000"


def test_a_study_is_shown_with_its_rounds_the_gain_and_the_next_command():
    result = {
        "study": "mine",
        "metric": "accuracy",
        "rounds": [
            {
                "round": 1,
                "verdict": "overfits: Unseen error 30.0 %.",
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
        "unchanged_scores": [0.7, 0.712],
        "best": {"run": "mine-004", "trained_on": "train+val"},
        "seconds": 580.0,
        "budget_seconds": 600.0,
        "folder": "studies/mine",
        "test_images": 40,
    }

    text = show_study(result)

    assert "● augmentation" in text
    assert "+8.0 points (+5.0 to +11.0)  adopted" in text
    assert "dropout" in text
    assert "hopeless" in text
    assert "Seed alone: 2 trainings of the baseline's recipe reached accuracy 0.700, 0.712." in text
    assert "found      overfits" in text
    assert "given up" in text
    assert "next: trainwright finalise mine\n" in text
    assert "scores this model on 40 images that nobody has looked at" in text
    seen = show_study({**result, "test_opened_before": 2})
    assert "nobody" not in seen
    assert "40 images, which were looked at 2 times before this study" in seen


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


def test_a_gain_says_of_how_many_trainings_it_is_and_how_long_they_were_where_that_is_its_own_doing():
    round_ = {"round": 1, "verdict": "overfits.", "epochs": 10, "control": {"run": "mine-001", "score": 0.6}}
    arm = {"remedy": "recipe", "score": 0.8, "gain": {"value": 0.2, "low": 0.1, "high": 0.3}, "verdict": "adopted"}
    arms = [{**arm, "adopted": True, "trainings": [2, 3], "epochs": 16}, {**arm, "adopted": False, "trainings": [1, 2]}]

    text = shown(rounds=[{**round_, "arms": arms}])

    assert "+20.0 points (+10.0 to +30.0), 2 trainings of 16 epochs against 3 of 10  adopted" in text
    assert "+20.0 points (+10.0 to +30.0), 1 against 2 trainings  adopted" in text


def test_a_model_that_learned_from_the_validation_images_is_not_said_to_have_their_score():
    text = " ".join(shown(best={"run": "mine-004", "trained_on": "train+val"}).split())

    assert "mine-004, trained on train+val, which leaves no image but those of test to score it by" in text
