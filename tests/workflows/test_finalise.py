"""The test part opened, once and again, by the same model and on other splits of the same images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import trainwright as tw
from trainwright.diagnosis.stats import effective_count, wilson
from trainwright.records import Scores, TargetInfo
from trainwright.tasks.classification import Classification
from trainwright.tracking import journal
from trainwright.tracking.mirrors import tags
from trainwright.workflows import report
from trainwright.workflows.finalise import OPENINGS, _said, openings, with_interval


@pytest.fixture
def opened(train: Callable[..., tw.Run]) -> Callable[..., dict[str, object]]:
    """(changes) → what opening the test part of a run with these changes says."""

    def finalise(changes: dict[str, object] | None = None) -> dict[str, object]:
        run = train({"epochs": 1, **(changes or {})})
        return tw.finalise(run, runs=run.folder.parent, workers=1)

    return finalise


def test_a_second_opening_keeps_what_the_first_one_said(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})
    first = tw.finalise(run, runs=run.folder.parent)
    second = tw.finalise(run, runs=run.folder.parent)

    assert json.loads((run.folder / "test.json").read_text()) == first
    assert json.loads((run.folder / "test-2.json").read_text()) == second
    assert (first["opened_before"], second["opened_before"]) == (0, 1)
    assert second["note"].startswith("These images were looked at once before")
    assert (run.folder / "answers" / "test-2.npz").is_file()


def test_another_split_that_shares_some_images_is_no_first_opening(opened: Callable[..., dict[str, object]]) -> None:
    opened()
    second = opened({"data.split_seed": 1})

    assert second["opened_before"] == 1
    assert "of these images were looked at once before" in str(second["note"])


def test_images_that_nobody_opened_are_a_first_opening(tmp_path: Path, train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})
    tw.finalise(run, runs=run.folder.parent)
    images_NHWC = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    parts = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    data = tw.Dataset.from_arrays(images_NHWC, [str(index % 2) for index in range(60)], parts=parts)
    other = train({"epochs": 1}, data=data)

    found = tw.finalise(other, data=data, runs=other.folder.parent)

    assert found["opened_before"] == 0
    assert str(found["note"]).startswith("The first time")


def test_the_ledger_says_which_share_of_the_images_each_opening_had(tmp_path: Path) -> None:
    import base64

    from trainwright.tracking import journal

    hashes = [
        f"{number:032x}" for number in range(1 << 64, (1 << 64) * 9, 1 << 64)
    ]  # eight, different in their first half
    kept = [hashes[:4], hashes[:2], ["ff" * 16]]
    lines = [base64.b64encode(b"".join(bytes.fromhex(one)[:8] for one in images)).decode() for images in kept]
    (tmp_path / OPENINGS).write_bytes(b"".join(journal.encode("opening", {"images": line}) for line in lines))

    assert openings(tmp_path, hashes) == [0.5, 0.25]


def test_a_torn_line_of_the_ledger_is_cut_off(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})
    (run.folder.parent / OPENINGS).write_bytes(b'{"kind":"opening","ima')

    first = tw.finalise(run, runs=run.folder.parent)
    second = tw.finalise(run, runs=run.folder.parent)

    assert (first["opened_before"], second["opened_before"]) == (0, 1)


@pytest.mark.parametrize(
    ("shares", "looked"),
    [
        ([1.0], "These images were looked at once before:"),
        ([1.0, 1.0], "These images were looked at 2 times before:"),
        ([0.61], "61 % of these images were looked at once before:"),
        ([0.004], "Under 1 % of these images were looked at once before:"),
        ([0.999], "99 % of these images were looked at once before:"),
        ([0.2, 0.61], "In 2 earlier openings up to 61 % of these images were looked at:"),
        ([0.2, 1.0], "In 2 earlier openings all of these images were looked at:"),
    ],
)
def test_the_note_says_how_often_and_how_many(shares: list[float], looked: str) -> None:
    assert _said(shares).startswith(looked)


def test_last_is_the_newest_run_though_a_study_is_called_so(train: Callable[..., tw.Run]) -> None:
    from trainwright.tracking.study_folder import StudyFolder

    run = train({"epochs": 1})
    StudyFolder.create(run.folder.parent.parent / "studies", asked={}, name="last-week").close()

    assert tw.finalise("last", runs=run.folder.parent)["run"] == run.id


def test_a_page_that_cannot_be_written_takes_nothing_from_an_opening(
    train: Callable[..., tw.Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, listener: Any
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ValueError("no page today")

    run = train({"epochs": 1})
    (run.folder / "report.html").write_text("old")
    monkeypatch.setattr(report, "run_page", fail)

    found = tw.finalise(run, runs=run.folder.parent, reporter=listener)

    assert json.loads((run.folder / "test.json").read_text()) == found
    assert listener.notes == [f"the report is as it was (no page today); 'trainwright report {run.id}' tries again"]
    assert "its page was not written anew" in caplog.text


def test_data_from_python_keeps_its_pictures_in_the_page(train: Callable[..., tw.Run]) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images_NHWC, [str(index % 3) for index in range(60)])
    run = train({"epochs": 1}, data=data)
    run.report(data=data)

    tw.finalise(run, data=data, runs=run.folder.parent)

    page = (run.folder / "report.html").read_text()
    assert "accuracy on the test part" in page
    assert "data:image/jpeg" in page


def test_an_opening_says_when_it_was(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})

    found = tw.finalise(run, runs=run.folder.parent)

    (record,) = journal.read_records(run.folder.parent / OPENINGS, "opening")
    assert found["time"] == record["time"]


def scores_of(right: list[int]) -> Scores:
    per_image_N = np.array(right, dtype=np.float64)
    return Scores(score=float(per_image_N.mean()), loss=0.0, per_image=per_image_N, tally=per_image_N[:, None])


def test_images_of_one_group_that_fall_together_say_as_much_as_one() -> None:
    """Forty groups of five alike: 200 images, and the doubt of 39, as the variance between forty groups estimates it."""
    task = Classification(TargetInfo(names=("a", "b")), nn.CrossEntropyLoss())
    scores = scores_of([group % 4 != 0 for group in range(40) for _ in range(5)])

    alone = with_interval(task, scores, np.arange(200))
    grouped = with_interval(task, scores, np.arange(200) // 5)

    assert alone == {"score": 0.75, "low": wilson(150, 200).low, "high": wilson(150, 200).high}
    assert grouped["score"] == 0.75
    assert (grouped["low"], grouped["high"]) == pytest.approx((wilson(29.25, 39).low, wilson(29.25, 39).high))


def test_a_runs_own_intervals_know_of_groups(train: Callable[..., tw.Run]) -> None:
    """Each image is there four times: the answers for one are alike, so that they say as much as one."""
    images_NHWC = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8).repeat(4, axis=0)
    data = tw.Dataset.from_arrays(images_NHWC, [str(index // 4 % 2) for index in range(240)])

    run = train({"epochs": 1}, data=data)

    with np.load(run.folder / "answers" / "val.npz") as kept:
        right_N, groups_N, target_N = kept["per_image"], kept["groups"], kept["target"]
    intervals = run.result["intervals"]
    for name, found in {"all": intervals["score"], **intervals["per_class"]}.items():
        own_N = np.full(len(right_N), True) if name == "all" else target_N == data.classes.index(name)
        count = effective_count(right_N[own_N], groups_N[own_N])
        expected = wilson(right_N[own_N].mean() * count, count)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
        assert count <= own_N.sum() / 4


def test_the_mirrors_have_every_opening_and_say_that_a_second_one_was_not_the_first(
    train: Callable[..., tw.Run],
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train({"epochs": 1})
    tw.sync(run, ["tensorboard"])

    first, second = (tw.finalise(run, mirrors=["tensorboard"], runs=run.folder.parent) for _ in range(2))

    read = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [event.step for event in read.Scalars("test/score")] == [0, 1]
    scores = [event.value for event in read.Scalars("test/score")]
    assert scores == pytest.approx([one["test"]["score"] for one in (first, second)])
    assert [event.value for event in read.Scalars("test/opened_before")] == [0, 1]
    assert tags(run._folder)["test_note"] == second["note"] != first["note"]


def test_a_run_that_nobody_copied_is_not_copied_by_an_opening(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})

    tw.finalise(run, mirrors=["tensorboard"], runs=run.folder.parent)

    assert not (run.folder / "tensorboard").exists()
