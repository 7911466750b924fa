"""What a search says of its own space."""

from __future__ import annotations

import numpy as np
import pytest

from trainwright.recipe import Recipe
from trainwright.search.audit import edges_of, importance_of, isolation_of, regions_of, widened
from trainwright.search.space_file import parse_space, space_tree

RECIPE = Recipe()
SPACE = parse_space(
    {
        "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "augment.mixup": {"low": 0.0, "high": 0.4},
        "optimizer.name": {"choices": ["adamw", "sgd"]},
    },
    RECIPE,
)


def values(lr: float, mixup: float = 0.2, name: str = "adamw") -> dict[str, object]:
    return {"optimizer.lr": lr, "augment.mixup": mixup, "optimizer.name": name}


def test_a_best_in_the_middle_is_at_no_end():
    assert edges_of(SPACE, values(1e-3)) == []


def test_of_few_trials_the_outermost_lies_further_from_the_end_that_it_lies_at():
    eight_percent_below = values(10 ** (-2 - 0.08 * 2))

    assert edges_of(SPACE, eight_percent_below) == []
    assert edges_of(SPACE, eight_percent_below, tried=40) == []
    assert [edge.end for edge in edges_of(SPACE, eight_percent_below, tried=12)] == ["high"]


def test_a_best_at_the_end_of_a_log_scale_asks_for_half_as_many_decades_beyond_it():
    (edge,) = edges_of(SPACE, values(9.9e-3))

    assert (edge.key, edge.end) == ("optimizer.lr", "high")
    assert edge.wider == (1e-4, pytest.approx(0.1))


def test_an_end_that_no_recipe_goes_beyond_is_no_boundary():
    assert edges_of(SPACE, values(1e-3, mixup=0.0)) == []


def test_the_space_of_a_follow_up_is_as_wide_as_proposed_and_can_be_read():
    edges = edges_of(SPACE, values(1.05e-4))

    tree = widened(space_tree(SPACE), edges)

    assert tree["optimizer.lr"]["low"] == pytest.approx(1e-5)
    assert parse_space(tree, RECIPE).dimensions[1] == SPACE.dimensions[1]


def test_a_range_of_the_same_ends_under_another_condition_stays_as_it_is():
    rates = [
        {"low": 1e-4, "high": 1e-2, "log": True, "when": {"optimizer.name": ["adamw"]}},
        {"low": 1e-4, "high": 1e-2, "log": True, "when": {"optimizer.name": ["sgd"]}},
    ]
    space = parse_space({"optimizer.name": {"choices": ["adamw", "sgd"]}, "optimizer.lr": rates}, RECIPE)

    tree = widened(space_tree(space), edges_of(space, {"optimizer.name": "sgd", "optimizer.lr": 9.9e-3}))

    assert tree["optimizer.lr"] == [rates[0], {**rates[1], "high": pytest.approx(0.1)}]


def test_regions_tell_where_trainings_diverged():
    tried = [(values(5e-3, name="sgd"), True), (values(6e-3), True), (values(8e-3), False), (values(2e-4), False)]

    found = {region.where: (region.diverged, region.trials) for region in regions_of(SPACE, tried)}

    assert found["optimizer.lr from 0.00215 to 0.01"] == (2, 3)
    assert found["optimizer.name sgd"] == (1, 1)
    assert not any(where.startswith("optimizer.lr from 0.0001") for where in found)


def test_where_nothing_diverged_there_is_nothing_to_tell():
    assert regions_of(SPACE, [(values(1e-3), False)]) == []


def scored(score, count=40):
    random = np.random.default_rng(0)
    drawn = [SPACE.sample(random) for _ in range(count)]
    return [(one, score(one)) for one in drawn]


def test_what_alone_decides_the_score_is_what_matters():
    found = importance_of(SPACE, scored(lambda one: -abs(np.log10(one["optimizer.lr"] / 1e-3))))

    assert found["optimizer.lr"] > 0.9
    assert sum(found.values()) == pytest.approx(1)


def test_isolation_looks_at_what_is_the_question_and_completes_what_was_not_said():
    tree = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    tree["augment.mixup"] = {"low": 0.0, "high": 0.4, "role": "nuisance"}
    space = parse_space(tree, RECIPE.changed({"optimizer.lr": 1e-3}))

    found = isolation_of(space, [({}, 0.5), ({"optimizer.lr": 1e-4, "augment.mixup": 0.1}, 0.4)])

    assert list(found) == ["optimizer.lr"]
    assert [(part.value, part.best.value) for part in found["optimizer.lr"]] == [(1e-4, 0.4), (1e-3, 0.5)]


def test_of_few_trials_and_of_noise_nothing_is_claimed():
    noise = iter(np.random.default_rng(1).normal(size=40))

    assert importance_of(SPACE, scored(lambda one: one["optimizer.lr"], count=9)) is None
    assert importance_of(SPACE, scored(lambda one: next(noise))) is None
    assert importance_of(SPACE, scored(lambda one: 0.5)) is None
