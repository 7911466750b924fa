"""The parity certificate: does what is handed over answer as the model itself does, from the image file on?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.deploy.agreement import Agreement, agreement
from trainwright.errors import GoalNotMetError
from trainwright.plugins import Task
from trainwright.recipe import Size
from trainwright.records import Answers, Progress, Scores

Answering = Callable[[Sequence[Path]], Mapping[str, np.ndarray]]  # raw image files → columns of `Task.answers`
Runs = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # uint8 [N, H, W, 3] → the same

LEAST_AGREEMENT = 0.999
SCORE_TOLERANCE = 0.001  # of the score: less than one image of a thousand
FILES_AT_ONCE = 16
BATCHES = (1, 32)
WARM_UP = 2  # calls before the clock counts: memory is taken, kernels are chosen
LEAST_CALLS, MOST_CALLS = 5, 25
MOST_SECONDS = 2.0  # of measuring at one batch size, once there are LEAST_CALLS
NAMED = 3  # images in the text of a refusal


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What came of holding an artefact against the model. breaches: in words, why it is none to be handed over."""

    agreement: Agreement
    own: Scores = field(repr=False)
    exported: Scores = field(repr=False)
    breaches: tuple[str, ...]
    worst: tuple[str, ...]  # names of the images that agree least, where any does not


def check(
    answering: Answering, files: Sequence[Path], own: Answers, task: Task, *, progress: Progress | None = None
) -> Parity:
    """Hold what is said of raw image files against the model's own answers to them.

    answering: any function from files to answers. own: of the same files in the same order, with their target.
    """
    said: dict[str, np.ndarray] = {}
    for start in range(0, len(files), FILES_AT_ONCE):
        collect(said, answering(files[start : start + FILES_AT_ONCE]), start=start, own=own)
        if progress is not None:
            progress("certifying", min(start + FILES_AT_ONCE, len(files)), len(files))
    return judge(said, files, own, task)


def collect(said: dict[str, np.ndarray], part: Mapping[str, np.ndarray], *, start: int, own: Answers) -> None:
    """Put the answers to some images, from number `start` on, into arrays [N, …] for all; only columns that `own` has."""
    for name in own.columns.keys() & part.keys():
        values = np.asarray(part[name])
        if name not in said:
            said[name] = np.empty((len(own.rows), *values.shape[1:]), values.dtype)
        said[name][start : start + len(values)] = values


def judge(said: Mapping[str, np.ndarray], files: Sequence[Path], own: Answers, task: Task) -> Parity:
    """What comes of answers to all files. Raises UsageError for answers that it is not known how to compare."""
    found = agreement(task, own.columns, said)
    own_scores, scores = task.scores(own), task.scores(Answers(rows=own.rows, columns={**own.columns, **said}))
    order = np.argsort(found.by_image, kind="stable")
    return Parity(
        agreement=found,
        own=own_scores,
        exported=scores,
        breaches=tuple(_breaches(found, own_scores.score, scores.score)),
        worst=tuple(files[index].name for index in order[:NAMED] if found.by_image[index] < 1),
    )


def refuse_breaches(parity: Parity, *, what: str) -> None:
    """Raise GoalNotMetError with every breach. what: the artefact, as `model.onnx`."""
    if not parity.breaches:
        return
    least = f" Least alike: {', '.join(parity.worst)}." if parity.worst else ""
    raise GoalNotMetError(
        f"does not answer as the model does: {'; '.join(parity.breaches)}.{least} Nothing was written.",
        where=what,
        cure="Are the image files those that were trained on, and the packages the same? Other formats: --format.",
    )


def latency(runs: Runs, *, size: Size) -> dict[str, float]:
    """Median seconds an image by batch size, `{"1": …, "32": …}`, of random pixels that are in memory."""
    found = {}
    for count in BATCHES:
        images_NHWC = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
        seconds: list[float] = []
        for _ in range(WARM_UP):
            runs(images_NHWC)
        while len(seconds) < LEAST_CALLS or (sum(seconds) < MOST_SECONDS and len(seconds) < MOST_CALLS):
            begun = time.perf_counter()
            runs(images_NHWC)
            seconds.append(time.perf_counter() - begun)
        found[str(count)] = float(np.median(seconds)) / count
    return found


def _breaches(found: Agreement, own: float, exported: float) -> list[str]:
    breaches = []
    if not found.decided:
        breaches.append(f"nothing was decided ({found.of}), so that nothing shows that they agree")
    if found.share < LEAST_AGREEMENT:
        breaches.append(f"agreement {found.share:.4f} ({found.of}), at least {LEAST_AGREEMENT} is asked for")
    if not found.finite:
        breaches.append("some answers are not numbers")
    both_undefined = np.isnan(own) and np.isnan(exported)
    if not both_undefined and not abs(exported - own) <= SCORE_TOLERANCE:
        breaches.append(f"score {exported:.4f} instead of {own:.4f}, at most {SCORE_TOLERANCE} apart is asked for")
    if found.allowed is not None and not found.largest <= found.allowed:
        breaches.append(f"largest difference {found.largest:.3g} ({found.largest_of}), at most {found.allowed:g}")
    return breaches


def as_text(certificate: Mapping[str, Any]) -> str:
    """A `trainwright.certificate/1` object for people to read."""
    metric, images = certificate["metric"], certificate["images"]
    lines = [
        f"Parity certificate of {certificate['run']}",
        "",
        f"All {images:,} validation images, from the image file on, against the model itself in fp32.",
        *([certificate["note"]] if certificate["note"] else []),
        "",
        _score_line(f"{metric} of the model, fp32", certificate["score"]["model"]),
    ]
    trained = certificate["score"]["trained"]
    if trained["score"] is not None:
        lines.append(_score_line(f"{metric} as judged after training, {trained['precision']}", trained))
    if certificate["trained"] is not None:
        kept = certificate["trained"]
        lines.append(f"agreement with the answers of then: {kept['agreement']:.5f} of {kept['agreement_of']}")
    if certificate["test_time_flip"]:
        lines.append("An answer is the mean of those to the image and to its mirror image.")
    for name, made in certificate["files"].items():
        lines += ["", f"{name}, {made['bytes']:,} bytes, SHA-256 {made['sha256']}"]
        if certificate["temperature"] != 1:
            lines.append(f"  {_temperature_line(certificate['temperature'], made['temperature'])}")
        lines.append(_score_line(f"  {metric}", made["score"]))
        lines.append(f"  agreement           {made['agreement']:.5f} of {made['agreement_of']}")
        lines.append(f"  largest difference  {made['largest_difference']:.3g} ({made['largest_difference_of']})")
        lines.append(f"  milliseconds an image  {_milliseconds(made['seconds_per_image'])}")
    lines += ["", f"model in torch, milliseconds an image  {_milliseconds(certificate['model_seconds_per_image'])}"]
    lines.append(f"reading an image file  {1000 * certificate['reading_seconds_per_image']:.2f} ms (median)")
    machine = certificate["machine"]
    lines.append(f"measured on {machine['processor'] or 'an unnamed processor'}, {machine['torch_threads']} threads")
    return "\n".join(lines) + "\n"


def _temperature_line(asked: float, inside: float) -> str:
    if inside == asked:
        return f"logits are divided by a temperature of {asked:.4g} inside"
    return f"held against the model without the temperature of {asked:.4g}, which is not in this file"


def _score_line(what: str, score: Mapping[str, Any]) -> str:
    if score["score"] is None:
        return f"{what}: not defined"
    within = "" if score.get("low") is None else f" [{score['low']:.4f}, {score['high']:.4f}]"
    return f"{what}: {score['score']:.4f}{within}"


def _milliseconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{1000 * value:.2f} (batch {count})" for count, value in seconds.items())
