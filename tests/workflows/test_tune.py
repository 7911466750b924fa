"""Searches on real trainings: any number of workers finds the same, killed ones go on, a budget of time ends in time."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainwright as tw
from trainwright.data.digits import write_digits
from trainwright.data.problems import counted
from trainwright.errors import RecipeError, UnknownNameError, UsageError
from trainwright.recipes import published
from trainwright.search.audit import Edge
from trainwright.workflows import judge, studies, tune_result
from trainwright.workflows.tune import limit_of

SMALL = {"epochs": 3, "network.width": 8, "data.image_size": 16, "precision": "fp32"}
SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 3e-2, "log": True},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take five times as long as these trainings."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)


def tune(data: Path, runs: Path, **more: Any) -> tw.Study:
    options = {"strategy": "asha", "space": SPACE, "trials": 6, "changes": SMALL, "seed": 0, "name": "study"}
    options |= {"runs": runs, "threads": 1, "slots": 1, "workers": 1, "mirrors": ()}
    return tw.tune(data, "story", **{**options, **more})


def found(study: tw.Study) -> Any:
    """Trials, winner and story without the clock."""
    result = study.result
    trials = [{key: value for key, value in one.items() if key != "seconds"} for one in result["trials"]]
    return trials, result["best"], result["gain"], result["importance"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tw.Study:
    folder = tmp_path_factory.mktemp("tuned")
    return tune(write_digits(folder / "digits"), folder / "runs")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_hands_over_the_best_with_its_doubt(study: tw.Study) -> None:
    result = study.result
    best, trials = result["best"], [one for one in result["trials"] if one["role"] == "trial"]

    assert (result["schema"], result["kind"], result["strategy"]) == ("trainwright.study/1", "tune", "asha")
    assert trials[0]["label"] == "as published"
    assert len(trials) == 6
    assert {one["state"] for one in trials} == {"finished", "paused"}
    assert best["interval"]["low"] < best["score"] < best["interval"]["high"]
    assert result["noise_floor"] > 0
    assert result["luck"] > 0
    assert not best["optimistic"]
    assert best["trained_on"] == "train+val"
    assert result["highest"]["why_not"] in result["summary"]
    assert study.best.recipe.data.train_on == "train+val"
    assert published.find(study.folder / "best-recipe.yaml") == tw.Recipe.model_validate(best["recipe"])
    assert study.story == [entry["text"] for entry in result["journal"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_runs_are_runs_and_its_test_part_can_be_opened(study: tw.Study) -> None:
    listed = {run.run_id for run in tw.list_runs(study._runs)}

    opened = tw.finalise(study)

    assert listed == {one["run"] for one in study.result["trials"]}
    assert opened["study"] == "study"
    assert opened["run"] == study.result["best"]["run"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_at_a_time_find_the_same_trials_and_the_same_winner(study: tw.Study, tmp_path: Path) -> None:
    together = tune(study._runs.parent / "digits", tmp_path / "runs", slots=2)

    assert found(together) == found(study)
    assert together.best.result["weights_sha256"] == study.best.result["weights_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asked", [30, 330])
def test_stopped_and_gone_on_with_it_finds_the_same(
    study: tw.Study, tmp_path: Path, asked: int, polls: Callable[[int], Callable[[], bool]]
) -> None:
    stopped = tune(study._runs.parent / "digits", tmp_path / "runs", stop_asked=polls(asked))
    assert not stopped.finished

    resumed = tw.resume_study("study", runs=tmp_path / "runs", mirrors=())

    assert found(resumed) == found(study)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_and_resumed_it_finds_the_same(study: tw.Study, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps(SPACE))
    changes = [f"--set={key}={value}" for key, value in SMALL.items()]
    command = [
        "tune",
        str(study._runs.parent / "digits"),
        "--recipe=story",
        *changes,
        "--strategy=asha",
        f"--space={space}",
    ]
    command += ["--trials=6", "--seed=0", "--name=study", "--slots=2"]
    moments = random.Random(0)
    runs = tmp_path / "runs"
    for _ in range(5):
        process = _start(*command, runs=runs)
        _wait_until_under_way(process, runs.parent / "studies" / "study" / "study.json")
        time.sleep(moments.uniform(0.5, 9.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        command = ["resume", "study", "--slots=2"]

    process = _start("resume", "study", runs=runs)
    out, err = process.communicate(timeout=900)

    assert process.returncode == 0, err
    assert found(tw.Study(studies.StudyFolder.open(runs.parent / "studies" / "study"), runs)) == found(study)
    assert json.loads(out)["best"] == study.result["best"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_budget_of_time_ends_in_time_with_the_best_in_hand(study: tw.Study, tmp_path: Path) -> None:
    began = time.perf_counter()

    timed = tune(
        study._runs.parent / "digits",
        tmp_path / "runs",
        strategy="sobol",
        trials=None,
        budget=40,
        changes={**SMALL, "epochs": 50},
    )

    assert time.perf_counter() - began < 1.1 * 40
    assert timed.finished
    assert timed.result["best"] is not None
    assert timed.result["epochs"] < 50


LOW = {"optimizer.lr": {"low": 3e-5, "high": 3e-4, "log": True, "points": 3}}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tw.Study:
    """A grid over learning rates that are all too low, with what follows it."""
    folder = tmp_path_factory.mktemp("followed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_draw", lambda *arguments: None)
        return follow(write_digits(folder / "digits"), folder / "runs")


def follow(data: Path, runs: Path, **more: Any) -> tw.Study:
    low = {**SMALL, "epochs": 2, "optimizer.lr": 1e-4}
    options = {"strategy": "grid", "space": LOW, "trials": None, "budget": "1h", "changes": low, "follow_up": True}
    return tune(data, runs, **{**options, "confirm": False, "on_all": False, **more})


def without_seconds(text: str) -> str:
    return re.sub(r"; [\d,]+ s\.$", "", text)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_the_box_of_the_learning_rate_is_too_low_the_follow_up_finds_the_best_above_it(
    followed: tw.Study,
) -> None:
    result = followed.result
    first, *further = result["spaces"]

    assert len(first["trials"]) == 4
    assert [one["because"][0]["end"] for one in further] == ["high", "high"]
    assert result["best"]["changes"]["optimizer.lr"] > 3e-4
    assert result["best"]["score"] > first["best_score"] + 0.1
    assert result["best"]["score"] == max(one["best_score"] for one in further)
    assert "Follow-up: the best lay at the high end of optimizer.lr; of " in result["summary"]
    assert sum("Follow-up, in the same budget: optimizer.lr " in text for text in followed.story) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_follow_up_that_was_stopped_and_gone_on_with_finds_the_same(
    followed: tw.Study, tmp_path: Path, polls: Callable[[int], Callable[[], bool]]
) -> None:
    stopped = follow(Path(followed._folder.asked["data"]["path"]), tmp_path / "runs", stop_asked=polls(300))
    assert not stopped.finished
    assert len(stopped.story) >= 5  # the first space is behind it

    resumed = tw.resume_study("study", runs=tmp_path / "runs", mirrors=())

    assert found(resumed) == found(followed)
    assert resumed.result["spaces"] == followed.result["spaces"]
    assert [without_seconds(text) for text in resumed.story] == [without_seconds(text) for text in followed.story]


def test_a_follow_up_is_told_whatever_was_reached_before_it():
    edge = Edge(key="optimizer.lr", end="high", value=0.1, low=1e-4, high=0.1, wider=(1e-4, 3.2))
    spaces = [
        {"because": [], "trials": [0, 1], "best_score": 0.0},
        {"because": [edge], "trials": [2, 3], "best_score": 0.5},
    ]

    worst = tune_result._followed(spaces, "accuracy")
    none = tune_result._followed([{**spaces[0], "best_score": None}, spaces[1]], "accuracy")

    began = (
        "Follow-up: the best lay at the high end of optimizer.lr; of 2 further trials the best reached accuracy 0.500"
    )
    assert worst == [f"{began}, 0.000 before."]
    assert none == [f"{began}, none before."]


class Late(studies.Timer):
    """A timer that runs out when it has been asked for the n-th time."""

    left = 0

    def stop_asked(self) -> bool:
        type(self).left -= 1
        self.ran_out = self.left < 0
        return self.ran_out


@pytest.mark.parametrize(("polls_left", "begun"), [(1, 1), (20, 2)])
def test_a_study_whose_time_is_over_ends_with_what_it_has(
    digits: Path, recipe: tw.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polls_left: int, begun: int
) -> None:
    monkeypatch.setattr(studies, "Timer", Late)
    monkeypatch.setattr(Late, "left", polls_left)

    ended = begin(digits, recipe, tmp_path / "runs", budget="2h", trials=50, epochs=1)

    result = ended.result
    states = [one["state"] for one in result["trials"]]
    assert begun <= len(states) < 50
    assert set(states) <= {"finished", "unfinished"}
    assert (result["best"] is not None) == ("finished" in states)
    assert result["audit"]["over"] == "the time was over"


def begin(data: Any, recipe: tw.Recipe, runs: Path, *, epochs: int = 1, **more: Any) -> tw.Study:
    options = {"strategy": "sobol", "space": SPACE, "name": "mine", "runs": runs, "workers": 1, "mirrors": ()}
    options |= {"slots": 1, "trials": 3, "report": False}
    return tw.tune(data, recipe.changed({"epochs": epochs}), **{**options, **more})


@pytest.fixture
def asked(digits: Path, recipe: tw.Recipe, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """(arguments of `tune`) → the study.json of a study that was stopped at its first step."""

    def ask(**more: Any) -> dict[str, Any]:
        study = begin(digits, recipe, tmp_path / "runs", stop_asked=lambda: True, **more)
        return study._folder.asked

    return ask


def test_a_study_keeps_what_its_search_is_made_of(asked):
    content = asked(strategy_options={"prior": True}, first=[{"optimizer.lr": 0.02}])

    assert (content["kind"], content["strategy"], content["lag"]) == ("tune", "sobol", 4)
    assert content["strategy_options"] == {"prior": True}
    assert content["first"] == [{"optimizer.lr": 0.02}]
    assert content["space"] == SPACE


def test_a_follow_up_is_asked_for_and_kept(asked):
    assert asked(follow_up=True)["follow_up"] is True


def test_without_a_space_it_is_as_wide_as_the_budget(asked):
    assert set(asked(space=None, trials=3)["space"]) == {"optimizer.lr"}


def test_a_learning_rate_that_is_left_open_is_found_first_and_the_space_lies_around_it(asked, listener):
    content = asked(space=None, trials=3, epochs=60, changes={"optimizer.lr": None}, reporter=listener)

    lr, falls, domain = content["recipe"]["optimizer"]["lr"], content["lr_falls"], content["space"]["optimizer.lr"]
    assert domain["prior"]["centre"] == lr
    assert domain["low"] < lr < domain["high"]
    assert falls is None or domain["high"] <= max(falls[1], 2 * lr) * 1.05
    assert any(note.startswith("learning rate from the range test") for note in listener.notes)


def test_where_a_space_is_given_every_training_finds_a_rate_that_is_left_open(asked):
    content = asked(changes={"optimizer.lr": None})

    assert (content["recipe"]["optimizer"]["lr"], content["lr_falls"]) == (None, None)


def test_a_list_needs_no_space(asked):
    assert asked(strategy="list", space=None, trials=None, first=[{"optimizer.lr": 0.1}], budget="1h")["space"] == {}


def test_epochs_that_leave_no_time_are_shortened_and_that_is_said(asked, listener):
    content = asked(epochs=9999, trials=None, budget="3m", reporter=listener)

    epochs = content["recipe"]["epochs"]
    assert 1 <= epochs < 9999
    assert content["shortened"] == {"from": 9999, "to": epochs}
    assert f"{counted(epochs, 'epoch')}, not 9999: 180 s leave no time for more" in listener.notes


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"strategy": "tpee"}, UnknownNameError, "Did you mean 'tpe'"),
        ({"space": {"optimizer.learning": {"low": 1, "high": 2}}}, RecipeError, "optimizer.learning: no such key"),
        ({"space": {"batch_size": {"low": 1, "high": 64}}}, RecipeError, "batch_size is not searched"),
        ({"first": [{"optimizer.lr": -1}]}, RecipeError, "entry 1: optimizer.lr"),
        ({"first": {"optimizer.lr": 1}}, RecipeError, "expected a list of changes"),
        ({"strategy_options": {"points": 3}}, UsageError, "points: no option of sobol"),
        ({"budget": "1s"}, UsageError, "too few to compare anything"),
        ({"trials": 0}, UsageError, "expected 1 or more, got 0"),
        (
            {"trials": 2, "first": [{"seed": 1}, {"seed": 2}]},
            UsageError,
            "expected at least 3: the recipe as it is and the 2",
        ),
        ({"strategy": "asha", "epochs": 2}, UsageError, "asha needs at least 3 times the fewest epochs"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    digits: Path, recipe: tw.Recipe, tmp_path: Path, more: dict[str, Any], error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        begin(digits, recipe, tmp_path / "runs", **more)

    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [((None, None, None), 1800.0), ((None, 5, None), None), ((None, None, 2.5), None), (("90s", 5, None), 90.0)],
)
def test_half_an_hour_is_the_budget_where_nothing_is_said(given, seconds):
    assert limit_of(*given) == seconds


def test_a_network_of_ones_own_is_searched_too(recipe: tw.Recipe, tmp_path: Path) -> None:
    from torch import nn

    images_NHWC = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(
        images_NHWC, [str(index % 2) for index in range(60)], parts=["train"] * 40 + ["val"] * 20
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 2))

    study = begin(data, recipe.changed({"network.dropout": 0.0}), tmp_path / "runs", model=model, trials=2)

    assert [one["state"] for one in study.result["trials"]] == ["finished"] * 3
    assert study.result["summary"].endswith("are the last unseen ones.")


def _start(*command: str, runs: Path) -> subprocess.Popen[str]:
    arguments = [*command, f"--runs={runs}", "--threads=1", "--workers=1", "--mirrors=none", "--json", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "trainwright", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _wait_until_under_way(process: subprocess.Popen[str], file: Path) -> None:
    until = time.monotonic() + 120
    while not file.is_file() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert file.is_file()
