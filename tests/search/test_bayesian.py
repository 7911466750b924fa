"""Optuna's samplers behind our asks: what they are told, and what is left alone."""

import optuna
import pytest

from trainwright.errors import MissingPackageError
from trainwright.search import bayesian
from trainwright.search.bayesian import Seen, tpe_model
from trainwright.search.domains import Choice, FloatRange
from trainwright.search.history import Told
from trainwright.search.searching import start
from trainwright.search.space import Dimension, Space

LINE = Space(dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=1)),))


def test_values_are_drawn_where_scores_are_high():
    model = tpe_model(LINE)
    seen = [Seen(values={"a": place / 20}, score=-abs(place / 20 - 0.3)) for place in range(21)]

    drawn = [model.draw(seen, [], seed=seed)["a"] for seed in range(20)]

    assert sorted(drawn)[10] == pytest.approx(0.3, abs=0.1)


def test_values_are_not_drawn_where_trainings_diverge_however_high_the_scores_beside_them():
    model = tpe_model(LINE)
    seen = [Seen(values={"a": place / 20}, score=None if place > 10 else place / 20) for place in range(21)]

    drawn = [model.draw(seen, [], seed=seed)["a"] for seed in range(20)]

    assert sorted(drawn)[10] < 0.55


def test_what_is_pending_is_no_evidence_afterwards():
    seen = [Seen(values={"a": place / 20}, score=-abs(place / 20 - 0.3)) for place in range(21)]
    used, fresh = tpe_model(LINE), tpe_model(LINE)

    used.draw(seen, [{"a": 0.31}, {"a": 0.29}], seed=1)

    assert used.draw(seen, [], seed=2) == fresh.draw(seen, [], seed=2)


def test_a_scratch_pad_that_was_made_anew_gives_the_same(monkeypatch):
    monkeypatch.setattr(bayesian, "SCRATCH", -100)
    seen = [Seen(values={"a": place / 20}, score=None if place == 7 else place / 20) for place in range(21)]
    model = tpe_model(LINE)

    step_by_step = [model.draw(seen[:count], [], seed=count) for count in range(5, 21)]

    assert step_by_step == [tpe_model(LINE).draw(seen[:count], [], seed=count) for count in range(5, 21)]


def many(count):
    """The higher the better towards 0.3, every tenth diverged."""
    places = [(37 * number % 101) / 100 for number in range(count)]
    return [
        Seen(values={"a": place}, score=None if number % 10 == 9 else -abs(place - 0.3))
        for number, place in enumerate(places)
    ]


def test_of_many_trainings_a_model_is_shown_the_best_and_the_latest(monkeypatch):
    monkeypatch.setattr(bayesian, "TPE_SHOWN", 20)
    model, seen = tpe_model(LINE), many(93)

    model.draw(seen, [], seed=0)

    finished = [trial for trial in model._study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    shown = [trial.params["a"] for trial in finished]
    ranked = sorted((one for one in seen[:80] if one.score is not None), key=lambda one: -one.score)
    assert len(shown) == 23  # twenty, chosen at the ninetieth, and three on top
    assert shown[10:] == [one.values["a"] for one in seen[80:]]
    assert set(shown[:10]) == {one.values["a"] for one in ranked[:10]}


def test_what_it_is_shown_does_not_depend_on_when_it_was_begun(monkeypatch):
    monkeypatch.setattr(bayesian, "TPE_SHOWN", 20)
    model, seen = tpe_model(LINE), many(60)

    step_by_step = [model.draw(seen[:count], [], seed=count) for count in range(15, 60)]

    assert step_by_step == [tpe_model(LINE).draw(seen[:count], [], seed=count) for count in range(15, 60)]


def test_failures_say_nothing_of_their_values():
    def asked(state):
        search = start("tpe", LINE, options={"startup": 2})
        for number in range(8):
            ask = search.ask()
            failed = number % 2 == 1
            search.tell(
                Told(number=number, state=state if failed else "finished", score=0.0 if failed else ask.values["a"])
            )
        return search

    seen = asked("failed").searcher._seen

    assert [one.score is None for one in seen] == [False] * 4


def test_conditional_dimensions_are_modelled_apart():
    space = Space(
        dimensions=(
            Dimension(key="optimizer", domain=Choice(values=("adam", "sgd"))),
            Dimension(key="lr", domain=FloatRange(low=0, high=1), when={"optimizer": "adam"}),
            Dimension(key="lr", domain=FloatRange(low=0, high=1), when={"optimizer": "sgd"}),
        )
    )
    places = [place / 20 for place in range(21)]

    def drawn(best):
        lr_of = {"adam": 0.1, "sgd": 0.9}
        seen = [
            Seen(values={"optimizer": name, "lr": place}, score=-abs(place - lr) + (1 if name == best else 0))
            for place in places
            for name, lr in lr_of.items()
        ]
        model = tpe_model(space)
        values = [model.draw(seen, [], seed=seed) for seed in range(20)]
        return sorted(one["lr"] for one in values if one["optimizer"] == best)

    of_adam, of_sgd = drawn("adam"), drawn("sgd")

    assert min(len(of_adam), len(of_sgd)) >= 15
    assert of_adam[len(of_adam) // 2] == pytest.approx(0.1, abs=0.1)
    assert of_sgd[len(of_sgd) // 2] == pytest.approx(0.9, abs=0.1)


def test_optuna_speaks_as_loud_afterwards_as_before():
    before = optuna.logging.get_verbosity()

    tpe_model(LINE).draw([Seen(values={"a": 0.5}, score=1.0)], [], seed=0)

    assert optuna.logging.get_verbosity() == before


def test_without_optuna_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingPackageError) as caught:
        tpe_model(LINE)

    assert str(caught.value) == (
        "strategy: the package 'optuna' is not installed. Install it: pip install 'trainwright[bayesian]'; "
        "random, sobol, asha and hyperband need nothing more."
    )
