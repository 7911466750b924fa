"""What `benchmarks/improve.py` lets its rivals search, how their time is divided, and how it judges."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.diagnosis.remedies import REMEDIES
from trainwright.diagnosis.remedies.case import USUAL, Case, Circumstances
from trainwright.recipe import recipe_keys
from trainwright.recipes import get
from trainwright.records import EpochRecord, Means
from trainwright.workflows.early import check_names

ROOT = Path(__file__).parents[2]


class Draws:
    """Independent draws, with the two methods of Optuna's trial that the space asks, and a list of what it asked for."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.asked = []

    def suggest_categorical(self, name, choices):
        self.asked.append(name)
        return choices[self.random.integers(len(choices))]

    def suggest_float(self, name, low, high, *, log=False):
        self.asked.append(name)
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))) if log else self.random.uniform(low, high))


@pytest.fixture
def improve(benchmark_module):
    return benchmark_module("improve")


@pytest.fixture
def space(benchmark_module):
    return benchmark_module("improve_space")


@pytest.fixture
def budget(benchmark_module):
    return benchmark_module("improve_budget")


def changed_keys(base, other):
    before, after = base.model_dump(mode="json"), other.model_dump(mode="json")

    def value(tree, key):
        for part in key.split("."):
            tree = tree[part]
        return tree

    leaves = [key for key, section in recipe_keys().items() if section is None]
    return {key for key in leaves if value(before, key) != value(after, key)}


def test_every_recipe_of_the_space_is_valid_and_keeps_length_batch_and_seed(space):
    base = get("story").changed({"seed": 3})

    recipes = [space.drawn(Draws(seed), base) for seed in range(40)]

    for recipe in recipes:
        check_names(recipe)
    assert {(recipe.epochs, recipe.batch_size, recipe.seed) for recipe in recipes} == {(15, 50, 3)}


def test_the_space_has_every_field_that_our_prescriptions_change_on_that_job(space):
    story = get("story")
    searched = set().union(*(changed_keys(story, space.drawn(Draws(seed), story)) for seed in range(60)))
    facts = Circumstances(
        task="classification", train_count=4440, score=0.7, image_size=(32, 32), classes=("cat", "dog")
    )
    case = Case(recipe=story, facts=facts)
    remedies = [remedy for remedy in REMEDIES if remedy.answers.keys() & {"overfits", USUAL}]

    prescribed = set().union(*((remedy.changes(case) or {}).keys() for remedy in remedies))

    given = {"epochs", "batch_size", "early_stop"}  # by the budget, by `story`, and by pruning
    reset = {
        "augment.mix",
        "schedule.final",
        "schedule.low",
        "schedule.cycles",
        "schedule.momentum",
    }  # as `story` has them
    assert prescribed - given - reset <= searched
    assert {"augment.flip", "optimizer.name", "network.width", "ema_decay"} <= prescribed


def test_an_optimizer_is_asked_for_a_rate_of_its_own(space):
    draws = Draws(0)
    for _ in range(50):
        space.drawn(draws, get("story"))

    asked = set(draws.asked)
    assert {"optimizer.lr of adam", "optimizer.lr of adamw", "optimizer.lr of sgd"} <= asked
    assert "optimizer.lr" not in asked


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(200, 15), (83, 8), (13, 1), (1, 1)],  # all of them; 80 s of 10 s each; one; no time at all
)
def test_a_trial_is_as_long_as_the_recipe_or_as_its_time_allows(budget, seconds, expected):
    assert budget.trial_epochs(15, epoch_seconds=10, run_seconds=3, seconds=seconds) == expected


def test_the_last_training_fills_the_time_that_is_left_and_no_more(budget):
    epochs = budget.final_epochs(epoch_seconds=10, run_seconds=5, seconds=210)

    assert epochs == 19
    assert budget.final_epochs(epoch_seconds=10, run_seconds=5, seconds=10) == 0


def test_no_network_of_the_space_is_too_large_for_a_trial(space, budget):
    paces, story = budget.Paces(), get("story")
    paces.learn(story, 1.0)

    costs = [paces.of(space.drawn(Draws(seed), story)) for seed in range(40)]

    assert 0.2 < min(costs) < 1 < max(costs) < 2.5


def test_trials_leave_the_last_training_its_share(budget, monkeypatch):
    wall = budget.Wall(600, started=0.0)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: 100.0)

    assert (wall.spent, wall.left) == (100, 500)
    assert wall.for_trials == pytest.approx(600 * 0.65 - 100)


def test_the_pace_of_a_network_is_that_of_the_nearest_one_in_proportion_to_its_work(budget):
    paces, story = budget.Paces(), get("story")
    paces.learn(story, 10.0)
    paces.learn(story.changed({"network.width": 16}), 4.0)

    assert paces.of(story) == 10.0
    assert paces.of(story.changed({"network.width": 48})) == pytest.approx(22.5, rel=0.02)
    assert paces.of(story.changed({"network.width": 16, "network.blocks": 2})) == pytest.approx(8.0, rel=0.05)


def made(improve, right_N, **changes):
    values = {"seconds": 590.0, "val": 0.8, "trials": 7, "notes": {}}
    paths_N = np.array([f"test/{k:04d}.jpg" for k in range(len(right_N))])
    return improve.Made(right_N=right_N, paths_N=paths_N, **(values | changes))


def runs_with(improve, folder, **accuracies):
    """Runs of 2,000 images, seeds 0 to 2, in which a method is right as often as said."""
    for number, (method, accuracy) in enumerate(accuracies.items()):
        for seed in range(3):
            right_N = np.random.default_rng([number, seed]).permutation(2000) < 2000 * accuracy
            which = {"method": method, "seed": seed, "budget": 600.0, "threads": 2}
            improve.keep(folder, made(improve, right_N), which)
    return {(method, seed): improve.kept(folder, method, seed) for method in accuracies for seed in range(3)}


@pytest.fixture
def no_versions(improve, monkeypatch):
    monkeypatch.setattr(improve, "PACKAGES", {})


def test_a_run_is_read_back_as_it_was_kept_whatever_the_order_of_its_images(improve, tmp_path):
    right_N, paths_N = np.array([True, True, False]), np.array(["test/c", "test/a", "test/b"])
    shuffled = improve.Made(seconds=1.0, right_N=right_N, paths_N=paths_N, val=None, trials=0, notes={})

    improve.keep(tmp_path, shuffled, {"method": "ours", "seed": 0, "budget": 1.0, "threads": 1})

    found = improve.kept(tmp_path, "ours", 0)
    assert found.right_N.tolist() == [1, 0, 1]
    assert found.told["test"]["score"] == pytest.approx(2 / 3)
    assert found.told["test"]["low"] < 2 / 3 < found.told["test"]["high"]
    assert improve.kept(tmp_path, "ours", 1) is None


@pytest.mark.parametrize(
    ("rival", "word", "expected"), [(0.75, "ahead", True), (0.855, "level", True), (0.95, "behind", False)]
)
def test_the_goal_is_to_be_better_on_the_mean_of_the_seeds(improve, no_versions, tmp_path, rival, word, expected):
    runs = runs_with(improve, tmp_path, ours=0.86, tpe=rival)

    gains = improve.gains_of(runs, ["tpe"], (0, 1, 2))

    assert gains["tpe"]["word"] == word
    assert gains["tpe"]["gain"]["value"] == pytest.approx(0.86 - rival)
    assert improve.reached(runs, gains) is expected


def test_a_run_that_is_missing_is_no_success(improve, no_versions, tmp_path):
    runs = runs_with(improve, tmp_path, ours=0.86, tpe=0.7)
    del runs["tpe", 2]

    gains = improve.gains_of(runs, ["tpe", "fastai"], (0, 1, 2))

    assert gains["tpe"]["word"] == "ahead"
    assert gains["fastai"]["word"] == "not measured"
    assert improve.reached(runs, {"tpe": gains["tpe"]}) is False
    assert improve.reached(runs, {"fastai": gains["fastai"]}) is False


@pytest.mark.parametrize(("method", "expected"), [("ours", False), ("tpe", True)])
def test_more_than_a_tenth_over_its_time_is_marked_and_of_ours_a_miss(improve, no_versions, tmp_path, method, expected):
    runs = runs_with(improve, tmp_path, ours=0.86, tpe=0.7)
    slow = {**runs[method, 1].told, "seconds": 661.0}
    runs |= {(method, 1): improve.Kept(told=slow, right_N=runs[method, 1].right_N)}

    gains = improve.gains_of(runs, ["tpe"], (0, 1, 2))

    assert improve.table(runs, gains, (0, 1, 2)).count("661 s!") == 1
    assert improve.reached(runs, gains) is expected


def test_the_table_has_accuracies_and_gains_by_seed(improve, no_versions, tmp_path):
    runs = runs_with(improve, tmp_path, ours=0.86, tpe=0.7)
    del runs["tpe", 1]

    lines = improve.table(runs, improve.gains_of(runs, ["tpe", "fastai"], (0, 1, 2)), (0, 1, 2)).splitlines()

    assert lines[2].split() == ["ours", *["0.8600", "590", "s,", "7", "runs"] * 3, "0.8600"]
    assert lines[3].split()[6] == "–"
    assert lines[6].endswith("ahead, not all seeds")
    assert lines[7].split() == ["fastai", "–", "–", "–", "–", "not", "measured"]


def test_a_missing_tool_is_named_with_the_extra_that_has_it(improve, monkeypatch):
    monkeypatch.setattr(improve.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SystemExit, match=r"fastai and optuna .* not installed.* pip install \"\.\[rivals\]\""):
        improve._refuse_without_packages({"ours", "tpe", "fastai"})

    improve._refuse_without_packages({"ours"})


class Trial:
    """A trial that is hopeless once it has been told two scores."""

    def __init__(self):
        self.told = []

    def report(self, score, step):
        self.told.append((score, step))

    def should_prune(self):
        return len(self.told) >= 2


def epoch_with(number, score):
    means = Means(loss=1.0, score=score)
    return EpochRecord(
        epoch=number, step=number, train_running=means, train=means, val=means, lr=0.1, seconds=1.0, images_per_second=1.0,
        step_seconds=1.0, memory_bytes=1,
    )  # fmt: skip


def test_a_trial_is_told_its_score_at_tenths_and_stopped_when_it_says_so(benchmark_module):
    trial = Trial()
    watch = benchmark_module("improve_search").Watch(trial, out_of_time=lambda: False)

    stops = []
    for number in range(3):  # of 15 epochs: a fifteenth, two and three of them
        watch.epoch(epoch_with(number, number / 100), 15)
        stops.append(watch.stop())

    assert trial.told == [(0.01, 1), (0.02, 2)]
    assert stops == [False, False, True]


def test_a_trial_is_not_stopped_at_its_very_end(benchmark_module):
    trial = Trial()
    watch = benchmark_module("improve_search").Watch(trial, out_of_time=lambda: False)

    for number in range(2):
        watch.epoch(epoch_with(number, 0.5), 2)

    assert trial.told == [(0.5, 5)]
    assert watch.stop() is False


def test_a_trial_is_stopped_when_the_last_training_would_lose_its_time(benchmark_module):
    assert benchmark_module("improve_search").Watch(Trial(), out_of_time=lambda: True).stop() is True


@pytest.fixture
def few_images(tmp_path):
    """Bright and dark squares, called cats and dogs: 120 to learn from and 20 unseen ones of each class."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 120), ("test", 20)):
        for name, middle in (("cat", 90), ("dog", 160)):
            folder = tmp_path / "data" / "cats-dogs" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels_HWC = np.clip(draws.normal(middle, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels_HWC).save(folder / f"{number}.png")
    return tmp_path / "data"


@pytest.mark.slow
def test_a_search_runs_to_its_test_score_and_is_not_run_again(few_images, tmp_path):
    pytest.importorskip("optuna")
    results = tmp_path / "results"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "improve.py"),
        "--data",
        str(few_images),
        "--results",
        str(results),
    ]
    command += ["--only", "tpe", "--seeds", "0", "--budget", "30", "--threads", "1"]

    first = subprocess.run(command, capture_output=True, text=True, check=True)
    again = subprocess.run([*command, "--kept"], capture_output=True, text=True, check=False)

    run = json.loads(first.stdout)["runs"][0]
    assert (run["method"], run["seed"], run["threads"], run["test"]["images"]) == ("tpe", 0, 1, 40)
    assert run["seconds"] < 2 * 30  # and no more than a tenth over it where nothing else runs
    assert run["trials"] >= 1
    assert json.loads(again.stdout)["runs"] == [run]
    assert again.returncode == 4  # nothing to compare it with
