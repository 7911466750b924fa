"""What a coach remembers: the sentences of its story, the arms of each round, the recipe that is held to be the best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainwright.diagnosis.comparison import Comparison
from trainwright.recipe import Recipe
from trainwright.records import Outcome, Prescription

Step = Literal["belief", "trial", "outcome", "decision"]
WORDS = {"adopt": "adopted", "no-evidence": "no evidence", "worse": "worse"}  # of a decision, as verdicts have them


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sentence of the study's story. runs: ids of those that it speaks of."""

    step: Step
    text: str
    runs: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Arm:
    """A prescription that was trained.

    verdict: adopted, better at first sight (another one was looked at again), no evidence, not confirmed (by another seed),
    not looked at again (there was no time), worse, or hopeless (stopped or failed).
    """

    prescription: Prescription
    outcome: Outcome
    verdict: str
    comparison: Comparison | None = None


@dataclass(kw_only=True)
class Round:
    """A round as it went. believed: the first findings. control: its run; where it is lean, that of an earlier training.
    settled: whether its best arm was adopted without a second look, and ends the rounds."""

    number: int
    epochs: int
    believed: str
    control: Outcome
    lean: bool = False
    arms: list[Arm] = field(default_factory=list)
    adopted: str | None = None
    settled: bool = False


@dataclass(frozen=True, kw_only=True)
class Length:
    """A training of the incumbent for longer, on train alone, against `before` epochs. verdict: as an arm's."""

    epochs: int
    before: int
    outcome: Outcome
    comparison: Comparison | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Unproven:
    """What the model that is handed over has beyond what was proven: length. outcome: of that recipe on train alone, with its
    gain over proven_epochs; without a gain no training on train alone was as long, and the outcome is of proven_epochs."""

    recipe: Recipe
    outcome: Outcome
    gain: Comparison | None
    proven_epochs: int


@dataclass(kw_only=True)
class Incumbent:
    """The recipe that is held to be the best. chosen: its outcome when it was chosen. fresh: outcomes of other seeds since.

    repairs: what the baseline needed to train at all. cost: time of an epoch over the baseline's. stretched: whether it
    was found to gain by length; None where that was not tried.
    """

    recipe: Recipe
    chosen: Outcome
    fresh: list[Outcome] = field(default_factory=list)
    remedies: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    cost: float = 1.0
    stretched: bool | None = None

    @property
    def unchanged(self) -> list[Outcome]:
        """Its trainings, but for the one that was chosen for its score."""
        return self.fresh if self.remedies else [self.chosen, *self.fresh]

    @property
    def share_of_steps(self) -> float:
        """Of the time of its trainings, what is not evaluation; 1 where that was not measured."""
        result = self.judged.result
        share = result.get("step_seconds", result["seconds"]) / result["seconds"] if result["seconds"] > 0 else 1.0
        return min(1.0, share) if share > 0 else 1.0

    @property
    def judged(self) -> Outcome:
        """What its evidence is taken from: a run that was not picked for its score, where there is one; the baseline is none."""
        return self.fresh[-1] if self.fresh and self.remedies else self.chosen
