"""Races: who goes on, from where, and when it is decided."""

from itertools import groupby

from trainwright.search.domains import FloatRange
from trainwright.search.halving import rungs_of
from trainwright.search.history import Told
from trainwright.search.searching import Setting, start
from trainwright.search.space import Dimension, Space

SPACE = Space(dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=1)),))


def raced(name, *, epochs, pieces, reduction=3, lag=1, least_epochs=1, state="finished"):
    search = start(name, SPACE, epochs=epochs, least_epochs=least_epochs, lag=lag, options={"reduction": reduction})
    for _ in range(pieces):
        ask = search.ask()
        search.tell(Told(number=ask.number, state=state, score=ask.values["a"]))
    return search


def test_rungs_are_counted_from_the_whole_training_down():
    def rungs(epochs, least, reduction=3):
        return rungs_of(Setting(space=SPACE, epochs=epochs, least_epochs=least), reduction=reduction, strategy="asha")

    assert rungs(27, 1) == (1, 3, 9, 27)
    assert rungs(27, 2) == (3, 9, 27)
    assert rungs(20, 3) == (7, 20)
    assert rungs(16, 1, 4) == (1, 4, 16)


def test_a_third_of_a_rung_goes_on_from_where_it_paused():
    search = raced("asha", epochs=9, pieces=4)

    last = search.history.asks[-1]
    first_three = search.history.asks[:3]

    assert [ask.epochs for ask in search.history.asks] == [1, 1, 1, 3]
    assert last.trial == max(first_three, key=lambda ask: ask.values["a"]).number
    assert last.label == "among the best 1 of 3 after epoch 1"


def test_asha_trains_a_ninth_to_the_third_rung():
    search = raced("asha", epochs=9, pieces=13)

    assert [ask.epochs for ask in search.history.asks].count(9) == 1
    best = max((ask for ask in search.history.asks if ask.new), key=lambda ask: ask.values["a"])
    assert [ask.epochs for ask in search.history.trials[best.number].asks] == [1, 3, 9]


def test_hyperband_has_the_brackets_of_its_algorithm():
    """Begun with ⌈5 / (s + 1) · 3^s⌉ trainings for s = 4 … 0, of which a third goes on, rounded down."""
    search = raced("hyperband", epochs=81, pieces=81 + 27 + 9 + 3 + 1 + 34 + 11 + 3 + 1 + 15 + 5 + 1 + 8 + 2 + 5)

    rungs = [(epochs, len(list(asks))) for epochs, asks in groupby(search.history.asks, key=lambda ask: ask.epochs)]

    assert rungs == [
        *((1, 81), (3, 27), (9, 9), (27, 3), (81, 1)),
        *((3, 34), (9, 11), (27, 3), (81, 1)),
        *((9, 15), (27, 5), (81, 1)),
        *((27, 8), (81, 2 + 5)),  # the last bracket trains 5 to the end
    ]


def test_hyperband_runs_its_brackets_one_after_the_other():
    search = raced("hyperband", epochs=9, pieces=9 + 3 + 1 + 5 + 1 + 3)

    epochs = [ask.epochs for ask in search.history.asks]

    assert epochs == [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] + [9] * 3


def test_the_best_of_a_rung_go_on():
    search = raced("hyperband", epochs=9, pieces=13)

    rung = sorted(search.history.asks[:9], key=lambda ask: -ask.values["a"])
    assert [ask.trial for ask in search.history.asks[9:12]] == [ask.number for ask in rung[:3]]
    assert search.history.asks[12].trial == rung[0].number


def test_workers_begin_the_next_race_where_this_one_waits():
    search = start("hyperband", SPACE, epochs=9, lag=8)

    asks = [search.ask() for _ in range(8)]
    for number in range(3):
        search.tell(Told(number=asks[number].number, state="finished", score=0.0))
    more = [search.ask() for _ in range(3)]

    assert [ask.epochs for ask in more] == [1, 3, 3]  # the ninth of the first race, and two of the next


def test_none_goes_on_that_diverged():
    search = raced("hyperband", epochs=9, pieces=20, state="diverged")

    assert all(ask.new for ask in search.history.asks)
