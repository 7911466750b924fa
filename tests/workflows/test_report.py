"""The page of a run or a study, from their folders."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import trainwright as tw
from trainwright.errors import RunError
from trainwright.report import page
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows import report as reports
from trainwright.workflows.report_of_run import run_values
from trainwright.workflows.report_of_study import study_values
from trainwright.workflows.report_openings import openings_of
from trainwright.workflows.reporting import Silent


@pytest.fixture(autouse=True)
def without_plotly(monkeypatch):
    """A word in place of plotly's script, two megabytes that these tests do not look at."""
    monkeypatch.setattr(page, "_packed_plotly", lambda: "packed")


@pytest.fixture
def copied(trained, tmp_path) -> RunFolder:
    """A copy of the finished run, to be changed."""
    return RunFolder.open(shutil.copytree(trained.folder, tmp_path / "runs" / trained.id))


def text_of(file) -> str:
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def study_of(run: RunFolder, *, name: str) -> StudyFolder:
    """A study with that run as its only one, and a result."""
    study = StudyFolder.create(
        run.path.parent.parent / "studies", asked={"test_images": 0, "budget_seconds": 60.0}, name=name
    )
    with study:
        study.append(
            "ask", {"number": 0, "role": "baseline", "label": "baseline", "recipe": tw.Recipe().model_dump(mode="json")}
        )
        study.append(
            "tell",
            {
                "number": 0,
                "run": run.run_id,
                "state": "finished",
                "score": 0.5,
                "seconds": 2.0,
                "result": {"metric": "accuracy", "verdict": "overfits"},
            },
        )
        study.append("entry", {"step": "outcome", "text": "Baseline: accuracy 0.500.", "runs": [run.run_id]})
        study.write_json(
            "result.json",
            {
                "schema": "trainwright.study/1",
                "metric": "accuracy",
                "summary": "Nothing helped.",
                "gain": None,
                "best": None,
                "baseline": None,
            },
        )
    return study


def test_a_run_writes_its_page_at_its_end(trained):
    text = text_of(trained.folder / "report.html")

    assert trained.id in text
    assert "accuracy on unseen images" in text
    assert "What is taken for what" in text


def test_the_page_has_pictures_of_the_images_it_gets_wrong(trained):
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    hardest = trained.result["hardest"][0]["path"]

    pictures = re.findall(r'<img src="data:image/jpeg;base64,[^"]+" width="(\d+)" height="(\d+)" alt="([^"]+)"', page)

    assert len(pictures) >= 12
    assert any(alt.startswith(hardest) for *_, alt in pictures)
    assert {(width, height) for width, height, _ in pictures} == {
        ("112", "112")
    }  # of 16 pixels the file has more to show


def test_a_run_may_be_told_to_write_none(train):
    assert not (train(report=False).folder / "report.html").exists()


def test_a_page_that_cannot_be_written_takes_nothing_from_the_run(train, monkeypatch, caplog):
    def fail(*arguments, **more):
        raise ValueError("no page today")

    monkeypatch.setattr(reports, "write_run_report", fail)

    run = train(report=True)

    assert run.finished
    assert "no page was written" in caplog.text


def test_a_page_is_written_anew_where_it_is_asked_for(copied, tmp_path):
    file = tw.write_report(copied.run_id, runs=copied.path.parent, out=tmp_path / "pages.html")

    assert file == tmp_path / "pages.html"
    assert copied.run_id in text_of(file)


def test_a_run_writes_its_page_into_its_folder(copied):
    (copied.path / "report.html").unlink()

    file = tw.open_run(copied.path).report()

    assert file == copied.path / "report.html"
    assert file.is_file()


def outside_of_commands(page, folder):
    """Whether the page speaks of the folder anywhere but in a command to copy."""
    return str(folder) in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)


def test_a_page_names_folders_of_the_machine_in_commands_alone(copied):
    of_run = tw.write_report(copied.path).read_text(encoding="utf-8")

    manifest = copied.manifest
    data = Path(manifest["dataset"]["source"]["path"])
    assert str(data) in of_run
    assert str(copied.path) in of_run
    assert not outside_of_commands(of_run, copied.path.parent)
    assert not outside_of_commands(of_run, data.parent)
    assert f"from {copied.path.parent.name}/{copied.path.name}. Intervals" in of_run
    assert f"<dd>{data.name}: classification, train " in of_run


def test_a_page_says_which_picture_is_gone_by_its_path_within_the_data(copied, tmp_path):
    data = shutil.copytree(copied.manifest["dataset"]["source"]["path"], tmp_path / "moved")
    for file in data.rglob("*.png"):
        file.unlink()
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["dataset"]["source"]["path"] = str(data)
    (copied.path / "manifest.json").write_text(json.dumps(manifest))

    page = tw.write_report(copied.path).read_text(encoding="utf-8")

    assert re.search(r"The pictures are left out: \d/\d+\.png of the data is not there", page)
    assert not outside_of_commands(page, data)


def test_a_study_s_page_names_folders_of_the_machine_in_commands_alone(copied):
    run = copied.path.rename(copied.path.parent / "story-000")
    study = study_of(RunFolder.open(run), name="story")

    page = tw.write_report("story", runs=run.parent).read_text(encoding="utf-8")

    assert not outside_of_commands(page, study.path.parent)
    assert "from studies/story. Intervals" in page


def test_data_that_is_gone_costs_the_pictures_alone(copied):
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["dataset"]["source"]["path"] = "/nowhere/at/all"
    (copied.path / "manifest.json").write_text(json.dumps(manifest))

    text = text_of(tw.write_report(copied.path))

    assert re.search(
        r"The pictures are left out: \d/\d+\.png of the data is not there, so the data is not where it was", text
    )
    assert "What is taken for what" in text


def test_data_from_python_gives_pictures_where_it_is_given(train):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, np.arange(60) % 3, classes=["<b>a</b>", "b", "c"])
    run = train({"epochs": 1}, data=data)

    without = tw.write_report(run)
    missed = text_of(without)
    page = run.report(data=data).read_text(encoding="utf-8")

    assert "data was given by Python code" in missed
    assert "data:image/jpeg" in page
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page


def test_a_run_that_failed_has_a_page_that_says_why(copied):
    (copied.path / "result.json").unlink()
    with copied:
        copied.claim()
        copied.set_status("failed", message="NonFiniteLossError: the loss is not finite")

    text = text_of(tw.write_report(copied.path))

    assert "Failed It ended with an error before it had a result. NonFiniteLossError: the loss is not finite." in text
    assert "Curves" in text


def test_who_set_a_value_is_told(digits, tmp_path):
    run = tw.train(
        digits,
        "scratch-default",
        changes={"epochs": 1, "network.width": 8, "data.image_size": 16, "optimizer.lr": 0.01},
        runs=tmp_path,
        mirrors=(),
        workers=1,
        report=False,
    )

    values = {one.key: one for one in run_values(RunFolder.open(run.folder), data=None, beside=tmp_path).recipe}

    assert values["epochs"].given == "the caller"
    assert values["precision"].given == "filled in"
    assert (values["optimizer.weight_decay"].given, values["optimizer.weight_decay"].source != "") == ("", True)


def test_openings_of_the_test_part_stand_beside_their_dates(copied):
    test = {
        "run": copied.run_id,
        "metric": "accuracy",
        "test": {"score": 0.8, "low": 0.7, "high": 0.9},
        "images": 30,
        "note": "First.",
    }
    (copied.path / "test.json").write_text(json.dumps(test))
    (copied.path / "test-2.json").write_text(json.dumps({**test, "note": "Again."}))
    ledger = [
        {"kind": "opening", "run": "another", "time": 1.0},
        {"kind": "opening", "run": copied.run_id, "time": 2.0},
        {"kind": "opening", "run": copied.run_id, "time": 3.0},
    ]
    (copied.path.parent / "test-openings.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in ledger))

    found = openings_of(copied)

    assert [(one.result["note"], one.time) for one in found] == [("First.", 2.0), ("Again.", 3.0)]
    assert "Again." in text_of(tw.write_report(copied.path))


def write_ledger(runs, *records) -> None:
    lines = [json.dumps({"kind": "opening", **record}) for record in records]
    (runs / "test-openings.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_an_opening_that_died_keeps_its_date_and_the_next_one_its_own(copied):
    test = {"run": copied.run_id, "metric": "accuracy", "test": {"score": 0.8}, "images": 30, "note": "Again."}
    (copied.path / "test.json").write_text(json.dumps({**test, "time": 2.0}))
    times = [{"run": copied.run_id, "time": time} for time in (1.0, 2.0, 3.0)]
    write_ledger(copied.path.parent, *times)

    found = openings_of(copied)

    assert [(one.time, one.result is None) for one in found] == [(1.0, True), (2.0, False), (3.0, True)]


@pytest.mark.parametrize("record", [{"run": "story-000", "study": None}, {"run": "elsewhere", "study": "story"}])
def test_a_test_part_that_the_ledger_says_was_opened_is_not_locked(copied, record):
    run = copied.path.rename(copied.path.parent / "story-000")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "run_id": "story-000"}))
    study = study_of(RunFolder.open(run), name="story")
    (study.path / "study.json").write_text(
        json.dumps({**json.loads((study.path / "study.json").read_text()), "test_images": 30, "test_opened_before": 1})
    )
    locked = text_of(tw.write_report("story", runs=run.parent))
    write_ledger(run.parent, {**record, "time": 1795350466.0})
    shutil.rmtree(run)  # the ledger stays

    opened = text_of(tw.write_report("story", runs=run.parent))

    assert "Locked: no run of this study has looked" in locked
    assert "Others looked at them once before it began" in locked
    assert "Locked" not in opened
    assert f"22 November 2026, 12:27 UTC {record['run']}" in opened


def search_of(run: RunFolder, *, ended: bool) -> StudyFolder:
    """A study that searched: trial 0 paused and went on to its end, trial 1 was paused, trial 2 is not told of."""
    study = study_of(run, name="story")
    (study.path / "records.jsonl").unlink(missing_ok=True)
    recipe = tw.Recipe().model_dump(mode="json")
    told = {"seconds": 2.0, "result": {"metric": "accuracy", "verdict": ""}}
    with study:
        for number, continues in enumerate((None, None, 0, None)):
            asked = {"number": number, "role": "trial", "label": f"piece {number}", "recipe": recipe}
            study.append("ask", {**asked, "continues": continues})
        for number, trial, state, score in ((0, 0, "paused", 0.4), (1, 1, "paused", 0.7), (2, 0, "finished", 0.6)):
            study.append(
                "tell", {**told, "number": number, "run": f"story-{trial:03d}", "state": state, "score": score}
            )
    if not ended:
        (study.path / "result.json").unlink()
    return study


@pytest.mark.parametrize(("ended", "state"), [(True, "unfinished"), (False, "running")])
def test_a_training_in_pieces_is_one_run(copied, ended, state):
    run = copied.path.rename(copied.path.parent / "story-000")
    study = search_of(RunFolder.open(run), ended=ended)

    trials = study_values(study, runs=run.parent, beside=study.path).trials

    assert [(one.number, one.label, one.state, one.seconds) for one in trials[:2]] == [
        (0, "piece 0", "finished", 4.0),
        (1, "piece 1", "paused", 2.0),
    ]
    assert [one.score for one in trials[:2]] == [0.6, 0.7]
    assert [(one.number, one.state) for one in trials[2:]] == [(3, state)]


def test_pages_that_tell_of_a_run_are_written_anew_together(copied):
    study = study_of(RunFolder.open(copied.path.rename(copied.path.parent / "story-000")), name="story")
    run = RunFolder.open(copied.path.parent / "story-000")
    for folder in (run.path, study.path):
        (folder / "report.html").write_text("old")

    reports.refresh(run, study="story", reporter=Silent())

    assert "old" not in {(folder / "report.html").read_text()[:3] for folder in (run.path, study.path)}


def test_a_page_that_cannot_be_written_anew_keeps_the_others_from_nothing(copied, monkeypatch, caplog, listener):
    def fail(*arguments, **more):
        raise ValueError("no page today")

    study = study_of(RunFolder.open(copied.path.rename(copied.path.parent / "story-000")), name="story")
    run = RunFolder.open(copied.path.parent / "story-000")
    (study.path / "report.html").write_text("old")
    monkeypatch.setattr(reports, "run_page", fail)

    reports.refresh(run, study="story", reporter=listener)

    assert (study.path / "report.html").read_text()[:3] != "old"
    assert listener.notes == [f"the report is as it was (no page today); 'trainwright report {run.run_id}' tries again"]
    assert "its page was not written anew" in caplog.text


def test_pages_that_were_never_asked_for_are_not_written(copied):
    (copied.path / "report.html").unlink()

    reports.refresh(copied, reporter=Silent())

    assert not (copied.path / "report.html").exists()


def test_last_is_the_study_that_the_newest_run_belongs_to(copied):
    run = copied.path.rename(copied.path.parent / "story-000")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "run_id": "story-000"}))
    study = study_of(RunFolder.open(run), name="story")

    file = tw.write_report("last", runs=run.parent)

    assert file == study.path / "report.html"
    assert "Nothing proven better Nothing helped." in text_of(file)


def test_a_study_and_its_runs_lead_to_each_other(copied):
    run = copied.path.rename(copied.path.parent / "story-000")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "run_id": "story-000"}))
    study_of(RunFolder.open(run), name="story")

    of_study = tw.write_report("story", runs=run.parent).read_text(encoding="utf-8")
    of_run = tw.write_report("story-000", runs=run.parent).read_text(encoding="utf-8")

    assert 'href="../../runs/story-000/report.html"' in of_study
    assert 'href="../../studies/story/report.html"' in of_run


def test_a_study_whose_runs_were_taken_away_still_has_a_page(copied):
    run = copied.path.rename(copied.path.parent / "story-000")
    study = study_of(RunFolder.open(run), name="story")
    shutil.rmtree(run)

    text = text_of(tw.write_report(study.path, runs=run.parent))

    assert "Baseline: accuracy 0.500." in text


def test_a_run_that_does_not_exist_is_said_so(tmp_path):
    with pytest.raises(RunError, match="no such run"):
        tw.write_report("nothing", runs=tmp_path)


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        ("regression", np.linspace(0, 9, 60), "how far off"),
        ("segmentation", [np.full((16, 16), index % 2, dtype=np.uint8) for index in range(60)], "IoU of each class"),
    ],
)
def test_other_tasks_have_pages_too(train, task, labels, said):
    images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, labels, task=task, classes=["a", "b"] if task == "segmentation" else None)
    network = {"network.name": "small-unet"} if task == "segmentation" else {}

    run = train({"epochs": 1, **network}, data=data, report=True)

    text = text_of(run.folder / "report.html")
    assert said in text
    assert "Hardest" in text
