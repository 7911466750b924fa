"""The tuner: a strategy that searches within a budget, trains what it found once more with another seed, and then on all images.

    search → the best goes on to its end, where it is paused → once more with another seed → on train and val together

Decisions depend on outcomes alone, told in order (decision 7), and on the seconds that the journal has.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from trainwright.recipe import Recipe
from trainwright.records import Outcome, Proposal
from trainwright.search import planning
from trainwright.search.ending import PLATEAU, ROOM, trained_on_all
from trainwright.search.follow_up import LOOKS, Looked, beyond, told_of
from trainwright.search.history import Ask, Trial
from trainwright.search.ledger import Ledger, Trained
from trainwright.search.recipe_search import RecipeSearch, label_of
from trainwright.search.rounds import Entry, Step
from trainwright.search.trial_lines import line_of, scored
from trainwright.seeding import derive

PERFECT = 1.0  # no score is higher, so nothing is left to be gained
NOTHING_LEFT, PERFECT_SAID = "the strategy has nothing left to try", "no higher score is possible"
NO_TIME = "the time was used up"
TO_ITS_END = "the best so far is paused: to its end"
EXHAUSTIVE = ("list", "grid")  # strategies whose every training was asked for by name
Ending = Generator[Proposal, Outcome, None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found. trial: with the best score of those trained to their end; chosen: its outcome. fresh: the same recipe
    with another seed, whose score nothing was chosen by; None where it was not trained."""

    trial: Trial
    chosen: Outcome
    fresh: Outcome | None = None

    @property
    def judged(self) -> Outcome:
        return self.fresh or self.chosen


class Tuner:
    """A `Strategy`. `entries`: the story so far. `found`: the best, once the search is over. `held`: what is handed over: it, or
    the first trial where another seed takes the advantage away. `final`: the training on all images."""

    def __init__(
        self,
        search: RecipeSearch,
        *,
        ledger: Ledger,
        most_epochs: float | None = None,
        strategy: str = "",
        on_all: float | None = None,
        confirms: bool = True,
        follow_up: bool = False,
    ) -> None:
        """most_epochs: of the search in all; what follows it comes on top, unlike with time, which the ledger limits. The
        search itself knows how many trials may be begun. strategy: its name. on_all: images of train and val over those of
        train, None to train no final one. confirms: whether what was found is trained once more. follow_up: whether the search
        goes on beyond the end of a range that its best lies at (`follow_up.py`)."""
        self.search, self.ledger, self.most_epochs = search, ledger, most_epochs
        self.on_all, self.confirms = on_all, confirms
        self.entries: list[Entry] = []
        self.first: Outcome | None = None  # of the first trial, to its end
        self.found: Found | None = None
        self.held: Found | None = None
        self.final: Outcome | None = None
        self.over = ""  # why the search ended
        space, self._trials = search.search.space, search.search.trials
        self.spaces = [Looked(began=0, space=space, within=space)]
        self._looks = LOOKS if follow_up else ()
        self._patient = strategy in EXHAUSTIVE
        search.search.trials = self._most_trials()
        self._whole = search.recipe.epochs
        self._best = -math.inf
        self._first_perfect: int | None = None  # number of an outcome
        self._asked = self._asked_epochs = 0  # proposals so far, and their epochs
        self._trained = Trained()
        self._open: dict[int, Proposal] = {}
        self.ended: dict[int, float] = {}  # by trial, the scores of those that came to their end
        self._best_ended: tuple[int, Outcome] | None = None  # whole, as the others are not kept
        self._ending: Ending | None = None
        self._next: Proposal | None = None
        self._done = False

    # The strategy

    def ask(self) -> Proposal | None:
        if self._ending is None and not self.over:
            proposal = self._searched()
            if proposal is not None or not self.over:
                return proposal
        if self._open or self._done:
            return None
        if self._ending is None:
            self._ending = self._end()
            self._advance(None)
        return self._taken()

    def restore(self, record: Mapping[str, Any]) -> Proposal | None:
        """Take over an ask of the journal; None where an outcome has to be told before."""
        if record["role"] == "trial" and record["reason"] != TO_ITS_END:
            while self.search.stage < record.get("stage", 0):
                if self._open:
                    return None
                self._look_further()
            return self._begun(self.search.restore(record))
        if self._open:
            return None
        # That time was over was found while trainings were under way, of which some took less than was expected.
        if self._ending is None and self._can_go_on():
            self.over = NO_TIME
        return self.ask()

    def tell(self, outcome: Outcome) -> None:
        elapsed = outcome.seconds if outcome.elapsed is None else outcome.elapsed
        self.ledger.book(elapsed)
        proposal = self._open.pop(outcome.number)
        if proposal.role == "trial":
            self.search.tell(outcome)
            self._take_in(proposal, outcome)
        if self._ending is not None:
            self._advance(outcome)

    @property
    def done(self) -> bool:
        if self._ending is None and not self._open and (self.over or not self._can_go_on()):
            self._ending = self._end()
            self._advance(None)
        return self._done and not self._open

    # The search

    def _searched(self) -> Proposal | None:
        """The next proposal of the search; None where it has to wait, or is over."""
        if self._waits() or not self._can_go_on():
            return None
        proposal = self.search.ask()
        return None if proposal is None else self._begun(proposal)

    def _waits(self) -> bool:
        """Whether an outcome is out that the next ask may know of: with any number of workers the same ones are known."""
        search = self.search.search
        newest = len(search.history.asks) - search.lag
        return not self._patient and newest >= 0 and newest not in search.outcomes

    def _can_go_on(self) -> bool:
        """Whether the search asks for more, now or when it was told more; if not, `over` says why."""
        while not self.over:
            why = self._used_up()
            if not why:
                return True
            if self._open and why == NOTHING_LEFT:
                return True  # what is under way may give it something
            if why == PERFECT_SAID or not (self._share < 1 or (why == NOTHING_LEFT and self._looks_left)):
                self.over = why
            elif self._open:
                return False  # what is under way may move the best
            elif self._first_perfect is not None:
                self.over = PERFECT_SAID
            else:
                self._look_further(why)
        return False

    def _used_up(self) -> str:
        """Why nothing more is asked for with the share of the budget that the search may use now; empty where something is."""
        search = self.search.search
        if not self._patient and self._perfect(len(search.history.asks) - search.lag):
            return PERFECT_SAID
        ask = search.look()
        if ask is None:
            return "all trials of the budget were begun" if search.full and not self._open else NOTHING_LEFT
        epochs, most = self._epochs_of(ask), self.most_epochs
        if ask.number and most is not None and self._asked_epochs + epochs > self._share * most + 1e-9:
            return "the epochs of the budget were used up"
        if ask.number and math.isfinite(self.ledger.limit):
            room = self._share * (self.ledger.limit - self._kept()) - self.ledger.spent
            return NO_TIME if self._seconds_with(epochs) > room else ""
        return ""

    # Beyond its space

    @property
    def follows_up(self) -> bool:
        return bool(self._looks)

    @property
    def _looks_left(self) -> bool:
        return self.search.stage < len(self._looks)

    @property
    def _share(self) -> float:
        """Of the budget, that the search may use before it looks where its best lies. What was asked for by name, all of it."""
        return self._looks[self.search.stage] if self._looks_left and not self._patient else 1.0

    def _most_trials(self) -> int | None:
        return None if self._trials is None else math.ceil(self._share * self._trials)

    def _look_further(self, why: str = "") -> None:
        """Go on beyond the space where the best lies at an end of it, and else in it; all is told. why: it asks for no more."""
        search, before = self.search.search, self.spaces[-1]
        best = search.best()
        found = None if best is None else beyond(before, best[0].values, self.search)
        if found is None and why == NOTHING_LEFT:
            self.over = why
            return
        now = found or before
        self.search.stage += 1
        self.search.go_on(now.space, within=now.within, trials=self._most_trials())
        if found is not None:
            self.spaces.append(found)
        if best is not None:
            named = f"The best so far, trial {best[0].number} ({label_of(best[0].values)}),"
            inside = "lies at no end of a range: the search goes on in its space."
            self._say("decision", f"{named} {inside if found is None else told_of(found)}")

    def _perfect(self, known: int) -> bool:
        """Whether an outcome up to that number is perfect."""
        return self._first_perfect is not None and self._first_perfect <= known

    def _epochs_of(self, ask: Ask) -> int:
        """That an ask which is not taken yet adds to its trial."""
        before = 0 if ask.new else self.search.search.history.trials[ask.trial].asks[-1].epochs or self._whole
        return (ask.epochs or self._whole) - before

    def _seconds_with(self, epochs: float) -> float:
        """From what was told last until all that is under way has ended, with this piece behind it."""
        asked = [self.ledger.seconds(self._epochs_in(one)) for one in self._open.values()]
        return self.ledger.together([*asked, self.ledger.seconds(epochs)])

    def _kept(self) -> float:
        """Seconds that are kept for what follows the search: the best of all to its end, once more, and on all images."""
        kept = self.ledger.seconds(self._whole) if self.confirms else 0.0
        paused = self._best_paused()
        if paused is not None:
            kept += self.ledger.seconds(self._whole - (paused.asks[-1].epochs or self._whole))
        if self.on_all is not None:
            kept += self.ledger.seconds(self._whole, cost=self.on_all)
        return kept / ROOM

    def _begun(self, proposal: Proposal) -> Proposal:
        self._open[proposal.number] = proposal
        self._asked += 1
        self._asked_epochs += self._epochs_in(proposal)
        return proposal

    def _epochs_in(self, proposal: Proposal) -> int:
        return (proposal.epochs_now or self._whole) - proposal.epochs_before

    def _take_in(self, proposal: Proposal, outcome: Outcome) -> None:
        """Learn how fast trainings are, and say what came out."""
        trained = int(outcome.result.get("epochs") or 0)
        if proposal.epochs_before == 0 and trained and outcome.state in ("finished", "paused"):
            self._trained.add(trained, seconds=outcome.seconds, training_seconds=outcome.result["seconds"])
            self._trained.teach(self.ledger)
        began = proposal.number if proposal.continues is None else proposal.continues
        known = math.isfinite(outcome.score) and outcome.state in ("finished", "paused")
        better = known and outcome.score > self._best
        if better:
            self._best = outcome.score
        if known and outcome.score >= PERFECT and self._first_perfect is None:
            self._first_perfect = outcome.number
        if outcome.state == "finished" and known:
            self.ended[began] = outcome.score
            leader = self._best_ended
            if leader is None or (-outcome.score, began) < (-leader[1].score, leader[0]):
                self._best_ended = (began, outcome)
            if began == 0:
                self.first = outcome
        self._say("outcome", line_of(proposal, outcome, began=began, best=better), outcome.run)

    # What follows it

    def _end(self) -> Ending:
        self._say("decision", f"The search is over: {self.over}.")
        paused = self._best_paused()
        if paused is not None:
            yield from self._to_its_end(paused)
        found = self.settle()
        if found is None:
            self._say("decision", "No training came to its end with a score: nothing is handed over.")
            return
        named = f"trial {found.trial.number} ({label_of(found.trial.values)})"
        self._say("decision", f"The best is {named}: {scored(found.chosen)}.", found.chosen.run)
        if self.confirms and len(self.search.search.history.trials) > 1:
            yield from self._confirm(found)
        yield from self._on_all()

    def settle(self) -> Found | None:
        """Hold the best of the trials that came to their end, where nothing is held yet; at any time it is in hand."""
        if self.found is None and self._best_ended is not None:
            best, chosen = self._best_ended
            self.found = self.held = Found(trial=self.search.search.history.trials[best], chosen=chosen)
        return self.found

    @property
    def optimistic(self) -> bool:
        """Whether what is held is the best of several and was not trained once more: luck is part of its score."""
        held, several = self.held, len(self.search.search.history.trials) > 1
        return several and held is not None and held.fresh is None and held is self.found

    def _best_paused(self) -> Trial | None:
        """The trial with the best score of all, where it is paused and may go on."""
        found = self.search.search.best()
        if found is None or found[0].number in self.ended:
            return None
        trial = found[0]
        return trial if self.search.search.outcomes[trial.asks[-1].number].state == "finished" else None

    def _to_its_end(self, trial: Trial) -> Ending:
        search = self.search.search
        before = trial.asks[-1].epochs or self._whole
        if not self._fits(self._whole - before):
            self._say("decision", f"No time is left to train trial {trial.number} to its end.")
            return
        number, values = len(search.history.asks), trial.values
        ask = Ask(number=number, trial=trial.number, values=values, epochs=search.epochs, label=TO_ITS_END)
        search.restore(ask)
        yield self.search.proposal(ask)

    def _confirm(self, found: Found) -> Ending:
        """The winner once more: the best of several is partly luck, and another seed does not have that."""
        if not self._fits(self._whole):
            said = "No time is left to train it once more with another seed: the score of the best of several is partly luck."
            self._say("decision", said)
            return
        recipe = self.search.recipe.changed({**found.trial.values, "seed": self._seed()})
        why = "the best of several trials is partly luck; another seed has none of it"
        fresh = yield self._proposal("confirmation", recipe, "once more", reason=why)
        if fresh.state != "finished" or not math.isfinite(fresh.score):
            message = fresh.result.get("message", "")
            self._say("outcome", f"Once more with another seed: {fresh.state} ({message})", fresh.run)
            return
        self.found = self.held = Found(trial=found.trial, chosen=found.chosen, fresh=fresh)
        self._say(
            "outcome", f"Once more with another seed: {scored(fresh)}, {found.chosen.score:.3f} before.", fresh.run
        )
        first = self.first
        if first is None or found.trial.number == 0 or fresh.score > first.score:
            return
        self.held = Found(trial=self.search.search.history.trials[0], chosen=first)
        stays = f"That is not above the {scored(first)} of the first trial, which stays: nothing shows more than luck."
        self._say("decision", stays, first.run)

    def _on_all(self) -> Ending:
        """What is handed over, on train and val together."""
        if self.on_all is None or self.held is None:
            return
        recipe = self.search.recipe.changed(self.held.trial.values)
        if recipe.schedule.name == PLATEAU:
            why = f"{PLATEAU} needs images that it does not learn from"
            self._say("decision", f"No final training on train and val: {why}.")
            return
        if not self._fits(self._whole, cost=self.on_all):
            said = f"No time is left for a final training on train and val: {self.held.judged.run} is the model."
            self._say("decision", said)
            return
        why = "nothing left to choose, so the validation images may be learned from too"
        recipe = trained_on_all(recipe, self._whole)
        final = yield self._proposal("final", recipe, "final", reason=why, on_all=True)
        wrong = planning.wrong_with(final, self.held.judged)
        if wrong:
            self._say("decision", f"The final training is not handed over: {wrong}", final.run)
        else:
            self.final = final
            said = f"Final training, {self._whole} epochs on train and val together: done."
            self._say("outcome", f"{said} None of these images can say how good it is.", final.run)

    def _fits(self, epochs: float, *, cost: float = 1.0) -> bool:
        return self.ledger.seconds(epochs, cost=cost) <= ROOM * self.ledger.left

    def _proposal(self, role: Any, recipe: Recipe, label: str, **more: Any) -> Proposal:
        return Proposal(number=self._asked, role=role, recipe=recipe, label=label, alone=True, **more)

    def _seed(self) -> int:
        return derive(self.search.recipe.seed, "tune", "once-more") % 2**31

    def _advance(self, outcome: Outcome | None) -> None:
        assert self._ending is not None
        try:
            self._next = next(self._ending) if outcome is None else self._ending.send(outcome)
        except StopIteration:
            self._next, self._done = None, True

    def _taken(self) -> Proposal | None:
        proposal, self._next = self._next, None
        if proposal is not None:
            self._asked += 1
            self._open[proposal.number] = proposal
        return proposal

    def _say(self, step: Step, text: str, *runs: str) -> None:
        self.entries.append(Entry(step=step, text=text, runs=runs))
