"""Studies on real trainings: the closed loop from end to end, stopped and gone on with, and the test part opened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainwright as tw
from trainwright.data.digits import write_digits
from trainwright.errors import DataError, RunError, UsageError
from trainwright.recipes import published
from trainwright.search.ending import FINAL_SHARE
from trainwright.workflows import improve as workflow

# A time that no decision of so small a study depends on.
LONG, SECONDS = "2h", 7200
SMALL = {"epochs": 3, "network.width": 8, "data.image_size": 16, "precision": "fp32"}


def improve(data: Path, runs: Path, **more: Any) -> tw.Study:
    options = {"budget": LONG, "changes": SMALL, "seed": 0, "name": "study", "runs": runs, "threads": 1, **more}
    return tw.improve(data, "story", **options)


def decided(study: tw.Study) -> Any:
    """Rounds, decisions and figures, without the clock."""
    result = study.result
    rounds = json.loads(json.dumps(result["rounds"]))
    return rounds, [entry["text"] for entry in result["journal"]], result["best"], result["gain"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tw.Study:
    folder = tmp_path_factory.mktemp("improved")
    return improve(write_digits(folder / "digits"), folder / "runs")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_tells_its_story_and_hands_over_a_model(study: tw.Study) -> None:
    result = study.result

    assert result["schema"] == "trainwright.study/1"
    assert result["baseline"]["run"] == "study-000"
    assert result["rounds"][0]["control"]["run"] == "study-001"
    assert study.story == [entry["text"] for entry in result["journal"]]
    assert study.best.recipe.data.train_on == "train+val"
    assert study.best.result["score"]["val"] is None
    assert published.find(study.folder / "best-recipe.yaml") == tw.Recipe.model_validate(result["best"]["recipe"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_run_of_a_study_is_a_run_like_any_other(study: tw.Study) -> None:
    found = {run.run_id for run in tw.list_runs(study._runs)}

    assert found == {trial["run"] for trial in study.result["trials"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_test_part_is_opened_once_and_a_second_time_says_so(study: tw.Study) -> None:
    first = tw.finalise(study)
    second = tw.finalise(study)

    assert first["opened_before"] == 0
    assert second["opened_before"] == 1
    assert "once before" in second["note"]
    assert first["test"] == second["test"]
    assert first["test"]["low"] < first["test"]["score"] < first["test"]["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asked", [40, 300, 500])
def test_stopped_and_gone_on_with_it_takes_the_same_decisions(
    study: tw.Study, tmp_path: Path, asked: int, polls: Callable[[int], Callable[[], bool]]
) -> None:
    stopped = improve(study._runs.parent / "digits", tmp_path / "runs", stop_asked=polls(asked))
    assert not stopped.finished

    resumed = tw.resume_study("study", runs=tmp_path / "runs")  # with the threads that it began with

    assert decided(resumed) == decided(study)
    assert resumed.best.result["weights_sha256"] == study.best.result["weights_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_budget_that_binds_is_spent_the_same_way_at_a_replay(
    study: tw.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced = workflow._paced
    spent = {"spent_seconds": SECONDS * (1 - FINAL_SHARE) - 6}  # six seconds are left for rounds
    monkeypatch.setattr(workflow, "_paced", lambda *arguments, **more: paced(*arguments, **more) | spent)
    first = improve(study._runs.parent / "digits", tmp_path / "runs")
    before, seconds = decided(first), first.result["seconds"]
    folder = tmp_path / "studies" / "study"
    journaled = (folder / "journal.jsonl").read_bytes()
    (folder / "result.json").unlink()

    again = tw.resume_study("study", runs=tmp_path / "runs")

    assert seconds > spent["spent_seconds"]
    assert decided(again) == before
    assert again.result["seconds"] == seconds
    assert (folder / "journal.jsonl").read_bytes() == journaled


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_and_resumed_it_takes_the_same_decisions(study: tw.Study, tmp_path: Path) -> None:
    changes = [f"--set={key}={value}" for key, value in SMALL.items()]
    data = str(study._runs.parent / "digits")
    command = ["improve", data, "--recipe=story", *changes, f"--budget={LONG}", "--seed=0", "--name=study"]
    moments = random.Random(0)
    runs = tmp_path / "runs"
    for _ in range(6):
        process = _start(*command, runs=runs)
        _wait_until_under_way(process, runs.parent / "studies" / "study" / "study.json")
        time.sleep(moments.uniform(0.2, 6.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        command = ["resume", "study"]

    process = _start("resume", "study", runs=runs)
    out, err = process.communicate(timeout=900)

    assert process.returncode == 0, err
    resumed = json.loads(out)
    assert resumed["rounds"] == study.result["rounds"]
    assert [entry["text"] for entry in resumed["journal"]] == study.story


@pytest.mark.slow
def test_a_budget_too_small_for_a_comparison_is_refused_with_what_it_takes(study: tw.Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too few to compare anything") as caught:
        improve(study._runs.parent / "digits", tmp_path / "runs", budget="1s")

    assert "Give it at least" in caught.value.cure
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("45", 45.0), (12, 12.0)]
)
def test_a_budget_is_read_as_people_write_it(given: str | float, seconds: float) -> None:
    from trainwright.workflows.pace import seconds_of

    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "soon", "-5m", "0", "10 minutes"])
def test_a_budget_that_is_none_is_refused(given: str) -> None:
    from trainwright.workflows.pace import seconds_of

    with pytest.raises(UsageError, match="no such budget"):
        seconds_of(given)


def test_a_study_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such study"):
        tw.resume_study("nobody", runs=tmp_path / "runs")


def test_a_run_without_a_test_part_has_nothing_to_be_opened(train: Callable[..., tw.Run]) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, [str(i % 2) for i in range(40)], parts=["train"] * 28 + ["val"] * 12)
    run = train({"epochs": 1}, data=data)

    with pytest.raises(DataError, match="no test part"):
        tw.finalise(run, data=data, runs=run.folder.parent)


@pytest.fixture(scope="module")
def learned_from_val(tmp_path_factory: pytest.TempPathFactory, digits: Path, recipe: tw.Recipe) -> tw.Run:
    """A run on train and val together, with its pictures. Read it, never write to it."""
    changed = recipe.changed({"data.train_on": "train+val", "keep": "last"})
    return tw.train(digits, changed, runs=tmp_path_factory.mktemp("all") / "runs", mirrors=(), workers=1)


def test_a_model_that_learned_from_val_claims_no_unseen_score(learned_from_val: tw.Run) -> None:
    run = learned_from_val

    assert run.result["score"]["val"] is None
    assert run.result["gap"] == {"value": None, "low": None, "high": None}
    assert [finding.rule for finding in run.findings] == ["nothing-unseen"]
    assert run.result["verdict"] == "cannot-tell"


def test_its_record_has_no_figure_of_unseen_images(learned_from_val: tw.Run) -> None:
    records = [json.loads(line) for line in (learned_from_val.folder / "records.jsonl").read_text().splitlines()]

    assert [epoch["val"] for epoch in learned_from_val.epochs] == [{"loss": None, "score": None}] * 2
    assert [record["rule"] for record in records if record["kind"] == "finding"] == ["nothing-unseen"]
    assert [record["name"] for record in records if record["kind"] == "figure"] == ["learning-curves.png"]
    assert {file.name for file in (learned_from_val.folder / "figures").iterdir()} == {"learning-curves.png"}
    assert not (learned_from_val.folder / "answers" / "val.npz").exists()


def test_it_is_looked_at_once_at_the_end_because_nothing_is_decided_by_it(learned_from_val: tw.Run) -> None:
    looked_at = [epoch["train"]["score"] is not None for epoch in learned_from_val.epochs]

    assert looked_at == [False, True]
    assert all(epoch["train_running"]["score"] is not None for epoch in learned_from_val.epochs)
    assert [file.name for file in (learned_from_val.folder / "answers").glob("scores-*")] == ["scores-epoch-0001.npz"]


@pytest.mark.parametrize("changes", [{"keep": "best"}, {"early_stop": 5}, {"schedule.name": "reduce-on-plateau"}])
def test_it_is_looked_at_every_epoch_where_that_decides_something(
    tmp_path: Path, digits: Path, recipe: tw.Recipe, changes: dict[str, Any]
) -> None:
    changed = recipe.changed({"data.train_on": "train+val", "keep": "last", **changes})

    run = tw.train(digits, changed, runs=tmp_path / "runs", mirrors=(), workers=1)

    assert all(epoch["train"]["score"] is not None for epoch in run.epochs)


def test_neither_the_list_nor_the_mirrors_have_a_val_score_of_it(learned_from_val: tw.Run) -> None:
    from trainwright.tracking.mirrors import closing_scalars, epoch_scalars

    folder = learned_from_val._folder
    mirrored = {scalar.name for epoch in learned_from_val.epochs for scalar in epoch_scalars(epoch)}
    mirrored |= {scalar.name for scalar in closing_scalars(folder)}

    (listed,) = tw.list_runs(learned_from_val.folder.parent)
    assert listed.val_score is None
    assert not {name for name in mirrored if name.startswith("val/") or name in ("gap", "best_score")}
    assert "train/score" in mirrored


def test_its_last_epoch_is_the_one_that_is_kept_and_scored(learned_from_val: tw.Run) -> None:
    epochs = learned_from_val.epochs

    assert learned_from_val.result["kept_epoch"] == len(epochs) - 1
    assert learned_from_val.result["score"]["train"] == epochs[-1]["train"]["score"]


def test_it_is_not_compared_with_another_run(learned_from_val: tw.Run, trained: tw.Run) -> None:
    from trainwright.workflows.compare import compare_runs

    content = compare_runs(trained._folder, learned_from_val._folder)

    assert content["gain"] is None
    assert content["conclusion"].startswith("The two were not scored on the same unseen images")


def _start(*command: str, runs: Path) -> subprocess.Popen[str]:
    arguments = [*command, f"--runs={runs}", "--threads=1", "--workers=1", "--json", "--quiet"]
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
