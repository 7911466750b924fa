"""Studies that have begun and stopped: what they keep, and what going on with them restores. Trained is hardly anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainwright as tw
from trainwright.data.problems import counted
from trainwright.errors import RunError, UsageError
from trainwright.recipes import published
from trainwright.workflows import improve, studies
from trainwright.workflows.reporting import Silent

Begun = tuple[Path, Path]


def begin(data: Any, recipe: tw.Recipe, runs: Path, **more: Any) -> tw.Study:
    """A study that was asked to stop at the first step of its baseline."""
    options = {"budget": "2h", "name": "mine", "runs": runs, "workers": 1, "mirrors": (), "stop_asked": lambda: True}
    options |= {"slots": 1}
    return tw.improve(data, recipe, **{**options, **more})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, digits: Path, recipe: tw.Recipe) -> Path:
    """The folder of runs of a study that was begun with two threads and stopped. Read it, never write to it."""
    runs = tmp_path_factory.mktemp("begun") / "runs"
    begin(digits, recipe, runs, threads=2, offline=True)
    return runs


@pytest.fixture
def runs(stopped: Path, tmp_path: Path) -> Path:
    """The same, to write to."""
    shutil.copytree(stopped.parent, tmp_path / "copy")
    return tmp_path / "copy" / "runs"


@pytest.fixture
def conductors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every conductor that would now train; none does, and all stop at once."""
    seen: list[Any] = []
    monkeypatch.setattr(studies.Conductor, "carry_out", lambda self: bool(seen.append(self)))
    return seen


def asked(runs: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((runs.parent / "studies" / "mine" / "study.json").read_text())
    return content


def test_going_on_takes_threads_device_and_offline_that_it_began_with(runs: Path, conductors: list[Any]) -> None:
    tw.resume_study("mine", runs=runs)

    options = conductors[0].hands.options
    assert (options.threads, options.device, options.offline) == (2, "cpu", True)


def test_going_on_with_other_threads_takes_those(runs: Path, conductors: list[Any]) -> None:
    tw.resume_study("mine", runs=runs, threads=1)

    assert conductors[0].hands.options.threads == 1


def test_its_runs_have_the_threads_that_the_study_says(stopped: Path) -> None:
    manifest = json.loads((stopped / "mine-000" / "manifest.json").read_text())

    assert manifest["machine"]["torch_threads"] == asked(stopped)["options"]["threads"] == 2


def test_what_the_preparation_took_is_booked_whenever_it_is_gone_on_with(runs: Path, conductors: list[Any]) -> None:
    tw.resume_study("mine", runs=runs)
    tw.resume_study("mine", runs=runs)

    spent = asked(runs)["spent_seconds"]
    assert spent > 0
    assert [conductor.strategy.ledger.spent for conductor in conductors] == [spent, spent]


def test_last_goes_on_with_the_study(runs: Path, conductors: list[Any]) -> None:
    study = tw.resume_study("last", runs=runs)

    assert study.name == "mine"


def test_an_error_of_a_users_module_says_how_to_go_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(self: Any) -> bool:
        raise ValueError("of my module")

    monkeypatch.setattr(studies.Conductor, "carry_out", carry_out)
    with pytest.raises(ValueError, match="of my module") as caught:
        tw.resume_study("mine", runs=runs)

    assert caught.value.__notes__ == ["Study mine keeps what it has. Go on with 'trainwright resume mine'."]
    status = json.loads((runs.parent / "studies" / "mine" / "status.json").read_text())
    assert (status["state"], status["message"]) == ("failed", "ValueError: of my module")


def test_an_error_of_ours_says_how_to_go_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(self: Any) -> bool:
        raise RunError("is being written.", where="mine-000", cure="Wait.")

    monkeypatch.setattr(studies.Conductor, "carry_out", carry_out)
    with pytest.raises(RunError) as caught:
        tw.resume_study("mine", runs=runs)

    assert caught.value.cure == "Wait. Go on with 'trainwright resume mine'."


def test_a_study_that_was_interrupted_names_itself_and_not_its_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(self: Any) -> bool:
        error = KeyboardInterrupt()
        error.add_note("Go on with 'trainwright resume mine-000'.")
        raise error

    monkeypatch.setattr(studies.Conductor, "carry_out", carry_out)
    with pytest.raises(KeyboardInterrupt) as caught:
        tw.resume_study("mine", runs=runs)

    assert caught.value.__notes__ == ["Go on with 'trainwright resume mine'."]


def test_a_recipe_that_learns_from_the_validation_images_is_refused(
    digits: Path, recipe: tw.Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="nothing unseen is left to compare by") as caught:
        begin(digits, recipe.changed({"data.train_on": "train+val"}), tmp_path / "runs")

    assert caught.value.where == "data.train_on"
    assert not (tmp_path / "studies").exists()


def test_a_baseline_that_is_shortened_says_so(digits: Path, recipe: tw.Recipe, tmp_path: Path, listener: Any) -> None:
    study = begin(digits, recipe.changed({"epochs": 9999}), tmp_path / "runs", budget="3m", reporter=listener)

    epochs = study._folder.asked["recipe"]["epochs"]
    assert 1 <= epochs < 9999
    assert (
        f"{counted(epochs, 'epoch')}, not 9999: 180 s leave no time to compare longer ones; the last training may be longer"
        in listener.notes
    )
    assert study._folder.asked["shortened"] == {"from": 9999, "to": epochs}


@pytest.fixture
def without_test() -> tw.Dataset:
    """Forty images in parts train and val."""
    images_NHWC = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    parts = ["train"] * 28 + ["val"] * 12
    return tw.Dataset.from_arrays(images_NHWC, [str(index % 2) for index in range(40)], parts=parts)


@pytest.mark.parametrize(
    ("given", "on_all", "said"),
    [
        (None, None, "the validation images are the last unseen ones, so no model is trained on them (--final does)"),
        (True, 40 / 28, "after the final training on train and val no unseen image is left"),
    ],
)
def test_without_a_test_part_the_last_unseen_images_are_learned_from_only_if_that_is_asked_for(
    without_test: tw.Dataset,
    recipe: tw.Recipe,
    tmp_path: Path,
    listener: Any,
    given: bool | None,
    on_all: Any,
    said: str,
) -> None:
    study = begin(without_test, recipe, tmp_path / "runs", on_all=given, reporter=listener)

    assert study._folder.asked["on_all"] == on_all
    assert study._folder.asked["test_images"] == 0
    assert f"this data has no test part: {said}" in listener.notes


def test_with_a_test_part_the_final_training_is_the_default(stopped: Path) -> None:
    assert asked(stopped)["test_images"] > 0
    assert asked(stopped)["on_all"] > 1


class Ended:
    """What is to be seen after a study whose trainings are all told of."""

    def __init__(self, runs: Path, monkeypatch: pytest.MonkeyPatch, sync: Callable[..., Any]) -> None:
        tell = {"state": "finished", "score": 0.5, "seconds": 1.0}
        self.synced: list[str] = []
        self.notes: list[str] = []

        def carry_out(conductor: Any) -> bool:
            for number in range(4):
                run = f"mine-{number:03d}"
                conductor.study.append("ask", {"number": number, "role": "arm", "label": "arm"})
                conductor.study.append("tell", {"number": number, "run": run, **tell})
            return True

        def synchronise(path: Path, names: Any) -> None:
            self.synced.append(path.name)
            sync(path)

        reporter = Silent()
        monkeypatch.setattr(reporter, "note", self.notes.append, raising=False)
        monkeypatch.setattr(studies.Conductor, "carry_out", carry_out)
        monkeypatch.setattr(studies, "sync", synchronise)
        for number in (1, 3):  # the run of 2 failed before it had a folder
            shutil.copytree(runs / "mine-000", runs / f"mine-{number:03d}")
        self.study = tw.resume_study("mine", runs=runs, mirrors=("tensorboard",), reporter=reporter, report=False)


def test_a_run_that_a_mirror_refuses_does_not_keep_the_later_ones_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(path: Path) -> None:
        if path.name == "mine-001":
            raise RunError("the store is locked.")

    ended = Ended(runs, monkeypatch, sync)

    assert ended.synced == ["mine-000", "mine-001", "mine-003"]
    assert ended.notes == [
        "1 of 3 runs are not in tensorboard yet (the store is locked.). 'trainwright sync RUN' brings each of them: mine-001"
    ]


def test_an_interruption_of_the_mirrors_leaves_the_study_finished(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(path: Path) -> None:
        raise KeyboardInterrupt

    ended = Ended(runs, monkeypatch, sync)

    assert ended.study.finished
    assert json.loads((runs.parent / "studies" / "mine" / "status.json").read_text())["state"] == "finished"
    assert ended.notes[0].endswith("brings each of them: mine-000, mine-001, mine-003")


def test_a_study_of_a_baseline_that_never_finished_has_a_result_without_a_recipe(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Ended(runs, monkeypatch, lambda path: None)

    assert ended.study.result["best"] is None
    assert ended.study.result["test_images"] == asked(runs)["test_images"]
    assert not (ended.study.folder / "best-recipe.yaml").exists()


def test_the_best_recipe_is_there_before_the_result_and_can_be_named(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainwright.search.rounds import Incumbent

    recipe = tw.Recipe().changed({"epochs": 7, "network.width": 24})
    before: list[bool] = []

    def carry_out(conductor: Any) -> bool:
        conductor.strategy.incumbent = Incumbent(recipe=recipe, chosen=None)  # type: ignore[arg-type]
        return True

    def result_of(folder: Any, coach: Any) -> dict[str, Any]:
        before.append((folder.path / "best-recipe.yaml").is_file())
        return {"study": folder.name}

    monkeypatch.setattr(studies.Conductor, "carry_out", carry_out)
    monkeypatch.setattr(improve, "result_of", result_of)
    study = tw.resume_study("mine", runs=runs, mirrors=())

    assert before == [True]
    assert published.find(study.folder / "best-recipe.yaml") == recipe


def test_the_story_of_a_search_that_nothing_follows_has_its_end(
    tmp_path: Path, digits: Path, recipe: tw.Recipe
) -> None:
    told: list[str] = []
    options = {"runs": tmp_path / "runs", "workers": 1, "mirrors": (), "slots": 1, "report": False}

    study = tw.tune(
        digits, recipe, strategy="list", trials=1, on_all=False, told=lambda entry: told.append(entry.text), **options
    )

    assert [text.partition(":")[0] for text in told][1:] == ["The search is over", "The best is trial 0 (as published)"]
    assert study.story == told == [entry["text"] for entry in study.result["journal"]]
