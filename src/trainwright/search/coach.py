"""The coach: the strategy that diagnoses, prescribes, trains the prescriptions beside a control, and keeps what is proven.

A round: findings of the incumbent → prescriptions → a control (nothing changed, another seed) and an arm for each
prescription with the same budget and seed → paired comparison with Holm's correction → the best proven arm becomes the
incumbent, or the simpler recipe stays. Decisions depend on outcomes alone, told in order (decision 7).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from trainwright.diagnosis.comparison import Comparison, adopted, compare
from trainwright.diagnosis.noise import noise_floor
from trainwright.diagnosis.prescribe import Tried, combine, prescribe
from trainwright.diagnosis.remedies.case import Circumstances
from trainwright.diagnosis.stats import Score
from trainwright.diagnosis.wording import points_within
from trainwright.recipe import Recipe
from trainwright.records import Interval, Outcome, Prescription, Proposal, Role
from trainwright.search import telling
from trainwright.search.ledger import Ledger
from trainwright.search.rounds import Arm, Entry, Incumbent, Round, Step
from trainwright.seeding import derive

MOST_ARMS = 3  # of a round: Holm's correction over more asks for gains that few remedies have
FINAL_SHARE = 0.38  # of the budget, kept for the final training
LONGER = 2  # times the epochs, from one round to the next where longer training may pay
LONGEST = 4  # times the longest training that was compared: as far as the final one goes beyond it
RETUNE_COST = 0.1  # of a training: the range test (training/lr_range.py)
HOPELESS = 0.10  # below the control at the same epoch by this and by five noise floors of a difference: stopped
JUDGED_FROM = 1 / 2  # of the training: before that, regularized trainings lie below for good reasons
LEAST_JUDGED = 6  # epochs of a control: a shorter one says too little of its way
ROOM = 0.95  # of what is left that a plan may fill: estimates are estimates

LOST = Interval(value=-HOPELESS, low=-1.0, high=0.0)  # what is known of the gain of an arm that was stopped or failed
WORDS = {"adopt": "adopted", "no-evidence": "no evidence", "worse": "worse"}
Plan = Generator[list[Proposal], list[Outcome], None]


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
        yield from self._confirm()
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
        recipe = filled(self.recipe, outcome)
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

    def _round(self, number: int) -> Generator[list[Proposal], list[Outcome], bool]:
        """One round; whether another one may follow."""
        incumbent = self._held
        epochs = self._epochs(number)
        arms = self._prescriptions(epochs)
        if not arms:
            return False
        believed = telling.believed(incumbent.judged)
        self._say("belief", f"Round {number}. {believed}", incumbent.judged.run)
        seed = derive(self.seed, "coach", number) % 2**31
        base = incumbent.recipe.changed({"epochs": epochs, "seed": seed})
        (control,) = yield [
            self._propose(
                "control", base, "control", reason="nothing changed, another seed: what chance and length alone do"
            )
        ]
        if control.answers is None:
            self._say(
                "decision",
                f"The control {control.state}: {telling.why(control)} No comparison without it.",
                control.run,
            )
            return False
        self._take_in(control, epochs)
        self.ledger.learn(
            epochs=epochs, seconds=control.seconds, training_seconds=control.result["seconds"], cost=incumbent.cost
        )
        self._say("outcome", f"Control, {epochs} epochs: {telling.scored(control)}.", control.run)
        floor = self._floor(control)
        proposals = [
            self._propose(
                "arm",
                base.changed({**one.changes, "epochs": _length(one, epochs)}),
                one.remedy,
                reason=one.reason,
                floor=floor,
            )
            for one in arms
        ]
        for one in arms:
            self._say(
                "trial",
                f"Trying {one.remedy} ({', '.join(f'{key}: {value}' for key, value in one.changes.items())}): {one.reason}",
            )
        outcomes = yield proposals
        this = Round(number=number, epochs=epochs, believed=believed, control=control)
        self.rounds.append(this)
        return self._decide(this, arms, outcomes)

    def _decide(self, this: Round, arms: Sequence[Prescription], outcomes: Sequence[Outcome]) -> bool:
        """Compare every arm with the control, adopt the best proven one; whether another round may follow."""
        comparisons = {
            arm.remedy: compare(
                [outcome.answers],
                [this.control.answers],
                score=self.score,
                groups=outcome.groups,
                noise=None if math.isnan(self.noise) else self.noise,
            )
            for arm, outcome in zip(arms, outcomes, strict=True)
            if outcome.answers is not None and this.control.answers is not None
        }
        verdicts = adopted(comparisons, noise=0.0 if math.isnan(self.noise) else self.noise)
        rules = frozenset(rule for rule, answer in telling.answers(self._held.judged).items() if answer == "yes")
        for arm, outcome in zip(arms, outcomes, strict=True):
            compared = comparisons.get(arm.remedy)
            verdict = WORDS[verdicts[arm.remedy].decision] if compared is not None else "hopeless"
            this.arms.append(
                Arm(prescription=arm, run=outcome.run, score=outcome.score, verdict=verdict, comparison=compared)
            )
            self.tried.append(
                Tried(
                    remedy=arm.remedy,
                    changes=arm.changes,
                    gain=LOST if compared is None else compared.gain,
                    adopted=verdict == "adopted",
                    findings=rules,
                )
            )
            said = f"{points_within(compared.gain)}" if compared is not None else telling.why(outcome)
            self._say(
                "outcome",
                f"{arm.remedy}: {telling.scored(outcome)}; against the control {said}: {verdict}.",
                outcome.run,
            )
        proven = [arm for arm in this.arms if arm.verdict == "adopted" and arm.comparison is not None]
        proven.sort(key=lambda arm: -arm.comparison.gain.value)  # type: ignore[union-attr]
        if not proven:
            self._say("decision", "No arm is better than the control beyond chance: the simpler recipe stays.")
            return self._worth_going_on()
        best = proven[0]
        outcome = next(outcome for outcome in outcomes if outcome.run == best.run)
        this.adopted = best.prescription.remedy
        self._proven = [arm.prescription for arm in proven[1:]]
        length = {"epochs": _length(best.prescription, this.epochs)}
        recipe = filled(self._held.recipe.changed({**best.prescription.changes, **length}), outcome)
        self.incumbent = Incumbent(
            recipe=recipe.changed({"seed": self.recipe.seed}),
            chosen=outcome,
            remedies=(*self._held.remedies, best.prescription.remedy),
            cost=self._cost(outcome),
        )
        others = (
            f" Also proven, to be combined with it: {', '.join(one.remedy for one in self._proven)}."
            if self._proven
            else ""
        )
        self._say("decision", f"Adopted: {this.adopted}.{others}", best.run)
        return True

    def _confirm(self) -> Plan:
        """The incumbent with a seed that it was not chosen by, where no control has been that yet."""
        incumbent = self._held
        if not incumbent.remedies or incumbent.fresh:
            return
        if self.ledger.seconds(incumbent.recipe.epochs, cost=incumbent.cost) > self.ledger.left:
            self._say(
                "decision", "No time is left to confirm the last choice with a fresh seed: its score is a little lucky."
            )
            return
        recipe = incumbent.recipe.changed({"seed": derive(self.seed, "coach", "confirm") % 2**31})
        (outcome,) = yield [
            self._propose("confirmation", recipe, "confirmation", reason="the last choice, with a fresh seed")
        ]
        if outcome.answers is not None:
            incumbent.fresh.append(outcome)
            self._say("outcome", f"Confirmed with a fresh seed: {telling.scored(outcome)}.", outcome.run)

    def _finish(self) -> Plan:
        """The incumbent, longer where that was not found to hurt, on train and val together."""
        if self.on_all is None:
            return
        incumbent = self._held
        cost = incumbent.cost * self.on_all
        fits = self.ledger.epochs(ROOM * self.ledger.left, cost=cost)
        epochs = min(fits, LONGEST * self._longest) if self._longer_pays() else min(fits, incumbent.recipe.epochs)
        if epochs < incumbent.recipe.epochs:
            self._say(
                "decision", "No time is left for a final training on train and val: the best run so far is the model."
            )
            return
        recipe = incumbent.recipe.changed({"epochs": epochs, "data.train_on": "train+val", "keep": "last"})
        why = "nothing left to choose, so the validation images may be learned from too"
        (outcome,) = yield [self._propose("final", recipe, "final", reason=why, on_all=True)]
        if outcome.state == "finished":
            self.final = outcome
            self._say(
                "outcome",
                f"Final training, {epochs} epochs on train and val together: done. The test part is locked.",
                outcome.run,
            )

    # What is believed and planned

    @property
    def _held(self) -> Incumbent:
        assert self.incumbent is not None
        return self.incumbent

    def _take_in(self, control: Outcome, epochs: int) -> None:
        """A control is the incumbent with a fresh seed: it says how much seed alone does, and whether longer pays."""
        incumbent = self._held
        same_length = epochs == incumbent.recipe.epochs
        if same_length and incumbent.chosen.answers is not None and control.answers is not None:
            sigma = noise_floor(incumbent.chosen.answers, control.answers, score=self.score, groups=control.groups)
            self.noise = sigma if math.isnan(self.noise) else (self.noise + sigma) / 2
        if not incumbent.remedies and same_length:
            self.baselines.append(control)
        incumbent.fresh.append(control)
        if not same_length:
            longer = incumbent.recipe.changed({"epochs": epochs})
            if control.score >= incumbent.chosen.score - self._chance:
                incumbent.recipe = longer
        self._longest = max(self._longest, epochs)

    def _cost(self, outcome: Outcome) -> float:
        """Time of an epoch over that of the baseline's, as it was."""
        measured: float = outcome.result["seconds"] / outcome.result["epochs"] / self.ledger.pace.epoch_seconds
        return max(measured, 1e-3)

    @property
    def _chance(self) -> float:
        """The noise of a difference."""
        return 0.0 if math.isnan(self.noise) else math.sqrt(2) * self.noise

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
        if number > 1 and self._longer_pays() and incumbent.remedies and self._fitting(now * LONGER, arms=2):
            return now * LONGER
        return now

    def _fitting(self, epochs: int, *, arms: int) -> bool:
        return (1 + arms) * self.ledger.seconds(epochs, cost=self._held.cost) <= self._explorable

    @property
    def _explorable(self) -> float:
        """Seconds for rounds: what is left but for the final training."""
        kept = FINAL_SHARE * self.ledger.limit if self.on_all is not None else 0.0
        return ROOM * (self.ledger.left - kept) if math.isfinite(self.ledger.limit) else math.inf

    def _prescriptions(self, epochs: int) -> list[Prescription]:
        """The most promising ones that fit into what is left, proven ones combined first; none where the gain that is still
        possible lies below the noise floor."""
        incumbent = self._held
        judged = incumbent.judged.result
        findings = telling.findings_of(incumbent.judged)
        circumstances = Circumstances(
            **self.known,
            score=incumbent.judged.score,
            gap=telling.number(judged["gap"]["value"]),
            train_error=1 - telling.number(judged["score"]["train"]),
            seconds_per_epoch=self.ledger.pace.epoch_seconds * incumbent.cost,
            budget_epochs=self._explorable / (self.ledger.pace.epoch_seconds * incumbent.cost),
        )
        proven = self._proven[0] if self._proven else None
        for other in self._proven[1:]:
            joined = None if proven is None else combine(proven, other)
            proven = joined or proven
        found = prescribe(findings, incumbent.recipe.changed({"epochs": epochs}), circumstances, tuple(self.tried))
        candidates = [*([proven] if proven is not None else []), *(one for one in found if one.changes)]
        control = self.ledger.seconds(epochs, cost=incumbent.cost)
        left = self._explorable - control
        chosen: list[Prescription] = []
        for one in candidates:
            cost = incumbent.cost * one.cost
            seconds = self.ledger.seconds(_length(one, epochs), cost=cost) * (1 + RETUNE_COST * one.retune)
            if len(chosen) < MOST_ARMS and seconds <= left and self._may_help(one) and self._valid(one):
                chosen.append(one)
                left -= seconds
        if not chosen and candidates:
            self._say(
                "decision", "The budget leaves no time for another round, or no remedy may still gain more than chance."
            )
        return chosen

    def _valid(self, one: Prescription) -> bool:
        return self._held.recipe.changed(dict(one.changes)) != self._held.recipe

    def _may_help(self, one: Prescription) -> bool:
        return one.gain >= self._chance / 4

    def _worth_going_on(self) -> bool:
        """Two rounds without a proven arm are the end."""
        return not (len(self.rounds) > 1 and self.rounds[-2].adopted is None)

    def _floor(self, control: Outcome) -> tuple[float, ...]:
        """Val score by epoch below which an arm is hopeless."""
        if control.result["epochs"] < LEAST_JUDGED:
            return ()
        scores = np.maximum.accumulate(np.nan_to_num(np.array(control.result.get("val_scores", [])), nan=-1e9))
        margin = max(HOPELESS, 5 * self._chance)
        start = math.ceil(JUDGED_FROM * len(scores))
        return tuple(-1e9 if epoch < start else float(score) - margin for epoch, score in enumerate(scores))

    def gain(self) -> Comparison | None:
        """The incumbent against the baseline, by runs that were not chosen for their score where there are any."""
        incumbent = self.incumbent
        if incumbent is None or not incumbent.remedies:
            return None
        mine = [outcome.answers for outcome in (incumbent.fresh or [incumbent.chosen]) if outcome.answers is not None]
        theirs = [outcome.answers for outcome in self.baselines if outcome.answers is not None]
        noise = None if math.isnan(self.noise) else self.noise
        return compare(mine, theirs, score=self.score, groups=self.baselines[0].groups, noise=noise)

    def summary(self) -> str:
        """The study in a few sentences: what was wrong, what helped, by how much, how sure, what next."""
        incumbent, gain = self.incumbent, self.gain()
        if incumbent is None:
            return "The baseline did not finish, so nothing was compared."
        first = self.baselines[0]
        tried = sum(len(one.arms) for one in self.rounds)
        verdict = first.result["verdict"]
        began = f"The baseline reached {telling.scored(first)} on unseen images ({telling.gap(first)}; {verdict})."
        if gain is None:
            return (
                f"{began} Of {tried} remedies none was better than a control beyond chance: the recipe stays as it was."
            )
        helped = ", then ".join(incumbent.remedies)
        return (
            f"{began} What helped: {helped}. Now {telling.scored(incumbent.judged)} ({telling.gap(incumbent.judged)}): "
            f"{points_within(gain.gain)} better on the same {gain.images:,} images, p = {gain.p:.2g}."
        )


def _length(one: Prescription, epochs: int) -> int:
    """Epochs of an arm: as much time as the control has, unless the prescription is about the length."""
    return int(one.changes.get("epochs", max(1, round(epochs / one.cost))))


def filled(recipe: Recipe, outcome: Outcome) -> Recipe:
    """The recipe with the learning rate that its run found, where it left that to the range test."""
    if recipe.optimizer.lr is not None:
        return recipe
    used = outcome.result["recipe"]
    return recipe.changed({"optimizer.lr": used["optimizer"]["lr"], "schedule.low": used["schedule"]["low"]})
