"""`tune` on the command line."""

from __future__ import annotations

import json

import pytest

from trainwright.cli.improve import shown
from trainwright.data.digits import write_digits
from trainwright.workflows import judge

SMALL = [
    "--recipe=story",
    "--epochs=1",
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--set=precision=fp32",
    "--threads=1",
    "--workers=1",
    "--slots=1",
    "--mirrors=none",
]


def test_a_slip_in_the_strategys_name_is_answered_before_anything_is_written(cli, digits, tmp_path):
    done = cli("tune", digits, "--strategy=sobel", f"--runs={tmp_path / 'runs'}", "--json")

    assert done.code == 2
    assert "Did you mean 'sobol'?" in done.err
    assert not (tmp_path / "studies").exists()


def test_a_budget_that_is_none_is_a_usage_error(cli, digits, tmp_path):
    done = cli("tune", digits, "--budget=soon", f"--runs={tmp_path / 'runs'}", "--json")

    assert done.code == 2
    assert json.loads(done.out)["where"] == "--budget"


def test_a_space_that_is_wrong_says_in_which_file(cli, digits, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("optimizer.lr: {low: 1, high: 0.1}\n")

    done = cli("tune", digits, *SMALL, "--strategy=random", f"--space={space}", f"--runs={tmp_path / 'runs'}")

    assert done.code == 2
    assert f"{space}: optimizer.lr: expected low < high, got 1.0 and 0.1" in done.err


@pytest.mark.slow
def test_a_list_is_trained_in_its_order_with_a_line_for_each(cli, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)
    first = tmp_path / "two.yaml"
    first.write_text("- {optimizer.lr: 0.02}\n- {optimizer.lr: 0.03}\n")
    runs = tmp_path / "runs"

    done = cli("tune", digits, *SMALL, "--strategy=list", f"--first={first}", "--name=mine", f"--runs={runs}", "--json")

    trials = [trial for trial in done.json["trials"] if trial["role"] == "trial"]
    assert done.code == 0
    assert [trial["label"] for trial in trials] == ["as published", "lr 0.02", "lr 0.03"]
    assert all(f"= Trial {number}: accuracy" in done.err for number in range(3))
    assert cli("tune", digits, *SMALL, "--name=mine", f"--runs={runs}").code != 0  # the name is taken
    assert cli("resume", "mine", f"--runs={runs}", "--json").json == done.json


GRID = """
optimizer.lr: {low: 1e-3, high: 3e-2, log: true, points: 4}
optimizer.weight_decay: {choices: [0.001, 0.01, 0.1]}
"""


@pytest.fixture(scope="module")
def all_digits(tmp_path_factory):
    """The handwritten digits as 1,797 PNG files, in a folder for each."""
    return write_digits(tmp_path_factory.mktemp("tuned") / "digits")


@pytest.fixture
def tuned(cli, all_digits, tmp_path, monkeypatch):
    """(words of a command line) → what `tune` on the digits did; a study `mine`."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)

    def tune(*words):
        return cli("tune", all_digits, *SMALL, *words, "--name=mine", f"--runs={tmp_path / 'runs'}", "--no-confirm")

    return tune


def changes_of(folder):
    result = json.loads((folder / "studies" / "mine" / "result.json").read_text())
    trials = [trial for trial in result["trials"] if trial["role"] == "trial"]
    assert {trial["state"] for trial in trials} == {"finished"}
    return [trial["changes"] for trial in trials]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_of_twelve_is_trained_whole_after_the_recipe_as_it_is(tuned, tmp_path):
    space = tmp_path / "twelve.yaml"
    space.write_text(GRID)

    done = tuned("--strategy=grid", f"--space={space}")

    first, *grid = changes_of(tmp_path)
    pairs = {(one["optimizer.lr"], one["optimizer.weight_decay"]) for one in grid}
    assert (done.code, first, len(grid), len(pairs)) == (0, {}, 12, 12)
    assert {decay for _, decay in pairs} == {0.001, 0.01, 0.1}
    assert len({lr for lr, _ in pairs}) == 4
    assert "13 trials. The best is " in done.out
    assert "The search is over: the strategy has nothing left to try." in done.err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_list_of_three_is_trained_as_it_stands(tuned, tmp_path):
    first = tmp_path / "three.yaml"
    first.write_text("- {optimizer.lr: 0.01}\n- {optimizer.name: adamw, optimizer.lr: 0.003}\n- {augment.flip: 0.5}\n")

    done = tuned("--strategy=list", f"--first={first}")

    assert done.code == 0
    assert changes_of(tmp_path) == [
        {},
        {"optimizer.lr": 0.01},
        {"optimizer.name": "adamw", "optimizer.lr": 0.003},
        {"augment.flip": 0.5},
    ]
    assert "4 trials. The best is " in done.out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sobol_study_of_sixteen_looks_through_the_space_it_makes_itself(tuned, tmp_path):
    done = tuned("--strategy=sobol", "--trials=16")

    first, *drawn = changes_of(tmp_path)
    rates = sorted(one["optimizer.lr"] for one in drawn)
    assert (done.code, first, len(drawn)) == (0, {}, 15)
    assert rates[-1] / rates[0] > 30
    assert "16 trials. The best is " in done.out
    assert "and 4 more" in done.out  # twelve of them are in the table


def result(**more):
    trial = {"role": "trial", "epochs": 3, "seconds": 12.4, "run": "mine-000"}
    trials = [
        {**trial, "number": 0, "label": "as published", "score": 0.5, "state": "finished"},
        {**trial, "number": 1, "label": "lr 0.01", "score": None, "state": "diverged"},
        {**trial, "number": 2, "label": "lr 0.002", "score": 0.75, "state": "finished"},
    ]
    best = {
        "run": "mine-003",
        "trained_on": "train",
        "score": 0.7,
        "interval": {"low": 0.6, "high": 0.8},
        "optimistic": False,
    }
    content = {
        "schema": "trainwright.study/1",
        "kind": "tune",
        "study": "mine",
        "strategy": "sobol",
        "metric": "accuracy",
        "trials": trials,
        "summary": "3 trials.",
        "warnings": ["the best optimizer.lr lies at the low end"],
        "importance": {"optimizer.lr": 0.9, "augment.mixup": 0.1},
        "best": best,
        "seconds": 61.0,
        "budget_seconds": None,
        "folder": "studies/mine",
        "test_images": 40,
    }
    return content | more


def test_a_finished_search_is_shown_with_its_best_trials_first():
    lines = shown(result()).splitlines()

    table = [line.split() for line in lines if line.strip()[:1].isdigit()][:3]
    assert [row[0] for row in table] == ["2", "0", "1"]
    assert table[2][-3:] == ["diverged", "lr", "0.01"]


def test_the_recipe_as_it_is_is_shown_with_the_values_that_are_searched():
    trial = {"role": "trial", "epochs": 3, "seconds": 12.4, "run": "mine-000", "number": 0, "score": 0.5}
    values = {"optimizer.lr": 0.001, "optimizer.weight_decay": 0.0, "schedule.warmup": None}
    published = {**trial, "label": "as published", "state": "finished", "changes": {}, "values": values}

    assert "finished    as published: lr 0.001, weight_decay 0\n" in shown(result(trials=[published]))


def test_what_mattered_most_stands_first_in_a_row_that_is_cut():
    trial = {"role": "trial", "epochs": 3, "seconds": 12.4, "run": "mine-001", "number": 1, "score": 0.5}
    changes = {"augment.trivial_augment": 0.0602, "loss.label_smoothing": 0.0619, "optimizer.lr": 0.00536}
    row = {**trial, "label": "all of them", "state": "finished", "changes": changes, "values": changes}

    text = shown(result(trials=[row], importance={"optimizer.lr": 0.98, "loss.label_smoothing": 0.02}))

    assert "finished    lr 0.00536, label_smoothing 0.0619, trivial_augment 0.0602\n" in text


def test_it_says_the_answer_with_its_doubt_and_what_to_do_next():
    text = shown(result())

    assert "score      accuracy 0.700 (0.600 to 0.800)\n" in text
    assert "! the best optimizer.lr lies at the low end" in text
    assert "mattered   optimizer.lr 90 %, augment.mixup 10 %" in text
    assert "next: trainwright finalise mine\n" in text


def test_a_score_that_luck_is_part_of_says_so():
    best = result()["best"] | {"optimistic": True}

    assert "score      accuracy 0.700 (0.600 to 0.800), optimistic\n" in shown(result(best=best))


def test_a_search_without_a_single_score_is_shown_too():
    text = shown(result(best=None, metric=None, importance=None))

    assert "next:" not in text
    assert "folder     studies/mine" in text
