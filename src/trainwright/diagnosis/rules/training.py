"""Did the training itself go well: divergence, a curve that still rises at its end, statistics that fit the weights."""

from __future__ import annotations

import math

from trainwright.diagnosis.curves import LEAST_EPOCHS, LEAST_GAIN, change, last_third
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import margin_of
from trainwright.diagnosis.making import NO_EPOCH, NOTHING_EVALUATED, as_share, figures_of, finding
from trainwright.diagnosis.stats import newcombe_difference, wilson
from trainwright.diagnosis.wording import amount_within, percent, percent_within, points_within, times
from trainwright.records import Finding

NEAR_CHANCE = 0.05  # a score less than this above chance is no use to anyone
SETTLED = 30  # steps: of where they began, running averages of momentum 0.1 have 4 % left then (0.9 ** 30)
SPIKE = 1.1  # a train loss this many times that of guessing: confidently wrong on images it was trained on
LITTLE_GAIN = 0.01  # a gain surely below one point over a third of the training does not pay for more epochs
OFTEN = 3  # spikes; one or two come in trainings that end well
CALMER = "To try: a tenth of the learning rate, a warm-up, clipping of the gradient (clip_norm: 1.0)."
SWEEP = "Training at a tenth and at ten times the learning rate would tell."


def diverged(evidence: Evidence) -> Finding:
    """The training blew up: a loss that is not finite, or a final train score no better than chance after a train loss
    that rose above that of guessing or above where it began, unless the losses of the steps fell steadily. At chance without
    such a loss it cannot be told from a training that never began to learn. Source: Smith, arXiv:1506.01186 §3.3 (what too
    large a learning rate looks like)."""
    if evidence.diverged or evidence.nonfinite_step is not None or not all(map(math.isfinite, evidence.train_loss)):
        step = "" if evidence.nonfinite_step is None else f" at step {evidence.nonfinite_step}"
        return finding("diverged", "yes", f"The training loss stopped being a finite number{step}.", CALMER)
    if not evidence.train_score or not math.isfinite(evidence.train_score[-1]):
        undefined = f"The {evidence.score_name} is not defined on these images." if evidence.train_score else NO_EPOCH
        return finding("diverged", "cannot-tell", undefined, "Train for at least one epoch, on targets that differ.")
    n = evidence.scored_train_count
    score = wilson(as_share(evidence.train_score[-1]) * n, n)
    # A score below 0 (R²) is said as it is, and judged like 0.
    said = percent_within(score) if evidence.train_score[-1] >= 0 else percent(evidence.train_score[-1])
    text = f"Final train {evidence.score_name} {said}; chance {percent(evidence.chance_score)}"
    loss = f"train loss from {evidence.train_loss[0]:.3f} to {evidence.train_loss[-1]:.3f}"
    figures = {"train_score": score.value, "chance_score": evidence.chance_score}
    # Of a score that is no share of images the limit is rough, and chance is 0: a trace of a score is nothing learned.
    surely_above = evidence.chance_score if evidence.counts_right else evidence.chance_score + NEAR_CHANCE
    if score.low > surely_above:
        return finding("diverged", "no", f"{text}; {loss}.", "", figures)
    if score.high > evidence.chance_score + NEAR_CHANCE:
        return finding(
            "diverged", "cannot-tell", f"{text}: too few images to tell from chance; {loss}.", SWEEP, figures
        )
    if _loss_blew_up(evidence):
        return finding(
            "diverged", "yes", f"{text}: no better than chance, and the loss blew up; {loss}.", CALMER, figures
        )
    return finding(
        "diverged", "cannot-tell", f"{text}: nothing was learned, but the loss never blew up; {loss}.", SWEEP, figures
    )


def still_improving(evidence: Evidence) -> Finding:
    """Under-trained: over the last third of the epochs, four at least, the unseen score still rose, or the unseen loss still fell
    without the score falling, by a least-squares line whose interval excludes zero. Source: statistics.md, "Underfitting
    needs a reference" (end slope not zero)."""
    window = last_third(evidence.val_score)
    score, loss = change(window), change(last_third(evidence.val_loss))
    if score is None:
        short = f"{len(evidence.val_score)} epochs are too few for a slope; {LEAST_EPOCHS} are needed."
        return finding("still-improving", "cannot-tell", short, "Train longer and look again.")
    text = f"Over the last {len(window)} epochs the unseen {evidence.score_name} changed by {points_within(score)}"
    text += "." if loss is None else f" and the unseen loss by {amount_within(loss)}."
    figures = {**figures_of("score_change", score), **({} if loss is None else figures_of("loss_change", loss))}
    rises = score.low > 0 and score.value >= LEAST_GAIN
    falls = (
        loss is not None
        and loss.high < 0
        and score.value > -LEAST_GAIN
        and -loss.value > 0.01 * abs(evidence.val_loss[-1])
    )
    if rises or falls:
        return finding(
            "still-improving",
            "yes",
            text,
            "More epochs, with the schedule stretched to them, may bring more.",
            figures,
        )
    if score.high < LITTLE_GAIN:
        return finding("still-improving", "no", text, "", figures)
    return finding("still-improving", "cannot-tell", text, "A run with half as many epochs again would tell.", figures)


def unstable(evidence: Evidence) -> Finding:
    """The loss of the steps, smoothed, rises back by half of all that was gained, again and again, or ends there.
    Source: Smith, arXiv:1506.01186 §3.3 (too large a rate); Gilmer et al., arXiv:2110.04369 §1 (loss spikes, and what calms
    them); that half of the gain counts is ours."""
    losses = evidence.step_losses
    if losses is None:
        few = "The losses of too few steps were kept to tell." if evidence.train_loss else NO_EPOCH
        return finding("unstable", "cannot-tell", few, "Train for more steps.")
    text = f"Over {losses.steps:,} steps the smoothed loss rose back by half of what had been gained {times(losses.spikes)}"
    figures = {"spikes": float(losses.spikes), "largest": losses.largest, "start": losses.start, "end": losses.end}
    if losses.spikes == 0:
        return finding("unstable", "no", f"{text}.", "", figures)
    text += (
        f", at most by {percent(losses.largest)} of it; it began at {losses.start:.3g} and ended at {losses.end:.3g}."
    )
    if losses.spikes >= OFTEN or losses.end > losses.start:
        return finding("unstable", "yes", text, CALMER, figures)
    return finding("unstable", "cannot-tell", text, SWEEP, figures)


def saturated_early(evidence: Evidence) -> Finding:
    """Half of the training gained nothing: train error was at zero by the middle of it, and the unseen score surely did not
    rise after that. Source: Prechelt 1998, "Early Stopping - But When?" (stopping where training no longer progresses); the
    half is ours."""
    half = len(evidence.val_score) // 2
    gained = change(evidence.val_score[half:])
    if gained is None or len(evidence.train_score) <= half:
        short = f"{len(evidence.val_score)} epochs are too few to say; {2 * LEAST_EPOCHS - 1} are needed."
        return finding("saturated-early", "cannot-tell", short, "Train for more epochs.")
    text = (
        f"At the middle of the training the train error was {percent(1 - evidence.train_score[half])}; "
        f"after it the unseen {evidence.score_name} changed by {points_within(gained)}."
    )
    figures = figures_of("gained", gained)
    if not evidence.train_score[half] >= 1 - LEAST_GAIN or gained.value > LEAST_GAIN:
        return finding("saturated-early", "no", text, "", figures)
    if gained.high < LITTLE_GAIN:
        advice = "To try: half the epochs with the schedule shrunk to them, and what they cost for something else."
        return finding("saturated-early", "yes", text, advice, figures)
    return finding("saturated-early", "cannot-tell", text, "More validation images would tell.", figures)


def batch_norm_broken(evidence: Evidence) -> Finding:
    """Clean train error in eval mode (D) is much larger than in train mode (B), which has augmentation and dropout against
    it: running batch-norm statistics do not fit the weights. Source: statistics.md, "Where the gap comes from"."""
    errors, n = evidence.errors, evidence.scored_train_count
    if errors is None or not (math.isfinite(errors.clean) and math.isfinite(errors.train_mode)) or n == 0:
        return finding("batch-norm-broken", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    margin = margin_of(errors.clean)
    excess = evidence.eval_excess or newcombe_difference(
        as_share(errors.clean) * n, n, as_share(errors.train_mode) * n, n
    )
    text = (
        f"Train error{evidence.error_note} {percent(errors.clean)} in eval mode on clean images, "
        f"{percent(errors.train_mode)} in train mode: {points_within(excess)} more, margin {100 * margin:.1f}."
    )
    figures = figures_of("excess", excess)
    if excess.low > margin:
        advice = "To try: larger batches, group norm, or a smaller batch-norm momentum; then look at this figure again."
        if evidence.mixed:
            advice = (
                "Its statistics were learned from mixtures of images: train once without mixup and CutMix. " + advice
            )
        if evidence.steps is not None and evidence.steps < SETTLED:
            text += f" After {evidence.steps} steps its running averages have hardly left where they began."
            return finding(
                "batch-norm-broken", "cannot-tell", text, f"A training of {SETTLED} steps or more would tell.", figures
            )
        return finding("batch-norm-broken", "yes", text, advice, figures)
    if excess.high < margin:
        return finding("batch-norm-broken", "no", text, "", figures)
    advice = "Scoring more train images in both modes would tell."
    return finding("batch-norm-broken", "cannot-tell", text, advice, figures)


def _loss_blew_up(evidence: Evidence) -> bool:
    """By the losses of the epochs, which are those in eval mode. Batch-norm statistics that lag behind make them rise too, where
    a training is so slow that these are the last to settle: there the losses of the steps, in train mode, fall steadily."""
    steps = evidence.step_losses
    if steps is not None and steps.end < steps.start and steps.spikes == 0:
        return False
    first, last = evidence.train_loss[0], evidence.train_loss[-1]
    return last > first * SPIKE or max(evidence.train_loss) > evidence.guess_loss * SPIKE
