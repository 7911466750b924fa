"""Pictures of what speaks for a run's answers: of files, of its hardest images, of a class that is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import trainwright as tw
from trainwright.cli.main import main
from trainwright.errors import RunError, UnknownNameError
from trainwright.plugins import tasks
from trainwright.workflows.explain import explained_figure

pytest.importorskip("captum")


def test_its_hardest_images_are_explained_without_any_being_named(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 2})

    found = tw.explain(run)

    assert len(found["images"]) == 8
    hardest = [image["path"] for image in run.result["hardest"][:8]]
    assert [one["image"].endswith(path) for one, path in zip(found["images"], hardest, strict=True)] == [True] * 8
    assert [one["of"] for one in found["images"]] == [image["answer"] for image in run.result["hardest"][:8]]
    assert all(one["unexplained"] < 0.5 for one in found["images"])
    (sheet,) = found["sheets"]
    assert Path(sheet) == run.folder / "explained" / "why-001.png"
    with Image.open(sheet) as picture:
        assert min(picture.size) > 100
    assert found["explains"] == "the logit of the class, which the probabilities are made of"
    assert json.loads(json.dumps(found)) == found


def test_truth_and_answer_stand_beside_their_probabilities(
    train: Callable[..., tw.Run], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train({"epochs": 2})
    hardest = run.result["hardest"][:8]
    stranger = shutil.copy(digits / hardest[0]["path"], tmp_path / "stranger.png")

    found = tw.explain(run)["images"]
    (named,) = tw.explain(run, digits / hardest[0]["path"], of=hardest[0]["truth"], out=tmp_path / "why")["images"]
    (unknown,) = tw.explain(run, stranger, out=tmp_path / "why")["images"]

    for one, known in zip(found, hardest, strict=True):
        assert (one["truth"], one["answer"]) == (known["truth"], known["answer"])
        assert one["probability"] == pytest.approx(known["probability"], abs=1e-4)
        assert one["probability_of_truth"] == pytest.approx(known["probability_of_truth"], abs=1e-4)
    assert (named["truth"], named["of"], named["answer"]) == (found[0]["truth"], found[0]["truth"], found[0]["answer"])
    assert "truth" not in unknown
    assert unknown["answer"] == found[0]["answer"]
    assert main(["explain", run.id, "--runs", str(run.folder.parent), "--quiet"]) == 0
    said, first = capsys.readouterr().out, found[0]
    assert (
        f"  truth {first['truth']} {first['probability_of_truth']:.3f}, answer {first['answer']} {first['probability']:.3f}; "
        f"explained: {first['of']} {first['output']:.3g}, of a plain image " in said
    )
    assert "numbers    truth and answer with their probabilities; explained: the logit of the class" in said


def test_another_class_than_the_answer_can_be_asked_for(
    train: Callable[..., tw.Run], digits: Path, tmp_path: Path
) -> None:
    run = train({"epochs": 1})
    files = sorted(digits.rglob("*.png"))[:2]

    one, other = (tw.explain(run, files, of=of, out=tmp_path / of) for of in ("0", "1"))

    assert {image["of"] for image in one["images"]} == {"0"}
    assert [image["output"] for image in one["images"]] != [image["output"] for image in other["images"]]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("classification", "the logit of the class, which the probabilities are made of"),
        ("regression", "the network's output, in deviations of the train images from their mean"),
        ("segmentation", "the mean logit of the class over the pixels that are given it"),
    ],
)
def test_what_the_numbers_are_is_said_for_each_task(task: str, said: str) -> None:
    assert explained_figure(tasks.get(task)) == said  # type: ignore[arg-type]


def test_a_class_that_it_does_not_know_is_named(trained: tw.Run) -> None:
    with pytest.raises(UnknownNameError, match="nine"):
        tw.explain(trained, of="nine")


def test_a_broken_file_is_told_of_it_alone_and_nothing_but_those_ends_with_3(
    train: Callable[..., tw.Run], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, torn = train({"epochs": 1}), tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\n")
    good = sorted(digits.rglob("*.png"))[0]
    where = ["--runs", str(run.folder.parent), "--out", str(tmp_path / "why"), "--quiet"]

    assert main(["explain", run.id, str(torn), str(good), *where]) == 0
    told = capsys.readouterr().out
    assert "truncated" in told
    assert "explained: the logit of the class, which the probabilities are made of; first" in " ".join(told.split())
    assert main(["explain", run.id, str(torn), *where]) == 3


def test_data_from_python_has_no_files_to_take(train: Callable[..., tw.Run], digits: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, [str(i % 2) for i in range(40)], parts=["train"] * 28 + ["val"] * 12)
    run = train({"epochs": 1}, data=data)

    with pytest.raises(RunError, match="Name the images"):
        tw.explain(run)
