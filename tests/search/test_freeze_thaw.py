"""`freeze-thaw`: which epochs it compares, what its model says of paused curves, and what it does with that."""

import math

import numpy as np
import pytest

from trainwright.search.constraints import Constraints
from trainwright.search.curve_data import Curves, Target, levels, lowest_comparable
from trainwright.search.curve_process import CurveProcess, Points, _Shared, tuned, usual
from trainwright.search.domains import Choice, FloatRange, IntRange, Prior
from trainwright.search.features import Features
from trainwright.search.freeze_thaw import FreezeThaw
from trainwright.search.history import Ask, History, Told
from trainwright.search.searching import Setting, start
from trainwright.search.space import Dimension, Space

EPOCHS = 27
BOWL = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "abc"))
LINE = Space(dimensions=(Dimension(key="x", domain=FloatRange(low=0, high=1)),))
CONDITIONAL = Space(
    dimensions=(
        Dimension(key="optimizer", domain=Choice(values=("adam", "sgd", "lion"))),
        Dimension(key="momentum", domain=FloatRange(low=0, high=1), when={"optimizer": ["sgd", "lion"]}),
        Dimension(key="blocks", domain=IntRange(low=1, high=8)),
        Dimension(key="width", domain=FloatRange(low=1, high=2), when={"blocks": 3}),
    )
)


def told_of(*, scores, values, state="finished", seconds=1.0, asked=None):
    """A history of one piece a trial. scores: of every epoch, by trial."""
    history = History()
    for number, (curve, one) in enumerate(zip(scores, values, strict=True)):
        history.add_ask(Ask(number=number, trial=number, values=one, epochs=asked or len(curve)))
        score = max(curve, default=math.nan)
        history.add_told(Told(number=number, state=state, score=score, scores=tuple(curve), seconds=seconds))
    return history


def points(places, curves, times):
    return Points(places_NF=np.array(places, float), curves_N=np.array(curves), times_N=np.array(times, float))


def rising(best, *, epochs):
    """Accuracies that come near to `best`."""
    return [best - 0.3 / epoch for epoch in range(1, epochs + 1)]


# Curves


def test_curves_are_looked_at_on_epochs_that_grow_and_reach_the_end():
    assert levels(2, 52) == (2, 3, 5, 7, 10, 15, 23, 35, 52)  # eight equal factors
    assert levels(1, 1) == (1,)
    assert levels(3, 4) == (3, 4)


def test_scores_without_a_curve_are_known_at_the_ends_of_their_pieces_alone():
    history = History()
    history.add_ask(Ask(number=0, trial=0, values={"x": 0.5}, epochs=3))
    history.add_told(Told(number=0, state="finished", score=0.6))
    history.add_ask(Ask(number=1, trial=0, values={"x": 0.5}, epochs=9))
    history.add_told(Told(number=1, state="finished", score=0.7))
    curves = Curves(end=27)

    curves.add(history, history.tolds)

    assert curves.scores == {0: {3: 0.6, 9: 0.7}}


def test_an_epoch_that_orders_trainings_by_chance_is_not_compared():
    random = np.random.default_rng(0)
    merits = random.random(30)
    scores = [{1: float(random.random()), 3: merit, 9: merit} for merit in merits]

    assert lowest_comparable(scores, (1, 3, 9)) == 3


def test_an_epoch_is_compared_as_long_as_too_few_trainings_speak_against_it():
    backwards = [{1: -merit, 3: merit} for merit in range(5)]

    assert lowest_comparable(backwards, (1, 3)) == 1
    assert lowest_comparable([*backwards, {1: -5, 3: 5}], (1, 3)) == 3


@pytest.mark.parametrize("scores", [[0.1, 0.5, 0.9, 0.99], [-4.0, -1.0, -0.1, -0.01], [3.0, 5.0, 9.0, 50.0]])
def test_a_target_keeps_the_order_of_scores_and_is_zero_for_the_best(scores):
    target = Target(seen=np.array(scores)).of(np.array(scores))

    assert np.all(np.diff(target) > 0)
    assert target[-1] == 0


def test_halving_a_small_error_counts_like_halving_a_large_one():
    low, half, quarter = Target(seen=np.array([0.2, 0.6, 0.8])).of(np.array([0.2, 0.6, 0.8]))

    assert quarter - half == pytest.approx(half - low, rel=0.02)


# Features


def test_features_see_the_places_that_the_space_makes_of_them():
    features, places_ND = Features(CONDITIONAL), np.random.default_rng(0).random((200, 4))

    found_NF = features.of_places(places_ND)

    expected_NF = np.array([features.of(CONDITIONAL.from_cube(place_D)) for place_D in places_ND])
    away_from_edges = (
        np.abs(places_ND[:, [0, 2]] * [3, 8] % 1 - 0.5).max(axis=1) < 0.49
    )  # of a choice's or a number's piece
    float_columns = np.array([3, 5])
    np.testing.assert_allclose(found_NF[away_from_edges], expected_NF[away_from_edges], atol=1e-5)
    assert features.groups_F.tolist() == [0, 0, 0, 1, 2, 3]
    assert np.any(found_NF[:, float_columns] != 0.5, axis=0).all()


def test_any_two_choices_are_as_far_apart_as_the_ends_of_a_range():
    features = Features(CONDITIONAL)
    adam, sgd, lion = (
        features.of({"optimizer": name, "momentum": 0.5, "blocks": 1}) for name in ("adam", "sgd", "lion")
    )

    assert [np.linalg.norm(adam - sgd), np.linalg.norm(sgd - lion)] == pytest.approx([1.0, 1.0])


# The process


def test_the_process_passes_through_what_it_was_told():
    told = points([[0.1], [0.5], [0.9]], [0, 1, 2], [0.5, 0.5, 0.5])
    targets = np.array([-2.0, 0.0, -1.0])

    mean, deviation = CurveProcess(told, targets, usual(np.array([0]))).predict(told)

    assert mean == pytest.approx(targets, abs=0.02)
    assert deviation.max() < 0.06


def test_of_two_paused_curves_the_better_one_is_predicted_to_end_better():
    told = points([[0.2], [0.2], [0.8], [0.8]], [0, 0, 1, 1], [0.2, 0.4, 0.2, 0.4])
    process = CurveProcess(told, np.array([-2.0, -1.5, -1.0, -0.5]), usual(np.array([0])))

    mean, deviation = process.predict(points([[0.2], [0.8]], [0, 1], [1.0, 1.0]))

    assert mean[0] < mean[1]
    assert deviation.min() > 0.1  # an end that is far away is not known


def test_a_curve_of_its_own_tells_more_of_its_end_than_the_same_recipe_by_another_seed():
    told = points([[0.5]], [0], [0.5])
    process = CurveProcess(told, np.array([0.0]), usual(np.array([0])))

    _, deviation = process.predict(points([[0.5], [0.5]], [0, 7], [1.0, 1.0]))

    assert deviation[0] < deviation[1]


def test_slopes_of_the_evidence_are_those_of_its_differences():
    random = np.random.default_rng(0)
    shared = _Shared(points(random.random((20, 4)), random.integers(0, 6, 20), random.random(20)))
    targets, groups, logs = random.normal(size=20), np.array([0, 1, 2, 2]), 0.3 * random.normal(size=8)

    def value(logs):
        return shared.evidence(targets, logs, groups)[0]

    _, slopes = shared.evidence(targets, logs, groups)

    differences = [(value(logs + step) - value(logs - step)) / 2e-5 for step in 1e-5 * np.eye(8)]
    assert slopes == pytest.approx(differences, rel=1e-4, abs=1e-6)


def test_tuned_scales_tell_a_dimension_that_matters_from_one_that_does_not():
    random = np.random.default_rng(0)
    places = random.random((60, 2))
    told = points(places, range(60), np.full(60, 0.5))

    scales = tuned(told, np.sin(9 * places[:, 0]), np.array([0, 1]))

    assert scales.lengths_F[0] < scales.lengths_F[1] / 3


# Constraints


def constraints_of(history):
    places = {number: np.array([trial.values["x"]]) for number, trial in history.trials.items()}
    return Constraints(history.trials.values(), places, end=EPOCHS)


def test_recipes_near_one_that_diverged_are_taken_to_diverge():
    history = told_of(scores=[rising(0.7, epochs=3)] * 2, values=[{"x": 0.1}, {"x": 0.4}])
    history.add_ask(Ask(number=2, trial=2, values={"x": 0.95}, epochs=3))
    history.add_told(Told(number=2, state="diverged"))

    near_good, near_bad = np.exp(constraints_of(history).log_feasible(np.array([[0.1], [0.93]])))

    assert near_good > 0.99
    assert near_bad < 0.05


def test_as_long_as_none_diverged_all_recipes_can_be_trained():
    history = told_of(scores=[rising(0.7, epochs=3)], values=[{"x": 0.1}])

    assert constraints_of(history).log_feasible(np.array([[0.1], [0.9]])).tolist() == [0, 0]


def test_recipes_near_a_slow_one_are_taken_to_be_slow():
    history = History()
    for number, (place, seconds) in enumerate([(0.1, 3.0), (0.9, 30.0)]):
        history.add_ask(Ask(number=number, trial=number, values={"x": place}, epochs=3))
        history.add_told(Told(number=number, state="finished", score=0.5, seconds=seconds))

    quick, slow = constraints_of(history).log_pace(np.array([[0.1], [0.9]]))

    assert slow - quick == pytest.approx(math.log(10), rel=0.05)


def test_where_all_take_the_same_time_cost_is_no_matter():
    history = told_of(scores=[rising(0.7, epochs=3)] * 2, values=[{"x": 0.1}, {"x": 0.9}])

    assert constraints_of(history).log_pace(np.array([[0.1], [0.9]])).tolist() == [0, 0]


# The strategy


def followed(space, curve, *, asks, seed=0, epochs=EPOCHS, **options):
    search = start("freeze-thaw", space, seed=seed, epochs=epochs, options=options)
    while len(search.history.asks) < asks and (ask := search.ask()) is not None:
        search.tell(curve(ask))
    return search


def test_new_recipes_are_paused_early_and_only_the_good_ones_trained_to_the_end():
    def curve(ask):
        scores = rising(0.9 - abs(ask.values["x"] - 0.3), epochs=ask.epochs)
        return Told(number=ask.number, state="finished", score=scores[-1], scores=tuple(scores))

    search = followed(LINE, curve, asks=60)

    whole = [trial.values["x"] for trial in search.history.trials.values() if trial.epochs == EPOCHS]
    assert 1 <= len(whole) < len(search.history.trials) / 2
    assert all(abs(place - 0.3) < 0.1 for place in whole)


def test_where_trainings_diverge_few_more_are_begun():
    def curve(ask):
        if ask.values["x"] > 0.5:
            return Told(number=ask.number, state="diverged", seconds=1.0)
        scores = rising(0.5 + ask.values["x"] / 2, epochs=ask.epochs)  # the better the nearer to where they diverge
        return Told(number=ask.number, state="finished", score=scores[-1], scores=tuple(scores), seconds=1.0)

    search = followed(LINE, curve, asks=60)

    late = [ask for ask in search.history.asks[20:] if ask.new]
    assert (
        sum(ask.values["x"] > 0.6 for ask in late) < len(late) / 5
    )  # nearly all of them, were it not for the constraint
    assert search.best()[1] > 0.7


def test_the_first_recipes_lie_half_around_what_was_given():
    search = start("freeze-thaw", BOWL, first=({"a": 0.5, "b": 0.5, "c": 0.5},), epochs=EPOCHS, lag=11)
    asks = [search.ask() for _ in range(11)]

    away = [max(abs(ask.values[key] - 0.5) for key in "abc") for ask in asks[1:]]
    labels = [ask.label for ask in asks[1:]]

    assert labels.count("around the published one") == 5
    assert np.mean(away[1::2]) < np.mean(away[0::2])


def test_a_prior_says_how_far_around_the_published_value_is():
    wide = Dimension(key="x", domain=FloatRange(low=0, high=1))
    narrow = Dimension(key="y", domain=FloatRange(low=0, high=1, prior=Prior(centre=0.5, width=0.02)))
    search = start("freeze-thaw", Space(dimensions=(wide, narrow)), first=({"x": 0.5, "y": 0.5},), epochs=9, lag=40,
                   options={"startup": 39})  # fmt: skip
    asks = [search.ask() for _ in range(40)]

    near = [ask.values for ask in asks if ask.label == "around the published one"]

    assert np.std([one["x"] for one in near]) > 3 * np.std([one["y"] for one in near])


def test_what_is_under_way_is_not_asked_for_again():
    def curve(ask):
        scores = rising(0.9 - abs(ask.values["x"] - 0.3), epochs=ask.epochs)
        return Told(number=ask.number, state="finished", score=scores[-1], scores=tuple(scores))

    search = start("freeze-thaw", LINE, epochs=EPOCHS, lag=6)
    for ask in [search.ask() for _ in range(6)]:
        search.tell(curve(ask))
    for _ in range(30):
        search.tell(curve(search.ask()))
    out = [search.ask() for _ in range(6)]

    assert len({ask.trial for ask in out}) == 6


def test_an_objective_without_epochs_is_searched_too():
    def curve(ask):
        return Told(number=ask.number, state="finished", score=-((ask.values["x"] - 0.3) ** 2))

    search = followed(LINE, curve, asks=30, epochs=None)

    assert {ask.epochs for ask in search.history.asks} == {None}
    assert search.best()[1] > -0.0005


def test_trainings_that_were_all_stopped_too_early_to_compare_do_not_break_it():
    def curve(ask):
        return Told(number=ask.number, state="stopped", score=0.3, scores=(0.3,))

    search = followed(LINE, curve, asks=20, epochs=54)

    assert len(search.history.trials) == 20


def test_a_space_without_dimensions_is_searched_to_its_end():
    search = start("freeze-thaw", Space(dimensions=()), epochs=9)
    while (ask := search.ask()) is not None:
        search.tell(Told(number=ask.number, state="finished", score=0.5, scores=(0.5,) * ask.epochs))

    assert search.done
    assert [trial.epochs for trial in search.history.trials.values()] == [9]


def test_a_searcher_that_sees_a_whole_history_at_once_makes_the_move_of_one_that_grew_with_it():
    def curve(ask):
        scores = rising(0.9 - sum((place - 0.4) ** 2 for place in ask.values.values()), epochs=ask.epochs)
        return Told(number=ask.number, state="finished", score=scores[-1], scores=tuple(scores))

    grown = followed(BOWL, curve, asks=47)
    fresh = FreezeThaw(Setting(space=BOWL, seed=0, epochs=EPOCHS))

    assert fresh.propose(grown.history) == grown.searcher.propose(grown.history)


@pytest.mark.slow
def test_it_finds_in_ten_trainings_what_chance_does_not_find_in_thirty():
    def best_after(name, *, seed, trainings):
        search, paid, best = start(name, BOWL, seed=seed, epochs=EPOCHS), 0, 1.0
        while paid < trainings * EPOCHS:
            ask = search.ask()
            loss = 0.02 + sum((place - 0.35) ** 2 for place in ask.values.values())
            before = 0 if ask.new else search.history.trials[ask.trial].epochs
            paid += ask.epochs - before
            scores = tuple(-loss - 0.5 / epoch for epoch in range(1, ask.epochs + 1))
            best = min(best, loss) if ask.epochs == EPOCHS else best
            search.tell(Told(number=ask.number, state="finished", score=scores[-1], scores=scores))
        return best

    ours = [best_after("freeze-thaw", seed=seed, trainings=10) for seed in range(4)]
    chance = [best_after("random", seed=seed, trainings=30) for seed in range(4)]

    assert np.median(ours) < np.median(chance)


def test_of_many_trainings_the_best_are_looked_at_that_reach_an_epoch():
    history = told_of(scores=[[0.9], [0.1, 0.2], [0.1, 0.8], [0.1, 0.5]], values=[{"x": k / 4} for k in range(4)])
    curves = Curves(end=9)
    curves.add(history, history.tolds)

    assert curves.foremost(9) == [0, 1, 2, 3]
    assert curves.foremost(2) == [0, 2]
    assert curves.foremost(2, reaching=2) == [2, 3]
