"""The coach: the strategy that diagnoses, prescribes, trains the prescriptions beside a control, and keeps what is proven.

A round: findings of the incumbent → prescriptions → a control (nothing changed, another seed) and an arm for each
prescription with the same budget and seed → paired comparison with Holm's correction → the best proven arm becomes the
incumbent, or the simpler recipe stays. Decisions depend on outcomes alone, told in order (decision 7).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from trainwright.diagnosis.comparison import Comparison, adopted, compare
from trainwright.diagnosis.noise import noise_floor
from trainwright.diagnosis.prescribe import Tried, prescribe
from trainwright.diagnosis.remedies.case import Circumstances
from trainwright.diagnosis.stats import Score
from trainwright.diagnosis.wording import points_within
from trainwright.recipe import Recipe
from trainwright.records import Interval, Outcome, Prescription, Proposal, Role
from trainwright.search import planning, telling
from trainwright.search.ledger import Ledger
from trainwright.search.rounds import Arm, Entry, Incumbent, Round, Step
from trainwright.seeding import derive

MOST_ARMS = 3  # of a round: Holm's correction over more asks for gains that few remedies have
CONFIRMING = 2  # runs that follow an arm which seems better: that arm and the control once more
FINAL_SHARE = 0.5  # of the budget, kept for a longer training of what was found and the final one on all images
STRETCH_SHARE = 0.3  # of what is left for these two: the longer one, on train alone
LONGER = 2  # times the epochs, from one round to the next where longer training may pay
LONGEST = 4  # times the longest training so far: as far as the next one goes beyond it
LEAST_GAIN = 0.25  # of the noise of a difference: what is expected to gain less is not tried
ROOM = 0.95  # of what is left that a plan may fill: estimates are estimates

LOST = Interval(
    value=-planning.HOPELESS, low=-1.0, high=0.0
)  # what is known of the gain of an arm that was stopped or failed
WORDS = {"adopt": "adopted", "no-evidence": "no evidence", "worse": "worse"}
Plan = Generator[list[Proposal], list[Outcome], None]
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
        self.noise = math.nan
        self.baselines: list[Outcome] = []
        self.incumbent: Incumbent | None = None
        self.final: Outcome | None = None
        self.tried: list[Tried] = []
        self._proven: list[Prescription] = []
        self._longest = 0
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
        self.ledger.book(outcome.seconds)
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

    def _propose(self, role: Role, recipe: Recipe, label: str, **more: Any) -> Proposal:
        number = self._count
        self._count += 1
        return Proposal(number=number, role=role, recipe=recipe, label=label, **more)

    def _say(self, step: Step, text: str, *runs: str) -> None:
        self.entries.append(Entry(step=step, text=text, runs=runs))

    # The play

    def _play(self) -> Plan:
        first = yield from self._baseline()
        if first is None:
            return
        while True:
            went_on = yield from self._round(len(self.rounds) + 1)
            if not went_on:
                break
        yield from self._stretch()
        yield from self._finish()

    def _baseline(self) -> Generator[list[Proposal], list[Outcome], Outcome | None]:
        (outcome,) = yield [
            self._propose("baseline", self.recipe, "baseline", reason="what everything is compared with")
        ]
        if outcome.state != "finished" or outcome.answers is None:
            self._say(
                "decision",
                f"The baseline {outcome.state}: {telling.why(outcome)} Nothing can be compared with it.",
                outcome.run,
            )
            return None
        recipe = planning.filled(self.recipe, outcome)
        self.baselines = [outcome]
        self.incumbent = Incumbent(recipe=recipe, chosen=outcome)
        self._longest = recipe.epochs
        self.ledger.learn(
            epochs=outcome.result["epochs"],
            seconds=outcome.seconds,
            training_seconds=outcome.result["seconds"],
        )
        self._say("outcome", f"Baseline: {telling.scored(outcome)}, {telling.gap(outcome)}.", outcome.run)
        return outcome

    def _round(self, number: int) -> Rounds:
        """One round; whether another one may follow."""
        incumbent = self._held
        epochs = self._epochs(number)
        arms = self._prescriptions(epochs)
        if not arms:
            return False
        believed = telling.believed(incumbent.judged)
        self._say("belief", f"Round {number}. {believed}", incumbent.judged.run)
        base = incumbent.recipe.changed({"epochs": epochs, "seed": self._seed(number, 1)})
        why = "nothing changed, another seed: what chance and length alone do"
        (control,) = yield [self._propose("control", base, "control", reason=why)]
        if control.answers is None:
            said = f"The control {control.state}: {telling.why(control)} No comparison without it."
            self._say("decision", said, control.run)
            return False
        self._take_in(control, epochs)
        self._say("outcome", f"Control, {epochs} epochs: {telling.scored(control)}.", control.run)
        floor = planning.floor_under(control, self._chance)
        for one in arms:
            changes = ", ".join(f"{key}: {value}" for key, value in one.changes.items())
            self._say("trial", f"Trying {one.remedy} ({changes}): {one.reason}")
        outcomes = yield [
            self._propose("arm", planning.with_remedy(base, one), one.remedy, reason=one.reason, floor=floor)
            for one in arms
        ]
        this = Round(number=number, epochs=epochs, believed=believed, control=control)
        self.rounds.append(this)
        unchanged = incumbent.unchanged(epochs)
        first = {
            one.remedy: self._compared([outcome], unchanged)
            for one, outcome in zip(arms, outcomes, strict=True)
            if outcome.answers is not None
        }
        for one, outcome in zip(arms, outcomes, strict=True):
            this.arms.append(self._first_look(one, outcome, first))
        yield from self._decide(this, base, first)
        return this.adopted is not None or self._worth_going_on()

    def _first_look(self, one: Prescription, outcome: Outcome, first: Mapping[str, Comparison]) -> Arm:
        """What an arm looks like beside the trainings of the unchanged recipe."""
        compared = first.get(one.remedy)
        verdict = "hopeless" if compared is None else WORDS[adopted(first, noise=self._sigma)[one.remedy].decision]
        said = telling.why(outcome) if compared is None else f"against the control {points_within(compared.gain)}."
        self._say("outcome", f"{one.remedy}: {telling.scored(outcome)}; {said}", outcome.run)
        return Arm(prescription=one, outcome=outcome, verdict=verdict, comparison=compared)

    def _decide(self, this: Round, base: Recipe, first: Mapping[str, Comparison]) -> Plan:
        """Train the best of the arms that seem better once more, and the control with it; adopt it if it still is."""
        passing = [arm for arm in this.arms if arm.verdict == "adopted" and arm.comparison is not None]
        passing.sort(key=lambda arm: -arm.comparison.gain.value)  # type: ignore[union-attr]
        rules = frozenset(rule for rule, answer in telling.answers(self._held.judged).items() if answer == "yes")
        again: Outcome | None = None
        if passing:
            best = passing[0]
            again = yield from self._once_more(this, best, base, first)
            for other in passing[1:]:
                other.verdict = "better"
        for arm in this.arms:
            gain = LOST if arm.comparison is None else arm.comparison.gain
            one = arm.prescription
            self.tried.append(
                Tried(
                    remedy=one.remedy,
                    changes=one.changes,
                    gain=gain,
                    adopted=arm.verdict in ("adopted", "better"),
                    findings=rules,
                )
            )
        if again is None:
            self._say("decision", "No arm is better than the control beyond chance: the simpler recipe stays.")
            return
        one, outcome = best.prescription, best.outcome
        this.adopted = one.remedy
        self._proven = [arm.prescription for arm in passing[1:]]
        recipe = planning.filled(planning.with_remedy(self._held.recipe.changed({"epochs": this.epochs}), one), outcome)
        self.incumbent = Incumbent(
            recipe=recipe.changed({"seed": self.recipe.seed}),
            chosen=outcome,
            fresh=[again],
            remedies=(*self._held.remedies, one.remedy),
            cost=self._cost(again),
        )
        names = ", ".join(other.remedy for other in self._proven)
        others = f" Also better at first sight, to be combined with it: {names}." if names else ""
        self._say("decision", f"Adopted: {this.adopted}.{others}", outcome.run, again.run)

    def _once_more(
        self, this: Round, best: Arm, base: Recipe, first: Mapping[str, Comparison]
    ) -> Generator[list[Proposal], list[Outcome], Outcome | None]:
        """The arm and the control with a seed that neither was looked at with; the arm's outcome if it holds up, else None.

        What is the best of several arms by chance does not come again: in rounds of arms without any effect, on recorded
        runs, this takes false adoptions from 12 to 2 in 100 where seeds differ most (docs/log.md).
        """
        one = best.prescription
        best.verdict = "not confirmed"
        if CONFIRMING * self.ledger.seconds(this.epochs, cost=self._held.cost) > self.ledger.left:
            self._say("decision", f"No time is left to look at {one.remedy} with another seed: it is not adopted.")
            return None
        fresh = base.changed({"seed": self._seed(this.number, 2)})
        reason = "the arm that seems better, and the control, once more with another seed"
        control, again = yield [
            self._propose("control", fresh, "control, once more", reason=reason),
            self._propose("confirmation", planning.with_remedy(fresh, one), f"{one.remedy}, once more", reason=reason),
        ]
        if control.answers is None or again.answers is None:
            return None
        self._take_in(control, this.epochs)
        compared = self._compared([best.outcome, again], self._held.unchanged(this.epochs))
        verdict = adopted({**first, one.remedy: compared}, noise=self._sigma)[one.remedy]
        best.comparison = compared
        held = verdict.decision == "adopt"
        best.verdict = "adopted" if held else "not confirmed"
        said = f"Once more with another seed: {one.remedy} {telling.scored(again)}, control {telling.scored(control)}"
        over = f"{points_within(compared.gain)} over {compared.seeds[0]} and {compared.seeds[1]} trainings"
        self._say("outcome", f"{said}; {over}: {best.verdict}.", again.run, control.run)
        return again if held else None

    def _stretch(self) -> Plan:
        """The incumbent for longer, on train alone: whether length pays, and the figures of the recipe that is handed over."""
        incumbent = self._held
        if not self._longer_pays():
            return
        share = STRETCH_SHARE if self.on_all is not None else 1.0
        fits = self.ledger.epochs(ROOM * share * self.ledger.left, cost=incumbent.cost)
        epochs = min(fits, LONGEST * self._longest)
        if epochs < LONGER * incumbent.recipe.epochs:
            return
        recipe = incumbent.recipe.changed({"epochs": epochs, "seed": self._seed(0, 1)})
        self._say(
            "trial", f"Trying the same for longer ({epochs} epochs): an annealed training that has not come to rest."
        )
        (outcome,) = yield [self._propose("arm", recipe, "longer", reason="whether length pays for what was found")]
        if outcome.answers is None:
            self._say("outcome", f"longer: {telling.why(outcome)}", outcome.run)
            return
        compared = self._compared([outcome], incumbent.fresh or [incumbent.chosen])
        longer = adopted({"longer": compared}, noise=self._sigma)["longer"].decision == "adopt"
        said = "adopted" if longer else "no evidence that length pays, so it stays as long as it was"
        self._say("outcome", f"longer: {telling.scored(outcome)}; {points_within(compared.gain)}: {said}.", outcome.run)
        if longer:
            self._longest = epochs
            incumbent.recipe = incumbent.recipe.changed({"epochs": epochs})
            incumbent.chosen, incumbent.fresh = outcome, [outcome]
            incumbent.remedies = (*incumbent.remedies, "longer")

    def _finish(self) -> Plan:
        """The incumbent on train and val together: as long as it was compared, longer only where that was found to pay."""
        if self.on_all is None:
            return
        incumbent = self._held
        fits = self.ledger.epochs(ROOM * self.ledger.left, cost=incumbent.cost * self.on_all)
        stretched = LONGEST * self._longest if incumbent.remedies[-1:] == ("longer",) else incumbent.recipe.epochs
        epochs = min(fits, stretched)
        if epochs < incumbent.recipe.epochs:
            said = "No time is left for a final training on train and val: the best run so far is the model."
            self._say("decision", said)
            return
        changes = {"epochs": epochs, "data.train_on": "train+val", "keep": "last", "early_stop": None}
        why = "nothing left to choose, so the validation images may be learned from too"
        recipe = incumbent.recipe.changed(changes)
        (outcome,) = yield [self._propose("final", recipe, "final", reason=why, on_all=True)]
        if outcome.state == "finished":
            self.final = outcome
            said = f"Final training, {epochs} epochs on train and val together: done. The test part is locked."
            self._say("outcome", said, outcome.run)

    # What is believed and planned

    @property
    def _held(self) -> Incumbent:
        assert self.incumbent is not None
        return self.incumbent

    def _seed(self, number: int, turn: int) -> int:
        """Of a round's runs; turn: 1, or 2 for those that confirm."""
        return derive(self.seed, "coach", number, turn) % 2**31

    def _compared(self, arm: Sequence[Outcome], control: Sequence[Outcome]) -> Comparison:
        """Each side's trainings differ in seed alone."""
        sides = [[outcome.answers for outcome in side if outcome.answers is not None] for side in (arm, control)]
        noise = None if math.isnan(self.noise) else self.noise
        return compare(sides[0], sides[1], score=self.score, groups=arm[0].groups, noise=noise)

    def _take_in(self, control: Outcome, epochs: int) -> None:
        """A control is the incumbent with a fresh seed: it says how much seed alone does, and whether longer pays."""
        incumbent = self._held
        same_length = epochs == incumbent.recipe.epochs
        incumbent.fresh.append(control)
        alike = [outcome.answers for outcome in incumbent.unchanged(epochs) if outcome.answers is not None]
        if len(alike) > 1:
            self.noise = noise_floor(*alike, score=self.score, groups=control.groups)
        if not incumbent.remedies and same_length:
            self.baselines.append(control)
        if not same_length and control.score >= incumbent.chosen.score - self._chance:
            incumbent.recipe = incumbent.recipe.changed({"epochs": epochs})
        self._longest = max(self._longest, epochs)
        self.ledger.learn(
            epochs=control.result["epochs"],
            seconds=control.seconds,
            training_seconds=control.result["seconds"],
            cost=incumbent.cost,
        )

    def _cost(self, outcome: Outcome) -> float:
        """Time of an epoch over that of the baseline's, as it was."""
        measured: float = outcome.result["seconds"] / outcome.result["epochs"] / self.ledger.pace.epoch_seconds
        return max(measured, 1e-3)

    @property
    def _sigma(self) -> float:
        return 0.0 if math.isnan(self.noise) else self.noise

    @property
    def _chance(self) -> float:
        """The noise of a difference."""
        return math.sqrt(2) * self._sigma

    def _longer_pays(self) -> bool:
        """A training that anneals and does not overfit gains by length, or at least does not lose."""
        incumbent = self._held
        findings = telling.answers(incumbent.judged)
        anneals = incumbent.recipe.schedule.name not in ("constant",)
        return anneals and (findings.get("still-improving") != "no" or findings.get("overfits") != "yes")

    def _epochs(self, number: int) -> int:
        """Of the trainings of a round: those of the incumbent, twice as many where that may pay and fits."""
        incumbent = self._held
        now = incumbent.recipe.epochs
        if (
            number > 1
            and self._longer_pays()
            and incumbent.remedies
            and self._fitting(now * LONGER, runs=1 + 2 + CONFIRMING)
        ):
            return now * LONGER
        return now

    def _fitting(self, epochs: int, *, runs: int) -> bool:
        return runs * self.ledger.seconds(epochs, cost=self._held.cost) <= self._explorable

    @property
    def _explorable(self) -> float:
        """Seconds for rounds: what is left but for the final training."""
        kept = FINAL_SHARE * self.ledger.limit if self.on_all is not None else 0.0
        return ROOM * (self.ledger.left - kept) if math.isfinite(self.ledger.limit) else math.inf

    def _prescriptions(self, epochs: int) -> list[Prescription]:
        """The arms of a round; none where nothing fits into what is left, or may still gain more than chance."""
        incumbent = self._held
        circumstances = Circumstances(
            **self.known,
            score=incumbent.judged.score,
            gap=telling.number(incumbent.judged.result["gap"]["value"]),
            train_error=1 - telling.number(incumbent.judged.result["score"]["train"]),
            seconds_per_epoch=self.ledger.pace.epoch_seconds * incumbent.cost,
            budget_epochs=self._explorable / (self.ledger.pace.epoch_seconds * incumbent.cost),
        )
        base = incumbent.recipe.changed({"epochs": epochs})
        found = prescribe(telling.findings_of(incumbent.judged), base, circumstances, tuple(self.tried))
        candidates = [*planning.joined(self._proven), *(one for one in found if one.changes)]
        left = self._explorable - (1 + CONFIRMING) * self.ledger.seconds(epochs, cost=incumbent.cost)
        chosen = planning.affordable(
            candidates, base, self.ledger, seconds=left, cost=incumbent.cost, least_gain=LEAST_GAIN * self._chance
        )
        if not chosen and candidates:
            self._say("decision", "No time is left for another round, or no remedy may still gain more than chance.")
        return chosen[:MOST_ARMS]

    def _worth_going_on(self) -> bool:
        """Two rounds without a proven arm are the end."""
        return not (len(self.rounds) > 1 and self.rounds[-2].adopted is None)

    def gain(self) -> Comparison | None:
        """The incumbent against the baseline, by runs that were not chosen for their score where there are any."""
        incumbent = self.incumbent
        if incumbent is None or not incumbent.remedies:
            return None
        return self._compared(incumbent.fresh or [incumbent.chosen], self.baselines)

    def summary(self) -> str:
        """The study in a few sentences: what was wrong, what helped, by how much, how sure, what next."""
        if self.incumbent is None:
            return "The baseline did not finish, so nothing was compared."
        tried = sum(len(one.arms) for one in self.rounds)
        return telling.summary(self.baselines[0], self.incumbent, self.gain(), tried=tried)
