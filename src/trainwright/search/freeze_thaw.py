"""`freeze-thaw`: trainings are begun, paused and gone on with where a model of their curves expects the most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from trainwright.plugins import strategies
from trainwright.search.constraints import Constraints
from trainwright.search.curve_data import Curves, Target, levels, lowest_comparable
from trainwright.search.curve_process import CurveProcess, Points, Scales, tuned, usual
from trainwright.search.domains import Choice, Domain
from trainwright.search.drawing import Chance, unseen
from trainwright.search.features import Features
from trainwright.search.history import History, Move, Trial
from trainwright.search.searching import Setting
from trainwright.search.space import Values
from trainwright.seeding import stream

# Choices of ours; what they come to is measured by benchmarks/search_lcbench.py.
STARTUP = 10  # recipes that are begun before the model is asked
STARTUP_AROUND = 0.5  # share of them that lies around the published one
SHORTEST = 27  # a new recipe is trained for the whole training over this, three thirds of thirds
CONFIDENT = 0.25  # share of the moves that go on with the training that is predicted to end best
CAUTION = 0.5  # deviations below its mean at which a prediction is ranked
TO_THE_END = 0.6  # share of the moves that look for the best end; the others look at an epoch by chance
LEAST_GAIN, MOST_GAIN = -2.5, -0.3  # decimal logarithm of the gain that is looked for, in spreads
CANDIDATES = 120  # new recipes that are looked at: half of them around the best, a quarter around the published one
BEST = 5  # recipes that candidates lie around
STEPS = (0.03, 0.1, 0.25)  # lengths of steps from the best, as shares of a scale
STEP_AROUND = 0.2  # length of steps from the published one
MOVED = 0.6  # probability that a dimension is moved
LOOKED_AT = 300  # trainings that a decision is made from: it takes the same time however many there were
OBSERVED = 300  # points of their curves that the model is given; the last ones come first
TUNED_ON = 120  # of them, that its scales are tuned on
TUNED_AGAIN = 1.25  # times as many outcomes as at the last tuning
ONE_BELOW = (0.1587, 0.8413)  # shares of a normal distribution below one deviation on either side


@dataclass(frozen=True, kw_only=True)
class _Paused:
    """Trainings that can be gone on with, and one row of features each."""

    trials: list[Trial]
    places_NF: np.ndarray


@strategies.register("freeze-thaw")
class FreezeThaw:
    """Begin many recipes, pause them, and go on with those whose curves promise the most, by a Gaussian process over recipe and
    epoch. After Swersky et al., arXiv:1406.3896; what is looked for changes by chance from move to move: Rakotoarison et al.,
    arXiv:2404.16795.

    Recipes are compared from the epoch on that orders them as later ones do, learned from the runs. What diverges is kept away
    from, and where recipes differ in seconds the gain per second counts. startup: recipes begun before the model is asked.
    """

    learns = True

    def __init__(self, setting: Setting, *, startup: int = STARTUP) -> None:
        self._setting, self._space, self._startup = setting, setting.space, max(1, startup)
        self._end = setting.epochs or 1
        first = min(max(setting.least_epochs, round(self._end / SHORTEST), 1), self._end)
        self._epochs = levels(first, self._end)
        self._features, self._chance = Features(setting.space), Chance(setting)
        self._places: dict[int, np.ndarray] = {}  # features by trial
        self._curves = Curves(end=self._end)
        self._asks = self._tolds = 0  # of the history, that were read
        self._tuned_at, self._tuned = 0, usual(self._features.groups_F)  # at how many outcomes, and what came of it
        self._is_choice_D = np.array([isinstance(one.domain, Choice) for one in self._space.dimensions], bool)
        self._widths_D = np.array([_width(one.domain) for one in self._space.dimensions])

    def propose(self, history: History) -> Move | None:
        self._read(history)
        random = stream(self._setting.seed, "freeze-thaw", len(history.asks))
        epochs = self._comparable(self._curves)
        known = self._curves.reach(epochs[0])
        if history.own < self._startup or not known:
            move = self._begun_blindly(history, epochs[0])
            if move is not None or not known:
                return move
        return self._modelled(history, epochs, random)

    def _read(self, history: History) -> None:
        self._curves.add(history, history.tolds[self._tolds :])
        self._tolds = len(history.tolds)
        new = [ask for ask in history.asks[self._asks :] if ask.new]
        self._places |= {ask.trial: self._features.of(ask.values) for ask in new}
        self._asks = len(history.asks)

    def _comparable(self, curves: Curves) -> tuple[int, ...]:
        """Epochs at which curves are looked at."""
        lowest = lowest_comparable(list(curves.scores.values())[-LOOKED_AT:], self._epochs)
        return tuple(epoch for epoch in self._epochs if epoch >= lowest)

    # New recipes without a model

    def _begun_blindly(self, history: History, epoch: int) -> Move | None:
        """By chance and around the published recipe, in turn."""
        around = int((history.own + 1) * STARTUP_AROUND) > int(history.own * STARTUP_AROUND)
        if around and self._space.dimensions:
            values = unseen(self._setting, history, lambda number, turn: self._near_published(history, number, turn))
        else:
            values = self._chance(history)
        label = "around the published one" if around else "by chance"
        return None if values is None else self._new(values, epoch, label)

    def _near_published(self, history: History, number: int, turn: int) -> Values:
        random = stream(self._setting.seed, "around", number, turn)
        centre_1D = self._published(history)[None]
        return self._space.from_cube(self._stepped(centre_1D, self._widths_D[None], random)[0])

    def _published(self, history: History) -> np.ndarray:
        """Place [D] of what was given first, otherwise of the space's default."""
        given = next((trial.values for trial in history.trials.values() if trial.given), {})
        return _filled(self._space.to_cube(given))

    def _new(self, values: Values, epoch: int, label: str) -> Move:
        return Move(values=values, epochs=None if self._setting.epochs is None else epoch, label=label)

    # With one

    def _modelled(self, history: History, epochs: Sequence[int], random: np.random.Generator) -> Move | None:
        model, best_target = self._model(history, epochs)
        known = np.array(self._curves.foremost(LOOKED_AT))
        mean_N, deviation_N = model.predict(self._points(known, np.full(len(known), self._end)))
        ranked = known[np.argsort(CAUTION * deviation_N - mean_N, kind="stable")]
        paused = self._paused(history)
        leader = next((trial for trial in paused.trials if trial.number == ranked[0]), None)
        if leader is not None and random.random() < CONFIDENT:
            return self._continued(leader, epochs, "the best so far")
        horizon = self._end if random.random() < TO_THE_END else int(random.choice(epochs))
        candidates_ND = self._candidates(history, ranked[:BEST], random)
        features_NF = np.concatenate([paused.places_NF, self._features.of_places(candidates_ND)])
        at_least = [max(horizon, trial.epochs or 0) for trial in paused.trials]
        points = Points(
            places_NF=features_NF,
            curves_N=np.array(
                [trial.number for trial in paused.trials] + [-1 - row for row in range(len(candidates_ND))]
            ),
            times_N=self._times(np.array(at_least + [horizon] * len(candidates_ND))),
        )
        mean_N, deviation_N = model.predict(points)
        wanted = best_target + 10 ** random.uniform(LEAST_GAIN, MOST_GAIN)
        latest = list(history.trials.values())[-LOOKED_AT:]
        constraints = Constraints(latest, self._places, end=self._end)
        merits_N = log_ndtr((mean_N - wanted) / deviation_N)
        merits_N += constraints.log_feasible(features_NF) - constraints.log_pace(features_NF)
        return self._chosen(history, merits_N, paused, candidates_ND, epochs, horizon)

    def _chosen(
        self,
        history: History,
        merits_N: np.ndarray,
        paused: _Paused,
        candidates_ND: np.ndarray,
        epochs: Sequence[int],
        horizon: int,
    ) -> Move | None:
        """The move of most merit that is allowed; by chance where none is."""
        label = f"for the best at epoch {horizon}"
        for row in np.argsort(-merits_N, kind="stable"):
            if row < len(paused.trials):
                return self._continued(paused.trials[row], epochs, label)
            values = self._space.from_cube(candidates_ND[row - len(paused.trials)])
            if not history.seen(values) and self._space.reason_against(values) is None:
                return self._new(values, epochs[0], label)
        left = self._chance(history)
        return None if left is None else self._new(left, epochs[0], "by chance")

    def _continued(self, trial: Trial, epochs: Sequence[int], label: str) -> Move:
        until = next(epoch for epoch in epochs if epoch > (trial.epochs or 0))
        return Move(values=trial.values, epochs=until, trial=trial.number, label=label)

    def _paused(self, history: History) -> _Paused:
        trials = [
            trial
            for trial in map(history.trials.__getitem__, self._curves.foremost(LOOKED_AT))
            if trial.state == "finished" and not trial.pending and trial.epochs is not None and trial.epochs < self._end
        ]
        places = [self._places[trial.number] for trial in trials]
        return _Paused(trials=trials, places_NF=np.array(places).reshape(len(trials), len(self._features.groups_F)))

    def _candidates(self, history: History, best: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Places [N, D] of new recipes: around the best, around the published one, and anywhere."""
        quarter, dimensions = CANDIDATES // 4, len(self._space.dimensions)
        if not dimensions:
            return np.zeros((0, 0))
        leaders = np.array([_filled(self._space.to_cube(history.trials[int(number)].values)) for number in best])
        around_best_ND = leaders[random.integers(len(leaders), size=2 * quarter)]
        published_ND = np.tile(self._published(history), (quarter, 1))
        return np.concatenate(
            [
                self._stepped(around_best_ND, random.choice(STEPS, (2 * quarter, 1)), random),
                self._stepped(published_ND, self._widths_D[None], random),
                random.random((quarter, dimensions)),
            ]
        )

    # The model

    def _model(self, history: History, epochs: Sequence[int]) -> tuple[CurveProcess, float]:
        """Of what is known, and the best target in it. What is under way counts as going as predicted (Ginsbourger et al., 2010,
        "Kriging is well-suited to parallelize optimization": the kriging believer), so that nothing is asked for twice."""
        foremost = self._curves.foremost(LOOKED_AT, reaching=epochs[0])
        points, scores_N = self._observed(self._curves, foremost, epochs, most=OBSERVED)
        targets_N = Target(seen=scores_N).of(scores_N)
        scales = self._scales(history)
        model = CurveProcess(points, targets_N, scales)
        running = sorted(history.running)
        if running:
            until = [history.trials[number].asks[-1].epochs or self._end for number in running]
            under_way = self._points(np.array(running), np.array(until))
            believed_N = model.predict(under_way)[0]
            model = CurveProcess(points + under_way, np.concatenate([targets_N, believed_N]), scales)
        return model, float(targets_N.max())

    def _scales(self, history: History) -> Scales:
        """Tuned at certain numbers of outcomes on these alone, so that they are a function of the history."""
        steps = math.floor(math.log(max(self._tolds, 1)) / math.log(TUNED_AGAIN) + 1e-9)
        outcomes = math.ceil(TUNED_AGAIN**steps - 1e-9)
        if self._tuned_at != outcomes:
            curves = Curves(end=self._end)
            curves.add(history, history.tolds[:outcomes])
            epochs = self._comparable(curves)
            self._tuned_at, self._tuned = outcomes, usual(self._features.groups_F)
            if curves.reach(epochs[0]):
                points, scores_N = self._observed(curves, list(curves.scores), epochs, most=TUNED_ON)
                self._tuned = tuned(points, Target(seen=scores_N).of(scores_N), self._features.groups_F)
        return self._tuned

    def _observed(
        self, curves: Curves, trials: Sequence[int], epochs: Sequence[int], *, most: int
    ) -> tuple[Points, np.ndarray]:
        """Points of their curves and the scores [N]: the last of each, and as many others by chance as there is room for."""
        last, others = [], []
        for number in trials:
            scores = curves.scores[number]
            done = max(scores)
            last += [(number, done)] if done >= epochs[0] else []
            others += [(number, epoch) for epoch in epochs if epoch < done and epoch in scores]
        order = stream(self._setting.seed, "observed", len(others)).permutation(len(others))
        rows = last[-most:] + [others[index] for index in np.sort(order[: max(0, most - len(last))])]
        numbers, ends = np.array(rows).T
        return self._points(numbers, ends), np.array([curves.scores[number][epoch] for number, epoch in rows])

    def _points(self, numbers: np.ndarray, epochs: np.ndarray) -> Points:
        places = [self._places[int(number)] for number in numbers]
        return Points(places_NF=np.array(places), curves_N=numbers, times_N=self._times(epochs))

    def _times(self, epochs: np.ndarray) -> np.ndarray:
        """0 after the first epoch, 1 after the last."""
        return np.asarray(np.log(epochs) / max(math.log(self._end), 1.0))

    def _stepped(self, places_ND: np.ndarray, steps: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Normal steps in some of the dimensions, held in the cube: what is best at an end of a range is found there.

        steps: their lengths, broadcast to [N, D]; of a choice the probability that it is made anew where it is moved.
        """
        moved_ND, normal_ND = random.random(places_ND.shape) < MOVED, random.standard_normal(places_ND.shape)
        stepped_ND = np.clip(places_ND + normal_ND * steps * moved_ND, 0, 1)
        if not self._is_choice_D.any():
            return np.asarray(stepped_ND)
        anew_ND = moved_ND & (random.random(places_ND.shape) < steps)
        chosen_ND = np.where(anew_ND, random.random(places_ND.shape), places_ND)
        return np.where(self._is_choice_D, chosen_ND, stepped_ND)


def _width(domain: Domain) -> float:
    """Length of a step from the published value, as a share of the scale: the prior's width where there is one."""
    if domain.prior is None:
        return STEP_AROUND
    if isinstance(domain, Choice):
        return domain.prior.width
    return (domain.warp(ONE_BELOW[1]) - domain.warp(ONE_BELOW[0])) / 2


def _filled(place_D: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(place_D, nan=0.5))
