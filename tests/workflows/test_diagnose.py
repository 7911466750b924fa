"""Probes of a finished run, and its judgement from the record."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainwright as tw
from trainwright.diagnosis.evidence import Evidence, ProbeResult
from trainwright.errors import RunError, UsageError
from trainwright.records import Interval, to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows import probe_changes, probes, report
from trainwright.workflows.diagnose import cost_of, diagnose, evidence_of
from trainwright.workflows.probe_changes import NONE, PROBES
from trainwright.workflows.probes import recorded_probes

OPTIONS = tw.RunOptions(mirrors=(), workers=1)


@pytest.fixture
def run(trained: tw.Run, tmp_path: Path) -> tw.Run:
    """A finished run of its own, to probe."""
    shutil.copytree(trained.folder, tmp_path / trained.id)
    return tw.open_run(tmp_path / trained.id)


def test_a_run_is_judged_from_its_record_as_it_was_after_training(run: tw.Run) -> None:
    found = diagnose(run)

    assert found.verdict == run.verdict
    assert to_json(found.findings) == run.result["findings"]
    assert found.probes == {}


def test_the_evidence_that_is_kept_is_that_of_the_run(run: tw.Run) -> None:
    evidence = evidence_of(RunFolder.open(run.folder))

    assert isinstance(evidence, Evidence)
    assert evidence.train_score == tuple(epoch["train"]["score"] for epoch in run.epochs)
    assert evidence.step_losses is None  # twelve steps are too few to say anything


def test_a_probe_is_trained_scored_on_the_same_images_and_recorded(run: tw.Run) -> None:
    found = diagnose(run, probes=["longer"], options=OPTIONS).probes["longer"]

    assert found.state == "trained"
    assert (dict(found.before), dict(found.changes)) == ({"epochs": 2}, {"epochs": 8})
    assert found.val_error is not None
    assert found.val_drop is not None
    assert found.val_error.value == pytest.approx(1 - run.score["val"] - found.val_drop.value)
    assert recorded_probes(RunFolder.open(run.folder)) == {"longer": found}
    assert (run.folder / found.folder / "records.jsonl").is_file()


def test_a_probe_that_was_run_is_not_run_again(run: tw.Run) -> None:
    first = diagnose(run, probes=["longer"], options=OPTIONS)
    shutil.rmtree(run.folder / "probes")

    again = diagnose(run, probes=["longer"], options=OPTIONS)

    assert again == first
    assert not (run.folder / "probes").exists()


def test_a_probe_that_was_stopped_goes_on_and_ends_the_same(
    run: tw.Run, tmp_path: Path, polls: Callable[[int], Callable[[], bool]]
) -> None:
    shutil.copytree(run.folder, tmp_path / "twin")
    stopped = dataclasses.replace(OPTIONS, stop_asked=polls(3))
    with pytest.raises(tw.TrainwrightError, match=r"stopped; its state is saved\. Ask for the probe again to go on\."):
        diagnose(run, probes=["longer"], options=stopped)

    gone_on = diagnose(run, probes=["longer"], options=OPTIONS).probes["longer"]
    in_one_go = diagnose(tmp_path / "twin", probes=["longer"], options=OPTIONS).probes["longer"]

    assert dataclasses.replace(gone_on, seconds=0.0) == dataclasses.replace(in_one_go, seconds=0.0)


def test_the_result_is_that_of_the_newest_judgement(run: tw.Run) -> None:
    found = diagnose(run, probes=["longer"], options=OPTIONS)

    assert run.verdict == found.verdict
    assert set(run.result["probes"]) == {"longer"}


def test_regularization_is_switched_off_where_there_is_any(run: tw.Run) -> None:
    found = diagnose(run, probes=["no-regularization"], options=OPTIONS).probes["no-regularization"]

    assert dict(found.changes) == {"network.dropout": 0.0, "augment.crop_padding": 0.0}
    assert set(found.changes) < set(NONE)


@pytest.mark.parametrize(("unseen", "trainings"), [(-0.1, 2), (0.3, 1)])
def test_where_unseen_images_lose_by_it_augmentation_is_kept_in_a_second_training(
    run: tw.Run, monkeypatch: pytest.MonkeyPatch, unseen: float, trainings: int
) -> None:
    """Trained without anything it fits all of the train images, to the harm or the good of the unseen ones."""
    asked = []

    def trained(subject: Any, name: str, change: Any) -> ProbeResult:
        asked.append(dict(change.changes))
        drops = {
            "train_drop": Interval(value=0.4, low=0.3, high=0.5),
            "val_drop": Interval(value=unseen, low=unseen, high=1),
        }
        return ProbeResult(name=name, changes=change.changes, train_error=Interval(value=0, low=0, high=0.1), **drops)

    monkeypatch.setattr(probes, "_trained", trained)
    diagnose(run, probes=["no-regularization"], options=OPTIONS)

    without = {"network.dropout": 0.0, "augment.crop_padding": 0.0}
    assert asked == [without, {"network.dropout": 0.0}][:trainings]


@pytest.mark.parametrize(
    ("fits", "unseen", "trainings"),
    [
        (0.1, (0.07, 0.01), 2),  # promises much, and may be nothing
        (0.1, (0.07, 0.03), 1),  # proven
        (0.1, (0.03, -0.01), 1),  # promises little
        (-0.1, (0.07, 0.01), 1),  # does not surely fit better
    ],
)
def test_a_larger_network_that_promises_much_and_proves_nothing_is_followed_by_a_still_larger_one(
    run: tw.Run, monkeypatch: pytest.MonkeyPatch, fits: float, unseen: tuple[float, float], trainings: int
) -> None:
    asked = []

    def trained(subject: Any, name: str, change: Any) -> ProbeResult:
        asked.append(change.changes["network.width"])
        value, low = unseen if len(asked) == 1 else (0.1, 0.05)
        drops = {
            "train_drop": Interval(value=0.2, low=fits, high=0.4),
            "val_drop": Interval(value=value, low=low, high=1),
        }
        return ProbeResult(
            name=name, changes=change.changes, train_error=Interval(value=0.2, low=0.1, high=0.3), **drops
        )

    monkeypatch.setattr(probes, "_trained", trained)
    found = diagnose(run, probes=["wider"], options=OPTIONS).probes["wider"]

    assert asked == [32, 64][:trainings]
    assert dict(found.changes) == {"network.width": asked[-1]}


def test_a_training_of_few_steps_is_made_four_times_as_long(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 6})

    assert dict(diagnose(run, probes=["longer"], options=OPTIONS).probes["longer"].changes) == {"epochs": 24}


@pytest.mark.slow
def test_labels_are_asked_about_without_the_images_of_the_test_part(run: tw.Run) -> None:
    counts = RunFolder.open(run.folder).manifest["split"]

    found = diagnose(run, probes=["labels"], options=OPTIONS).probes["labels"]

    assert counts["test"] > 0
    assert found.label_noise is not None
    assert found.label_noise.out_of_fold
    assert found.label_noise.images == counts["train"] + counts["val"]
    assert found.note.startswith("5 networks, each asked about images that it has not seen: ")


@pytest.mark.slow
def test_labels_are_not_asked_about_with_a_network_that_only_python_can_make(train: Callable[..., tw.Run]) -> None:
    from torch import nn

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    found = diagnose(train(model=make()), probes=["labels"], model=make, options=OPTIONS).probes["labels"]

    assert (found.state, found.label_noise) == ("needless", None)
    assert found.note == "Networks that were given by Python code are not trained fold by fold."


@pytest.mark.slow
def test_a_few_images_are_trained_on_alone(run: tw.Run) -> None:
    found = diagnose(run, probes=["fit-64"], options=OPTIONS).probes["fit-64"]

    assert found.steps == pytest.approx(300, rel=0.1)
    assert found.train_error is not None
    assert found.train_error.value < 0.1
    assert found.train_drop is None


def test_half_of_the_images_are_trained_on_for_as_many_steps(run: tw.Run) -> None:
    found = diagnose(run, probes=["half-data"], options=OPTIONS).probes["half-data"]

    assert found.steps == pytest.approx(12, abs=2)
    assert found.val_drop is not None


def test_a_network_of_ones_own_is_made_anew_by_a_function(train: Callable[..., tw.Run], digits: Path) -> None:
    from torch import nn

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    run = train(model=make())

    with pytest.raises(
        UsageError, match=r"this run's network was given by Python code\. Call tw\.diagnose\(run, model=…\)"
    ):
        diagnose(run, probes=["longer"], options=OPTIONS)
    found = diagnose(run, probes=["longer", "wider"], model=make, options=OPTIONS).probes

    assert found["longer"].state == "trained"
    assert (found["wider"].state, found["wider"].note) == (
        "needless",
        "A larger one of your own network is yours to give.",
    )


@pytest.fixture
def suggesting(monkeypatch: pytest.MonkeyPatch, lr_range_of: Callable[..., Any]) -> Callable[[float | None], None]:
    """(rate) → the range test of every probe suggests it; None: it cannot tell. The run was trained at 0.01."""

    def suggest(rate: float | None) -> None:
        found = lr_range_of("flat") if rate is None else dataclasses.replace(lr_range_of("found"), suggestion=rate)
        monkeypatch.setattr(probe_changes, "range_of", lambda *_, **__: found)

    return suggest


def test_a_rate_that_the_range_test_agrees_with_is_not_tried_again(
    run: tw.Run, suggesting: Callable[..., None]
) -> None:
    suggesting(0.013)

    found = diagnose(run, probes=["learning-rate"], options=OPTIONS).probes["learning-rate"]

    assert found.state == "needless"
    assert found.note == "The range test suggests 0.013, which is near the 0.01 of the recipe."


def test_where_the_range_test_cannot_tell_the_published_rate_is_tried(
    run: tw.Run, suggesting: Callable[..., None]
) -> None:
    suggesting(None)

    found = diagnose(run, probes=["learning-rate"], options=OPTIONS).probes["learning-rate"]

    assert found.changes["optimizer.lr"] == 1e-3  # of AdamW
    assert found.note.startswith("The range test cannot tell: the loss never falls")


def test_where_the_range_test_cannot_tell_a_decade_towards_the_published_rate_is_tried_too(
    train: Callable[..., tw.Run], suggesting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def trained(subject: Any, name: str, change: Any) -> ProbeResult:
        asked.append(change.changes["optimizer.lr"])
        return ProbeResult(name=name, changes=change.changes)

    suggesting(None)
    monkeypatch.setattr(probes, "_trained", trained)
    diagnose(train({"optimizer.lr": 0.3}), probes=["learning-rate"], options=OPTIONS)

    assert asked == [1e-3, 0.03]


def test_where_a_suggestion_helps_little_the_published_rate_is_tried_too_and_the_better_counts(
    run: tw.Run, suggesting: Callable[..., None]
) -> None:
    suggesting(1e-6)

    found = diagnose(run, probes=["learning-rate"], options=OPTIONS).probes["learning-rate"]

    assert found.changes["optimizer.lr"] in (1e-6, 1e-3)
    assert found.steps == 24
    assert (run.folder / "probes" / "learning-rate-2").is_dir()


def test_a_larger_network_is_counted_with_what_it_costs() -> None:
    recipe = tw.Recipe().changed({"network.name": "small-resnet", "network.width": 32})

    wider, same = cost_of("wider", recipe), cost_of("no-regularization", recipe)

    assert same == 2
    assert wider == pytest.approx(4 * same, rel=0.05)


def test_an_unknown_probe_is_refused_with_the_known_ones(run: tw.Run) -> None:
    with pytest.raises(UsageError, match=r"no such probe 'widr'\. Did you mean 'wider'\? Known: learning-rate, no-reg"):
        diagnose(run, probes=["widr"])


def test_a_run_without_evidence_is_refused(run: tw.Run) -> None:
    (run.folder / "evidence.json").unlink()

    with pytest.raises(RunError, match=r"nothing to judge by was kept \(it is finished\)\. Train it again\."):
        diagnose(run)


def test_every_cause_has_a_probe() -> None:
    from trainwright.diagnosis.rules.fit import PROBE_OF

    assert set(PROBE_OF.values()) < set(PROBES)


@pytest.mark.slow
def test_auto_finds_a_learning_rate_that_is_far_too_low(train: Callable[..., tw.Run]) -> None:
    run = train({"optimizer.lr": 1e-5, "epochs": 6})

    found = diagnose(run, probes="auto", options=OPTIONS)

    assert found.verdict == "underfits"
    assert found.findings[0].rule == "learning-rate"
    assert found.would_tell == ()


def test_a_page_that_cannot_be_written_takes_nothing_from_a_judgement(
    run: tw.Run, monkeypatch: pytest.MonkeyPatch, listener: Any
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ValueError("no page today")

    (run.folder / "result.json").write_text(json.dumps({**run.result, "verdict": "of an older version"}))
    monkeypatch.setattr(report, "run_page", fail)

    found = diagnose(run, reporter=listener)

    assert json.loads((run.folder / "result.json").read_text())["verdict"] == found.verdict
    assert listener.notes == [f"the report is as it was (no page today); 'trainwright report {run.id}' tries again"]


def test_data_from_python_keeps_its_pictures_where_the_page_is_written_anew(train: Callable[..., tw.Run]) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images_NHWC, [str(index % 3) for index in range(60)])
    run = train({"epochs": 1}, data=data)
    run.report(data=data)
    (run.folder / "result.json").write_text(json.dumps({**run.result, "verdict": "of an older version"}))

    diagnose(run, data=data)

    page = (run.folder / "report.html").read_text()
    assert "of an older version" not in page
    assert "data:image/jpeg" in page
