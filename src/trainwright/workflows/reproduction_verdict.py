"""Whether a training came out again: the records side by side, the scores on the same images, and the word for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainwright.diagnosis.comparison import compare
from trainwright.diagnosis.noise import noise_floor
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.compare import CHANCE, answers_of
from trainwright.workflows.judge import moved_to
from trainwright.workflows.predict import task_of
from trainwright.workflows.recorded_images import recorded_images
from trainwright.workflows.reproduction_checks import Difference
from trainwright.workflows.run import recipe_of

Word = Literal["identical", "within-noise", "differs"]
OF_A_STEP = ("loss", "lr", "momentum")
OF_AN_EPOCH = ("train_running", "train", "val", "lr")


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run recorded on its way. steps: of each kind a number a step, None where it was not finite."""

    steps: Mapping[str, Sequence[float | None]]
    epochs: Sequence[Mapping[str, Any]]

    @property
    def steps_per_epoch(self) -> int:
        return int(self.epochs[0]["step"]) + 1 if self.epochs else max(1, len(self.steps["loss"]))

    def first(self, epochs: int | None) -> Course:
        """Only its first epochs; all of them for None."""
        if epochs is None or epochs >= len(self.epochs):
            return self
        count = epochs * self.steps_per_epoch
        return Course(steps={kind: of[:count] for kind, of in self.steps.items()}, epochs=self.epochs[:epochs])


def course_of(folder: RunFolder) -> Course:
    """The losses of all steps of a run, with learning rate and momentum, and its epochs."""
    steps: dict[str, list[float | None]] = {kind: [] for kind in OF_A_STEP}
    for piece in folder.records("steps"):
        for kind in OF_A_STEP:
            steps[kind] += piece.get(kind) or [0.0] * len(piece["loss"])
    return Course(steps=steps, epochs=list(folder.records("epoch")))


def first_parting(then: Course, now: Course) -> dict[str, Any] | None:
    """The first step or epoch whose record is not the same to the last bit; None where all are.

    `epoch` and `step` count from 1, `step` within the epoch and None where the epoch's evaluation is the first to differ;
    `what` is `loss`, `lr`, `momentum`, `val.score` and the like, or `end` where one of the two has no more; `then`, `now`.
    """
    per_epoch = then.steps_per_epoch
    step, epoch = _first_step(then, now), _first_epoch(then, now)
    if step is not None and (epoch is None or step[0] // per_epoch <= epoch[0]):
        number, what, one, other = step
        return {
            "epoch": number // per_epoch + 1,
            "step": number % per_epoch + 1,
            "what": what,
            "then": one,
            "now": other,
        }
    if epoch is None:
        return None
    number, what, one, other = epoch
    return {"epoch": number + 1, "step": None, "what": what, "then": one, "now": other}


def _first_step(then: Course, now: Course) -> tuple[int, str, Any, Any] | None:
    both = min(len(then.steps["loss"]), len(now.steps["loss"]))
    for step in range(both):
        for kind in OF_A_STEP:
            one, other = then.steps[kind][step], now.steps[kind][step]
            if one != other:
                return step, kind, one, other
    if len(then.steps["loss"]) != len(now.steps["loss"]):
        return both, "end", len(then.steps["loss"]), len(now.steps["loss"])
    return None


def _first_epoch(then: Course, now: Course) -> tuple[int, str, Any, Any] | None:
    for number, (one, other) in enumerate(zip(then.epochs, now.epochs, strict=False)):
        for kind in OF_AN_EPOCH:
            if one[kind] != other[kind]:
                key = next(key for key in one[kind] if one[kind][key] != other[kind].get(key)) if kind != "lr" else None
                if key is None:
                    return number, kind, one[kind], other[kind]
                return number, f"{kind}.{key}", one[kind][key], other[kind].get(key)
    if len(then.epochs) != len(now.epochs):
        return min(len(then.epochs), len(now.epochs)), "end", len(then.epochs), len(now.epochs)
    return None


def paired(then: RunFolder, now: RunFolder, *, epochs: int | None, noise: float | None) -> dict[str, Any] | None:
    """What the second scored more than the first on the same images: `value`, `low`, `high`, `p`, `images`, `part`, `noise`.

    Unseen images, or where a run was trained on those too, its training images that are evaluated. epochs: after so many, of
    a training that was stopped there. noise: the floor of one training's score, seed alone; None takes that of these two, by
    the images that they answer differently: a training whose bits part ends as another seed would (Summers and Dinneen,
    arXiv:2103.04514). None where the two have no images in common whose pixels are known to be the same.
    """
    recipe, task = recipe_of(then), task_of(then, recipe_of(then))
    unseen = recipe.data.train_on != "train+val"
    part = "val" if unseen else "train"
    found = (_of_epoch if epochs is not None else _of_models)(then, now, part, epochs or 0)
    if found is None:
        return None
    tallies, groups = found
    if tallies[0].shape != tallies[1].shape:
        return None  # other classes: a tally has other figures
    score = None if task.counts_right else score_of(task)
    own_noise = noise_floor(*tallies, score=score, groups=groups)
    known = noise is not None and unseen
    floor = noise if known else own_noise
    compared = compare([tallies[1]], [tallies[0]], score=score, groups=groups, noise=floor)
    gain = compared.gain
    if epochs is None and not task.counts_right and compared.images == len(answers_of(then, part)["paths"]):
        gain = moved_to(gain, _exact_gain(then, now, part))  # tallies give average precision only nearly
    figures = {"p": compared.p, "images": compared.images, "part": part}
    origin = "the study's seeds" if known else "these two trainings"
    compared_json: dict[str, Any] = to_json({**vars(gain), **figures, "noise": floor, "noise_from": origin})
    return compared_json


def _of_models(then: RunFolder, now: RunFolder, part: str, _: int) -> tuple[list[np.ndarray], np.ndarray] | None:
    """(tallies of both on the images that both answered, groups)."""
    answers = [answers_of(folder, part) for folder in (then, now)]
    rows = [{path: row for row, path in enumerate(of["paths"].tolist())} for of in answers]
    same = sorted(_unchanged(then, now, rows[0].keys() & rows[1].keys()))
    if not same:
        return None
    tallies = [
        of["tally"][[order[path] for path in same]].astype(np.float64) for of, order in zip(answers, rows, strict=True)
    ]
    return tallies, answers[0]["groups"][[rows[0][path] for path in same]]


def _of_epoch(then: RunFolder, now: RunFolder, part: str, epochs: int) -> tuple[list[np.ndarray], np.ndarray] | None:
    """The same after an epoch, where the two have the same split: what is kept of an epoch is in the order of its rows."""
    if then.manifest["split"]["digest"] != now.manifest["split"]["digest"]:
        return None
    if then.manifest["dataset"]["fingerprint"] != now.manifest["dataset"]["fingerprint"]:
        return None  # other names are another order
    files = [folder.answers / f"scores-epoch-{epochs - 1:04d}.npz" for folder in (then, now)]
    if not all(file.is_file() for file in files):
        return None
    tallies = []
    for file in files:
        with np.load(file, allow_pickle=False) as saved:
            tallies.append(saved[part].astype(np.float64))
    return tallies, answers_of(then, part)["groups"]


def _unchanged(then: RunFolder, now: RunFolder, paths: set[str]) -> set[str]:
    """Those of the paths whose images and targets are what they were."""
    if then.manifest["dataset"]["fingerprint"] == now.manifest["dataset"]["fingerprint"]:
        return paths
    before, after = recorded_images(then), recorded_images(now)
    if before is None or after is None:
        return set()
    content = [{path: (of[path].pixels, of[path].target) for path in paths if path in of} for of in (before, after)]
    return {path for path in paths if content[0].get(path, 0) == content[1].get(path, 1)}


def _exact_gain(then: RunFolder, now: RunFolder, part: str) -> float | None:
    after, before = (((folder.result() or {}).get("score") or {}).get(part) for folder in (now, then))
    return None if after is None or before is None else float(after) - float(before)


def beyond_chance(found: Mapping[str, Any]) -> bool:
    """Whether the two scores differ by more than chance, that of seed alone included."""
    if found["low"] is None or found["high"] is None:
        return False
    return bool(found["p"] < CHANCE and (found["low"] > 0 or found["high"] < 0))


def word_for(*, same_bits: bool, differences: Sequence[Difference], found: Mapping[str, Any] | None) -> Word:
    """identical, where all bits are the same, whatever differs otherwise. within-noise, where the same training was asked for
    and its scores differ by no more than chance; another training than the recorded one differs, whatever it scores."""
    if same_bits:
        return "identical"
    if any(one.another for one in differences) or found is None or beyond_chance(found):
        return "differs"
    return "within-noise"


def said(
    word: Word,
    *,
    steps: int,
    epochs: int,
    whole: bool,
    differences: Sequence[Difference],
    found: Mapping[str, Any] | None,
) -> str:
    """The verdict as sentences. whole: both were trained to the end, so that their weights were compared too."""
    bits = f"{'all ' if whole else ''}{steps:,} step losses and the scores of {_counted(epochs)}, bit for bit"
    names = ", ".join(dict.fromkeys(one.what for one in differences))
    if word == "identical":
        text = f"the same weights, {bits}." if whole else f"the same {bits}; what comes after was not trained again."
        return f"{text} What differs ({names}) changed nothing." if names else text
    causes = f"Likely causes, the likeliest first: {names}." if names else NOTHING_DIFFERS
    if word == "within-noise":
        return f"not the same bits, but {_scores(found)}: no more than chance, that of seed alone included. {causes}"
    if any(one.another for one in differences):
        others = ", ".join(dict.fromkeys(one.what for one in differences if one.another))
        rest = [one.what for one in differences if not one.another]
        further = f" Beside that other last bits may come from: {', '.join(dict.fromkeys(rest))}." if rest else ""
        scored = f" Its {_scores(found)}." if found is not None else ""
        return f"this is another training than the recorded one, because of: {others}.{further}{scored}"
    if found is None:
        return f"not the same bits, and no score of both on the same images is there to compare. {causes}"
    return f"{_scores(found)}: beyond chance, that of seed alone included. {causes}"


NOTHING_DIFFERS = (
    "Nothing that is recorded differs: look at what is not, as a driver, a library of the system, or a run that was resumed on "
    "another machine."
)


def _scores(found: Mapping[str, Any] | None) -> str:
    assert found is not None
    of = "unseen" if found["part"] == "val" else "training"
    on = f"on the same {found['images']:,} {of} images"
    if found["value"] is None or found["low"] is None or found["high"] is None:
        return f"scores {on} cannot be told apart, as too few of them decide the score"
    points = f"{100 * found['value']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
    return f"score now − then {on} is {points}, p = {found['p']:.3f}"


def _counted(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs:,} epochs"
