"""What a judgement asks of the images and labels themselves: twins, another kind of validation images, label noise, hidden
classes, honest probabilities, and which images are hardest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainwright.diagnosis.balance import Balance, balance
from trainwright.diagnosis.calibration import Calibration, calibration
from trainwright.diagnosis.labels import LabelNoise, label_noise
from trainwright.diagnosis.shift import (
    LEAST_IMAGES,
    Shift,
    counts_of,
    image_statistics,
    label_shift,
    matched,
    two_sample_test,
)
from trainwright.diagnosis.stats import bootstrap_measures, wilson
from trainwright.diagnosis.twins import Twins, mirrored, near_twins, signatures
from trainwright.records import Answers, Interval, Scores
from trainwright.seeding import stream
from trainwright.workflows.prepare import Prepared

READ_AT_ONCE = 64  # images: their figures are then made within the processor's cache
MOST_KNOWN, MOST_ASKED = 20_000, 2_000  # images of train and validation that are searched for twins: about two seconds
MOST_CLASSES = 50  # with more classes a validation part has too few images of each for their shares to say anything
HARDEST = 20
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class DataChecks:
    """What was found, by the names that `Evidence` has for it."""

    twins: Twins | None = None
    shift: Shift | None = None
    label_noise: LabelNoise | None = None
    balance: Balance | None = None
    calibration: Calibration | None = None


def check_data(
    prepared: Prepared, answers: Answers, scores: Scores, groups: Callable[[np.ndarray], np.ndarray]
) -> DataChecks:
    """Everything that the stored images and the answers for validation images tell; reads some thousand images.

    answers, scores: of all validation images in the order of their rows. groups: of rows of the sample table, a number for
    each image that those share which depend on each other.
    """
    own = groups(prepared.split.val)
    dependent = own if len(np.unique(own)) < len(own) else None
    noise = honest = hidden = None
    if _of_one_class(prepared, answers):
        probabilities_NK, target_N = answers.columns["probabilities"], answers.columns["target"]
        noise = label_noise(probabilities_NK, target_N, units=len(np.unique(own)))
        honest = calibration(probabilities_NK, target_N, groups=dependent)
        hidden = balance(scores.per_class, prepared.dataset.targets.counts(prepared.split.val))
    return DataChecks(
        twins=find_twins(prepared, scores, groups=dependent),
        shift=find_shift(prepared, groups),
        label_noise=noise,
        balance=hidden,
        calibration=honest,
    )


def find_shift(prepared: Prepared, groups: Callable[[np.ndarray], np.ndarray]) -> Shift | None:
    """How differently train and validation images are drawn; None where too few share a class."""
    strata, split = prepared.dataset.targets.strata(), prepared.split
    of_train, of_val = [strata[row] for row in split.train], [strata[row] for row in split.val]
    train, val = matched(of_train, of_val)
    if min(len(train), len(val)) < LEAST_IMAGES:
        return None
    rows = np.concatenate([split.train[train], split.val[val]])
    figures = _of_images(prepared, rows, image_statistics)
    group = groups(rows)
    auc = two_sample_test(figures[: len(train)], figures[len(train) :], (group[: len(train)], group[len(train) :]))
    names, labels = sorted(set(of_train) | set(of_val)), None
    if prepared.task.target == "class" and 2 <= len(names) <= MOST_CLASSES:
        labels = label_shift(counts_of(of_train, names), counts_of(of_val, names))
    return Shift(auc=auc, images=(len(train), len(val)), labels=labels)


def find_twins(prepared: Prepared, scores: Scores, *, groups: np.ndarray | None = None) -> Twins:
    """Validation images that are in train too, exactly or nearly, and the score with and without them.

    scores: of all validation images in the order of their rows. Nearly: the same form in small, mirrored or not.
    """
    split, hashes = prepared.split, prepared.dataset.fingerprint.pixel_hashes
    first = {hashes[row]: int(row) for row in split.train[::-1]}
    known, asked = _some(split.train, MOST_KNOWN, "twins-train"), _some(split.val, MOST_ASKED, "twins-val")
    pairs = {int(row): first[hashes[row]] for row in asked if hashes[row] in first}
    exact = len(pairs)
    known_MD, asked_ND = (_of_images(prepared, rows, signatures) for rows in (known, asked))
    found, nearest = near_twins(known_MD, asked_ND, flipped_ND=mirrored(asked_ND))
    for place in np.flatnonzero(found):
        pairs.setdefault(int(asked[place]), int(known[nearest[place]]))
    alone = ~np.isin(split.val, list(pairs))
    names = prepared.dataset.table.paths
    return Twins(
        exact=exact,
        near=len(pairs) - exact,
        images=len(asked),
        total=len(split.val),
        with_them=_score(prepared, scores, np.ones(len(alone), dtype=bool), groups),
        without=_score(prepared, scores, alone, groups),
        examples=tuple((names[unseen], names[seen]) for unseen, seen in sorted(pairs.items())[:EXAMPLES]),
    )


def hardest(prepared: Prepared, answers: Answers, scores: Scores) -> list[dict[str, Any]]:
    """The validation images that the network finds hardest, the hardest first, as `result.json` has them.

    path; truth, answer and the probabilities of both where an image has one class; score of the image for other tasks.
    """
    paths = prepared.name_rows([int(row) for row in answers.rows])
    if not _of_one_class(prepared, answers):
        order = np.argsort(scores.per_image, kind="stable")[:HARDEST]
        return [{"path": paths[n], "score": float(scores.per_image[n])} for n in order]
    probabilities_NK, target_N = answers.columns["probabilities"], answers.columns["target"]
    of_truth = probabilities_NK[np.arange(len(target_N)), target_N]
    names = prepared.task.info.names
    return [
        {
            "path": paths[n],
            "truth": names[target_N[n]],
            "answer": names[probabilities_NK[n].argmax()],
            "probability": float(probabilities_NK[n].max()),
            "probability_of_truth": float(of_truth[n]),
        }
        for n in np.argsort(of_truth, kind="stable")[:HARDEST]
    ]


def _of_one_class(prepared: Prepared, answers: Answers) -> bool:
    """Whether each image has one class, and an answer is a probability of each; a task of one's own may do otherwise."""
    found, target = answers.columns.get("probabilities"), answers.columns.get("target")
    return (
        prepared.task.target == "class"
        and found is not None
        and found.ndim == 2
        and target is not None
        and target.ndim == 1
    )


def _of_images(prepared: Prepared, rows: np.ndarray, figures: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The figures of the stored images of these rows, a few of them read at once."""
    parts = [rows[start : start + READ_AT_ONCE] for start in range(0, len(rows), READ_AT_ONCE)]
    return np.concatenate([figures(prepared.pixels.take(part)) for part in parts])


def _some(rows: np.ndarray, most: int, name: str) -> np.ndarray:
    """At most so many of the rows, drawn at random, sorted."""
    return rows if len(rows) <= most else np.sort(stream(0, name).permutation(rows)[:most])


def _score(prepared: Prepared, scores: Scores, chosen: np.ndarray, groups: np.ndarray | None) -> Interval:
    """The score of some of the images with its interval."""
    if not chosen.any():
        return Interval(value=float("nan"), low=0.0, high=1.0)
    tally_NQ, task = scores.tally[chosen], prepared.task
    if task.counts_right:
        return wilson(float(scores.per_image[chosen].sum()), int(chosen.sum()))
    value = float(task.measures(tally_NQ.sum(axis=0)[None])["score"][0])
    found = bootstrap_measures(
        tally_NQ,
        lambda tally_BQ: {"score": task.measures(tally_BQ)["score"]},
        groups=None if groups is None else groups[chosen],
        draws=500,
    )
    return found.get("score", Interval(value=value, low=-np.inf, high=np.inf))
