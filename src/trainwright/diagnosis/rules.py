"""The rules: evidence in, findings out. Each rule is a function whose docstring states it and its source.

A finding's verdict says whether what the rule is named after holds: yes, no, or cannot-tell with what would tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from trainwright.diagnosis.curves import LEAST_EPOCHS, change, last_third
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import MOST_TIMES_MORE, margin_of
from trainwright.diagnosis.stats import images_for_half_width, newcombe_difference, wilson
from trainwright.diagnosis.wording import (
    amount_within,
    images,
    percent,
    percent_within,
    points,
    points_within,
    signed_points,
)
from trainwright.records import Answer, Finding, Interval

Rule = Callable[[Evidence], Finding]

NEAR_CHANCE = 0.05  # a score less than this above chance is no use to anyone
SPIKE = 1.1  # a train loss this many times that of guessing: confidently wrong on images it was trained on
RISE = 0.1  # of the lowest validation loss: smaller rises come and go between epochs
LEAST_GAIN = 0.005  # half a point: a smaller change of the score over a stretch of epochs counts as none
LITTLE_GAIN = 0.01  # a gain surely below one point over a third of the training does not pay for more epochs
FAR_FROM_ZERO = 0.05  # train error above which it is worth asking for its cause


def diverged(evidence: Evidence) -> Finding:
    """The training blew up: a loss that is not finite, or a final train score no better than chance after a train loss
    that rose above that of guessing or above where it began. At chance without such a loss it cannot be told from a
    training that never began to learn. Source: Smith, arXiv:1506.01186 §3.3 (what too large a learning rate looks like)."""
    if evidence.diverged or evidence.nonfinite_step is not None or not all(map(math.isfinite, evidence.train_loss)):
        step = "" if evidence.nonfinite_step is None else f" at step {evidence.nonfinite_step}"
        return _finding("diverged", "yes", f"The training loss stopped being a finite number{step}.", CALMER)
    if not evidence.train_score or not math.isfinite(evidence.train_score[-1]):
        undefined = f"The {evidence.score_name} is not defined on these images." if evidence.train_score else NO_EPOCH
        return _finding("diverged", "cannot-tell", undefined, "Train for at least one epoch, on targets that differ.")
    n = evidence.scored_train_count
    score = wilson(_share(evidence.train_score[-1]) * n, n)
    # A score below 0 (R²) is said as it is, and judged like 0.
    said = percent_within(score) if evidence.train_score[-1] >= 0 else percent(evidence.train_score[-1])
    text = f"Final train {evidence.score_name} {said}; chance {percent(evidence.chance_score)}"
    loss = f"train loss from {evidence.train_loss[0]:.3f} to {evidence.train_loss[-1]:.3f}"
    figures = {"train_score": score.value, "chance_score": evidence.chance_score}
    # Of a score that is no share of images the limit is rough, and chance is 0: a trace of a score is nothing learned.
    surely_above = evidence.chance_score if evidence.counts_right else evidence.chance_score + NEAR_CHANCE
    if score.low > surely_above:
        return _finding("diverged", "no", f"{text}; {loss}.", "", figures)
    if score.high > evidence.chance_score + NEAR_CHANCE:
        return _finding(
            "diverged", "cannot-tell", f"{text}: too few images to tell from chance; {loss}.", SWEEP, figures
        )
    if _loss_blew_up(evidence):
        return _finding(
            "diverged", "yes", f"{text}: no better than chance, and the loss blew up; {loss}.", CALMER, figures
        )
    return _finding(
        "diverged", "cannot-tell", f"{text}: nothing was learned, but the loss never blew up; {loss}.", SWEEP, figures
    )


def overfits(evidence: Evidence) -> Finding:
    """Unseen error exceeds train error by more than the margin: the larger of two points and a fifth of the unseen error.
    Yes where the gap's whole 95 % interval lies above it, no where it lies below. Source: statistics.md, "The gap"."""
    gap = evidence.gap
    if gap is None:
        return _finding("overfits", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    chosen = " (the checkpoint was chosen on the same images, which is allowed for)" if gap.cross_fitted else ""
    text = (
        f"Unseen error{evidence.error_note} {percent(gap.val_error.value)}, train error {percent(gap.train_error.value)}: "
        f"gap {points_within(gap.interval)}, margin {100 * gap.margin:.1f}{chosen}."
    )
    advice = {
        "yes": "To try: augmentation, weight decay, dropout, a smaller network, early stopping, more images. None of them is "
        "proven for this data: train each beside an unchanged control and compare on the same images.",
        "no": "",
        "cannot-tell": _how_many_would_tell(gap.images_that_would_tell, gap.val_count),
    }[gap.overfits]
    return _finding("overfits", gap.overfits, text, advice, {**_figures("gap", gap.interval), "margin": gap.margin})


def gap_parts(evidence: Evidence) -> Finding:
    """Generalization is the largest part of the way from the train error shown during training to the unseen error.
    The way is A→B averaging lag (and mixup or CutMix, which A alone sees), B→C dropout and batch-norm statistics, C→D
    augmentation, D→val generalization. Yes where the interval of the last lies above every other part, no where below. A
    task whose error cannot be followed while it trains has no A, and the way begins at B. Source: statistics.md, "Where the
    gap comes from"."""
    errors, gap = evidence.errors, evidence.gap
    if errors is None or gap is None:
        return _finding("gap-parts", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    lag = "averaging lag and mixtures" if evidence.mixed else "averaging lag"
    parts = {
        lag: errors.train_mode - errors.running,
        "dropout and batch norm": errors.augmented - errors.train_mode,
        "augmentation": errors.clean - errors.augmented,
    }
    if not math.isfinite(errors.running):
        del parts[lag]
    shown, began = (
        ("shown during training", errors.running) if len(parts) == 3 else ("in train mode", errors.train_mode)
    )
    figures = {"generalization": gap.interval.value, **{key.replace(" ", "_"): part for key, part in parts.items()}}
    text = (
        f"From the train error{evidence.error_note} {shown}, {percent(began)}, to the unseen error, "
        f"{percent(gap.val_error.value)}: " + ", ".join(f"{key} {signed_points(part)}" for key, part in parts.items())
    )
    text += f", generalization {points_within(gap.interval)}."
    if not all(map(math.isfinite, [*parts.values(), gap.interval.value])):
        return _finding("gap-parts", "cannot-tell", text, "Evaluate the four train errors at the checkpoint.", figures)
    largest = max(parts, key=lambda key: abs(parts[key]))
    size = abs(parts[largest])
    if gap.interval.low > size:
        return _finding("gap-parts", "yes", f"{text} Generalization is the largest part.", "", figures)
    if max(gap.interval.high, -gap.interval.low) < size:
        advice = "Judge by the clean train error: the one shown during training differs for other reasons than generalization."
        return _finding("gap-parts", "no", f"{text} The largest part is {largest}.", advice, figures)
    return _finding("gap-parts", "cannot-tell", f"{text} No part is surely the largest.", "", figures)


def underfits(evidence: Evidence) -> Finding:
    """Train error far above zero, where the gap is not the trouble, asks for a cause; it is never a yes by itself, because
    the labels may not allow less. Source: statistics.md, "Underfitting needs a reference"."""
    gap = evidence.gap
    if gap is None:
        return _finding("underfits", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    error = gap.train_error
    text = f"Train error{evidence.error_note} {percent_within(error)}"
    figures = _figures("train_error", error)
    if not math.isfinite(error.value):
        return _finding("underfits", "cannot-tell", f"{text}.", "Score more train images.", figures)
    if error.low <= FAR_FROM_ZERO:
        return _finding("underfits", "no", f"{text}: not surely above {percent(FAR_FROM_ZERO)}.", "", figures)
    if gap.overfits == "yes":
        return _finding("underfits", "no", f"{text}, but the gap to unseen images is the larger trouble.", "", figures)
    return _finding("underfits", "cannot-tell", f"{text}, with no gap that surely explains it.", PROBES, figures)


def still_improving(evidence: Evidence) -> Finding:
    """Under-trained: over the last third of the epochs the unseen score still rose, or the unseen loss still fell without
    the score falling, by a least-squares line whose interval excludes zero. Source: statistics.md, "Underfitting needs a
    reference" (end slope not zero)."""
    window = last_third(evidence.val_score)
    score, loss = change(window), change(last_third(evidence.val_loss))
    if score is None:
        short = f"{len(evidence.val_score)} epochs are too few for a slope; {LEAST_EPOCHS} are needed."
        return _finding("still-improving", "cannot-tell", short, "Train longer and look again.")
    text = f"Over the last {len(window)} epochs the unseen {evidence.score_name} changed by {points_within(score)}"
    text += "." if loss is None else f" and the unseen loss by {amount_within(loss)}."
    figures = {**_figures("score_change", score), **({} if loss is None else _figures("loss_change", loss))}
    rises = score.low > 0 and score.value >= LEAST_GAIN
    falls = (
        loss is not None
        and loss.high < 0
        and score.value > -LEAST_GAIN
        and -loss.value > 0.01 * abs(evidence.val_loss[-1])
    )
    if rises or falls:
        return _finding(
            "still-improving",
            "yes",
            text,
            "Under-trained: try more epochs with the schedule stretched to them.",
            figures,
        )
    if score.high < LITTLE_GAIN:
        return _finding("still-improving", "no", text, "", figures)
    return _finding("still-improving", "cannot-tell", text, "A run with half as many epochs again would tell.", figures)


def over_confident(evidence: Evidence) -> Finding:
    """Unseen cross-entropy rose from its minimum to the end while the unseen error stayed flat or fell: probabilities are too
    sure, accuracy is not lost. Source: Guo et al., arXiv:1706.04599 §3; statistics.md, "Where the gap comes from"."""
    if not evidence.probabilistic:
        return _finding("over-confident", "no", "The answers are not probabilities, so they cannot be too sure.", "")
    finite = [loss for loss in evidence.val_loss if math.isfinite(loss)]
    if not finite:
        return _finding("over-confident", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    start, lowest = evidence.val_loss.index(min(finite)), min(finite)
    text = f"Unseen loss lowest at epoch {start + 1} of {len(evidence.val_loss)} ({lowest:.3f})"
    loss = change(evidence.val_loss[start:])
    score = change(evidence.val_score[start:])
    if loss is None or score is None:
        return _finding("over-confident", "no", f"{text}: no lasting rise after it.", "")
    text += f"; since then loss {amount_within(loss)} and unseen {evidence.score_name} {points_within(score)}."
    figures = {**_figures("loss_change", loss), **_figures("score_change", score)}
    if loss.low <= 0 or loss.value <= RISE * lowest:
        return _finding("over-confident", "cannot-tell" if loss.high > RISE * lowest else "no", text, "", figures)
    margin = margin_of(1 - evidence.val_score[start])
    if score.high < -LEAST_GAIN:
        lost = "Accuracy" if evidence.metric == "accuracy" else f"The {evidence.metric}"
        worse = f"{text} {lost} is lost too, so this is not over-confidence alone."
        return _finding("over-confident", "no", worse, "To try: early stopping at the lowest loss.", figures)
    if score.value > -LEAST_GAIN or score.low > -margin:
        advice = (
            "To try: label smoothing, or a temperature fitted afterwards. The probabilities are too sure, not wrong."
        )
        return _finding("over-confident", "yes", text, advice, figures)
    return _finding("over-confident", "cannot-tell", text, "More epochs or more validation images would tell.", figures)


def batch_norm_broken(evidence: Evidence) -> Finding:
    """Clean train error in eval mode (D) is much larger than in train mode (B), which has augmentation and dropout against
    it: running batch-norm statistics do not fit the weights. Source: statistics.md, "Where the gap comes from"."""
    errors, n = evidence.errors, evidence.scored_train_count
    if errors is None or not (math.isfinite(errors.clean) and math.isfinite(errors.train_mode)) or n == 0:
        return _finding("batch-norm-broken", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    margin = margin_of(errors.clean)
    excess = evidence.eval_excess or newcombe_difference(_share(errors.clean) * n, n, _share(errors.train_mode) * n, n)
    text = (
        f"Train error{evidence.error_note} {percent(errors.clean)} in eval mode on clean images, "
        f"{percent(errors.train_mode)} in train mode: {points_within(excess)} more, margin {100 * margin:.1f}."
    )
    figures = _figures("excess", excess)
    if excess.low > margin:
        advice = "To try: larger batches, group norm, or a smaller batch-norm momentum; then look at this figure again."
        if evidence.mixed:
            advice = (
                "Its statistics were learned from mixtures of images: train once without mixup and CutMix. " + advice
            )
        return _finding("batch-norm-broken", "yes", text, advice, figures)
    if excess.high < margin:
        return _finding("batch-norm-broken", "no", text, "", figures)
    advice = "Scoring more train images in both modes would tell."
    return _finding("batch-norm-broken", "cannot-tell", text, advice, figures)


def validation_too_small(evidence: Evidence) -> Finding:
    """The gap cannot be judged with this many validation images; says how many would do. Source: statistics.md, "The gap"."""
    gap = evidence.gap
    if gap is None:
        return _finding("validation-too-small", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    if not math.isfinite(gap.val_error.value):
        text = f"On {images(gap.val_count)} the {evidence.score_name} is not defined."
        return _finding("validation-too-small", "yes", text, "Other or more validation images would have one.")
    half_width = (gap.val_error.high - gap.val_error.low) / 2
    text = f"{images(gap.val_count)} give the unseen error to within {points(half_width)}"
    figures = {"images": float(gap.val_count), "half_width": half_width}
    if gap.overfits != "cannot-tell":
        return _finding("validation-too-small", "no", f"{text}: enough to judge the gap.", "", figures)
    advice = _how_many_would_tell(gap.images_that_would_tell, gap.val_count)
    if gap.images_that_would_tell is None:
        one_point = _images_for_one_point(evidence.metric, gap.val_error, gap.val_count)
        text += f"; the gap lies on the margin. {images(one_point)} would give the unseen error to within 1.0 points."
        return _finding("validation-too-small", "cannot-tell", text, advice, figures)
    figures["images_that_would_tell"] = float(gap.images_that_would_tell)
    return _finding("validation-too-small", "yes", f"{text}: too little to judge the gap.", advice, figures)


RULES: tuple[Rule, ...] = (
    diverged,
    overfits,
    gap_parts,
    underfits,
    still_improving,
    over_confident,
    batch_norm_broken,
    validation_too_small,
)


def judge(evidence: Evidence) -> tuple[str, tuple[Finding, ...]]:
    """The verdict in one word and every rule's finding: what holds first, then what cannot be told, then what does not."""
    findings = [rule(evidence) for rule in RULES]
    order = ("yes", "cannot-tell", "no")
    return verdict(findings), tuple(sorted(findings, key=lambda finding: order.index(finding.verdict)))


def verdict(findings: Sequence[Finding]) -> str:
    """overfits, generalizes, diverged or cannot-tell. A training that learned nothing does not generalize by having no gap."""
    answers = {finding.rule: finding.verdict for finding in findings}
    if answers.get("diverged") == "yes":
        return "diverged"
    if answers.get("overfits") == "yes":
        return "overfits"
    return "generalizes" if answers.get("overfits") == "no" and answers.get("diverged") == "no" else "cannot-tell"


NOTHING_EVALUATED = "Nothing was evaluated."
NO_EPOCH = "No epoch was evaluated."
CALMER = "To try: a tenth of the learning rate, a warm-up, clipping of the gradient (clip_norm: 1.0)."
SWEEP = "Training at a tenth and at ten times the learning rate would tell."
PROBES = (
    "Each of these, run, would tell one cause: fit 64 images (a fault in code or optimization); another learning rate; no "
    "regularization (too much of it); more epochs; a larger network (too little capacity). If none lowers the train error, "
    "the labels may not allow less."
)


def _loss_blew_up(evidence: Evidence) -> bool:
    first, last = evidence.train_loss[0], evidence.train_loss[-1]
    return last > first * SPIKE or max(evidence.train_loss) > evidence.guess_loss * SPIKE


def _images_for_one_point(metric: str, error: Interval, have: int) -> int:
    """How many images give the error to within one point: exactly for accuracy, else the arms shrink with their root."""
    if metric == "accuracy":
        return images_for_half_width(error.value, 0.01)
    return math.ceil(have * ((error.high - error.low) / 0.02) ** 2)


def _share(score: float) -> float:
    """A score or error as if it were a share of images, which the score interval takes: R² below 0 counts as 0."""
    return min(1.0, max(0.0, score))


def _how_many_would_tell(count: int | None, have: int) -> str:
    if count is None:
        return f"The gap lies so near the margin that even {MOST_TIMES_MORE} times as many images would not tell."
    return f"About {images(count)} for validation would tell, if the rates stay as they are; there are {have:,}."


def _figures(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _finding(rule: str, answer: Answer, evidence: str, advice: str, figures: dict[str, float] | None = None) -> Finding:
    return Finding(rule=rule, verdict=answer, evidence=evidence, advice=advice, figures=figures or {})
