"""What the images and labels themselves get wrong: twins across parts, another kind of validation images, noisy labels, rare
classes that the score hides."""

from __future__ import annotations

import math

from trainwright.diagnosis.balance import Balance
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import margin_of
from trainwright.diagnosis.labels import LEAST_SKILL, RATE_MARGIN, LabelNoise
from trainwright.diagnosis.making import NOTHING_EVALUATED, figures_of, finding
from trainwright.diagnosis.shift import AUC_MARGIN, Shift
from trainwright.diagnosis.twins import SHARE_MARGIN
from trainwright.diagnosis.wording import images, percent, percent_within
from trainwright.records import Finding, Interval

LABELS = "labels"  # the probe
OUT_OF_FOLD = (
    "Answers of better networks for images that they have not seen would tell, and list the doubtful labels: "
    "'trainwright inspect DATA --labels', or the probe labels with the network of this run."
)


def twins(evidence: Evidence) -> Finding:
    """More than two in a hundred validation images have a twin in train: the same pixels, or a near copy. They are remembered,
    so the score flatters; it is given without them too. Source: Barz and Denzler, arXiv:1902.00423; statistics.md, "Labels
    and leaks"."""
    found = evidence.twins
    if found is None or not found.images:
        return finding(
            "twins", "cannot-tell", "Nobody has looked for twins.", "Judge the run again with its data at hand."
        )
    figures = {
        "exact": float(found.exact),
        "near": float(found.near),
        "share": found.share,
        **figures_of("score", found.with_them),
        **figures_of("score_without", found.without),
    }
    kinds = [f"{found.exact:,} the very same pixels"] if found.exact else []
    kinds += [f"{found.near:,} nearly the same"] if found.near else []
    looked_at = images(found.images) if found.images == found.total else f"{found.images:,} of {images(found.total)}"
    if not kinds:
        return finding("twins", "no", f"None of {looked_at} for validation has a twin in train.", "", figures)
    text = (
        f"Of {looked_at} for validation {found.exact + found.near:,} ({percent(found.share)}) have a twin in train: "
        f"{', '.join(kinds)}. {evidence.score_name.capitalize()} {percent_within(found.with_them)} with them, "
        f"{percent_within(found.without)} without."
    )
    if found.matter == "no":
        return finding("twins", "no", f"{text} Too few to move it by two points.", "", figures)
    example = "".join(f" For example: {unseen} and {seen}." for unseen, seen in found.examples[:1])
    advice = f"Believe the score without them. Take them out of val, or keep each pair in one part.{example}"
    return finding("twins", "yes", text, advice, {**figures, "margin": SHARE_MARGIN})


def validation_shifted(evidence: Evidence) -> Finding:
    """Validation images are drawn from another distribution than train images: a classifier that looks at brightness, colour,
    texture and the picture in small tells them apart, classes being matched, or the shares of the classes differ. Yes where
    its AUC surely lies above 0.6, or a tenth of the images would have to be of another class. Source: Lopez-Paz and Oquab,
    arXiv:1610.06545; Rabanser et al., arXiv:1810.11953; label shift: Lipton et al., arXiv:1802.03916."""
    found = evidence.shift
    if found is None:
        few = "Too few images, or none of the same class in both parts, to compare train and validation."
        return finding("validation-shifted", "cannot-tell", few, "Some dozens of validation images would tell.")
    auc = found.auc
    figures = {**figures_of("auc", auc), "margin": AUC_MARGIN}
    text = (
        f"A classifier of image statistics tells train from validation images with an AUC of {_auc(auc)} "
        f"(0.5: not at all), margin {AUC_MARGIN}."
    )
    if found.labels is not None:
        figures |= figures_of("label_shift", found.labels)
        text += f" Shares of classes differ by {percent_within(found.labels)} beyond chance."
    if found.of_images == "yes":
        advice = (
            "The gap is not the network's alone. Split anew at random, or collect train images like those of validation; where "
            "validation is what counts, train with the variations that it has (brightness, blur, colour)."
        )
        return finding("validation-shifted", "yes", text, advice, figures)
    if found.of_labels == "yes":
        advice = (
            "Split anew at random, or judge by the accuracy within each class, which does not depend on their shares."
        )
        return finding("validation-shifted", "yes", text, advice, figures)
    if found.of_images == "no" and found.of_labels == "no":
        return finding("validation-shifted", "no", text, "", figures)
    return finding("validation-shifted", "cannot-tell", text, _more_images(found), figures)


def noisy_labels(evidence: Evidence) -> Finding:
    """More than 5 % of the labels are wrong. A network that is surest hardly errs on images whose labels are right; the floor
    under its error is the rate of wrong ones. Yes where the whole interval of that floor lies above 5 %, no where it lies
    below. From out-of-sample answers only, and of a network that knows its task, because one that does not errs surely on hard
    images too. Source: Northcutt et al., arXiv:1911.00068; Frénay and Verleysen 2014, IEEE TNNLS 25:845; statistics.md,
    "Labels and leaks"."""
    found = asked_out_of_fold(evidence) or evidence.label_noise
    if found is None:
        text = "Labels were not examined: that needs one class an image, answers that are probabilities, and some dozens of them."
        return finding("noisy-labels", "cannot-tell", text, "")
    figures = {
        **figures_of("label_noise", found.rate),
        **figures_of("surest_error", found.surest),
        "skill": found.skill,
        "margin": RATE_MARGIN,
    }
    text = _what_the_surest_say(found)
    least = min(_unseen_errors(evidence), default=math.inf)
    if found.noisy == "yes" and least < found.rate.low:
        text += f" But trained otherwise it errs on at most {percent(least)} of the same labels, so no more of them are wrong."
        return finding("noisy-labels", "no" if least < RATE_MARGIN else "cannot-tell", text, "", figures)
    if found.noisy == "yes":
        seen = (
            "Correct the doubtful ones on the list, in validation too."
            if found.out_of_fold
            else "List the doubtful ones with 'trainwright inspect DATA --labels' and correct them, in validation too."
        )
        return finding(
            "noisy-labels", "yes", text, f"{seen} Until then, a longer training learns them by heart.", figures
        )
    if found.noisy == "no":
        return finding("noisy-labels", "no", text, "", figures)
    if found.skill < LEAST_SKILL:
        text += " The network is too weak to accuse the labels."
    advice = "More images, or a better network, would tell." if found.out_of_fold else OUT_OF_FOLD
    return finding("noisy-labels", "cannot-tell", text, advice, figures)


def asked_out_of_fold(evidence: Evidence) -> LabelNoise | None:
    """What the probe `labels` found; None where it was not run."""
    probe = evidence.probes.get(LABELS)
    return None if probe is None else probe.label_noise


def _unseen_errors(evidence: Evidence) -> list[float]:
    """The upper limits of the errors of probes on the run's own validation images."""
    return [
        probe.val_error.high
        for probe in evidence.probes.values()
        if probe.val_error is not None and probe.val_drop is not None
    ]


def imbalance_hidden(evidence: Evidence) -> Finding:
    """Accuracy hides what happens to rare classes: it surely exceeds the mean of the classes' own accuracies by more than the
    margin of the gap. Scores that count every class alike hide nothing. Source: Brodersen et al. 2010, ICPR, "The balanced
    accuracy and its posterior distribution"."""
    found = evidence.balance
    if found is None:
        return _without_balance(evidence)
    figures = {
        **figures_of("balanced_accuracy", found.balanced),
        **figures_of("hidden", found.hidden),
        **figures_of("worst_recall", found.worst_recall),
        "majority": found.majority,
    }
    accuracy = found.balanced.value + found.hidden.value
    margin = margin_of(1 - accuracy)
    text = (
        f"Accuracy {percent(accuracy)}, mean over classes {percent_within(found.balanced)}; lowest: {found.worst} "
        f"{percent_within(found.worst_recall)}; the most frequent class has {percent(found.majority)} of the images."
    )
    if found.hidden.low > margin:
        advice = (
            "Judge by the accuracy within each class. To try: loss.class_weights: balanced, or more images of them."
        )
        return finding("imbalance-hidden", "yes", text, advice, {**figures, "margin": margin})
    if found.hidden.high < margin:
        return finding("imbalance-hidden", "no", text, "", {**figures, "margin": margin})
    return finding("imbalance-hidden", "cannot-tell", text, _more_of_the_rare(found), {**figures, "margin": margin})


def _without_balance(evidence: Evidence) -> Finding:
    known = {name: value for name, value in evidence.val_per_class.items() if value == value}
    if evidence.counts_right and evidence.classes:
        return finding("imbalance-hidden", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    if not known:
        return finding("imbalance-hidden", "no", "The score has no classes that it could hide.", "")
    worst = min(known, key=lambda name: known[name])
    text = f"The {evidence.score_name} counts every class alike; lowest: {worst} {percent(known[worst])}."
    return finding("imbalance-hidden", "no", text, "", {"worst": known[worst]})


def _what_the_surest_say(found: LabelNoise) -> str:
    asked = "out-of-fold answers" if found.out_of_fold else "answers for validation images"
    return (
        f"The surest tenth of {found.images:,} {asked} contradicts the labels in {percent_within(found.surest)}; wrong labels "
        f"that such answers leave as a floor: {percent_within(found.rate)}, margin {percent(RATE_MARGIN)}."
    )


def _more_images(found: Shift) -> str:
    if found.of_images != "cannot-tell":
        return "More validation images would tell whether the classes have the same shares."
    count, have = found.images_that_would_tell, min(found.images)
    if count > 100 * have:
        return "It lies on the margin."
    return f"About {images(count)} a side would tell; there are {have:,}."


def _more_of_the_rare(found: Balance) -> str:
    return f"More validation images of the rare classes would tell, of {found.worst} first."


def _auc(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"
