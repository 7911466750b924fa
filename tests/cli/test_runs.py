"""`trainwright runs` and `sync`: what has been tried, side by side, and in MLflow."""

import json
import math
import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest

import trainwright as tw
from trainwright.tracking.study_folder import StudyFolder


def test_runs_are_listed_oldest_first_a_line_each(cli, two_runs, runs):
    lines = cli("runs", "list", "--runs", runs).out.splitlines()

    assert [line.split()[0] for line in lines] == ["run", *(run.id for run in two_runs)]
    assert all("finished" in line and "small-resnet" in line for line in lines[1:])


def test_the_list_for_programs_has_the_scores(cli, two_runs, runs):
    content = cli("runs", "list", "--runs", runs, "--json").json

    assert content["schema"] == "trainwright.runs/1"
    assert [run["val_score"] for run in content["runs"]] == [run.score["val"] for run in two_runs]


def test_no_runs_are_no_error(cli, tmp_path):
    done = cli("runs", "list", "--runs", tmp_path / "absent")

    assert (done.code, done.out) == (0, "no runs yet\n")
    assert not (tmp_path / "absent").exists()


def test_a_run_is_shown_as_it_was_when_it_finished(cli, two_runs, runs):
    done = cli("runs", "show", two_runs[0].id, "--runs", runs)

    assert f"train {two_runs[0].score['train']:.3f}   unseen {two_runs[0].score['val']:.3f}" in done.out
    assert f"verdict    {two_runs[0].verdict}" in done.out
    assert cli("runs", "show", two_runs[0].id, "--runs", runs, "--json").json == two_runs[0].result


def test_a_run_that_stopped_is_shown_with_the_way_on(cli, digits, tmp_path):
    recipe = tw.Recipe().changed({"network.width": 8, "data.image_size": 16, "epochs": 3})
    run = tw.train(digits, recipe, runs=tmp_path, mirrors=(), stop_asked=lambda: True)

    done = cli("runs", "show", "last", "--runs", tmp_path)

    assert "state      interrupted" in done.out
    assert f"trainwright resume {run.id}" in done.out
    assert cli("runs", "show", "last", "--runs", tmp_path, "--json").json["status"]["state"] == "interrupted"


@pytest.fixture
def paused(digits, tmp_path):
    """(folder of runs, the id of a run in it that the study `mine` paused)."""
    recipe = tw.Recipe().changed({"network.width": 8, "data.image_size": 16, "epochs": 3, "precision": "fp32"})
    runs = tmp_path / "runs"
    run = tw.train(digits, recipe, runs=runs, run_id="mine-001", mirrors=(), stop_asked=lambda: True)
    run._folder.set_status("paused", message="by the study mine, which goes on with it or leaves it")
    StudyFolder.create(tmp_path / "studies", asked={"kind": "tune"}, name="mine").close()
    return runs, run.id


def test_a_run_that_its_study_paused_is_listed_with_it(cli, paused):
    runs, run = paused

    listed = cli("runs", "list", "--runs", runs)
    content = cli("runs", "list", "--runs", runs, "--json").json

    assert listed.out.splitlines()[1].split()[:2] == [run, "paused"]
    assert "paused by the study mine, which goes on with: trainwright resume mine" in listed.out
    assert [(one["state"], one["study"]) for one in content["runs"]] == [("paused", "mine")]
    assert "go on with: trainwright resume mine\n" in cli("runs", "show", run, "--runs", runs).out


def test_a_run_that_a_study_owns_is_not_gone_on_with_behind_its_back(cli, paused):
    runs, run = paused

    done = cli("resume", run, "--runs", runs)

    assert done.code == 1
    assert f"{run}: is paused by the study mine, which decides whether it goes on." in done.err
    assert "Go on with the study: 'trainwright resume mine'." in done.err


def test_once_its_study_has_ended_a_paused_run_is_nobodys(cli, paused):
    runs, run = paused
    StudyFolder.open(runs.parent / "studies" / "mine").write_json("result.json", {"kind": "tune"})

    assert "paused by the study mine, which has ended without them" in cli("runs", "list", "--runs", runs).out
    assert "the study mine has ended without it" in cli("runs", "show", run, "--runs", runs).out


def study_of(folder, name, *, best_lr, decay_matters):
    """A study of twelve trainings in the journal alone, whose scores hang on the learning rate, and on the decay or not."""
    asked = {"kind": "tune", "data": {"path": f"/data/{name}-images"}, "budget_seconds": None}
    with StudyFolder.create(folder / "studies", asked=asked, name=name) as study:
        for number in range(12):
            lr, decay = 10 ** (-4 + 0.25 * number), (0.0, 0.1)[number % 2]
            recipe = tw.Recipe().changed({"optimizer.lr": lr, "optimizer.weight_decay": decay}).model_dump(mode="json")
            score = 0.9 - 0.1 * abs(math.log10(lr / best_lr)) - decay_matters * decay
            result = {"metric": "accuracy", "verdict": "generalizes", "score": {"train": 1.0, "val": score}}
            ask = {"number": number, "role": "trial", "label": "", "reason": "", "recipe": recipe, "changes": {}}
            told = {
                "number": number,
                "run": f"{name}-{number:03d}",
                "state": "finished",
                "score": score,
                "seconds": 1.0,
            }
            study.append("ask", ask)
            study.append("tell", {**told, "result": result})


def test_across_studies_it_says_which_value_mattered_where(cli, tmp_path):
    study_of(tmp_path, "lr-flowers", best_lr=1e-4, decay_matters=0)
    study_of(tmp_path, "lr-pets", best_lr=1e-2, decay_matters=20)

    done = cli("runs", "compare", "lr-*", "--runs", tmp_path / "runs")
    content = cli("runs", "compare", "lr-flowers", "lr-pets", "--runs", tmp_path / "runs", "--json").json

    flowers, pets = content["groups"]
    assert (content["schema"], flowers["name"], pets["data"]) == (
        "trainwright.patterns/1",
        "lr-flowers",
        "lr-pets-images",
    )
    assert flowers["importance"]["optimizer.lr"] > 0.9
    assert pets["importance"]["optimizer.weight_decay"] > 0.5
    assert flowers["best"]["values"] == {"optimizer.lr": 1e-4, "optimizer.weight_decay": 0.0}
    assert pets["best"]["values"]["optimizer.lr"] == pytest.approx(1e-2)
    assert [part["trials"] for part in pets["isolation"]["optimizer.weight_decay"]] == [6, 6]
    assert done.out.splitlines()[0].split() == ["lr-flowers", "lr-pets"]
    assert "Of 2 groups of trainings 2 can tell which value mattered." in done.out


def test_runs_that_a_pattern_matches_are_compared_where_they_are_of_the_same_data(cli, two_runs, runs):
    content = cli("runs", "compare", "2*", "--runs", runs, "--json").json

    (group,) = content["groups"]
    assert (group["kind"], group["trainings"], group["varied"]) == ("runs", 2, ["optimizer.lr"])
    assert group["best"]["run"] == two_runs[0].id
    assert group["why_not"] == "fewer than 10 whole trainings"
    assert [one["run"] for one in group["listed"]] == [run.id for run in two_runs]

    shown = cli("runs", "compare", "2*", "--runs", runs).out
    assert shown.startswith(
        "2 trainings, those of one dataset together: which values mattered. Whether two runs differ"
    )
    assert f"  {two_runs[0].id}  {group['best']['score']:.3f}  optimizer.lr " in shown


def test_a_beginning_that_a_study_shares_with_other_runs_is_refused(cli, two_runs, runs, tmp_path):
    copied = shutil.copytree(runs, tmp_path / "runs")
    name = two_runs[0].id[:4] + "-study"
    StudyFolder.create(tmp_path / "studies", asked={"kind": "tune"}, name=name).close()

    done = cli("runs", "compare", name[:4], "--runs", copied)

    assert done.code == 1
    assert f"{name[:4]}: the study {name} begins so, and so does the run {two_runs[0].id} (2 such runs)." in done.err


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["nothing-*"], 1, "nothing-*: no run and no study has such a name."),
        (["last"], 2, "last: one training alone is no comparison."),
    ],
)
def test_what_cannot_be_compared_says_why(cli, runs, names, code, said):
    done = cli("runs", "compare", *names, "--runs", runs)

    assert done.code == code
    assert said in done.err


def test_last_is_the_newest_run(cli, two_runs, runs):
    assert cli("runs", "show", "last", "--runs", runs, "--json").json["run"] == two_runs[1].id


def test_an_unknown_run_is_answered_with_the_nearest(cli, two_runs, runs):
    wrong = two_runs[0].id[:-4] + "zzzz"

    done = cli("runs", "show", wrong, "--runs", runs, "--json")

    assert (done.code, done.json["kind"]) == (1, "run")
    assert f"Did you mean '{two_runs[0].id[:-4]}" in done.json["cure"]


def test_a_comparison_shows_what_differs_in_recipe_and_result(cli, two_runs, runs):
    first, second = two_runs

    content = cli("runs", "compare", first.id, second.id, "--runs", runs, "--json").json

    assert content["schema"] == "trainwright.comparison/1"
    assert content["recipe"] == {"optimizer.lr": [0.02, 1e-6], "seed": [0, 1]}
    assert content["result"]["score.val"] == [first.score["val"], second.score["val"]]
    assert content["gain"]["value"] == pytest.approx(second.score["val"] - first.score["val"])


def test_a_training_that_learned_is_beyond_chance_better_than_one_that_did_not(cli, two_runs, runs):
    content = cli("runs", "compare", two_runs[1].id, two_runs[0].id, "--runs", runs, "--json").json

    assert content["gain"]["low"] > 0
    assert content["gain"]["p"] < 0.05
    assert "beyond chance" in cli("runs", "compare", two_runs[1].id, two_runs[0].id, "--runs", runs).out


def test_a_run_compared_with_itself_is_no_better(cli, runs):
    done = cli("runs", "compare", "last", "last", "--runs", runs)

    assert "recipe\n  the same" in done.out
    assert "classification, both" in done.out
    assert "no evidence of a difference" in " ".join(done.out.split())


def test_an_unfinished_run_cannot_be_compared(cli, digits, tmp_path):
    recipe = tw.Recipe().changed({"network.width": 8, "data.image_size": 16, "epochs": 3})
    tw.train(digits, recipe, runs=tmp_path, mirrors=(), stop_asked=lambda: True)

    done = cli("runs", "compare", "last", "last", "--runs", tmp_path)

    assert done.code == 1
    assert "has not finished" in done.err


def test_a_paused_run_that_is_compared_says_which_study_goes_on_with_it(cli, paused):
    runs, run = paused

    done = cli("runs", "compare", run, run, "--runs", runs)

    assert done.code == 1
    assert f"{run}: was paused by the study mine and has no result to compare." in done.err
    assert "Go on with 'trainwright resume mine', or name another run." in " ".join(done.err.split())


def test_the_best_run_is_the_one_with_the_best_unseen_score(cli, two_runs, runs):
    (best,) = cli("runs", "best", "--runs", runs, "--json").json["runs"]

    assert best["run_id"] == max(two_runs, key=lambda run: run.score["val"]).id


def test_scores_far_below_zero_have_a_best_one_too(cli, two_runs, tmp_path):
    """R² has no limit below."""
    for run, score in zip(two_runs, (-3.0, -2.0), strict=True):
        copy = shutil.copytree(run.folder, tmp_path / run.id)
        result = json.loads((copy / "result.json").read_text())
        (copy / "result.json").write_text(json.dumps({**result, "score": {"train": 0.0, "val": score}}))

    (best,) = cli("runs", "best", "--runs", tmp_path, "--json").json["runs"]

    assert (best["run_id"], best["val_score"]) == (two_runs[1].id, -2.0)


def test_no_best_run_on_a_dataset_that_was_never_trained_on(cli, runs):
    assert (
        cli("runs", "best", "--data", "flowers", "--runs", runs).out
        == "no finished runs on a dataset named 'flowers'\n"
    )


def test_syncing_with_no_mirror_asked_for_is_told(cli, runs, monkeypatch):
    monkeypatch.setenv("TRAINWRIGHT_MIRRORS", "none")

    done = cli("sync", "last", "--runs", runs)

    assert done.code == 0
    assert "nothing to bring up to date" in done.out + done.err


def test_an_unknown_mirror_is_refused(cli, runs):
    done = cli("sync", "last", "--mirrors", "mlfow", "--runs", runs)

    assert done.code == 2
    assert "mlflow" in done.err


@pytest.mark.slow
def test_sync_fills_an_mlflow_store_of_a_run_trained_without_mirrors(cli, two_runs, runs, monkeypatch, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    first = cli("sync", two_runs[0].id, "--mirrors", "mlflow", "--runs", runs, "--json").json
    again = cli("sync", two_runs[0].id, "--mirrors", "mlflow", "--runs", runs, "--json").json

    client = MlflowClient(uri)
    (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    history = client.get_metric_history(found.info.run_id, "val/score")
    assert first["added"]["mlflow"] > 0
    assert again["added"]["mlflow"] == 0
    assert found.info.status == "FINISHED"
    assert [metric.value for metric in history] == [epoch["val"]["score"] for epoch in two_runs[0].epochs]


@pytest.fixture
def mirrored(digits, tmp_path):
    """A training under way whose run is RUNNING in MLflow: (its process, the MLflow client)."""
    from mlflow import MlflowClient

    options = ["--set=network.width=8", "--set=precision=fp32", "--epochs=5000", "--mirrors=mlflow", "--quiet"]
    command = [sys.executable, "-m", "trainwright", "train", str(digits), *options, f"--runs={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    wait_for(lambda: statuses(client) == ["RUNNING"])
    yield process, client
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_run_killed_with_sigkill_is_closed_here_and_in_mlflow(cli, mirrored, tmp_path):
    process, client = mirrored

    process.kill()
    process.wait()
    listed = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]

    assert [run["state"] for run in listed] == ["interrupted"]
    wait_for(lambda: statuses(client) == ["KILLED"])


@pytest.mark.slow
def test_a_run_killed_together_with_its_follower_is_closed_by_the_next_command(cli, mirrored, tmp_path):
    process, client = mirrored

    for victim in (*psutil.Process(process.pid).children(), process):
        victim.kill()
    process.wait()
    listed = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]

    assert [run["state"] for run in listed] == ["interrupted"]
    assert statuses(client) == ["KILLED"]


def statuses(client):
    return [run.info.status for run in client.search_runs([e.experiment_id for e in client.search_experiments()])]


def wait_for(condition, seconds=120.0):
    """Until the condition holds; an exception counts as not yet (a store that is being made)."""
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


def _holds(condition):
    try:
        return condition()
    except Exception:
        return False
