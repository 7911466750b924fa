"""Isolation: the best at each value, with the others chosen as well as they were."""

from __future__ import annotations

import math

import pytest

from trainwright.diagnosis.isolation import isolated
from trainwright.search.domains import FloatRange
from trainwright.search.searching import start
from trainwright.search.space import Dimension, Space

LR, DECAY = "optimizer.lr", "optimizer.weight_decay"
PUBLISHED_DECAY = 10**-0.5
SPACE = Space(
    dimensions=(
        Dimension(key=LR, domain=FloatRange(low=1e-4, high=1e-1, log=True)),
        Dimension(key=DECAY, domain=FloatRange(low=1e-4, high=1.0, log=True), role="nuisance"),
    )
)


def planted(lr, decay):
    """Good where lr · decay is 1e-4, and along that ridge the better the higher the learning rate: 0.875 at 0.1 and 0.001."""
    x, y = math.log10(lr), math.log10(decay)
    return 0.8 - 0.1 * (x + y + 4) ** 2 + 0.05 * (x + 2.5)


@pytest.fixture(scope="module")
def trials():
    """[(lr, weight decay, score)] of a Sobol study of 128 trials."""
    search = start("sobol", SPACE, seed=0)
    values = [search.ask().values for _ in range(128)]
    return [(one[LR], one[DECAY], planted(one[LR], one[DECAY])) for one in values]


def best_of(parts):
    return max(parts, key=lambda part: part.best.value)


def test_where_lr_and_weight_decay_act_together_isolation_is_right_and_one_at_a_time_is_wrong(trials):
    at_published = max((10 ** (-4 + step / 20) for step in range(61)), key=lambda lr: planted(lr, PUBLISHED_DECAY))
    truth = max((10 ** (-4 + step / 20) for step in range(61)), key=lambda lr: planted(lr, min(1.0, 1e-4 / lr)))

    parts = isolated([lr for lr, _, _ in trials], [score for _, _, score in trials])

    found = best_of(parts)
    assert truth == pytest.approx(0.1)
    assert at_published < 1e-3  # a hundred times too low
    assert found is parts[-1]
    assert found.value > 0.03
    assert trials[found.index][:2] == (found.value, pytest.approx(1e-4 / found.value, rel=0.7))


def test_the_part_that_one_at_a_time_would_take_lies_below_the_best_beyond_its_interval(trials):
    parts = isolated([lr for lr, _, _ in trials], [score for _, _, score in trials])

    wrong = next(part for part in parts if part.low <= 7e-4 <= part.high)
    assert wrong.best.high < best_of(parts).best.low


def test_the_mean_at_each_value_is_wrong_as_well(trials):
    parts = isolated([lr for lr, _, _ in trials], [score for _, _, score in trials])

    means = [[score for lr, _, score in trials if part.low <= lr <= part.high] for part in parts]
    middle = max(range(len(parts)), key=lambda number: sum(means[number]) / len(means[number]))
    assert 0 < middle < len(parts) - 1


def test_few_values_are_looked_at_one_by_one_in_their_order():
    parts = isolated([3, 1, 2, 1], [0.3, 0.2, 0.6, 0.8])

    assert [(part.low, part.high, part.best.value, part.index, part.trials) for part in parts] == [
        (1, 1, 0.8, 3, 2),
        (2, 2, 0.6, 2, 1),
        (3, 3, 0.3, 0, 1),
    ]


def test_choices_stay_as_they_are_and_true_is_not_one():
    parts = isolated(["sgd", "adamw", "sgd", True, 1], [0.1, 0.5, 0.2, 0.3, 0.4])

    assert [part.value for part in parts] == ["sgd", "adamw", True, 1]


def test_a_range_is_cut_on_its_own_scale():
    rates = [10 ** (-4 + step / 10) for step in range(31)]

    parts = isolated(rates, [0.5] * 31)

    assert len(parts) == 6
    assert [part.trials for part in parts] == pytest.approx([5] * 6, abs=1)


def test_the_best_of_one_or_two_trials_has_no_interval():
    (part,) = isolated([1, 1], [0.2, 0.8])

    assert part.best.value == 0.8
    assert (part.best.low, part.best.high) == (-math.inf, math.inf)


def test_a_best_that_stands_alone_is_less_sure_than_one_among_equals():
    alone, among = isolated([1] * 6 + [2] * 6, [0.1] * 5 + [0.9] + [0.9] * 6)

    assert alone.best.low == 0.1
    assert among.best.low == 0.9


def test_what_seed_alone_does_widens_it_on_both_sides():
    (part,) = isolated([1] * 4, [0.9] * 4, noise=0.01)

    assert (part.best.low, part.best.high) == (pytest.approx(0.9 - 0.0196), pytest.approx(0.9 + 0.0196))


def test_of_nothing_there_is_nothing():
    assert isolated([], []) == []
