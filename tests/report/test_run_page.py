"""The page of a run: what it says, and in which order."""

import dataclasses
import html
import re
import shlex

import pytest

from trainwright.report.run_page import run_page

pytestmark = pytest.mark.usefixtures("without_plotly")


def text_of(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_verdict_stands_before_everything_else(run_values):
    text = text_of(run_page(run_values()))

    assert text.index("Overfits") < text.index("Gap 10.0 points (6.0 to 14.0).") < text.index("The gap and its parts")


def test_every_score_stands_beside_its_interval(run_values):
    text = text_of(run_page(run_values()))

    assert "accuracy on unseen images 85.0 % 78.0 % to 90.0 % 100 images" in text
    assert "accuracy on train images 95.0 % the same way: eval mode, clean 100 of 300 images" in text
    assert "gap: unseen error − train error 10.0 points 6.0 to 14.0 worth acting on above 3.0" in text


def test_the_opened_test_part_is_told_with_its_date(run_values):
    text = text_of(run_page(run_values()))

    assert "accuracy on the test part 84.0 % 80.0 % to 87.0 % opened 22 November 2026, 12:27 UTC" in text
    assert "The first time that anybody looked." in text


def test_later_openings_are_told_too(run_values, opening):
    again = opening(1795360000.0, "These images were looked at once before.")

    text = text_of(run_page(run_values(openings=(opening(), again))))

    assert "These images were looked at once before." in text


def test_what_cannot_be_told_says_what_would_tell(run_values):
    text = text_of(run_page(run_values(would_tell=("longer", "wider"))))

    assert "What would tell: A longer run would tell." in text
    assert "trainwright diagnose 20261122-1-pets --probe longer --probe wider" in text


def test_what_was_looked_for_and_not_found_is_folded_up(run_values):
    page = run_page(run_values())

    assert "<summary>1 looked for and not found</summary>" in page


def test_prescriptions_come_with_a_command_that_trains_them(run_values):
    text = text_of(run_page(run_values()))

    assert "--recipe /runs/20261122-1-pets/recipe.yaml" in text
    assert "--set=augment.mixup=0.2" in text
    assert "Zhang et al., arXiv:1710.09412" in text


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("classification", "most often taken for"),
        ("regression", "answer against truth"),
        ("segmentation", "IoU of each class"),
        ("detection", "AP 50 of each class"),
    ],
)
def test_each_task_shows_its_own(run_values, task, said):
    assert said in text_of(run_page(run_values(task)))


def test_what_the_user_changed_stands_before_the_whole_recipe(run_values):
    text = text_of(run_page(run_values()))

    assert "What differs from recipe scratch-default" in text
    assert "optimizer.lr 0.01 0.001 the caller" in text
    assert "All 2 values of the recipe" in text
    assert "ours: enough" in text


def test_it_says_how_to_repeat_it(run_values):
    text = text_of(run_page(run_values()))

    assert "trainwright train &#x27;my photos&#x27;" in text
    assert "recipe 0, split 0" in text
    assert "torch 2.15.0" in text
    assert "cd" * 32 in text


def test_the_command_that_compares_comes_before_the_one_that_only_trains(run_values):
    page = html.unescape(run_page(run_values(folder="/mnt/runs/20261122-1-pets")))

    again = page.index("trainwright reproduce /mnt/runs/20261122-1-pets")
    assert again < page.index("--recipe /mnt/runs/20261122-1-pets/recipe.yaml", again)


def test_what_python_code_gave_is_reproduced_from_there(run_values):
    page = html.unescape(run_page(run_values(manifest={**run_values().manifest, "dataset": {}})))

    assert f'tw.reproduce("{run_values().folder}", data=…)' in page


def test_a_run_without_a_result_is_not_reproduced(run_values):
    page = run_page(run_values(result=None, state="failed", message="the disk was full", openings=()))

    assert "trainwright reproduce" not in page
    assert "Only trained, from the same data and recipe:" in page


def test_a_finding_is_spelled_as_everywhere_else(run_values):
    result = dict(run_values().result)
    doubt = {"verdict": "cannot-tell", "evidence": "Train error 9 %.", "advice": "", "figures": {}}
    result["findings"] = [*result["findings"], {"rule": "too-small", **doubt}, {"rule": "cannot-fit", **doubt}]

    assert "too-small, cannot-fit cannot tell Train error 9 %." in text_of(run_page(run_values(result=result)))


@pytest.mark.parametrize(
    ("state", "word"), [("failed", "Failed"), ("running", "Still running"), ("interrupted", "Interrupted")]
)
def test_a_run_that_has_not_finished_says_how_far_it_is(run_values, state, word):
    text = text_of(run_page(run_values(result=None, state=state, message="the disk was full", openings=())))

    assert text.index(word) < text.index("The disk was full.") < text.index("What is there: 3 epochs;")
    assert ("trainwright resume 20261122-1-pets" in text) == (state != "running")
    assert "Curves" in text
    assert "What was found" not in text


def test_pictures_that_cannot_be_had_are_missed_with_a_word(run_values):
    text = text_of(run_page(run_values(pictures=(), pictures_note="The pictures are left out: the data is gone.")))

    assert "The pictures are left out: the data is gone." in text


def test_a_run_that_was_trained_on_its_validation_images_has_no_gap(run_values):
    result = dict(run_values().result)
    nothing = dict.fromkeys(("value", "low", "high"))
    result |= {
        "gap": nothing,
        "score": {"train": 0.9, "val": None},
        "loss": {"train": 0.1, "val": None},
        "verdict": "cannot-tell",
    }
    result |= {"per_class": {}, "intervals": {"score": None, "per_class": {}}, "metrics": {"train": {}, "val": {}}}
    result["train_errors"] = {**result["train_errors"], "val": None}
    result["findings"] = [
        {
            "rule": "nothing-unseen",
            "verdict": "cannot-tell",
            "evidence": "None is left.",
            "advice": "Finalise.",
            "figures": {},
        }
    ]

    epochs = [{**epoch, "val": {"loss": None, "score": None}} for epoch in run_values().epochs]
    nothing = {"charts": (), "reliability": (), "pictures": (), "prescriptions": ()}
    text = text_of(run_page(run_values(result=result, epochs=epochs, unseen=False, **nothing)))

    assert "Cannot tell yet" in text
    assert "None is left." in text
    assert "The gap and its parts" not in text
    assert "accuracy on images it learned from 90.0 % eval mode, clean 100 of 300 images" in text
    assert "on unseen images" not in text
    assert "unseen loss" not in text
    assert "train 300, val 100 of them, test 200" in text
    assert "which nothing was learned from" not in text
    assert "the validation images were learned from too" in text


def test_a_run_under_way_on_its_validation_images_tells_of_train_images(run_values):
    text = text_of(run_page(run_values(result=None, state="running", unseen=False, openings=())))

    assert "after the last one the score on train images was 0.8." in text


@pytest.mark.parametrize("verb", ["train", "improve"])
def test_commands_read_the_data_as_it_was_read(run_values, verb):
    manifest = run_values().manifest
    source = {"path": "/data/labels.csv", "target": "age, size", "task": "regression"}

    page = run_page(run_values(manifest={**manifest, "dataset": {**manifest["dataset"], "source": source}}))

    commands = [html.unescape(one).replace("\\\n", "") for one in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    found = [shlex.split(one) for one in commands if one.startswith(f"trainwright {verb} /data/labels.csv")]
    assert len(found) == {"train": 2, "improve": 1}[verb]  # once more as it was, and with a remedy
    assert all({"--target=age, size", "--task=regression"} <= set(words) for words in found)


def test_an_opening_that_came_to_nothing_is_told_and_the_next_one_has_the_score(run_values, opening):
    nothing = dataclasses.replace(opening(1795350000.0), result=None)

    text = text_of(run_page(run_values(openings=(nothing, opening(note="Looked at once before.")))))

    assert "accuracy on the test part 84.0 %" in text
    assert "It was opened and ended before a score was written" in text
    assert "Looked at once before." in text


def test_a_run_of_a_study_leads_to_the_studys_page(run_values):
    page = run_page(run_values(study=("20261122-2-study", "../../studies/20261122-2-study/report.html")))

    assert '<a href="../../studies/20261122-2-study/report.html">20261122-2-study</a>' in page


def test_a_fault_that_matters_more_than_the_gap_is_named_with_the_verdict(run_values):
    result = dict(run_values().result)
    result["findings"] = [
        {"rule": "twins", "verdict": "yes", "evidence": "40 images are in train too.", "advice": "", "figures": {}},
        *result["findings"],
    ]

    text = text_of(run_page(run_values(result=result)))

    assert text.index("First of all: twins . 40 images are in train too.") < text.index("The gap and its parts")
