"""What `benchmarks/search_replay.py` replays, what it charges for and what it claims; and how the tables are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EPOCHS = 27
HEAD = {"data": "digits", "classes": 10}


@pytest.fixture
def kept(benchmark_module):
    return benchmark_module("replay_table")


@pytest.fixture
def space(benchmark_module):
    return benchmark_module("replay_space")


@pytest.fixture
def curves(benchmark_module):
    return benchmark_module("replay_curves")


@pytest.fixture
def arms(benchmark_module):
    return benchmark_module("search_arms")


@pytest.fixture
def benchmark(benchmark_module):
    return benchmark_module("search_replay")


@pytest.fixture
def table_of(kept, space, tmp_path):
    """A function that makes a table of the first recipes: `ends` are their last scores, curves rise evenly to them."""

    def make(ends, *, seeds=(0,)):
        table = kept.Table.open(tmp_path / "digits.jsonl", head=HEAD)
        for number, end in enumerate(ends):
            for seed in seeds if number == 0 else (0,):
                score = tuple((end + seed / 100) * (epoch + 1) / EPOCHS for epoch in range(EPOCHS))
                values = space.recipes()[number]
                table.append(kept.Training(recipe=number, seed=seed, values=values, score=score))
        return table

    return make


def spread(count):
    """Last scores of so many recipes, all different, the best one at the end."""
    return [0.3 + 0.5 * number / (count - 1) for number in range(count)]


# The tables


def test_a_table_is_read_back_as_it_was_recorded(kept, table_of):
    table = table_of(spread(5), seeds=(0, 1))

    again = kept.Table.read(table.file)

    assert (again.head, again.trainings) == (HEAD, table.trainings)


def test_a_line_that_a_kill_cut_is_recorded_anew_and_the_others_stay(kept, table_of):
    table = table_of(spread(4))
    text = table.file.read_text()
    table.file.write_text(text[: -len(text.splitlines()[-1]) // 2])

    again = kept.Table.open(table.file, head=HEAD)
    again.append(table.trainings[-1])

    assert again.trainings == kept.Table.read(table.file).trainings == table.trainings


def test_a_table_of_other_trainings_is_not_gone_on_with(kept, table_of):
    table = table_of(spread(2))

    with pytest.raises(SystemExit, match="recorded with another classes, data"):
        kept.Table.open(table.file, head={"data": "flowers12", "classes": 12})


def test_the_recipes_are_different_ones_of_the_space_and_the_first_changes_nothing(space):
    every = space.recipes()
    published = space.recipe_of("digits", {})

    assert len({json.dumps(values, sort_keys=True) for values in every}) == 256
    assert [space.SPACE.why_not(values) for values in every] == [None] * 256
    assert space.recipe_of("digits", dict(every[0])) == published


def test_every_recipe_and_eight_more_seeds_of_the_first_are_recorded_once(space):
    every = list(space.jobs())

    assert len(every) == len(set(every)) == 264
    assert [seed for number, seed in every if number == 0] == list(range(9))


@pytest.mark.parametrize("name", ["digits", "cats-dogs", "flowers12"])
def test_the_tables_that_are_shipped_hold_whole_trainings_of_these_recipes(kept, space, name):
    table = kept.Table.read(kept.TABLES / f"{name}.jsonl")

    assert table.head["recipe"] == space.recipe_of(name, {}).model_dump(mode="json")
    assert [one.values for one in table.trainings] == [space.recipes()[one.recipe] for one in table.trainings]
    assert {len(one.score) for one in table.trainings if not one.diverged} == {EPOCHS}
    assert len(table.recorded) == len(table.trainings)


def test_the_tables_are_small_enough_to_ship(kept):
    assert sum(file.stat().st_size for file in kept.TABLES.glob("*.jsonl")) < 2_000_000


# What is replayed


def test_a_recorded_recipe_is_nearest_to_itself_and_taken_once(curves, table_of):
    recorded = curves.Recorded(table_of(spread(8)))
    nearest = curves.Nearest(recorded)

    first, again = (nearest.curve("digits", recorded.values[5]) for _ in range(2))

    assert first == pytest.approx(recorded.curves_NE[5])
    assert not np.array_equal(again, first)


def test_once_all_are_taken_the_nearest_of_all_is_taken_again(curves, table_of):
    recorded = curves.Recorded(table_of(spread(3)))
    nearest = curves.Nearest(recorded)

    taken = [nearest.curve("digits", recorded.values[2])[-1] for _ in range(4)]

    assert sorted(taken[:3]) == pytest.approx(recorded.curves_NE[:, -1])
    assert taken[3] == taken[0]


def test_two_optimizers_are_as_far_apart_as_all_that_one_of_them_alone_has(curves, space):
    adamw, sgd = (space.SPACE.completed({"optimizer.name": name}) for name in ("adamw", "sgd"))
    dropped = {**adamw, "network.dropout": 0.25}
    places_ND = np.array([space.SPACE.to_cube(values) for values in (sgd, dropped, adamw)])

    # The choice, lr and decay of both, and the momentum; half of a range, squared; nothing.
    assert curves.distances(space.SPACE.to_cube(adamw), places_ND) == pytest.approx([6.0, 0.25, 0.0])


def test_the_forest_promises_nothing_that_was_not_measured(curves, space, table_of):
    recorded = curves.Recorded(table_of(spread(16)))
    forest = curves.Forest(recorded)
    random = np.random.default_rng(0)
    places_ND = np.array([space.SPACE.to_cube(space.SPACE.sample(random)) for _ in range(200)])

    found_NE = forest.curves(places_ND)

    assert recorded.curves_NE[:, -1].min() - 1e-9 <= found_NE[:, -1].min()
    assert found_NE[:, -1].max() <= recorded.curves_NE[:, -1].max() + 1e-9
    assert forest.reference.best <= recorded.curves_NE.max() + 1e-9


def test_trees_that_are_walked_at_once_say_what_the_forest_says(curves):
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(0)
    inputs_ND, outputs_NE = random.random((60, 3)), random.random((60, 4))
    forest = RandomForestRegressor(n_estimators=7, random_state=0).fit(inputs_ND, outputs_NE)
    unseen_ND = random.random((40, 3))

    found = curves._Trees([one.tree_ for one in forest.estimators_]).mean(unseen_ND)

    assert found == pytest.approx(forest.predict(unseen_ND))


def test_without_repeated_seeds_a_replayed_training_has_no_noise(curves, table_of):
    recorded = curves.Recorded(table_of(spread(12)))
    trainings = curves.Forest(recorded).trainings(0)

    assert trainings.curve("digits", recorded.values[3]) == pytest.approx(trainings.worth("digits", recorded.values[3]))


def test_the_noise_of_a_recipe_is_the_same_until_the_seed_is_another(curves, table_of):
    recorded = curves.Recorded(table_of(spread(12), seeds=(0, 1, 2)))
    forest, values = curves.Forest(recorded), recorded.values[3]

    first, again = (forest.trainings(0).curve("digits", values) for _ in range(2))
    other = forest.trainings(1).curve("digits", values)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert recorded.noise == pytest.approx(0.01)  # last scores 0.30, 0.31 and 0.32


def test_replayed_noise_is_as_large_as_that_between_recorded_seeds(curves, table_of):
    recorded = curves.Recorded(table_of(spread(12), seeds=(0, 1, 2)))
    forest, values = curves.Forest(recorded), recorded.values[6]

    last = [forest.trainings(seed).curve("digits", values)[-1] for seed in range(400)]

    assert np.std(last) == pytest.approx(recorded.noise, rel=0.15)


def test_a_training_that_diverged_stays_at_chance(curves, kept, space, table_of):
    table = table_of(spread(3))
    table.append(kept.Training(recipe=3, seed=0, values=space.recipes()[3], score=(0.4, 0.5), diverged=True))

    curve = curves.Recorded(table).curves_NE[3]

    assert curve.tolist() == [0.4, 0.5, *[0.1] * 25]


# What it is charged


def test_a_training_that_is_paused_and_gone_on_with_is_paid_for_once(arms, curves, table_of):
    recorded = curves.Recorded(table_of(spread(6)))
    objective = arms.Objective(curves.Nearest(recorded), "digits", budget=100)

    objective.train(recorded.values[2], 3)
    objective.train(recorded.values[4], 1)
    scores = objective.train(recorded.values[2], 9)

    assert len(objective.seen) == 9 + 1
    assert scores == pytest.approx(recorded.curves_NE[2, :9])


def test_the_regret_of_the_best_recipe_is_none(arms, curves, table_of):
    recorded = curves.Recorded(table_of(spread(6)))
    objective = arms.Objective(curves.Nearest(recorded), "digits", budget=100)

    objective.train(recorded.values[5])

    assert curves.recorded_reference(recorded).regret(objective.seen[-1]) == 0.0


class Lucky:
    """Two recipes that are worth 0.5 and 0.6; the first was lucky."""

    def curve(self, task, values):
        return np.array([0.8 if values["lucky"] else 0.7])

    def worth(self, task, values):
        return np.array([0.5 if values["lucky"] else 0.6])


def test_luck_decides_what_is_handed_out_and_is_no_merit(arms):
    objective = arms.Objective(Lucky(), "digits", budget=2, worth=Lucky().worth)

    objective.train({"lucky": False})
    objective.train({"lucky": True})

    assert objective.seen == [0.6, 0.5]


# What it claims


def rows_of(arm, traces):
    """Cells with scores after each epoch, of tasks a, b, …; scores after 1, 2, … trainings with them."""
    return [
        {
            "arm": arm,
            "task": task,
            "seed": 0,
            "trace": trace,
            "seen": [trace[EPOCHS * count - 1] for count in range(1, 21)],
        }
        for task, trace in zip("abc", traces, strict=False)
    ]


def rising(*, until, to=1.0):
    """From 0 in so many epochs of 540."""
    return [min(to, to * (epoch + 1) / until) for epoch in range(20 * EPOCHS)]


def claims_of(benchmark, arms, *rows):
    references = {task: arms.Reference(best=1.0, median=0.0) for task in "abc"}
    return benchmark.claims_of([row for part in rows for row in part], references)


def test_first_everywhere_in_half_of_the_epochs_is_what_is_claimed(benchmark, arms):
    ours = rows_of("freeze-thaw", [rising(until=300)] * 2)
    others = rows_of("tpe", [rising(until=540, to=0.9)] * 2) + rows_of("random", [rising(until=900)] * 2)

    found = claims_of(benchmark, arms, ours, others)

    assert found == {"first": True, "behind": {}, "half": True, "best_other": "tpe", "epochs": [270, 540]}


def test_first_with_more_than_half_of_the_epochs_is_half_a_claim(benchmark, arms):
    ours, other = rows_of("freeze-thaw", [rising(until=310)]), rows_of("tpe", [rising(until=540, to=0.9)])

    found = claims_of(benchmark, arms, ours, other)

    assert (found["first"], found["half"], found["epochs"]) == (True, False, [279, 540])


def test_where_another_is_as_good_it_is_named(benchmark, arms):
    late = [0.0] * (3 * EPOCHS) + [1.0] * (17 * EPOCHS)

    found = claims_of(benchmark, arms, rows_of("freeze-thaw", [late]), rows_of("tpe", [rising(until=540)]))

    assert found["first"] is False
    assert found["behind"] == {2: ["tpe"], 3: ["tpe"], 20: ["tpe"]}


def test_one_arm_alone_claims_nothing(benchmark, arms):
    found = claims_of(benchmark, arms, rows_of("freeze-thaw", [rising(until=10)]))

    assert (found["first"], found["half"]) == (False, False)


@pytest.mark.slow
def test_recording_goes_on_where_it_was_killed(kept, tmp_path):
    script = [
        sys.executable,
        str(ROOT / "benchmarks" / "replay_record.py"),
        "--only",
        "digits",
        "--tables",
        str(tmp_path),
    ]

    subprocess.run([*script, "--recipes", "1"], capture_output=True, text=True, check=True)
    once = kept.Table.read(tmp_path / "digits.jsonl").trainings
    more = subprocess.run([*script, "--recipes", "2"], capture_output=True, text=True, check=True)
    twice = kept.Table.read(tmp_path / "digits.jsonl").trainings

    assert [(one.recipe, one.seed) for one in twice] == [(0, 0), (1, 0)]
    assert (twice[0], "digits 0 seed 0:" in more.stderr) == (once[0], False)
