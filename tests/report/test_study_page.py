"""The page of a study: the result, the story, the runs."""

import dataclasses
import re

import pytest

from trainwright.report.study_page import study_page
from trainwright.report.values import Entry

pytestmark = pytest.mark.usefixtures("without_plotly")


def text_of(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_gain_stands_first_with_its_interval(study_values):
    text = text_of(study_page(study_values()))

    assert text.index("Better by 5.0 points (2.0 to 8.0)") < text.index("It got better.") < text.index("The story")
    assert "Note: 5 epochs, not 10" in text


def test_a_gain_that_may_be_none_is_not_called_one(study_values):
    values = study_values()
    result = {**values.result, "gain": {"value": 0.01, "low": -0.02, "high": 0.04}}

    text = text_of(study_page(study_values(result=result)))

    assert "Nothing proven better" in text


@pytest.mark.parametrize(
    ("keep", "scored_by", "unchanged", "reason"),
    [
        ("best", "c", [0.7], "did best on these very images"),
        ("last", "c", [0.7], None),
        ("last", "longer", [0.7], "has not proven that length pays"),
        ("best", "c", [0.7, 0.74], "was trained 2 times, with 70.0 % to 74.0 %"),
    ],
)
def test_a_gain_that_is_not_the_difference_of_the_scores_says_the_true_reason(
    study_values, keep, scored_by, unchanged, reason
):
    result = study_values().result
    gain = {"value": 0.08, "low": 0.02, "high": 0.14}  # beside 70 % and 75 %
    longer = {"run": "longer", "score": 0.75, "epochs": 24, "before": 12, "trainings": [1, 1], "p": 0.4}
    longer |= {"gain": {"value": 0.01, "low": -0.02, "high": 0.04}, "verdict": "no evidence", "adopted": False}
    best = {**result["best"], "recipe": {"keep": keep}, "scored_by": scored_by}
    changed = {**result, "gain": gain, "best": best, "unchanged_scores": unchanged, "lengths": [longer]}

    text = text_of(study_page(study_values(result=changed)))

    reasons = ("did best on these very images", "has not proven that length pays", "was trained 2 times")
    assert [one for one in reasons if one in text] == [one for one in reasons if reason is not None and one in reason]
    assert reason is None or reason in text


def test_the_story_goes_round_by_round_with_links_to_the_runs(study_values):
    page = study_page(study_values())

    assert "<h3>Round 1</h3>" in page
    assert "overfits: gap 10 points." in page
    assert '<a href="#run-1" title="trial 1">run 1</a>' in page
    assert '<tr id="run-1">' in page


def test_the_table_says_what_each_recipe_changes(study_values, trial):
    trials = (trial(0, 0.7, role="baseline"), trial(1, 0.8, lr=0.1))

    text = text_of(study_page(study_values(trials=trials)))

    assert "optimizer.lr: 0.01 → 0.1" in text


def test_arms_are_told_with_gain_doubt_and_source(study_values):
    text = text_of(study_page(study_values()))

    assert "5.0 points (2.0 to 8.0) 0.003 adopted optimizer.lr: found anew epochs: 6 Because. ours" in text
    assert "schedule.final" not in text  # only goes back to what belongs to another name


def test_a_longer_training_is_told_as_an_arm_of_the_end(study_values):
    gain = {"value": 0.04, "low": 0.01, "high": 0.07}
    one = {"run": "mine-009", "score": 0.8, "epochs": 24, "before": 12, "trainings": [1, 1], "gain": gain, "p": 0.01}
    result = {**study_values().result, "lengths": [{**one, "verdict": "adopted", "adopted": True}]}

    text = text_of(study_page(study_values(result=result)))

    assert "end longer (24 epochs) 4.0 points (1.0 to 7.0) 0.01 adopted" in " ".join(text.split())


def test_noise_and_luck_are_put_in_words(study_values):
    text = text_of(study_page(study_values()))

    assert "at least 1.00 points" in text
    assert "The best of 2 arms that are all no better would look better by 1.20 points" in text


def test_a_locked_test_part_says_how_to_open_it(study_values):
    assert "trainwright finalise 20261122-2-study" in text_of(study_page(study_values()))


def test_an_opened_test_part_is_told_with_its_date(study_values, opening):
    text = text_of(study_page(study_values(openings=(opening(),))))

    assert "accuracy on the test part 84.0 % 80.0 % to 87.0 % opened 22 November 2026, 12:27 UTC" in text
    assert "trainwright finalise" not in text


def test_data_without_a_test_part_says_so(study_values):
    values = study_values()

    text = text_of(study_page(study_values(asked={**values.asked, "test_images": 0})))

    assert "This data has no test part" in text


def test_a_study_that_has_not_ended_tells_its_story_so_far(study_values):
    text = text_of(study_page(study_values(result=None, state="interrupted")))

    assert (
        "Interrupted It was stopped before it was decided what to hand over. What is there: 12 trainings with a score."
        in text
    )
    assert "trainwright resume 20261122-2-study" in text
    assert "Baseline: accuracy 0.700." in text


def test_a_study_without_any_run_still_has_a_page(study_values):
    text = text_of(study_page(study_values(result=None, state="running", trials=(), story=())))

    assert "Still running Nothing is decided yet" in text
    assert "What is there: No training has a score yet." in text


def test_a_searched_study_shows_what_matters(study_values):
    values = study_values()
    result = {**values.result, "importance": {"optimizer.lr": {"value": 0.6, "low": 0.5, "high": 0.7}}}

    text = text_of(study_page(study_values(result=result)))

    assert "What matters" in text
    assert "All recipes at once" in text
    assert "The best of m runs" in text


def test_two_hundred_runs_stay_well_below_twelve_megabytes(study_values):
    assert len(study_page(study_values(200)).encode()) < 1_000_000  # and two of plotly's script


def searched(study_values, **changes):
    """The values of a study that tuned, which has no rounds."""
    result = {**study_values().result, "rounds": [], "compared": 11, "unchanged_scores": [0.7], **changes}
    return study_values(result=result)


def test_luck_of_a_search_is_that_of_its_trainings(study_values):
    text = text_of(study_page(searched(study_values)))

    assert "The best of 11 trainings that are all no better would look better by 1.20 points" in text
    assert "(noise floor, from the best recipe with two seeds)" in text
    assert "best of 0" not in text


@pytest.mark.parametrize(("gain", "told"), [(None, False), ({"value": 0.02, "low": 0.01, "high": 0.03}, True)])
def test_only_a_gain_that_there_is_is_spoken_of(study_values, gain, told):
    text = text_of(study_page(searched(study_values, gain=gain)))

    assert ("The gain above" in text) == told


def test_a_test_part_that_was_opened_in_vain_is_not_called_locked(study_values, opening):
    nothing = dataclasses.replace(opening(), result=None)

    text = text_of(study_page(study_values(openings=(nothing,))))

    assert "Locked" not in text
    assert "22 November 2026, 12:27 UTC 20261122-1-pets – –  It was opened".replace("  ", " ") in text


def test_the_foot_says_that_the_final_training_learned_from_the_unseen_images(study_values):
    values = study_values()
    alone = {**values.result, "best": {**values.result["best"], "trained_on": "train"}}

    assert "nothing was learned from but the final training" in text_of(study_page(values))
    assert "which nothing was learned from." in text_of(study_page(study_values(result=alone)))


def test_many_changes_are_folded_and_few_are_not(study_values, trial):
    few, many = ({f"key.{n}": (0, n) for n in range(1, count)} for count in (4, 12))

    page = study_page(study_values(trials=(trial(0, 0.7, changes=few), trial(1, 0.8, changes=many))))

    rows = re.findall(r'<tr id="run-\d">.*?</tr>', page, re.DOTALL)
    assert ["<details" in row for row in rows] == [False, True]
    assert "<summary>11 values</summary>" in rows[1]
    assert 'data-value="11.0"' in rows[1]  # sorted by how many


def test_a_rule_is_spelled_as_everywhere_else_and_a_remedy_of_many_values_folds_them(study_values):
    story = (
        Entry(step="belief", text="Round 1. overfits: gap 9 points. batch-norm-broken: 11 points more."),
        Entry(
            step="trial", text="Trying all (a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, 16 epochs), against overfits: Because."
        ),
        Entry(step="trial", text="Trying one (a: 1), against overfits: Because."),
    )

    page = study_page(study_values(story=story))

    assert "overfits: gap 9 points. batch-norm-broken: 11 points more." in page
    assert (
        "Trying all, against overfits: Because.<details><summary>what it changes: 6 values</summary>a: 1, b: 2," in page
    )
    assert "Trying one (a: 1), against overfits: Because." in page


def test_what_a_gain_is_over_is_said_where_it_is_not_the_difference_of_the_scores(study_values):
    result = study_values().result | {
        "gain": {"value": 0.08, "low": 0.04, "high": 0.12},
        "unchanged_scores": [0.66, 0.68],
    }

    page = study_page(study_values(result=result))

    assert "the unchanged recipe was trained 2 times, with 66.0 % to 68.0 %" in page
    assert "the unchanged recipe was trained" not in study_page(study_values())  # 0.75 - 0.70 is the gain


def test_a_score_has_its_interval_where_its_run_has_one(study_values, trial):
    page = study_page(study_values(trials=(trial(0, 0.7, interval={"value": 0.7, "low": 0.65, "high": 0.74}),)))

    assert "65.0 % to 74.0 %" in page
