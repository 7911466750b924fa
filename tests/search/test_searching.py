"""`Search`: which outcomes a searcher is shown at which number, and what is answered to a user who errs."""

import math

import pytest

from trainwright.errors import UnknownNameError, UsageError
from trainwright.search.domains import Choice, FloatRange
from trainwright.search.history import Move, Told
from trainwright.search.searching import Search, start
from trainwright.search.space import Dimension, Space

SPACE = Space(dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=100)),))


class Watching:
    """A searcher that asks for as many as it was shown outcomes; it waits until it was shown `least`."""

    learns = True

    def __init__(self, least=0):
        self.least = least

    def propose(self, history):
        return Move(values={"a": float(len(history.tolds))}) if len(history.tolds) >= self.least else None


def finished(number, score=0.0):
    return Told(number=number, state="finished", score=score)


def test_an_ask_is_shown_the_outcomes_up_to_the_lag_and_no_other():
    search = Search(Watching(), space=SPACE, lag=2)

    values = []
    for _ in range(6):
        ask = search.ask()
        values.append(ask.values["a"])
        search.tell(finished(ask.number))

    assert values == [0, 0, 1, 2, 3, 4]


def test_as_many_workers_as_the_lag_are_kept_busy_and_no_more():
    search = Search(Watching(), space=SPACE, lag=3)

    asked = [search.ask() for _ in range(4)]

    assert [ask and ask.number for ask in asked] == [0, 1, 2, None]


def test_an_outcome_that_comes_early_waits_for_its_turn():
    search = Search(Watching(), space=SPACE, lag=2)
    search.ask()
    search.ask()

    search.tell(finished(1))
    too_early = search.ask()
    search.tell(finished(0))
    asked = search.ask()

    assert (too_early, asked.values) == (None, {"a": 1.0})


def test_a_searcher_that_waits_is_shown_one_outcome_more_after_the_other():
    search = Search(Watching(least=1), space=SPACE, first=[{"a": 9.0}, {"a": 8.0}, {"a": 7.0}], lag=3)
    for _ in range(3):
        search.ask()
    before = search.ask()

    for number in (2, 1, 0):
        search.tell(finished(number))

    assert (before, search.ask().values) == (None, {"a": 1.0})


def test_what_does_not_learn_waits_for_nothing():
    search = start("random", SPACE, lag=1)

    assert [search.ask().number for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_list_ends_once_all_of_it_is_told():
    search = start("list", Space(dimensions=()), first=[{"a": 1}, {"b": 2}])

    asks = [search.ask() for _ in range(3)]
    before = search.done
    for number in (0, 1):
        search.tell(finished(number))

    assert ([ask and ask.values for ask in asks], before, search.done) == ([{"a": 1}, {"b": 2}, None], False, True)


def test_the_best_is_the_highest_score_whatever_the_order_and_divergence_has_none():
    search = start("random", SPACE)
    for _ in range(4):
        search.ask()
    search.tell(finished(2, score=0.7))
    search.tell(Told(number=3, state="diverged", score=0.9))
    search.tell(finished(0, score=0.7))
    search.tell(finished(1, score=math.nan))

    trial, score = search.best()

    assert (trial.number, score) == (0, 0.7)


def test_an_outcome_that_was_not_asked_for_or_comes_twice_is_refused():
    search = start("random", SPACE)
    search.ask()
    search.tell(finished(0))

    with pytest.raises(UsageError, match=r"^search: outcome 0 is told twice\.$"):
        search.tell(finished(0))
    with pytest.raises(UsageError, match=r"^search: outcome 1 was not asked for\.$"):
        search.tell(finished(1))


def test_an_unknown_strategy_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        start("hyperbend", SPACE)

    assert str(caught.value).startswith(
        "strategy: no such strategy 'hyperbend'. Did you mean 'hyperband'? Known strategies: asha,"
    )


def test_an_option_that_a_strategy_does_not_have_is_answered_with_those_it_has():
    with pytest.raises(UsageError) as caught:
        start("asha", SPACE, epochs=27, options={"reducton": 4})

    assert (
        str(caught.value)
        == "strategy: reducton: no option of asha. Did you mean 'reduction'? Its options: reduction, prior."
    )


def test_halving_without_epochs_says_what_to_do():
    with pytest.raises(UsageError) as caught:
        start("asha", SPACE)

    assert str(caught.value) == (
        "strategy: asha compares trainings after few epochs, and was not told how many a whole one has. "
        "Give epochs, or take a strategy that trains each to the end: random, sobol, tpe, gp."
    )


def test_halving_of_too_few_epochs_says_what_to_do():
    with pytest.raises(UsageError) as caught:
        start("hyperband", SPACE, epochs=5, least_epochs=3)

    assert str(caught.value) == (
        "strategy: hyperband needs at least 3 times the fewest epochs: 5 of at least 3 leave nothing to stop early. "
        "Take more epochs, a lower least_epochs, or a strategy that trains each to the end."
    )


def test_a_grid_that_nobody_trains_is_refused():
    wide = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "abcdefgh"))

    with pytest.raises(UsageError) as caught:
        start("grid", wide)

    assert str(caught.value) == (
        "strategy: a grid of 5 points has more than 10,000 combinations. Take fewer points or dimensions, or sobol."
    )


def test_a_grid_of_twelve_is_twelve_trainings_in_order():
    wide = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "ab"))
    search = start(
        "grid",
        Space(dimensions=(wide.dimensions[0], Dimension(key="b", domain=FloatRange(low=0, high=1), points=3))),
        options={"points": 4},
    )

    values = []
    while (ask := search.ask()) is not None:
        values.append((ask.values["a"], ask.values["b"]))

    assert len(values) == 12
    assert values == sorted(values)


@pytest.mark.parametrize(("published", "trainings"), [(0.001, 3), (0.0, 4), (None, 3)])
def test_a_grid_leaves_out_the_combination_that_was_given_and_no_other(published, trainings):
    default = {} if published is None else {"decay": published}
    decays = Dimension(key="decay", domain=Choice(values=(0.001, 0.01, 0.1)))
    search = start("grid", Space(dimensions=(decays,), default=default), first=[{}])

    asked = 0
    while search.ask() is not None:
        asked += 1

    assert asked == trainings


def test_the_points_of_sobol_lie_more_evenly_than_by_chance():
    square = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "ab"))
    search = start("sobol", square)

    asked = [search.ask().values for _ in range(16)]

    assert sorted(int(values["a"] * 16) for values in asked) == list(range(16))
    assert sorted(int(values["b"] * 16) for values in asked) == list(range(16))


def test_half_of_the_draws_may_lie_as_the_prior_says():
    from trainwright.search.domains import Prior

    narrow = Space(
        dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=1, prior=Prior(centre=0.5, width=0.01))),)
    )
    search = start("random", narrow, options={"prior": 0.5})

    near = sum(abs(search.ask().values["a"] - 0.5) < 0.05 for _ in range(200))

    assert 90 <= near <= 140  # half of them, and a tenth of the others
