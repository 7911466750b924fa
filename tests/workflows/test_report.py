"""The page of a run or a study, from their folders."""

import json
import re
import shutil

import numpy as np
import pytest

import trainwright as tw
from trainwright.errors import RunError
from trainwright.report import page
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows import report as reports
from trainwright.workflows.report_of_run import openings_of, run_values


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


def test_data_that_is_gone_costs_the_pictures_alone(copied):
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["dataset"]["source"]["path"] = "/nowhere/at/all"
    (copied.path / "manifest.json").write_text(json.dumps(manifest))

    text = text_of(tw.write_report(copied.path))

    assert "The pictures are left out: /nowhere/at/" in text
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

    assert "Failed NonFiniteLossError: the loss is not finite" in text
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


def test_pages_that_tell_of_a_run_are_written_anew_together(copied):
    study = study_of(RunFolder.open(copied.path.rename(copied.path.parent / "story-000")), name="story")
    run = RunFolder.open(copied.path.parent / "story-000")
    for folder in (run.path, study.path):
        (folder / "report.html").write_text("old")

    reports.refresh(run, study="story")

    assert "old" not in {(folder / "report.html").read_text()[:3] for folder in (run.path, study.path)}


def test_pages_that_were_never_asked_for_are_not_written(copied):
    (copied.path / "report.html").unlink()

    reports.refresh(copied)

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
