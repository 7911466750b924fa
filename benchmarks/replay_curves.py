"""Recorded trainings as curves for any recipe of the space: by a forest that was fitted to them, or as the nearest of them.

Why two, and why the forest decides: docs/decisions/0017-a-recorded-table-is-replayed-through-a-forest.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from replay_space import EPOCHS, SPACE
from replay_table import Table, Training
from search_arms import Reference
from trainwright.search.space import Values
from trainwright.seeding import stream

TREES = 200
NOT_THERE = -1.0  # where a dimension that is not there lies for the trees: beside its range
FINE = 0.003  # errors below it are as good as none; as in the data that strategies see, an error of 0 has no logarithm
DRAWS, ROUNDS, PARENTS, CHILDREN = 10_000, 15, 24, 16  # for the best of the forest
STEP, SHRINKING = 0.15, 0.85  # of the first round, in lengths of the scale; of one round to the next


class Recorded:
    """A table as arrays, a row a recipe. Of a recipe that was trained with several seeds the mean; their spread is noise."""

    def __init__(self, table: Table) -> None:
        self.chance = 1 / table.head["classes"]
        by_recipe: dict[int, list[Training]] = {}
        for one in table.trainings:
            by_recipe.setdefault(one.recipe, []).append(one)
        self.values = [every[0].values for every in by_recipe.values()]
        curves = [np.array([self._curve(one) for one in every]) for every in by_recipe.values()]
        self.curves_NE = np.array([every.mean(axis=0) for every in curves])
        self.places_ND = np.array([SPACE.to_cube(values) for values in self.values])
        repeated = max(curves, key=len)
        self.deviations_RE = repeated - repeated.mean(axis=0)  # of trainings of one recipe with several seeds

    def _curve(self, training: Training) -> np.ndarray:
        """[EPOCHS]; at chance level from where it diverged."""
        return np.array([*training.score, *[self.chance] * (EPOCHS - len(training.score))])

    @property
    def noise(self) -> float:
        """Deviation between seeds of one recipe after the last epoch."""
        count = len(self.deviations_RE)
        return float(np.sqrt((self.deviations_RE[:, -1] ** 2).sum() / (count - 1))) if count > 1 else 0.0


class Forest:
    """A random forest from recipes to whole curves, so that one set of weights holds for all epochs. Its scores are averages of
    recorded ones: none is higher than what was measured."""

    def __init__(self, recorded: Recorded) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._recorded = recorded
        forest = RandomForestRegressor(n_estimators=TREES, oob_score=True, random_state=0)
        forest.fit(_seen_by_trees(recorded.places_ND), _logs(recorded.curves_NE))
        self._out_of_bag_NE = _scores(forest.oob_prediction_)
        self._trees = _Trees([one.tree_ for one in forest.estimators_])

    def curves(self, places_ND: np.ndarray) -> np.ndarray:
        """Expected scores [N, EPOCHS] of points of the unit cube; nan where a dimension is not there."""
        return np.asarray(_scores(self._trees.mean(_seen_by_trees(places_ND))))

    def expected(self, values: Values) -> np.ndarray:
        return np.asarray(self.curves(SPACE.to_cube(values)[None])[0])

    def trainings(self, seed: int) -> Trainings:
        return Trainings(self, self._recorded, seed=seed)

    @property
    def agreement(self) -> dict[str, float]:
        """How well trees predict recipes that they have not seen, after the last epoch: rank correlation, of all and of the
        better half of the recorded ones, and the share of the variance."""
        from scipy.stats import spearmanr

        known_N, said_N = self._recorded.curves_NE[:, -1], self._out_of_bag_NE[:, -1]
        better = known_N >= np.median(known_N)
        return {
            "rank_correlation": float(spearmanr(known_N, said_N).statistic),
            "rank_correlation_better_half": float(spearmanr(known_N[better], said_N[better]).statistic),
            "r2": 1 - float(((known_N - said_N) ** 2).mean() / known_N.var()),
        }

    @cached_property
    def reference(self) -> Reference:
        """By chance, and by an evolution strategy from the best of that and of the recorded ones."""
        random = stream(0, "reference")
        drawn_ND = np.array([SPACE.to_cube(SPACE.sample(random)) for _ in range(DRAWS)])
        curves_NE = self.curves(drawn_ND)
        median = float(np.median(curves_NE[:, -1]))
        places_ND = np.concatenate([drawn_ND, self._recorded.places_ND])
        scores_N = np.concatenate([curves_NE, self.curves(self._recorded.places_ND)]).max(axis=1)
        for turn in range(ROUNDS):
            best = np.argsort(-scores_N, kind="stable")[:PARENTS]
            places_ND, scores_N = places_ND[best], scores_N[best]
            parents_ND = np.repeat(np.nan_to_num(places_ND, nan=0.5), CHILDREN, axis=0)
            moved_ND = random.random(parents_ND.shape) < 0.5
            steps_ND = random.normal(0, STEP * SHRINKING**turn, parents_ND.shape) * moved_ND
            children = [SPACE.from_cube(place_D) for place_D in np.clip(parents_ND + steps_ND, 0, 1)]
            children_ND = np.array([SPACE.to_cube(values) for values in children])
            places_ND = np.concatenate([places_ND, children_ND])
            scores_N = np.concatenate([scores_N, self.curves(children_ND).max(axis=1)])
        return Reference(best=float(scores_N.max()), median=median)


class _Trees:
    """The trees of a forest walked at once: of a single recipe sklearn takes a hundred times as long."""

    def __init__(self, trees: Sequence[Any]) -> None:
        starts = np.cumsum([0, *[tree.node_count for tree in trees]])
        self._roots_T = starts[:-1]
        self._features = np.concatenate([tree.feature for tree in trees])
        self._thresholds = np.concatenate([tree.threshold for tree in trees])
        pairs = [np.stack([tree.children_left, tree.children_right]) for tree in trees]
        self._children_2 = np.concatenate([pair + start for pair, start in zip(pairs, starts, strict=False)], axis=1)
        self._outputs = np.concatenate([tree.value[:, :, 0] for tree in trees])
        self._levels = max(tree.max_depth for tree in trees)

    def mean(self, inputs_ND: np.ndarray) -> np.ndarray:
        """What the forest says [N, outputs]."""
        inputs_ND = inputs_ND.astype(np.float32)  # as the trees were grown
        nodes_NT = np.tile(self._roots_T, (len(inputs_ND), 1))
        rows_N1 = np.arange(len(inputs_ND))[:, None]
        for _ in range(self._levels):
            features_NT = self._features[nodes_NT]
            beyond_NT = inputs_ND[rows_N1, features_NT] > self._thresholds[nodes_NT]
            nodes_NT = np.where(features_NT < 0, nodes_NT, self._children_2[beyond_NT.astype(int), nodes_NT])
        return np.asarray(np.stack([self._outputs[nodes_T].mean(axis=0) for nodes_T in nodes_NT]))


class Trainings:
    """What a search is told: what the forest expects, and the noise of a training. seed: other trainings of the same recipes.

    The noise of a curve is a normal draw with the covariance that the recorded seeds of one recipe have between epochs.
    """

    def __init__(self, forest: Forest, recorded: Recorded, *, seed: int) -> None:
        self._forest, self._recorded, self._seed = forest, recorded, seed

    def curve(self, task: str, values: Values) -> np.ndarray:
        deviations_RE = self._recorded.deviations_RE
        count = len(deviations_RE)
        written = repr(sorted((key, str(value)) for key, value in SPACE.completed(values).items()))
        weights_R = stream(self._seed, "noise", task, written).standard_normal(count)
        noise_E = weights_R @ deviations_RE / math.sqrt(max(count - 1, 1))
        return np.clip(self.worth(task, values) + noise_E, 0, 1)

    def worth(self, task: str, values: Values) -> np.ndarray:
        return self._forest.expected(values)


class Nearest:
    """Every new recipe is the nearest recorded one that was not taken yet, with its curve as it was; for one search.

    Distance: in the unit cube, over the dimensions that both have; one that only one of them has counts 1, as another choice
    does. Once all are taken the nearest of all.
    """

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._left = np.ones(len(recorded.values), bool)

    def curve(self, task: str, values: Values) -> np.ndarray:
        distances_N = distances(SPACE.to_cube(values), self._recorded.places_ND)
        left = self._left if self._left.any() else ~self._left
        row = int(np.argmin(np.where(left, distances_N, math.inf)))
        self._left[row] = False
        return np.asarray(self._recorded.curves_NE[row])


def distances(place_D: np.ndarray, places_ND: np.ndarray) -> np.ndarray:
    """Squared, of one point to each [N]."""
    apart_ND = np.where(IS_CHOICE_D, places_ND != place_D, places_ND - place_D) ** 2.0
    apart_ND = np.where(np.isnan(place_D) & np.isnan(places_ND), 0.0, apart_ND)
    return np.asarray(np.nan_to_num(apart_ND, nan=1.0).sum(axis=1))


def recorded_reference(recorded: Recorded) -> Reference:
    """The best recorded checkpoint, and the median recipe after the last epoch."""
    return Reference(best=float(recorded.curves_NE.max()), median=float(np.median(recorded.curves_NE[:, -1])))


IS_CHOICE_D = np.array([one.key == "optimizer.name" for one in SPACE.dimensions])


def _seen_by_trees(places_ND: np.ndarray) -> np.ndarray:
    return np.nan_to_num(places_ND, nan=NOT_THERE)


def _logs(scores: np.ndarray) -> np.ndarray:
    """On which an error of 2 % is as far from 4 % as 20 % from 40 %; the trees split where the good ones differ, too."""
    return np.asarray(-np.log(1 - scores + FINE))


def _scores(logs: np.ndarray) -> np.ndarray:
    return np.asarray(1 + FINE - np.exp(-logs))


def as_json(forest: Forest, recorded: Recorded) -> Mapping[str, Any]:
    """What is known of a forest, for the report."""
    return {"recipes": len(recorded.values), "noise": recorded.noise, **forest.agreement}
