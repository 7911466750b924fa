"""`cmaes`: evolution of a distribution over numbers and choices. The only file that imports cmaes.

The library's object is a scratch pad: all that is in it follows from the history, so a search that was killed fills it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainwright.errors import MissingPackageError, UsageError
from trainwright.plugins import strategies
from trainwright.search.bayesian import Seen, seen_of, worth
from trainwright.search.domains import Choice, Domain, FloatRange, IntRange
from trainwright.search.drawing import unseen
from trainwright.search.history import History, Move, frozen
from trainwright.search.searching import Setting
from trainwright.search.space import Space
from trainwright.seeding import derive, stream

# Of a range: the first standard deviation of a number that has no prior. Ours: on quadratics of 2, 4 and 7 dimensions at 20 to 80
# trainings ahead of the 0.3 of Hansen's tutorial (arXiv:1604.00772), and level with 0.12 on the whole.
SPREAD = 0.2
KEPT = 0.5  # first probability of a choice that is published; half of a generation varies it
MOST_PIECES = 100  # whole numbers that are told apart; more of them are as good as a range of numbers
CONVERGED = 1e-3  # of a range: the standard deviation below which no training tells values apart
GROWTH = 2  # of the population with every new beginning: Auger and Hansen, "A restart CMA evolution strategy", 2005
FEWEST = 4  # of a population: the method's default in one dimension


class Distribution:
    """CatCMA with Margin over a space: Hamano et al., arXiv:2504.07884. Numbers are normal in the unit cube.

    The margin keeps every whole number and every choice possible. centre: values that it begins around, as wide as the priors, or
    SPREAD. known: the keys that are known of it; choices of others begin evenly. population: None for 4 + 3 ln(dimensions).
    """

    def __init__(
        self, space: Space, centre: Mapping[str, Any], *, known: frozenset[str], population: int | None = None
    ) -> None:
        from cmaes import CatCMAwM

        self._space = space
        domains = [one.domain for one in space.dimensions]
        self._pieces = [np.array([domain.place_of(value) for value in _pieces(domain)]) for domain in domains]
        self._floats, self._wholes, self._choices = list[int](), list[int](), list[int]()
        for index, (domain, places) in enumerate(zip(domains, self._pieces, strict=True)):
            # Of two whole numbers a probability says all: the library's advice.
            choice = isinstance(domain, Choice) or len(places) == 2
            (self._choices if choice else self._wholes if len(places) else self._floats).append(index)
        numbers = [*self._floats, *self._wholes]
        places_D = space.to_cube(centre)
        self._new = CatCMAwM.Solution
        self._model: Any = CatCMAwM(
            x_space=[[0.0, 1.0]] * len(self._floats) or None,
            z_space=[self._pieces[index].tolist() for index in self._wholes] or None,
            c_space=[len(self._pieces[index]) for index in self._choices] or None,
            population_size=population,
            mean=np.array([_or_middle(places_D[index], domains[index]) for index in numbers]),
            sigma=1.0,
            cov=np.diag([_spread(domains[index]) ** 2 for index in numbers]),
            cat_param=self._shares(places_D, known) if self._choices else None,
        )

    @property
    def population(self) -> int:
        """How many outcomes it learns from at once."""
        return int(self._model.population_size)

    @property
    def converged(self) -> bool:
        """Whether no number varies any more by what a training tells. Whole numbers and choices alone never end."""
        if not self._floats:
            return False
        variances = np.diag(self._model._C)[: len(self._floats)]
        return bool(self._model._sigma * np.sqrt(variances.max()) < CONVERGED)

    def draw(self, seed: int) -> dict[str, Any]:
        """Values by chance, the same for the same seed."""
        return self._space.from_cube(self._places(self._sample(seed)))

    def learn(self, seen: Sequence[Seen], seeds: Sequence[int]) -> None:
        """Take in a population: higher scores are better, what diverged comes last, equal ones stay in their order.

        Ranks are told: the method goes by nothing else, and they are finite. seeds: what each was drawn with, if it was.
        """
        order = sorted(range(len(seen)), key=lambda index: -worth(seen[index]))
        members = [self._member(seen[index].values, seeds[index]) for index in order]
        self._model.tell([(member, float(rank)) for rank, member in enumerate(members)])

    def _sample(self, seed: int) -> Any:
        self._model.reseed_rng(seed % 2**32)  # the most that numpy's older generators take
        return self._model.ask()

    def _places(self, sample: Any) -> np.ndarray:
        """A sample in the unit cube [D]. What lies outside is folded back: clipped, much of it would lie on the border."""
        places_D = np.empty(len(self._pieces))
        if self._floats:
            places_D[self._floats] = 1 - np.abs(1 - sample._v_raw[: len(self._floats)] % 2)
        if self._wholes:
            places_D[self._wholes] = sample.z
        for row, index in enumerate(self._choices):
            places_D[index] = self._pieces[index][sample.c[row].argmax()]
        return places_D

    def _member(self, values: Mapping[str, Any], seed: int) -> Any:
        """Values as the model wants them told: as it drew them with this seed, as long as it is the distribution that did.

        Other values (given, of an earlier distribution, by chance) are injected: Hansen, arXiv:1110.4181. What values do not say
        is as drawn, so that nothing is learned of it: dimensions that are not there, the place within a whole number's piece.
        """
        sample = self._sample(seed)
        drawn_D, told_D = self._places(sample), self._space.to_cube(values)
        places_D = np.where(np.isnan(told_D), drawn_D, told_D)
        choices = None
        if self._choices:
            choices = np.zeros_like(sample.c)
            for row, index in enumerate(self._choices):
                choices[row, np.abs(self._pieces[index] - places_D[index]).argmin()] = True
        if sample._v_raw is None:  # a space of choices alone
            return self._new(c=choices)
        raw, whole = sample._v_raw.copy(), len(self._floats)
        raw[:whole] = places_D[self._floats]
        raw[whole:] = np.where(places_D[self._wholes] == drawn_D[self._wholes], raw[whole:], places_D[self._wholes])
        if frozen(self._space.from_cube(drawn_D)) != frozen(values):
            raw = self._nearer(raw)
        return self._new(c=choices, _v_raw=raw)

    def _nearer(self, raw: np.ndarray) -> np.ndarray:
        """A point from elsewhere, no farther from the mean than tells something: arXiv:1110.4181 (its c_y)."""
        model = self._model
        step = (raw - model._mean) / (model._sigma * model._A)
        length = math.sqrt(step @ np.linalg.solve(model._C, step))
        most = math.sqrt(len(raw)) + 2 * len(raw) / (len(raw) + 2)
        near: np.ndarray = model._mean + (raw - model._mean) * min(1.0, most / max(length, 1e-9))
        return near

    def _shares(self, places_D: np.ndarray, known: frozenset[str]) -> np.ndarray:
        """The first probability of each choice, 0 where a dimension has fewer of them."""
        counts = [len(self._pieces[index]) for index in self._choices]
        surest = 0.73 ** (1 / (len(self._choices) + len(self._wholes)))  # what the paper's margin leaves
        shares = np.zeros((len(counts), max(counts)))
        for row, (index, count) in enumerate(zip(self._choices, counts, strict=True)):
            one = self._space.dimensions[index]
            place = _or_middle(places_D[index], one.domain)
            kept = 1 / count
            if isinstance(one.domain, Choice) and one.domain.prior is not None:
                kept = 1 - one.domain.prior.width
            elif one.key in known and not math.isnan(places_D[index]):
                kept = max(KEPT, kept)
            kept = min(kept, surest)
            shares[row, :count] = (1 - kept) / (count - 1)
            shares[row, np.abs(self._pieces[index] - place).argmin()] = kept
        return shares


@strategies.register("cmaes")
class Cmaes:
    """Evolve a distribution of all values at once: CMA-ES with choices and whole numbers, CatCMA with Margin.

    Hamano et al., arXiv:2504.07884. It begins around the first given values, as wide as the priors, learns from each `population`
    of outcomes in the order of their numbers, and waits for none; where it has converged, it begins anew elsewhere with twice the
    population. Every outcome counts, whoever proposed the values.
    """

    learns = True

    def __init__(self, setting: Setting, *, population: int | None = None) -> None:
        if population is not None and population < FEWEST:
            raise UsageError(f"population: expected {FEWEST} or more, got {population}.", where="strategy")
        _need_cmaes()
        self._setting, self._population = setting, population
        self._distribution: Distribution | None = None
        self._beginnings = 0
        self._waiting: list[tuple[Seen, int]] = []
        self._tolds = 0

    def propose(self, history: History) -> Move | None:
        if not self._setting.space.dimensions:
            return None
        distribution = self._read(history)
        values = unseen(self._setting, history, lambda number, turn: distribution.draw(self._seed(number, turn)))
        return None if values is None else Move(values=values)

    def _read(self, history: History) -> Distribution:
        """The distribution after all outcomes that may be known."""
        distribution = self._distribution or self._first(history)
        for told in history.tolds[self._tolds :]:
            if (seen := seen_of(told, history)) is not None:
                self._waiting.append((seen, self._seed(told.number, 0)))
            if len(self._waiting) == distribution.population:
                distribution.learn(*zip(*self._waiting, strict=True))
                self._waiting = []
                if distribution.converged:
                    distribution = self._anew(distribution)
        self._tolds, self._distribution = len(history.tolds), distribution
        return distribution

    def _first(self, history: History) -> Distribution:
        space = self._setting.space
        given = history.asks[0].values if history.asks and history.asks[0].given else {}
        known = frozenset({*given, *space.default})
        return Distribution(space, space.completed(given), known=known, population=self._population)

    def _anew(self, before: Distribution) -> Distribution:
        self._beginnings += 1
        random = stream(self._setting.seed, "cmaes", "beginning", self._beginnings)
        centre = self._setting.space.sample(random, prior=True)
        return Distribution(self._setting.space, centre, known=frozenset(), population=GROWTH * before.population)

    def _seed(self, number: int, turn: int) -> int:
        return derive(self._setting.seed, "cmaes", number, turn)


def _pieces(domain: Domain) -> tuple[Any, ...]:
    """The values that are told apart one by one; none of a range of numbers, or of as good as one."""
    if isinstance(domain, FloatRange) or (isinstance(domain, IntRange) and domain.count > MOST_PIECES):
        return ()
    return domain.grid(int(domain.count))


def _or_middle(place: float, domain: Domain) -> float:
    """The place, or the middle's for a dimension that is not there."""
    return domain.place_of(domain.middle) if math.isnan(place) else float(place)


def _spread(domain: Domain) -> float:
    """The first standard deviation of a number: half of the part that the central 68 % of its prior take, of what is in range."""
    if domain.prior is None:
        return SPREAD
    return max((domain.warp(0.84) - domain.warp(0.16)) / 2, 10 * CONVERGED)


def _need_cmaes() -> None:
    import importlib.util

    if importlib.util.find_spec("cmaes") is None:
        raise MissingPackageError(
            "the package 'cmaes' is not installed.",
            where="strategy",
            cure="Install it: pip install 'trainwright[bayesian]'; random, sobol, asha and hyperband need nothing more.",
        )
