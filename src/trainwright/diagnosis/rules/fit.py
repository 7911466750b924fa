"""What keeps the train error high: each cause told by a probe, a short extra training in which it is taken away.

A cause is proven where without it the train error falls beyond chance and the unseen error by surely more than two points, on the
same images. A train error that can be lowered with nothing gained on unseen images is left where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trainwright.diagnosis.evidence import Evidence, ProbeResult
from trainwright.diagnosis.gap import LEAST_MARGIN, Gap
from trainwright.diagnosis.making import NOTHING_EVALUATED, figures_of, finding
from trainwright.diagnosis.rules.training import still_improving
from trainwright.diagnosis.wording import changed_values, percent, percent_within, points_within
from trainwright.records import Answer, Finding

FAR_FROM_ZERO = 0.05  # train error above which it is worth asking for its cause
FITS, FITS_NOT = (
    0.1,
    0.25,
)  # error on the few images of `fit-64`: below the one it fits them, surely above the other it does not
FEW = 64  # images that `fit-64` trains on, about: of a train part no larger it repeats the run
MOST_OF_IT = 0.75  # of the train error: where one probe surely takes away that much, no other has to be run
EPOCH = "Train for at least one epoch."

# The probe of each cause, in the order in which they are run: what costs little first.
PROBE_OF = {
    "learning-rate": "learning-rate",
    "over-regularized": "no-regularization",
    "under-trained": "longer",
    "too-small": "wider",
    "cannot-fit": "fit-64",
}
CAUSES = tuple(PROBE_OF)


def underfits(evidence: Evidence) -> Finding:
    """Train error far above zero that is proven to be needless: with one of its causes taken away it is lower, and so is the
    unseen error. High by itself it cannot be told, because the labels may not allow less. Source: statistics.md,
    "Underfitting needs a reference"."""
    gap = evidence.gap
    if gap is None:
        return finding("underfits", "cannot-tell", NOTHING_EVALUATED, EPOCH)
    error = gap.train_error
    text = f"Train error{evidence.error_note} {percent_within(error)}"
    figures = figures_of("train_error", error)
    if not math.isfinite(error.value):
        return finding("underfits", "cannot-tell", f"{text}.", "Score more train images.", figures)
    causes = [cause.rule for cause in map(_answered(evidence), CAUSES) if cause.verdict == "yes"]
    if causes:
        proven = [cause for cause in causes if PROBE_OF[cause] in evidence.probes]
        signs = [cause for cause in causes if cause not in proven]
        said = f" Proven to keep it up: {', '.join(proven)}." if proven else ""
        said += f" By what its curve shows: {', '.join(signs)}." if signs else ""
        return finding("underfits", "yes", f"{text}.{said}", "", figures)
    if error.low <= FAR_FROM_ZERO:
        return finding("underfits", "no", f"{text}: not surely above {percent(FAR_FROM_ZERO)}.", "", figures)
    if _gap_is_larger(gap):
        return finding("underfits", "no", f"{text}, but the gap to unseen images is the larger trouble.", "", figures)
    if label_ceiling(evidence).verdict == "yes":
        return finding("underfits", "no", f"{text}, and no probe lowers it.", "", figures)
    left = probes_that_would_tell(evidence)
    advice = (
        f"Each of these probes would tell one cause: {', '.join(left)} ('trainwright diagnose RUN --probe auto')."
        if left
        else "The probes that were run do not settle it: more train and validation images would."
    )
    return finding("underfits", "cannot-tell", f"{text}, with no gap that surely explains it.", advice, figures)


def learning_rate(evidence: Evidence) -> Finding:
    """The learning rate is too low or too high: trained at another one, the one that the range test finds, the same recipe
    fits better. Source: statistics.md, "Underfitting needs a reference"; Smith, arXiv:1506.01186 §3.3 (the range test)."""
    probe = evidence.probes.get("learning-rate")
    tried, used = (_rate(values) for values in ((probe.changes, probe.before) if probe is not None else ({}, {})))
    which = "" if tried is None or used is None else "too low" if tried > used else "too high"
    advice = (
        ""
        if tried is None
        else f"To try: optimizer.lr {tried:.3g}" + (", and a warm-up." if which == "too high" else ".")
    )
    found = _cause(evidence, "learning-rate", advice, said=f"The learning rate is {which}. " if which else "")
    if found.verdict == "yes" and tried is not None:
        figures = {**found.figures, "better_lr": tried}  # what the remedy `probed-rate` takes
        return finding(found.rule, found.verdict, found.evidence, found.advice, figures)
    losses = evidence.step_losses
    if found.verdict == "cannot-tell" and probe is None and losses is not None and losses.start > 0:
        fell = (losses.start - losses.end) / losses.start
        sign = f" The loss of the steps fell by {percent(fell)} of where it began, with {losses.spikes} spikes."
        return finding(found.rule, found.verdict, found.evidence + sign, found.advice, dict(found.figures))
    return found


def over_regularized(evidence: Evidence) -> Finding:
    """Too much regularization: without dropout, weight decay, augmentation, mixtures, label smoothing and averaging the same
    training fits better, and unseen images profit. Source: statistics.md, "Underfitting needs a reference"; Goodfellow,
    Bengio and Courville 2016, "Deep Learning", chapter 7 (regularization trades train error for unseen error)."""
    return _cause(evidence, "over-regularized", "To try: half of the dropout, weight decay and augmentation, or none.")


def under_trained(evidence: Evidence) -> Finding:
    """Stopped too early: with the schedule stretched to twice the steps it fits better. Without that probe a curve that still
    rises at its end says so, once the learning rate is known not to be what makes it slow. Source: statistics.md,
    "Underfitting needs a reference" (end slope not zero)."""
    found = _cause(evidence, "under-trained", "To try: twice the epochs, with the schedule stretched to them.")
    if found.verdict != "cannot-tell" or evidence.gap is None or still_improving(evidence).verdict != "yes":
        return found
    sign = f"{found.evidence} {still_improving(evidence).evidence}"
    if "longer" not in evidence.probes and learning_rate(evidence).verdict == "no":
        advice = "To try: more epochs, with the schedule stretched to them."
        return finding(found.rule, "yes", f"{sign} The learning rate is not to blame.", advice, dict(found.figures))
    return finding(found.rule, "cannot-tell", sign, found.advice, dict(found.figures))


def too_small(evidence: Evidence) -> Finding:
    """Too little capacity: a larger network of the same family, trained alike, fits better and does better on unseen images.
    Source: statistics.md, "Underfitting needs a reference" (a larger network lowers D)."""
    return _cause(evidence, "too-small", "To try: a larger network (network.width, or the next one of its family).")


def cannot_fit(evidence: Evidence) -> Finding:
    """Optimization or code is at fault: the network cannot even fit about 64 train images without any regularization, nor
    does it err less on them than on all. Source: statistics.md, "Underfitting needs a reference"; Karpathy 2019, "A Recipe for
    Training Neural Networks" ("overfit one batch")."""
    found = _cause(evidence, "cannot-fit", "")
    probe = evidence.probes.get("fit-64")
    if evidence.gap is None or probe is None or probe.state == "needless" or found.verdict == "no":
        return found
    if probe.state == "failed" or probe.train_error is None:
        text = f"Trained on a few images the loss stopped being finite. {probe.note}".strip()
        return finding("cannot-fit", "yes", text, "To try: a tenth of the learning rate; look for faults in the loss.")
    error = probe.train_error
    text = f"Trained on a few images alone for {probe.steps:,} steps, its error on them is {percent(error.value)}"
    figures = figures_of("fitted_error", error)
    if error.value < FITS:
        return finding("cannot-fit", "no", f"{text}: it can fit them.", "", figures)
    known = evidence.gap.train_error
    if evidence.train_count <= FEW and evidence.gap.overfits == "yes":
        text += f"; these are its {evidence.train_count} train images, which it does know better than unseen ones."
        return finding("cannot-fit", "cannot-tell", text, "More train images first.", figures)
    if error.low > FITS_NOT and error.high < known.low:
        text += f", surely less than the {percent(known.value)} on all train images: it learns, though it does not fit them."
        return finding("cannot-fit", "cannot-tell", text, "More steps on these few images would tell.", figures)
    if error.low > FITS_NOT:
        advice = (
            "Look for a fault: targets beside the wrong images, frozen parameters, a loss that does not fit the task."
        )
        return finding("cannot-fit", "yes", f"{text}: it cannot even fit them.", advice, figures)
    return finding("cannot-fit", "cannot-tell", f"{text}.", "More steps on these few images would tell.", figures)


def label_ceiling(evidence: Evidence) -> Finding:
    """Nothing lowers the train error: with every probe run and each saying no, the labels or what the images show allow no
    less. Source: statistics.md, "Underfitting needs a reference" ("Otherwise the noise ceiling of the labels")."""
    gap = evidence.gap
    if gap is None:
        return finding("label-ceiling", "cannot-tell", NOTHING_EVALUATED, EPOCH)
    text = f"Train error{evidence.error_note} {percent_within(gap.train_error)}"
    if not gap.train_error.low > FAR_FROM_ZERO:
        return finding("label-ceiling", "no", f"{text}: not surely above {percent(FAR_FROM_ZERO)}.", "")
    answers = {cause: _answered(evidence)(cause).verdict for cause in CAUSES}
    proven = [cause for cause, answer in answers.items() if answer == "yes"]
    if proven:
        return finding("label-ceiling", "no", f"{text}, and it can be lowered: {', '.join(proven)}.", "")
    open_ = [cause for cause, answer in answers.items() if answer == "cannot-tell"]
    left = [PROBE_OF[cause] for cause in open_ if PROBE_OF[cause] not in evidence.probes]
    if open_ or not all(probe in evidence.probes for probe in PROBE_OF.values()):
        advice = f"These probes are left: {', '.join(left)}." if left else "More images would tell."
        return finding("label-ceiling", "cannot-tell", f"{text}; not all of its causes are ruled out.", advice)
    advice = "Look at the train images that are wrong with the highest loss: their labels, and whether they can be told at all."
    return finding("label-ceiling", "yes", f"{text}, and none of the probes lowers it.", advice)


def probes_that_would_tell(evidence: Evidence) -> tuple[str, ...]:
    """The probes not run yet that would tell why the train error is high, in the order to run them, and last the one that asks
    about the labels, where no cause is proven and wrong labels are likely; empty where neither is.
    """
    noise = evidence.label_noise
    proven = any(_answered(evidence)(cause).verdict == "yes" for cause in CAUSES)
    about_labels = noise is not None and noise.suspected and not proven and "labels" not in evidence.probes
    return _of_causes(evidence) + (("labels",) if about_labels else ())


def _of_causes(evidence: Evidence) -> tuple[str, ...]:
    """`fit-64` is the last resort: only where no other cause is proven."""
    gap = evidence.gap
    if gap is None or not gap.train_error.low > FAR_FROM_ZERO or _gap_is_larger(gap):
        return ()
    if any(_takes_most(evidence, probe) for probe in evidence.probes.values()):
        return ()
    proven = any(_answered(evidence)(cause).verdict == "yes" for cause in CAUSES)
    wanted = [probe for cause, probe in PROBE_OF.items() if cause != "cannot-fit" or not proven]
    return tuple(probe for probe in wanted if probe not in evidence.probes)


def _cause(evidence: Evidence, rule: str, advice: str, *, said: str = "") -> Finding:
    """What the cause's own probe says of it."""
    gap, name = evidence.gap, PROBE_OF[rule]
    if gap is None:
        return finding(rule, "cannot-tell", NOTHING_EVALUATED, EPOCH)
    text = f"Train error{evidence.error_note} {percent_within(gap.train_error)}"
    if not gap.train_error.low > FAR_FROM_ZERO:
        return finding(rule, "no", f"{text}: not surely above {percent(FAR_FROM_ZERO)}.", "")
    probe = evidence.probes.get(name)
    if probe is None:
        if _gap_is_larger(gap):
            return finding(rule, "no", f"{text}, but the gap to unseen images is the larger trouble.", "")
        return finding(rule, "cannot-tell", f"{text}.", f"The probe {name} would tell.")
    if probe.state == "needless":
        return finding(rule, "no", f"{text}. {probe.note}", "")
    if probe.state == "failed" or probe.train_drop is None or probe.val_drop is None:
        return finding(rule, "cannot-tell", f"{text}. {probe.note}".strip(), "")
    figures = {**figures_of("train_drop", probe.train_drop), **figures_of("val_drop", probe.val_drop)}
    text += (
        f". With {changed_values(probe.before, probe.changes)} it falls by {points_within(probe.train_drop)}, "
        f"the unseen error by {points_within(probe.val_drop)}."
    )
    answer = _gains(probe)
    told = {
        "yes": (f"{said}{text}", advice),
        "no": (text, ""),
        "cannot-tell": (text, "More validation images would tell."),
    }
    return finding(rule, answer, *told[answer], figures)


def _gains(probe: ProbeResult) -> Answer:
    """Yes where D falls beyond chance, and the unseen error by surely more than is worth acting on; no where either surely
    does not. Where the range test, which looks at no score, has something against the rate, there are two witnesses: the unseen
    error has to fall beyond chance and by more than is worth acting on, but not by surely more."""
    train, val = probe.train_drop, probe.val_drop
    if train is None or val is None:
        return "cannot-tell"
    least = val.low + LEAST_MARGIN if probe.outside else val.low
    if train.low > 0 and min(least, val.value) > LEAST_MARGIN:
        return "yes"
    return "no" if train.high <= LEAST_MARGIN or val.high <= LEAST_MARGIN else "cannot-tell"


def _takes_most(evidence: Evidence, probe: ProbeResult) -> bool:
    gap, drop = evidence.gap, probe.train_drop
    if gap is None or drop is None or probe.val_drop is None:
        return False
    return drop.low > MOST_OF_IT * gap.train_error.value and _gains(probe) == "yes"


def _gap_is_larger(gap: Gap) -> bool:
    return gap.overfits == "yes" and gap.interval.value > gap.train_error.value


def _rate(values: object) -> float | None:
    rate = values.get("optimizer.lr") if hasattr(values, "get") else None
    return float(rate) if isinstance(rate, int | float) else None


def _answered(evidence: Evidence) -> Callable[[str], Finding]:
    rules: dict[str, Callable[[Evidence], Finding]] = {
        "learning-rate": learning_rate,
        "over-regularized": over_regularized,
        "under-trained": under_trained,
        "too-small": too_small,
        "cannot-fit": cannot_fit,
    }
    return lambda cause: rules[cause](evidence)
