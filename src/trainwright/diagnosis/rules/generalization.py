"""How unseen images fare beside the train images: the gap and its parts, over-confidence, what the validation set can tell."""

from __future__ import annotations

import math

from trainwright.diagnosis.calibration import Calibration
from trainwright.diagnosis.curves import LEAST_GAIN, change
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import MOST_TIMES_MORE, margin_of
from trainwright.diagnosis.making import NOTHING_EVALUATED, figures_of, finding
from trainwright.diagnosis.stats import images_for_half_width
from trainwright.diagnosis.wording import amount_within, below, images, percent, points, points_within, signed_points
from trainwright.records import Finding, Interval

TOO_SURE = 0.05  # ours: by fewer points probabilities are off in most networks, and few decisions hang on it
RISE = 0.1  # of the lowest validation loss: smaller rises come and go between epochs


def overfits(evidence: Evidence) -> Finding:
    """Unseen error exceeds train error by more than the margin: the larger of two points and a fifth of the unseen error.
    Yes where the gap's whole 95 % interval lies above it, no where it lies below. Source: statistics.md, "The gap"."""
    gap = evidence.gap
    if gap is None:
        return finding("overfits", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
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
    return finding("overfits", gap.overfits, text, advice, {**figures_of("gap", gap.interval), "margin": gap.margin})


def gap_parts(evidence: Evidence) -> Finding:
    """Generalization is the largest part of the way from the train error shown during training to the unseen error.
    The way is A→B averaging lag (and mixup or CutMix, which A alone sees), B→C dropout and batch-norm statistics, C→D
    augmentation, D→val generalization. Yes where the interval of the last lies above every other part, no where below. A
    task whose error cannot be followed while it trains has no A, and the way begins at B. Source: statistics.md, "Where the
    gap comes from"."""
    errors, gap = evidence.errors, evidence.gap
    if errors is None or gap is None:
        return finding("gap-parts", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
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
        return finding("gap-parts", "cannot-tell", text, "Evaluate the four train errors at the checkpoint.", figures)
    largest = max(parts, key=lambda key: abs(parts[key]))
    size = abs(parts[largest])
    if gap.interval.low > size:
        return finding("gap-parts", "yes", f"{text} Generalization is the largest part.", "", figures)
    if max(gap.interval.high, -gap.interval.low) < size:
        advice = "Judge by the clean train error: the one shown during training differs for other reasons than generalization."
        return finding("gap-parts", "no", f"{text} The largest part is {largest}.", advice, figures)
    return finding("gap-parts", "cannot-tell", f"{text} No part is surely the largest.", "", figures)


def over_confident(evidence: Evidence) -> Finding:
    """Probabilities are too sure: unseen answers surely claim over five points more than they have right, and one temperature
    lowers the loss of images that it was not fitted on. Where the answers were not kept, the curves have to tell: unseen
    cross-entropy rose from its minimum to the end while the unseen error stayed flat or fell. Accuracy is not lost by it.
    Source: Guo et al., arXiv:1706.04599 §3, §4.2; statistics.md, "Where the gap comes from"."""
    if not evidence.probabilistic:
        return finding("over-confident", "no", "The answers are not probabilities, so they cannot be too sure.", "")
    if evidence.calibration is not None:
        return _measured(evidence.calibration)
    finite = [loss for loss in evidence.val_loss if math.isfinite(loss)]
    if not finite:
        return finding("over-confident", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    start, lowest = evidence.val_loss.index(min(finite)), min(finite)
    text = f"Unseen loss lowest at epoch {start + 1} of {len(evidence.val_loss)} ({lowest:.3f})"
    loss = change(evidence.val_loss[start:])
    score = change(evidence.val_score[start:])
    if loss is None or score is None:
        return finding("over-confident", "no", f"{text}: no lasting rise after it.", "")
    text += f"; since then loss {amount_within(loss)} and unseen {evidence.score_name} {points_within(score)}."
    figures = {**figures_of("loss_change", loss), **figures_of("score_change", score)}
    if loss.low <= 0 or loss.value <= RISE * lowest:
        return finding("over-confident", "cannot-tell" if loss.high > RISE * lowest else "no", text, "", figures)
    margin = margin_of(1 - evidence.val_score[start])
    if score.high < -LEAST_GAIN:
        lost = "Accuracy" if evidence.metric == "accuracy" else f"The {evidence.metric}"
        worse = f"{text} {lost} is lost too, so this is not over-confidence alone."
        return finding("over-confident", "no", worse, "To try: early stopping at the lowest loss.", figures)
    if score.value > -LEAST_GAIN or score.low > -margin:
        advice = (
            "To try: label smoothing, or a temperature fitted afterwards. The probabilities are too sure, not wrong."
        )
        return finding("over-confident", "yes", text, advice, figures)
    return finding("over-confident", "cannot-tell", text, "More epochs or more validation images would tell.", figures)


def _measured(found: Calibration) -> Finding:
    """Over-confidence of the answers themselves."""
    figures = {
        **figures_of("excess", found.excess),
        **figures_of("temperature_gain", found.gain),
        "temperature": found.temperature,
        "calibration_error": found.error,
        "calibration_error_by_chance": found.error_by_chance,
        "margin": TOO_SURE,
    }
    more, excess = ("less", below(found.excess)) if found.excess.value < 0 else ("more", found.excess)
    lowers, gain = ("raises", below(found.gain)) if found.gain.value < 0 else ("lowers", found.gain)
    text = (
        f"Unseen answers claim {points_within(excess)} {more} than they have right, margin {100 * TOO_SURE:.1f}; calibration "
        f"error {percent(found.error)}, by chance {percent(found.error_by_chance)}. A temperature of {found.temperature:.2f} "
        f"{lowers} the loss of images that it was not fitted on by {amount_within(gain)}."
    )
    if found.excess.high < TOO_SURE:
        return finding("over-confident", "no", text, "", figures)
    if found.excess.low > TOO_SURE and found.gain.low > 0:
        advice = (
            "To try: label smoothing, or a temperature fitted afterwards. The probabilities are too sure, not wrong."
        )
        return finding("over-confident", "yes", text, advice, figures)
    return finding("over-confident", "cannot-tell", text, "More validation images would tell.", figures)


def validation_too_small(evidence: Evidence) -> Finding:
    """The gap cannot be judged with this many validation images; says how many would do. Source: statistics.md, "The gap"."""
    gap = evidence.gap
    if gap is None:
        return finding("validation-too-small", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    if not math.isfinite(gap.val_error.value):
        text = f"On {images(gap.val_count)} the {evidence.score_name} is not defined."
        return finding("validation-too-small", "yes", text, "Other or more validation images would have one.")
    half_width = (gap.val_error.high - gap.val_error.low) / 2
    text = f"{images(gap.val_count)} give the unseen error to within {points(half_width)}"
    figures = {"images": float(gap.val_count), "half_width": half_width}
    if gap.overfits != "cannot-tell":
        return finding("validation-too-small", "no", f"{text}: enough to judge the gap.", "", figures)
    advice = _how_many_would_tell(gap.images_that_would_tell, gap.val_count)
    if gap.images_that_would_tell is None:
        one_point = _images_for_one_point(evidence.metric, gap.val_error, gap.val_count)
        text += f"; the gap lies on the margin. {images(one_point)} would give the unseen error to within 1.0 points."
        return finding("validation-too-small", "cannot-tell", text, advice, figures)
    figures["images_that_would_tell"] = float(gap.images_that_would_tell)
    return finding("validation-too-small", "yes", f"{text}: too little to judge the gap.", advice, figures)


def _images_for_one_point(metric: str, error: Interval, have: int) -> int:
    """How many images give the error to within one point: exactly for accuracy, else the arms shrink with their root."""
    if metric == "accuracy":
        return images_for_half_width(error.value, 0.01)
    return math.ceil(have * ((error.high - error.low) / 0.02) ** 2)


def _how_many_would_tell(count: int | None, have: int) -> str:
    if count is None:
        return (
            f"If the gap is what it seems, it lies so near the margin that even {MOST_TIMES_MORE} times as many validation "
            "images would not tell; more of them would show whether it is."
        )
    return f"About {images(count)} for validation would tell, if the rates stay as they are; there are {have:,}."
