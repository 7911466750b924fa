"""After training: the kept weights answer once more, and the figures become a verdict, findings, pictures and a result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trainwright.diagnosis.curves import step_losses
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import Gap
from trainwright.diagnosis.recorded import as_json
from trainwright.diagnosis.rules import judge
from trainwright.diagnosis.stats import bootstrap_measures, effective_count, paired_bootstrap, wilson
from trainwright.files import write_atomically
from trainwright.records import Answers, Finding, Interval, Scores, TrainErrors, part_of, to_json
from trainwright.report import figures
from trainwright.training import checkpoint as checkpoints
from trainwright.workflows.chosen_epoch import cross_fitted, dependent, gap_of, groups_of, score_of
from trainwright.workflows.data_checks import check_data, hardest
from trainwright.workflows.lr import recorded_finding, recorded_lr
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.training import Training, save_arrays

# Losses that are least where the softmax says the true probabilities. Binary cross-entropy teaches K answers of their own,
# whose softmax is surer than they are, and focal loss is least where the answer is less sure than the truth.
PROBABILISTIC = ("cross-entropy", "dice+cross-entropy")

EVIDENCE = "evidence.json"  # in a run folder: all that its rules looked at


def judge_run(training: Training, *, seconds: float) -> dict[str, Any]:
    """Evaluate the kept weights, judge, draw, and write result.json, which is also returned (`trainwright.run/1`)."""
    folder, prepared = training.folder, training.prepared
    epochs = list(folder.records("epoch"))
    chosen, digest = keep_model(training, len(epochs))
    val_answers = training.evaluate(prepared.split.val, what="judging: val")
    train_answers = training.evaluate(prepared.probe_rows, what="judging: train")
    val, train = prepared.task.scores(val_answers), prepared.task.scores(train_answers)
    errors, excess = _train_errors(training, epochs[chosen], train_answers, train, val)
    measured = gap_of(training, len(epochs), chosen, train, val)
    evidence = _evidence(training, epochs, (errors, measured), excess, val)
    unseen = prepared.recipe.data.train_on != "train+val"
    if unseen:
        checks = check_data(prepared, val_answers, val, lambda rows: groups_of(prepared.dataset, rows))
        evidence = replace(evidence, **vars(checks))
    verdict, findings = judge(evidence)
    if unseen:
        save_arrays(folder, "val", _record(prepared, val_answers, val) | cross_fitted(training, len(epochs)))
    save_arrays(folder, "train", _record(prepared, train_answers, train))
    for finding in findings if unseen else _of_training_alone(findings):
        folder.append("finding", to_json(finding))
    _draw(training, epochs, chosen, (val_answers, val), (errors, measured) if unseen else None)
    result = {
        **_described(training, epochs, seconds=seconds),
        **_scored(training, train, val),
        "gap": to_json(measured.interval),
        "gap_margin": measured.margin,
        "verdict": verdict,
        "findings": [_public(finding) for finding in (*recorded_finding(folder), *findings)],
        "train_errors": to_json(errors),
        "images_scored": {"train": len(train_answers.rows), "val": len(val_answers.rows)},
        "hardest": hardest(prepared, val_answers, val),
        "kept_epoch": chosen,
        "weights_sha256": digest,
    }
    folder.write_json(EVIDENCE, as_json(evidence))
    clean: dict[str, Any] = to_json(result)
    if not unseen:
        clean |= nothing_unseen(clean)
    folder.write_json("result.json", clean)
    return clean


def _described(training: Training, epochs: list[dict[str, Any]], *, seconds: float) -> dict[str, Any]:
    """What of a result says which run it is of, and how it went."""
    folder, prepared = training.folder, training.prepared
    recipe = prepared.recipe
    return {
        "schema": "trainwright.run/1",
        "run": folder.run_id,
        "folder": str(folder.path),
        "task": prepared.task.name,
        "metric": prepared.task.metric,
        "lr": recorded_lr(folder, used=recipe.optimizer.peak_lr),
        "images": prepared.split.counts,
        "epochs": len(epochs),
        "seconds": seconds,
        "images_per_second": float(np.median([epoch["images_per_second"] for epoch in epochs])),
        "parameters": sum(parameter.numel() for parameter in prepared.model.parameters()),
        "recipe": recipe.model_dump(mode="json"),
        **{key: folder.manifest[key] for key in ("measured",) if key in folder.manifest},
    }


def _scored(training: Training, train: Scores, val: Scores) -> dict[str, Any]:
    """What of a result says how good the answers are."""
    intervals = _intervals(training, val)
    return {
        "score": {"train": train.score, "val": val.score},
        "loss": {"train": train.loss, "val": val.loss},
        "metrics": {
            "train": dict(train.metrics),
            "val": {name: intervals.get(name) or {"value": value} for name, value in val.metrics.items()},
        },
        "per_class": to_json(val.per_class),
        "intervals": {
            "score": intervals.get("score"),
            "per_class": {name: intervals[f"class.{name}"] for name in val.per_class if f"class.{name}" in intervals},
        },
    }


def nothing_unseen(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says where the validation images were trained on: no figure of it is of unseen images."""
    findings = _of_training_alone([Finding(**found) for found in result["findings"]])
    return {
        "score": {**result["score"], "val": None},
        "loss": {**result["loss"], "val": None},
        "metrics": {"train": result["metrics"]["train"], "val": {}},
        "gap": dict.fromkeys(("value", "low", "high")),
        "verdict": "diverged" if len(findings) > 1 else "cannot-tell",
        "findings": [_public(finding) for finding in findings],
        "train_errors": {**result["train_errors"], "val": None},
        "per_class": {},
        "hardest": [],
        "intervals": {"score": None, "per_class": {}},
    }


def _of_training_alone(findings: Sequence[Finding]) -> list[Finding]:
    """What is left of the findings where no image is unseen: that the training diverged, where it did, and that no more is."""
    diverged = [finding for finding in findings if finding.rule == "diverged" and finding.verdict == "yes"]
    nothing = Finding(
        rule="nothing-unseen",
        verdict="cannot-tell",
        evidence="The validation images were trained on too, so that none is left whose answers would tell anything.",
        advice="'trainwright finalise' opens the test part, where there is one.",
    )
    return [*diverged, nothing]


def keep_model(training: Training, epochs: int) -> tuple[int, str]:
    """Write the weights that the recipe keeps as model.safetensors, load them; (their epoch, their SHA-256)."""
    folder, position = training.folder, training.position
    chosen = epochs - 1
    if training.prepared.recipe.keep == "best" and position.best_epoch is not None:
        chosen = position.best_epoch
        best = checkpoints.load_tensors(training.best_file, position.best_sha256)
        checkpoints.load_model(training.evaluated_model, best)
    if training.evaluated_model is not training.prepared.model:  # a module of the user's own is to have what was judged
        checkpoints.load_model(training.prepared.model, training.evaluated_model.state_dict())
    digest = checkpoints.save_tensors(folder.checkpoints / "model.safetensors", training.evaluated_model.state_dict())
    content = {"sha256": digest, "epoch": chosen}
    write_atomically(folder.checkpoints / "model.json", json.dumps(content).encode())
    return chosen, digest


def _train_errors(
    training: Training, epoch: Mapping[str, Any], answers: Answers, train: Scores, val: Scores
) -> tuple[TrainErrors, Interval | None]:
    """The four train errors of statistics: A from the epoch itself, B and C measured here, D and val given.

    And by how much D exceeds B on the same images; None where answers are right or wrong, whose errors tell by themselves.
    Mixtures of images are a part of A alone: an answer for one image is right or wrong, one for a mixture is by halves.
    """
    task, rows = training.prepared.task, training.prepared.probe_rows
    in_train_mode = training.evaluate(rows, augmented=True, train_mode=True, what="judging: train mode")
    train_mode = task.scores(in_train_mode)
    augmented = task.scores(training.evaluate(rows, augmented=True, what="judging: augmented"))
    excess = None
    if not task.counts_right and len(in_train_mode.rows) > 1:
        same = np.searchsorted(answers.rows, in_train_mode.rows)  # probe rows are sorted, those of train mode are not
        groups = groups_of(training.prepared.dataset, in_train_mode.rows)
        excess = paired_bootstrap(train_mode.tally, train.tally[same], score_of(task), groups=groups)
    errors = TrainErrors(
        running=1 - _number(epoch["train_running"]["score"]),
        train_mode=1 - train_mode.score,
        augmented=1 - augmented.score,
        clean=1 - train.score,
        val=1 - val.score,
    )
    return errors, excess


def _evidence(
    training: Training,
    epochs: list[dict[str, Any]],
    judged: tuple[TrainErrors, Gap],
    excess: Interval | None,
    val: Scores,
) -> Evidence:
    prepared, (errors, measured) = training.prepared, judged
    classes = prepared.task.info.names
    loss, of_classes = prepared.recipe.loss, prepared.task.target in ("class", "mask")
    probabilistic = of_classes and loss.name in PROBABILISTIC
    guesses = of_classes and loss.name == "cross-entropy"
    if prepared.task.target == "mask" and loss.class_weights is not None:
        guesses = False  # a map is judged by the loss of the training, whose weights need not have a mean of 1
    augment = prepared.recipe.augment
    losses = [_number(loss) for record in training.folder.records("steps") for loss in record["loss"]]
    epochs = [epoch for epoch in epochs if training.is_looked_at(epoch["step"] + 1)]
    return Evidence(
        metric=prepared.task.metric,
        gap=measured,
        errors=errors,
        train_loss=tuple(_number(epoch["train"]["loss"]) for epoch in epochs),
        val_loss=tuple(_number(epoch["val"]["loss"]) for epoch in epochs),
        train_score=tuple(_number(epoch["train"]["score"]) for epoch in epochs),
        val_score=tuple(_number(epoch["val"]["score"]) for epoch in epochs),
        classes=classes if prepared.task.target in ("class", "mask") else (),
        val_per_class=val.per_class,
        val_count=len(prepared.split.val),
        train_count=len(prepared.split.train),
        chance_score=_chance(prepared),
        guess_loss=math.log(len(classes)) if guesses and len(classes) > 1 else math.inf,
        probabilistic=probabilistic,
        counts_right=prepared.task.counts_right,
        eval_excess=excess,
        mixed=augment.mix > 0 and (augment.mixup > 0 or augment.cutmix > 0),
        step_losses=step_losses(losses),
        steps=len(losses),
    )


def _chance(prepared: Prepared) -> float:
    """The score of an answer that does not look at the image: always the most frequent class, or the mean."""
    if prepared.task.target not in ("class", "mask"):
        return 0.0
    counts = [count for count in prepared.dataset.targets.counts(prepared.split.val).values() if count]
    share = max(counts, default=0) / max(1, sum(counts))
    return share if prepared.task.target == "class" else share / max(1, len(counts))  # the other classes' IoU is 0


def _intervals(training: Training, val: Scores) -> dict[str, Any]:
    """Every measure of the unseen images with its interval over images, by the names of `Task.measures`."""
    prepared = training.prepared
    groups = dependent(prepared)
    if not prepared.task.counts_right:
        found = bootstrap_measures(val.tally, prepared.task.measures, groups=groups)
        exact = {"score": val.score, **{f"class.{name}": value for name, value in val.per_class.items()}}
        return dict(to_json({name: moved_to(interval, exact.get(name)) for name, interval in found.items()}))
    strata = prepared.dataset.targets.strata()
    class_N = np.array([strata[row] for row in prepared.split.val])
    of_class = {
        f"class.{name}": share_right(share, val.per_image[own_N], None if groups is None else groups[own_N])
        for name, share in val.per_class.items()
        for own_N in [class_N == name]
    }
    return dict(to_json({"score": share_right(val.score, val.per_image, groups), **of_class}))


def share_right(share: float, right_N: np.ndarray, groups: np.ndarray | None) -> Interval:
    """The score interval of a share of right answers. right_N: 0 or 1 of each image. groups: [N], None where all images are on
    their own; images of a group fall together, so that they say as much as fewer independent ones would."""
    count = float(effective_count(right_N, groups)) if groups is not None and len(right_N) else len(right_N)
    return wilson(share * count, count)


def moved_to(interval: Interval, exact: float | None) -> Interval:
    """The interval, as wide as it is, around the exact value, where tallies give that only nearly (average precision)."""
    if exact is None or not math.isfinite(exact):
        return interval
    by = exact - interval.value
    return Interval(value=exact, low=min(exact, interval.low + by), high=max(exact, min(interval.high + by, 1.0)))


def _draw(
    training: Training,
    epochs: list[dict[str, Any]],
    chosen: int,
    answered: tuple[Answers, Scores],
    judged: tuple[TrainErrors, Gap] | None,
) -> None:
    """The pictures of a run, as PNG files in figures/; each is recorded, so that mirrors pick it up.

    judged: None where no image is unseen, so that only the curves of the training are drawn.
    """
    folder, metric = training.folder, training.prepared.task.metric
    pictures = {"learning-curves": figures.learning_curves(epochs, chosen, metric=metric)}
    if judged is not None:
        pictures["gap"] = figures.gap(judged[0], judged[1].interval, metric=metric)
        pictures |= _pictures_of_answers(training, *answered)
    for name, png in pictures.items():
        write_atomically(folder.figures / f"{name}.png", png)
        folder.append("figure", {"name": f"{name}.png", "epoch": len(epochs) - 1})


def _pictures_of_answers(training: Training, answers: Answers, scores: Scores) -> dict[str, bytes]:
    """Pictures of what was said of unseen images, the worst answers first, as PNG, by name."""
    task = training.prepared.task
    probabilities = answers.columns.get("probabilities")
    shown = figures.worth_showing(scores.per_image, None if probabilities is None else probabilities.max(axis=1))
    batches = training.evaluation_batches(answers.rows[shown])
    images_NHWC = np.concatenate([batch.images_NCHW.permute(0, 2, 3, 1).numpy() for batch in batches])
    tiles = task.tiles(part_of(answers, shown), images_NHWC)
    charts = {f"{chart.name}-val": figures.chart(chart) for chart in task.charts(answers)}
    return {"predictions-val": figures.sheet(tiles), **charts}


def _record(prepared: Prepared, answers: Answers, scores: Scores) -> dict[str, np.ndarray]:
    """The answers as they are kept: with each image's path, its score, its tally and what it depends on."""
    paths = np.array(prepared.name_rows([int(row) for row in answers.rows]))
    more = {"per_image": scores.per_image, "tally": scores.tally, "groups": groups_of(prepared.dataset, answers.rows)}
    return {"rows": answers.rows, "paths": paths, **answers.columns, **more}


def _public(finding: Finding) -> dict[str, Any]:
    content: dict[str, Any] = to_json(finding)
    return content


def _number(value: float | None) -> float:
    """A recorded number; records keep what is not finite as null."""
    return float("nan") if value is None else value
