"""Studies on disk: which one a name means, and how it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainwright.errors import RunError
from trainwright.tracking.run_folder import RunFolder, State
from trainwright.tracking.runs import find_run, folder_of_studies
from trainwright.tracking.study_folder import (
    RESULT,
    StudyFolder,
    find_study,
    last_study,
    study_of_newest_run,
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def study(runs: Path, name: str, *, created: float, finished: bool = False, model: str | None = None) -> None:
    with StudyFolder.create(folder_of_studies(runs), asked={}, name=name) as folder:
        folder.write_json("study.json", {**folder.asked, "created": created})
        if finished:
            folder.write_json(RESULT, {"study": name, "best": None if model is None else {"run": model}})


def run(runs: Path, name: str, *, created: float) -> None:
    RunFolder.create(runs, recipe_yaml="", manifest={}, run_id=name).close()
    manifest: dict[str, Any] = json.loads((runs / name / "manifest.json").read_text())
    (runs / name / "manifest.json").write_text(json.dumps(manifest | {"created": created}))


def test_last_is_a_run_and_no_study_whose_name_begins_so(runs: Path) -> None:
    study(runs, "last-week", created=1.0)

    assert find_study(runs, "last") is None
    found = find_study(runs, "last-w")
    assert found is not None
    assert found.name == "last-week"


def test_the_last_study_is_the_one_that_the_newest_run_belongs_to(runs: Path) -> None:
    study(runs, "older", created=1.0)
    study(runs, "newer", created=2.0)
    run(runs, "newer-000", created=3.0)
    run(runs, "older-000", created=4.0)

    found = last_study(runs)

    assert found is not None
    assert found.name == "older"


def test_a_repetition_of_its_best_run_does_not_push_a_study_away(runs: Path) -> None:
    study(runs, "mine", created=1.0, finished=True)
    run(runs, "mine-000", created=2.0)
    RunFolder.create(runs, recipe_yaml="", manifest={"reproduces": "mine-000"}, run_id="again").close()

    found = study_of_newest_run(runs)

    assert found is not None
    assert found.name == "mine"


@pytest.mark.parametrize(("state", "meant"), [("interrupted", None), ("finished", "mine")])
def test_a_study_is_gone_on_with_by_last_unless_a_repetition_after_it_is_stopped(
    runs: Path, state: State, meant: str | None
) -> None:
    study(runs, "mine", created=1.0)
    run(runs, "mine-000", created=2.0)
    with RunFolder.create(runs, recipe_yaml="", manifest={"reproduces": "other"}, run_id="again") as again:
        again.set_status(state)

    found = last_study(runs)

    assert (found and found.name) == meant
    assert find_run(runs, "last", stopped=True).run_id == ("again" if meant is None else "mine-000")


def test_a_study_that_began_after_the_newest_run_is_the_last(runs: Path) -> None:
    run(runs, "alone", created=1.0)
    study(runs, "mine", created=2.0)

    found = last_study(runs)

    assert found is not None
    assert found.name == "mine"


@pytest.mark.parametrize("finished", [True, False])
def test_after_a_run_of_its_own_kind_no_study_is_the_last(runs: Path, finished: bool) -> None:
    study(runs, "mine", created=1.0, finished=finished)
    run(runs, "mine-000", created=2.0)
    run(runs, "mine-not-000", created=3.0)

    assert last_study(runs) is None


def test_a_finished_study_is_not_gone_on_with_by_last(runs: Path) -> None:
    study(runs, "mine", created=1.0, finished=True)
    run(runs, "mine-000", created=2.0)

    assert last_study(runs) is None


def test_a_study_with_a_result_has_finished_whatever_came_after(runs: Path) -> None:
    study(runs, "mine", created=1.0, finished=True)
    folder = find_study(runs, "mine")
    assert folder is not None

    folder.set_status("interrupted", message="interrupted")

    assert folder.status()["state"] == "finished"


@pytest.mark.parametrize("state", ["paused", "interrupted", "failed"])
def test_a_training_that_its_study_did_not_finish_is_not_the_last_run_and_yet_tells_the_study(
    runs: Path, state: State
) -> None:
    for created, name in enumerate(("alone", "mine-000", "mine-001", "mine-002"), start=1):
        run(runs, name, created=created)
        RunFolder.open(runs / name).set_status(state if name == "mine-001" else "finished")
    study(runs, "mine", created=1.5, finished=True)
    RunFolder.open(runs / "mine-002").set_status(state)

    found = study_of_newest_run(runs)

    assert [find_run(runs, name).run_id for name in ("last", "last~1")] == ["mine-000", "alone"]
    assert find_run(runs, "last", stopped=True).run_id == "mine-002"
    assert found is not None
    assert found.name == "mine"


def test_a_study_that_has_ended_counts_as_the_run_whose_model_it_handed_over(runs: Path) -> None:
    for created, name in enumerate(("alone", "mine-000", "mine-001", "mine-002"), start=1):
        run(runs, name, created=created)
        RunFolder.open(runs / name).set_status("finished")
    study(runs, "mine", created=1.5)

    assert find_run(runs, "last").run_id == "mine-002"
    with pytest.raises(RunError, match="3 runs begin with 'mine'"):
        find_run(runs, "mine")

    folder = find_study(runs, "mine")
    assert folder is not None
    folder.write_json(RESULT, {"study": "mine", "best": {"run": "mine-001"}})

    assert [find_run(runs, name).run_id for name in ("last", "last~1")] == ["mine-001", "alone"]
    assert [find_run(runs, name).run_id for name in ("mine", "mi", "mine-002")] == ["mine-001", "mine-001", "mine-002"]
    with pytest.raises(RunError, match="3 runs begin with 'mine-00'"):
        find_run(runs, "mine-00")
    run(runs, "mine-too", created=9.0)
    assert find_run(runs, "mine").run_id == "mine-001"


def test_a_study_is_as_new_as_its_newest_run(runs: Path) -> None:
    for created, name in enumerate(("mine-000", "alone", "mine-001"), start=1):
        run(runs, name, created=created)
        RunFolder.open(runs / name).set_status("finished")
    study(runs, "mine", created=0.5, finished=True, model="mine-000")

    assert [find_run(runs, name).run_id for name in ("last", "last~1")] == ["mine-000", "alone"]
    (runs / "mine-000").rename(runs / "good")
    assert find_run(runs, "last").run_id == "mine-000"


def test_a_run_of_ones_own_that_stopped_is_the_last(runs: Path) -> None:
    run(runs, "mine-000", created=1.0)
    run(runs, "alone-001", created=2.0)
    RunFolder.open(runs / "alone-001").set_status("interrupted")

    assert find_run(runs, "last").run_id == "alone-001"
