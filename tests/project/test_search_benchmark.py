"""What `benchmarks/search_lcbench.py` charges for, and how it compares; most of it is in `search_arms.py`."""

from __future__ import annotations

import numpy as np
import pytest

DEEP = {"batch_size": 128, "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "num_layers": 3,
        "max_units": 512, "max_dropout": 0.2}  # fmt: skip
FLAT = {**DEEP, "num_layers": 1}


@pytest.fixture
def lcbench(benchmark_module):
    return benchmark_module("lcbench_surrogate")


@pytest.fixture
def arms(benchmark_module):
    return benchmark_module("search_arms")


@pytest.fixture
def benchmark(benchmark_module):
    return benchmark_module("search_lcbench")


class Curves:
    """Curves by the number of layers, in place of the surrogate."""

    def curve(self, task, values):
        rising = np.arange(1, 53) / 100
        return rising if values["num_layers"] == 3 else 0.4 - rising / 4


def objective_of(arms, *, budget):
    return arms.Objective(Curves(), "1", budget=budget)


def test_an_epoch_is_paid_for_once(arms):
    objective = objective_of(arms, budget=100)

    objective.train(DEEP, 5)
    scores = objective.train(DEEP, 8)

    assert len(objective.seen) == 8
    assert scores == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08])


def test_a_budget_ends_in_the_middle_of_a_training_and_what_was_seen_until_then_counts(arms):
    objective = objective_of(arms, budget=7)
    objective.train(DEEP, 5)

    with pytest.raises(arms.Spent):
        objective.train(DEEP, 10)

    assert objective.seen == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07])


def test_the_best_checkpoint_is_kept_beside_the_last_epoch_of_its_training(arms):
    objective = objective_of(arms, budget=100)

    objective.train(FLAT, 4)
    objective.train(DEEP, 30)

    assert (objective.seen[-1], objective.last[-1]) == pytest.approx((0.4 - 0.01 / 4, 0.4 - 0.52 / 4))


def test_regret_is_none_for_the_best_known_one_and_one_for_the_median(arms):
    reference = arms.Reference(best=0.9, median=0.5)

    assert [reference.regret(score) for score in (0.9, 0.7, 0.5)] == pytest.approx([0.0, 0.5, 1.0])


def rows_of(arm, regrets_by_task):
    """Cells whose regret is the same after every number of trainings."""
    return [
        {"arm": arm, "task": task, "seed": seed, "seen": [1 - regret] * 20}
        for task, regrets in regrets_by_task.items()
        for seed, regret in enumerate(regrets)
    ]


def table_of(arms, *rows):
    tasks = {row["task"] for part in rows for row in part}
    references = {task: arms.Reference(best=1.0, median=0.0) for task in tasks}
    return arms.table([row for part in rows for row in part], references, "seen")


def test_seeds_are_averaged_before_tasks_are_compared(arms):
    ours = rows_of("freeze-thaw", {"1": [0.0, 0.2], "2": [0.3, 0.3]})
    other = rows_of("random", {"1": [0.4, 0.4], "2": [0.2, 0.2]})

    found = table_of(arms, ours, other)

    assert found["freeze-thaw"]["regret"][20] == pytest.approx(0.2)
    assert found["random"]["against"][20] | {"p": None} == {"p": None, "better": 1, "worse": 1}


def test_first_on_every_one_of_twelve_tasks_reaches_the_goal_and_on_half_of_them_does_not(benchmark, arms):
    ours = rows_of("freeze-thaw", {str(task): [0.05] for task in range(12)})
    worse = rows_of("random", {str(task): [0.1 + task / 100] for task in range(12)})
    mixed = rows_of("random", {str(task): [0.0 if task % 2 else 0.15 + task / 100] for task in range(12)})

    assert benchmark.reached(table_of(arms, ours, worse))
    assert not benchmark.reached(table_of(arms, ours, mixed))
    assert not benchmark.reached(table_of(arms, ours))


def test_a_regret_above_the_goal_does_not_reach_it_though_it_is_first(benchmark, arms):
    ours = rows_of("freeze-thaw", {str(task): [0.12] for task in range(12)})
    worse = rows_of("random", {str(task): [0.2 + task / 100] for task in range(12)})

    assert not benchmark.reached(table_of(arms, ours, worse))


def test_the_published_values_lie_in_the_box(lcbench):
    assert [lcbench.SPACE.why_not(values) for values in lcbench.DEFAULTS] == [None, None]
