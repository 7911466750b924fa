"""What `benchmarks/search_rivals.py` asks of other libraries' optimizers: the space, the accounting, and what comes first."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from trainwright.search.domains import Choice, FloatRange, IntRange
from trainwright.search.space import Dimension, Space

EPOCHS, LEAST = 20, 3
SPACE = Space(
    dimensions=(
        Dimension(key="optimizer.name", domain=Choice(values=("adam", "sgd"))),
        Dimension(
            key="optimizer.lr", domain=FloatRange(low=1e-5, high=1e-2, log=True), when={"optimizer.name": "adam"}
        ),
        Dimension(key="optimizer.lr", domain=FloatRange(low=1e-3, high=1, log=True), when={"optimizer.name": "sgd"}),
        Dimension(key="width", domain=IntRange(low=8, high=64, log=True)),
        Dimension(key="dropout", domain=FloatRange(low=0.0, high=0.5)),
    ),
    fixed={"batch_size": 64},
)
PUBLISHED = (
    {"optimizer.name": "sgd", "optimizer.lr": 0.1, "width": 32, "dropout": 0.1, "batch_size": 64},
    {"optimizer.name": "adam", "optimizer.lr": 1e-3, "width": 16, "dropout": 0.0, "batch_size": 64},
)
PACKAGES = {
    "optuna": "optuna",
    "neps": "neps",
    "dehb": "dehb",
    "syne": "syne_tune",
}  # by the beginning of an arm's name
ARMS = (
    "optuna-tpe", "optuna-tpe-halving+default", "optuna-tpe-halving+defaults", "optuna-gp", "optuna-gp+default",
    "neps-priorband", "neps-hyperband", "dehb", "syne-asha", "syne-asha+default", "syne-bohb", "syne-bohb+default",
)  # fmt: skip
WHOLE = ("optuna-tpe", "optuna-gp", "optuna-gp+default")  # arms that train everything to its end
FIRST = ("optuna-tpe-halving+default", "optuna-gp+default", "neps-priorband", "syne-asha+default", "syne-bohb+default")


class Spent(Exception):
    pass


class Objective:
    """Curves that rise to a height by their values and fall a little at the end. paid: recipes by epoch that was paid for."""

    def __init__(self, budget):
        self.budget, self.seen, self.paid, self.asked = budget, [], {}, []

    def train(self, values, epochs):
        key = tuple(sorted(values.items()))
        self.asked.append((dict(values), epochs))
        while self.paid.get(key, 0) < epochs:
            if len(self.seen) == self.budget:
                raise Spent
            self.paid[key] = self.paid.get(key, 0) + 1
            self.seen.append(1.0)
        height = 1 - abs(np.log10(values["optimizer.lr"] / 0.01)) / 10 - values["dropout"]
        curve = height * np.concatenate([np.arange(1, EPOCHS) / EPOCHS, [0.5]])
        return tuple(map(float, curve[:epochs]))


@pytest.fixture
def module(benchmark_module):
    return benchmark_module("search_rivals")


def searched(module, arm, *, budget, seed=0, space=SPACE):
    """The objective after an arm has spent its budget."""
    package = PACKAGES[arm.partition("-")[0]]
    pytest.importorskip(package, reason=f"the arm {arm} is {package}'s, which is not installed here")
    objective = Objective(budget)
    arms = module.rivals(module.Problem(space=space, published=PUBLISHED, epochs=EPOCHS))
    with contextlib.suppress(Spent):
        arms[arm](objective, seed)
    return objective


def test_every_arm_is_looked_at_here(module):
    assert tuple(module.rivals(module.Problem(space=SPACE, published=PUBLISHED, epochs=EPOCHS))) == ARMS


@pytest.mark.parametrize("arm", ARMS)
def test_an_optimizer_asks_for_what_the_space_has_and_pays_each_epoch_once_until_the_budget_is_spent(module, arm):
    objective = searched(module, arm, budget=260)

    assert {SPACE.why_not(values) for values, _ in objective.asked} == {None}
    assert len(objective.seen) == sum(objective.paid.values()) == 260
    ends = sorted(objective.paid.values())[1:]  # without the one that the budget may have cut off
    assert min(ends) >= (EPOCHS if arm in WHOLE else LEAST)
    assert max(ends) == EPOCHS
    assert {values["optimizer.name"] for values, _ in objective.asked} == {"adam", "sgd"}


@pytest.mark.parametrize("arm", FIRST)
def test_the_published_values_are_trained_to_their_end_before_anything_else(module, arm):
    objective = searched(module, arm, budget=60)

    first, *others = objective.paid.items()
    assert dict(first[0]) == pytest.approx(PUBLISHED[0])
    assert first[1] == EPOCHS
    assert objective.asked[0][0] == dict(first[0])
    assert others != []


@pytest.mark.parametrize("arm", ["optuna-tpe-halving+default", "dehb", "neps-hyperband", "syne-bohb"])
def test_the_same_seed_finds_the_same_trainings_and_another_seed_others(module, arm):
    one, again, other = (searched(module, arm, budget=200, seed=seed).asked for seed in (5, 5, 6))

    assert one == again
    assert one != other


def test_an_optimizer_that_only_repeats_itself_comes_to_an_end(module):
    two = Space(dimensions=(Dimension(key="optimizer.lr", domain=Choice(values=(0.01, 0.1))),), fixed={"dropout": 0.0})
    objective = searched(module, "optuna-tpe", budget=10_000, space=two)

    assert len(objective.seen) == 2 * EPOCHS


def test_an_optimizer_is_told_the_best_of_a_training_as_its_checkpoint_is_kept(module):
    trainings = module._Trainings(Objective(100))

    scores = [trainings.score(PUBLISHED[0], epochs) for epochs in (EPOCHS - 1, EPOCHS)]

    height = 1 - 0.1 - 0.1
    assert scores == pytest.approx([height * 0.95] * 2)


def test_a_space_that_refuses_combinations_is_not_for_them(module):
    space = Space(dimensions=SPACE.dimensions, fixed=SPACE.fixed, refuses=lambda values: None)

    with pytest.raises(ValueError, match="know nothing of combinations that a space refuses"):
        module.rivals(module.Problem(space=space, published=PUBLISHED, epochs=EPOCHS))


def test_an_arm_whose_library_is_not_installed_is_refused_by_name_and_left_out_otherwise(
    benchmark_module, module, monkeypatch, capsys
):
    lcbench = benchmark_module("search_lcbench")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "dehb" else object())

    with pytest.raises(SystemExit, match=r"dehb: dehb not installed here.* pip install \"\.\[search-rivals\]\""):
        module.there("search_lcbench.py", lcbench.ARMS, ["random", "dehb"])

    assert module.there("search_lcbench.py", lcbench.ARMS, ["random", "optuna-tpe"]) == ["random", "optuna-tpe"]
    assert "dehb" not in module.there("search_lcbench.py", lcbench.ARMS, None)
    assert "left out, not installed here: dehb." in capsys.readouterr().err
