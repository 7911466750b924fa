"""The coach: the strategy that diagnoses, prescribes, trains the prescriptions beside a control, and keeps what is proven.

A round: findings of the incumbent → prescriptions → a control (nothing changed, another seed) and an arm for each
prescription with the same budget and seed → paired comparison with Holm's correction → the best proven arm becomes the
incumbent, or the simpler recipe stays. Decisions depend on outcomes alone, told in order (decision 7)."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from trainwright.diagnosis.comparison import Comparison, compare
from trainwright.diagnosis.noise import noise_floor
from trainwright.diagnosis.prescribe import Tried, prescribe
from trainwright.diagnosis.remedies.case import Circumstances
from trainwright.diagnosis.stats import Score
from trainwright.diagnosis.wording import against
from trainwright.recipe import Recipe
from trainwright.records import Outcome, Prescription, Proposal, Role
from trainwright.search import beginning, deciding, ending, planning, telling
from trainwright.search.ledger import Ledger
from trainwright.search.rounds import Entry, Incumbent, Length, Round, Step, Unproven
from trainwright.seeding import derive

MOST_ARMS = 3  # of a round: Holm's correction over more asks for gains that few remedies have
LEAST_GAIN = 0.25  # of the noise of a difference: what is expected to gain less is not tried
Rounds = Generator[list[Proposal], list[Outcome], bool]


class Coach:
    """A `Strategy`. `entries`: the story so far; `rounds`; `result()` once it is done."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        ledger: Ledger,
        score: Score | None,
        known: Mapping[str, Any],
        seed: int = 0,
        on_all: float | None = None,
    ) -> None:
        """recipe: the baseline. score: of summed tallies; None where it is the share of images that are right. known: fields of
        `Circumstances` that no run changes. on_all: images of train and val over those of train, None to train no final one.
        """
        self.recipe, self.ledger, self.score, self.known = recipe, ledger, score, dict(known)
        self.seed, self.on_all = seed, on_all
        self.entries: list[Entry] = []
        self.rounds: list[Round] = []
        self.lengths: list[Length] = []
        self.short_of_time = False  # whether there was a remedy that its time did not allow
        self.noise = math.nan
        self.baselines: list[Outcome] = []
        self.incumbent: Incumbent | None = None
        self.final: Outcome | None = None
        self.unproven: Unproven | None = None
        self.tried: list[Tried] = []
        self.proven: list[Prescription] = []  # what a round found, to be combined in the next one
        self._known_recipes: list[Recipe] = []  # that were arms already
        self._count = 0
        self._told: list[Outcome] = []
        self._plan = self._play()
        self._queue: list[Proposal] = []
        self._asked: list[Proposal] = []
        self._ended = False
        self._advance(None)

    # The strategy

    def ask(self) -> Proposal | None:
        return self._queue.pop(0) if self._queue else None

    def tell(self, outcome: Outcome) -> None:
        self.ledger.book(outcome.seconds if outcome.elapsed is None else outcome.elapsed)
        self._told.append(outcome)
        if len(self._told) == len(self._asked):
            outcomes = sorted(self._told, key=lambda told: told.number)
            self._told = []
            self._advance(outcomes)

    @property
    def done(self) -> bool:
        return self._ended

    def _advance(self, outcomes: list[Outcome] | None) -> None:
        try:
            self._asked = next(self._plan) if outcomes is None else self._plan.send(outcomes)
            self._queue = list(self._asked)
        except StopIteration:
            self._ended = True

    def propose(self, role: Role, recipe: Recipe, label: str, **more: Any) -> Proposal:
        number = self._count
        self._count += 1
        return Proposal(number=number, role=role, recipe=recipe, label=label, **more)

    def say(self, step: Step, text: str, *runs: str) -> None:
        self.entries.append(Entry(step=step, text=text, runs=runs))

    # The play

    def _play(self) -> ending.Plan:
        begun = yield from beginning.baseline(self)
        if not begun:
            return
        while True:
            went_on = yield from self._round(len(self.rounds) + 1)
            if not went_on:
                break
        yield from ending.end(self)

    def _round(self, number: int) -> Rounds:
        """One round; whether another one may follow."""
        incumbent = self.held
        epochs = incumbent.recipe.epochs
        lean, due = self._lean(), self._control_is_due(number)
        arms = self._prescriptions(lean=lean, control=due)
        if not arms:
            return False
        believed = telling.believed(incumbent.judged)
        self.say("belief", f"Round {number}. {believed}", incumbent.judged.run)
        base = incumbent.recipe.changed({"seed": self.seed_of(number, 1)})
        control = incumbent.unchanged[-1]
        if lean:
            why = "the trainings of the unchanged recipe so far stand in for it, with other seeds than the arms"
            self.say("decision", f"No time for a control of this round's own: {why}.", control.run)
        asked = [self.propose("control", base, "control", reason=beginning.NOTHING_CHANGED)] if due else []
        if asked and self.ledger.slots == 1:
            (control,) = yield asked
            if not self._control_told(control):
                return False
            asked = []
        floor = planning.floor_under(control, self._chance)
        for one in arms:
            length = planning.with_remedy(base, one).epochs
            much = "" if length == epochs else f", {length} epochs"
            self.say(
                "trial", f"Trying {one.remedy} ({telling.changes(one)}{much}), {against(one.finding)}: {one.reason}"
            )
        asked += [
            self.propose("arm", planning.with_remedy(base, one), one.remedy, reason=one.reason, floor=floor)
            for one in arms
        ]
        outcomes = yield asked
        if len(outcomes) > len(arms):
            beside, *outcomes = outcomes
            control = beside if self._control_told(beside) else control
        this = Round(number=number, epochs=epochs, believed=believed, control=control, lean=lean)
        self.rounds.append(this)
        unchanged = incumbent.unchanged
        first = {
            one.remedy: self.compared([outcome], unchanged)
            if outcome.answers is not None
            else planning.lost(len(unchanged))
            for one, outcome in zip(arms, outcomes, strict=True)
        }
        for one, outcome in zip(arms, outcomes, strict=True):
            this.arms.append(deciding.first_look(self, one, outcome, first))
        yield from deciding.decide(self, this, first)
        return not this.settled and (this.adopted is not None or self._worth_going_on())

    def _control_is_due(self, number: int) -> bool:
        """Whether a round needs a control of its own: where there is time, and none has stood beside the baseline."""
        beside_baseline = self.ledger.slots > 1 and number == 1 and len(self.held.unchanged) > 1
        return not self._lean() and not beside_baseline

    def _control_told(self, control: Outcome) -> bool:
        """Take a round's control in; whether there is something to compare with."""
        if control.answers is None:
            without = "No comparison without it." if self.ledger.slots == 1 else "Earlier trainings stand in for it."
            self.say("decision", f"The control {control.state}: {telling.why(control)} {without}", control.run)
            return False
        self.take_in(control)
        self.say("outcome", f"Control, {control.result['epochs']} epochs: {telling.scored(control)}.", control.run)
        return True

    # What is believed and planned

    @property
    def held(self) -> Incumbent:
        assert self.incumbent is not None
        return self.incumbent

    def seed_of(self, number: int, turn: int) -> int:
        """Of a round's runs. turn: 1, or 2 for those that confirm."""
        return derive(self.seed, "coach", number, turn) % 2**31

    def compared(self, arm: Sequence[Outcome], control: Sequence[Outcome]) -> Comparison:
        """Each side's trainings differ in seed alone."""
        sides = [[outcome.answers for outcome in side if outcome.answers is not None] for side in (arm, control)]
        noise = None if math.isnan(self.noise) else self.noise
        return compare(sides[0], sides[1], score=self.score, groups=arm[0].groups, noise=noise)

    def take_in(self, control: Outcome) -> None:
        """A control is the incumbent with a fresh seed: it says how much seed alone does, and how fast things go now."""
        incumbent = self.held
        incumbent.fresh.append(control)
        alike = [outcome.answers for outcome in incumbent.unchanged if outcome.answers is not None]
        if len(alike) > 1:
            self.noise = noise_floor(*alike, score=self.score, groups=control.groups)
        if not incumbent.remedies:
            self.baselines.append(control)
        self.ledger.learn(
            epochs=control.result["epochs"],
            seconds=control.seconds,
            training_seconds=control.result["seconds"],
            cost=incumbent.cost,
        )

    def cost_of(self, outcome: Outcome) -> float:
        """Time of an epoch over that of the baseline's, as it was."""
        measured: float = outcome.result["seconds"] / outcome.result["epochs"] / self.ledger.pace.epoch_seconds
        return max(measured, 1e-3)

    @property
    def sigma(self) -> float:
        return 0.0 if math.isnan(self.noise) else self.noise

    @property
    def _chance(self) -> float:
        """The noise of a difference."""
        return math.sqrt(2) * self.sigma

    @property
    def explorable(self) -> float:
        """Seconds for rounds: what is left but for the end, where there is something to train then."""
        ends = self.on_all is not None or ending.longer_may_pay(self.held)
        kept = ending.final_share(self.ledger.slots) * self.ledger.limit if ends else 0.0
        return ending.ROOM * (self.ledger.left - kept) if math.isfinite(self.ledger.limit) else math.inf

    @property
    def _with_what_is_kept(self) -> float:
        """Seconds for a round where nothing fits and the incumbent does not profit from length: all but its final training."""
        if ending.longer_may_pay(self.held) or self.on_all is None:
            return self.explorable
        return ending.ROOM * self.ledger.left - ending.final_seconds(self, self.on_all)

    def _lean(self) -> bool:
        """Whether there is no time for a control of a round's own, an arm, and both once more."""
        if self.ledger.slots > 1:  # it is trained beside the others
            return False
        one = self.ledger.seconds(self.held.recipe.epochs, cost=self.held.cost)
        return bool(self.held.unchanged) and (2 + deciding.CONFIRMING) * one > self.explorable

    def _prescriptions(self, *, lean: bool, control: bool) -> list[Prescription]:
        """The arms of a round; none where nothing fits into what is left, or may still gain more than chance."""
        incumbent = self.held
        circumstances = Circumstances(
            **self.known,
            score=incumbent.judged.score,
            gap=telling.number(incumbent.judged.result["gap"]["value"]),
            train_error=1 - telling.number(incumbent.judged.result["score"]["train"]),
            seconds_per_epoch=self.ledger.pace.epoch_seconds * incumbent.cost,
            budget_epochs=self.explorable / (self.ledger.pace.epoch_seconds * incumbent.cost),
        )
        recipe = incumbent.recipe
        found = prescribe(telling.findings_of(incumbent.judged), recipe, circumstances, tuple(self.tried))
        candidates = [*planning.joined(self.proven), *(one for one in found if one.changes)]
        candidates = [one for one in candidates if planning.is_new(recipe, one, self._known_recipes)]
        self.proven = []
        one_run = self.ledger.seconds(recipe.epochs, cost=incumbent.cost)
        plan = partial(
            planning.affordable,
            candidates,
            recipe,
            self.ledger,
            cost=incumbent.cost,
            least_gain=LEAST_GAIN * self._chance,
            most=MOST_ARMS,
            beside=[one_run] if control else [],
            beside_again=[] if lean else [one_run],
        )
        chosen = plan(seconds=self.explorable) or plan(seconds=self._with_what_is_kept)
        self._known_recipes += [planning.with_remedy(recipe, one) for one in chosen]
        if not chosen and plan(seconds=math.inf):
            self.short_of_time = True
            why = "a remedy, and a second look at it, take longer than there is time beside what is kept for the end"
            self.say("decision", f"No further round: {why}.")
        elif not chosen:
            why = "no remedy is left that may gain enough to be told from chance"
            self.say("decision", f"No further round: {why}.")
        return chosen

    def _worth_going_on(self) -> bool:
        """Two rounds in a row without a proven arm are the end, or more where short time left them few arms."""
        fruitless = list(takewhile(lambda one: one.adopted is None, reversed(self.rounds)))
        end = len(fruitless) > 1 and sum(len(one.arms) for one in fruitless) >= MOST_ARMS
        if end:
            self.say(
                "decision", f"No further round: {'two' if len(fruitless) == 2 else len(fruitless)} have proven nothing."
            )
        return not end

    @property
    def handed_over(self) -> tuple[Recipe, Outcome]:
        """(the recipe of the model, the run on train alone that says how good it is)."""
        if self.unproven is not None:
            return self.unproven.recipe, self.unproven.outcome
        return self.held.recipe, self.held.judged

    def gain(self) -> Comparison | None:
        """The incumbent against the baseline, by runs that were not chosen for their score where there are any."""
        incumbent = self.incumbent
        if incumbent is None or not incumbent.remedies:
            return None
        return self.compared(incumbent.fresh or [incumbent.chosen], self.baselines)

    def summary(self) -> str:
        """The study in a few sentences: what was wrong, what helped, by how much, how sure, what next."""
        if self.incumbent is None:
            return "The baseline did not finish, so nothing was compared."
        tried = sum(len(one.arms) for one in self.rounds)
        return telling.summary(self.baselines, self.incumbent, self.gain(), tried=tried, unproven=self.unproven)
