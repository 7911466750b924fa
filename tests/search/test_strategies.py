"""What every strategy promises: inside of the space, repeatable, the same with any number of workers and after any kill."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

import trainwright.search
from trainwright.plugins import strategies
from trainwright.records import to_json
from trainwright.search.domains import Choice, FloatRange, IntRange, Prior, as_tuples
from trainwright.search.history import Ask, Told
from trainwright.search.searching import start
from trainwright.search.space import Dimension, Space

EPOCHS = 27
SPACE = Space(
    dimensions=(
        Dimension(key="optimizer", domain=Choice(values=("adam", "sgd"))),
        Dimension(
            key="lr",
            domain=FloatRange(low=1e-5, high=1e-1, log=True, prior=Prior(centre=1e-3, width=0.5)),
            when={"optimizer": "adam"},
        ),
        Dimension(key="lr", domain=FloatRange(low=1e-3, high=10.0, log=True), when={"optimizer": "sgd"}),
        Dimension(key="momentum", domain=FloatRange(low=0.0, high=0.99), when={"optimizer": "sgd"}),
        Dimension(key="blocks", domain=IntRange(low=1, high=8)),
    ),
    fixed={"warmup": 0.05},
)


def worth(values):
    """Best, 0, at lr 0.001 of adam with 4 blocks."""
    decades = math.log10(values["lr"]) + (3 if values["optimizer"] == "adam" else 1)
    return -(decades**2) - 0.1 * (values["blocks"] - 4) ** 2 - (0.2 if values["optimizer"] == "sgd" else 0.0)


def trained(ask, *, broken=True):
    """What comes of an ask: a curve that rises to what its values are worth.

    broken: too high an lr diverges, and every eleventh piece fails.
    """
    values = SPACE.completed(ask.values)
    limit = 0.05 if values["optimizer"] == "adam" else 5.0
    if broken and values["lr"] > limit:
        return Told(number=ask.number, state="diverged", seconds=1.0)
    if broken and ask.number % 11 == 5:
        return Told(number=ask.number, state="failed", seconds=1.0)
    scores = tuple(worth(values) - 2.0 / epoch for epoch in range(1, ask.epochs + 1))
    return Told(number=ask.number, state="finished", score=scores[-1], scores=scores, seconds=float(ask.epochs))


FIRST = ({"warmup": 0.05},)
SLOW = {"gp"}  # the model takes a second a decision
OPTIONS = {"tpe": {"startup": 4}, "gp": {"startup": 4}}
ASKS = {"gp": 9}
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in strategies.names()]


def begun(name, *, seed=0, lag=1):
    return start(name, SPACE, seed=seed, first=FIRST, epochs=EPOCHS, lag=lag, options=OPTIONS.get(name))


def followed(search, *, asks, broken=True):
    """One worker: each ask is told before the next one, until there are `asks` of them."""
    while len(search.history.asks) < asks and (ask := search.ask()) is not None:
        search.tell(trained(ask, broken=broken))
    return list(search.history.asks)


def crowded(search, *, asks, workers, mood):
    """Several workers that end in an order of their own."""
    chance, out = random.Random(mood), []
    while len(search.history.asks) < asks:
        free = len(out) < workers and chance.random() < 0.6
        ask = search.ask() if free else None
        if ask is not None:
            out.append(ask)
        elif out:
            search.tell(trained(out.pop(chance.randrange(len(out)))))
        elif search.done:
            break
    return list(search.history.asks)


def journaled(value):
    """As it comes back from a file."""
    return json.loads(json.dumps(to_json(value)))


def read_back(record):
    return Ask(**{**record, "values": {key: as_tuples(value) for key, value in record["values"].items()}})


@pytest.mark.parametrize("name", EVERY)
def test_proposals_lie_in_the_space_and_keep_its_conditions(name):
    asks = followed(begun(name), asks=ASKS.get(name, 60))

    assert [SPACE.why_not(ask.values) for ask in asks if not ask.given] == [None for ask in asks if not ask.given]


@pytest.mark.parametrize("name", EVERY)
def test_what_was_given_is_trained_first_and_to_the_end(name):
    first, *_ = followed(begun(name), asks=2)

    assert (first.values, first.epochs, first.given) == (FIRST[0], EPOCHS, True)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_asks_for_the_same(name):
    asks = ASKS.get(name, 40)

    assert followed(begun(name), asks=asks) == followed(begun(name), asks=asks)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("list", "grid")])
def test_another_seed_asks_for_something_else(name):
    assert followed(begun(name, seed=0), asks=6) != followed(begun(name, seed=1), asks=6)


@pytest.mark.parametrize("mood", [1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_eight_workers_in_any_order_find_the_trials_of_one(name, mood):
    asks = ASKS.get(name, 45) + 5

    alone = followed(begun(name, lag=8), asks=asks)
    together = crowded(begun(name, lag=8), asks=asks, workers=8, mood=mood)

    assert together == alone


@pytest.mark.parametrize("name", EVERY)
def test_a_search_that_was_killed_goes_on_into_the_future_it_would_have_had(name):
    asks = ASKS.get(name, 40)
    whole = begun(name, lag=3)
    followed(whole, asks=asks)

    killed = crowded(before := begun(name, lag=3), asks=asks // 2, workers=3, mood=4)
    journal = [journaled(ask) for ask in killed]
    after = begun(name, lag=3)
    for record in journal:
        after.restore(read_back(record))
    for told in before.outcomes.values():
        after.tell(told)
    for ask in killed:
        if ask.number not in before.outcomes:
            after.tell(trained(ask))

    assert followed(after, asks=asks) == list(whole.history.asks)


@pytest.mark.parametrize("name", EVERY)
def test_a_proposal_depends_on_no_outcome_within_the_lag(name):
    asks, lag = ASKS.get(name, 30), 4
    usual = followed(begun(name, lag=lag), asks=asks)

    search = begun(name, lag=lag)
    while len(search.history.asks) < asks and (ask := search.ask()) is not None:
        last = ask.number >= asks - lag
        search.tell(trained(ask, broken=not last))  # other outcomes than usual, too late to be learned from

    assert list(search.history.asks) == usual


@pytest.mark.parametrize("name", EVERY)
def test_asked_again_of_the_same_history_a_searcher_gives_the_same_answer(name):
    search = begun(name)
    followed(search, asks=ASKS.get(name, 30))

    answers = [search.searcher.propose(search.history) for _ in range(2)]

    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", EVERY)
def test_trainings_that_all_diverge_do_not_break_it(name):
    search = begun(name)

    for _ in range(ASKS.get(name, 25)):
        ask = search.ask()
        if ask is not None:
            search.tell(Told(number=ask.number, state="diverged"))

    assert search.best() is None
    assert all(search.history.trials[ask.trial].asks == [ask] for ask in search.history.asks)  # none is gone on with


@pytest.mark.parametrize("name", EVERY)
def test_a_trial_is_gone_on_with_only_where_it_ended_well_and_never_trained_twice(name):
    search = begun(name, lag=2)
    followed(search, asks=ASKS.get(name, 60))

    for trial in search.history.trials.values():
        epochs = [ask.epochs for ask in trial.asks]
        assert epochs == sorted(set(epochs))
        assert {told.state for told in trial.tolds[:-1]} <= {"finished"}
        assert {json.dumps(journaled(ask.values)) for ask in trial.asks} == {json.dumps(journaled(trial.values))}


@pytest.mark.parametrize("name", EVERY)
def test_no_values_are_begun_twice_and_a_small_space_comes_to_its_end(name):
    flips, blocks = Choice(values=(True, False)), IntRange(low=1, high=3)
    small = Space(dimensions=(Dimension(key="flip", domain=flips), Dimension(key="blocks", domain=blocks)))
    search = start(name, small, epochs=9, options=OPTIONS.get(name))

    while (ask := search.ask()) is not None:
        search.tell(Told(number=ask.number, state="finished", score=float(ask.values["blocks"])))

    begun_with = [(ask.values["flip"], ask.values["blocks"]) for ask in search.history.asks if ask.new]
    assert len(begun_with) == len(set(begun_with)) == (0 if name == "list" else 6)
    assert search.done


@pytest.mark.parametrize("name", ["asha", "hyperband", "bohb"])
def test_a_race_in_a_small_space_still_trains_its_best_to_the_end(name):
    blocks = Space(dimensions=(Dimension(key="blocks", domain=IntRange(low=1, high=6)),))
    search = start(name, blocks, epochs=9)

    while (ask := search.ask()) is not None:
        search.tell(Told(number=ask.number, state="finished", score=float(ask.values["blocks"])))

    whole = [trial.values["blocks"] for trial in search.history.trials.values() if trial.epochs == 9]
    assert 6 in whole or name == "asha"  # which promotes a third: 2 of 6 to 3 epochs, and none of 2 to 9
    assert len(whole) < 6


def test_no_strategy_keeps_anything_as_a_pickle():
    folder = Path(trainwright.search.__file__).parent

    assert [file.name for file in folder.glob("*.py") if "pickle" in file.read_text(encoding="utf-8")] == []


def regret_after(name, *, seed, epochs):
    """How far the best training is from the best there is, once that many epochs are paid for. Only whole trainings count."""
    bowl = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "abc"))
    search = start(name, bowl, seed=seed, epochs=EPOCHS)
    paid, best = 0, 3.0
    while paid < epochs:
        ask = search.ask()
        value = sum((place - 0.35) ** 2 for place in ask.values.values())
        before = search.history.trials[ask.trial].epochs if not ask.new else 0
        paid += ask.epochs - before
        best = min(best, value) if ask.epochs == EPOCHS else best
        search.tell(Told(number=ask.number, state="finished", score=-value - 2.0 / ask.epochs))
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trainings", "seeds"),
    [("tpe", 40, 8), ("gp", 20, 4), ("cmaes", 40, 12), ("asha", 20, 12), ("hyperband", 20, 12), ("bohb", 30, 8)],
)
def test_it_finds_more_than_chance_does(name, trainings, seeds):
    found = [regret_after(name, seed=seed, epochs=trainings * EPOCHS) for seed in range(seeds)]
    chance = [regret_after("random", seed=seed, epochs=trainings * EPOCHS) for seed in range(seeds)]

    assert np.median(found) < np.median(chance)
    assert np.mean(np.log(found)) < np.mean(np.log(chance))
