"""The evolution of a distribution: what it begins with, what it learns from outcomes, and what it leaves alone."""

import numpy as np
import pytest

from trainwright.errors import MissingPackageError, UsageError
from trainwright.search.bayesian import Seen
from trainwright.search.cmaes import Distribution
from trainwright.search.domains import Choice, FloatRange, IntRange, Prior
from trainwright.search.history import Told
from trainwright.search.searching import start
from trainwright.search.space import Dimension, Space

PLANE = Space(dimensions=tuple(Dimension(key=key, domain=FloatRange(low=0, high=1)) for key in "ab"))


def begun(space, centre=None, **more):
    return Distribution(space, space.completed(centre or {}), known=frozenset(centre or {}), **more)


def drawn(distribution, key, *, draws=400):
    return [distribution.draw(seed)[key] for seed in range(draws)]


def taught(distribution, worth, *, generations, seed=0):
    """The distribution after generations of which each outcome is known before the next one is drawn."""
    for generation in range(generations):
        seeds = [100_000 * seed + 1000 * (generation + 1) + index for index in range(distribution.population)]
        values = [distribution.draw(seed) for seed in seeds]
        distribution.learn([Seen(values=one, score=worth(one)) for one in values], seeds)
    return distribution


def followed(search, worth, *, asks):
    for _ in range(asks):
        ask = search.ask()
        score = worth(ask.values)
        state = "diverged" if score is None else "finished"
        search.tell(Told(number=ask.number, state=state, score=float("nan") if score is None else score))
    return [ask.values for ask in search.history.asks]


def test_it_begins_around_what_was_given():
    places = drawn(begun(PLANE, {"a": 0.3, "b": 0.5}), "a")

    assert np.mean(places) == pytest.approx(0.3, abs=0.05)
    assert np.std(places) == pytest.approx(0.2, abs=0.05)


def test_it_begins_as_wide_as_the_prior():
    lr = FloatRange(low=1e-5, high=1e-1, log=True, prior=Prior(centre=1e-3, width=0.25))
    decades = np.log10(drawn(begun(Space(dimensions=(Dimension(key="lr", domain=lr),))), "lr"))

    assert (np.mean(decades), np.std(decades)) == pytest.approx((-3, 0.25), abs=0.05)


@pytest.mark.parametrize(
    ("prior", "given", "share"),
    [
        pytest.param(None, {}, 0.25, id="nothing is known: all alike"),
        pytest.param(None, {"k": "b"}, 0.5, id="published: half"),
        pytest.param(Prior(centre="b", width=0.4), {}, 0.6, id="prior: as it says"),
        pytest.param(Prior(centre="b", width=0.0), {}, 0.73, id="prior without a doubt: what the margin leaves"),
    ],
)
def test_choices_begin_with_the_shares_that_are_believed_in(prior, given, share):
    space = Space(dimensions=(Dimension(key="k", domain=Choice(values=("a", "b", "c", "d"), prior=prior)),))

    assert drawn(begun(space, given), "k").count("b") / 400 == pytest.approx(share, abs=0.07)


def test_it_moves_to_where_scores_are_high():
    learned = taught(begun(PLANE), lambda one: -((one["a"] - 0.8) ** 2) - (one["b"] - 0.2) ** 2, generations=15)

    assert np.median(drawn(learned, "a")) == pytest.approx(0.8, abs=0.03)
    assert np.median(drawn(learned, "b")) == pytest.approx(0.2, abs=0.03)


def test_it_moves_away_from_where_trainings_diverge_however_high_the_scores_beside_them():
    learned = taught(begun(PLANE), lambda one: None if one["a"] > 0.5 else one["a"], generations=15)

    assert np.quantile(drawn(learned, "a"), 0.2) < 0.5
    assert np.median(drawn(learned, "a")) == pytest.approx(0.5, abs=0.1)


def test_whole_numbers_and_choices_are_learned_and_none_is_lost():
    space = Space(
        dimensions=(
            Dimension(key="blocks", domain=IntRange(low=1, high=64, log=True)),
            Dimension(key="kind", domain=Choice(values=("a", "b", "c"))),
            Dimension(key="flip", domain=IntRange(low=0, high=1)),
        )
    )
    right = {"blocks": 12, "kind": "c", "flip": 1}

    def worth(one):
        return -abs(one["blocks"] - 12) / 12 - (one["kind"] != "c") - (one["flip"] != 1)

    learned = taught(begun(space), worth, generations=40)

    for key, value in right.items():
        found = drawn(learned, key)
        assert max(set(found), key=found.count) == value
        assert len(set(found)) > 1


def test_a_dimension_that_is_not_there_is_not_learned_from():
    space = Space(
        dimensions=(
            Dimension(key="optimizer", domain=Choice(values=("adam", "sgd"))),
            Dimension(key="momentum", domain=FloatRange(low=0, high=1), when={"optimizer": "sgd"}),
            Dimension(key="a", domain=FloatRange(low=0, high=1)),
        )
    )

    def width(seed):
        """Of the momentum, once nearly nothing but adam was trained."""

        def worth(one):
            return (one["optimizer"] == "adam") - (one["a"] - 0.3) ** 2

        learned = taught(begun(space), worth, generations=12, seed=seed)
        return np.std([one["momentum"] for draw in range(400) if "momentum" in (one := learned.draw(draw))])

    # Told as the mean instead, the trainings of adam narrow it to 0.008 on average.
    assert np.mean([width(seed) for seed in range(1, 7)]) > 0.04


def test_equal_scores_and_none_at_all_are_borne():
    for score in (0.5, None):
        learned = taught(begun(PLANE), lambda one, score=score: score, generations=10)

        assert all(PLANE.contains(learned.draw(seed)) for seed in range(50))


def test_values_from_far_away_do_not_tear_the_distribution_apart():
    near = taught(begun(PLANE), lambda one: -((one["a"] - 0.2) ** 2) - (one["b"] - 0.2) ** 2, generations=25)
    before = np.std(drawn(near, "a"))
    far = [Seen(values={"a": 0.9 + index / 100, "b": 0.9}, score=1.0) for index in range(near.population)]

    near.learn(far, list(range(near.population)))

    assert before < 0.02
    assert np.std(drawn(near, "a")) < 4 * before


def test_with_no_lag_what_is_told_is_what_was_drawn():
    search = start("cmaes", PLANE, seed=3)
    followed(search, lambda one: one["a"], asks=6)
    by_hand = begun(PLANE)
    seeds = [search.searcher._seed(number, 0) for number in range(6)]
    values = [by_hand.draw(seed) for seed in seeds]
    by_hand.learn([Seen(values=one, score=one["a"]) for one in values], seeds)

    assert [ask.values for ask in search.history.asks] == values
    assert search.ask().values == by_hand.draw(search.searcher._seed(6, 0))


def test_failures_say_nothing_and_what_was_given_counts():
    search = start("cmaes", PLANE, first=({"a": 0.4},))
    for number in range(5):
        ask = search.ask()
        search.tell(Told(number=ask.number, state="failed" if number == 2 else "finished", score=0.0))
    search.ask()

    assert [seen.values.get("a") for seen, _ in search.searcher._waiting] == [
        search.history.asks[number].values["a"] for number in (0, 1, 3, 4)
    ]


def test_where_it_has_converged_it_begins_anew_elsewhere_with_twice_the_population():
    line = Space(dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=1)),))
    search = start("cmaes", line)

    values = followed(search, lambda one: -((one["a"] - 0.3) ** 2), asks=150)

    assert search.searcher._distribution.population == 4 * 2**search.searcher._beginnings
    assert search.searcher._beginnings >= 1
    assert search.best()[1] > -1e-6
    assert np.std([one["a"] for one in values[-8:]]) > 1e-3


def test_a_space_of_choices_alone_is_searched():
    space = Space(dimensions=tuple(Dimension(key=key, domain=Choice(values=tuple("uvwxyz"))) for key in "abcd"))

    values = followed(start("cmaes", space), lambda one: sum(part == "w" for part in one.values()), asks=120)

    early, late = (sum(list(one.values()).count("w") for one in part) for part in (values[:20], values[-20:]))
    assert late > 2 * early


def test_a_population_below_four_is_refused():
    with pytest.raises(UsageError, match=r"^strategy: population: expected 4 or more, got 3\.$"):
        start("cmaes", PLANE, options={"population": 3})


def test_without_cmaes_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingPackageError) as caught:
        start("cmaes", PLANE)

    assert str(caught.value) == (
        "strategy: the package 'cmaes' is not installed. Install it: pip install 'trainwright[bayesian]'; "
        "random, sobol, asha and hyperband need nothing more."
    )
