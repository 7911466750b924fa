"""After training: the kept weights answer once more, and the figures become a verdict, findings, pictures and a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainwright.diagnosis.confusion import confusion_matrix
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import Gap, cross_fitted_gap, gap
from trainwright.diagnosis.rules import judge
from trainwright.files import write_atomically
from trainwright.records import Answers, Finding, Scores, TrainErrors, to_json
from trainwright.report import figures
from trainwright.training import checkpoint as checkpoints
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.training import Training, save_arrays


def judge_run(training: Training, *, seconds: float) -> dict[str, Any]:
    """Evaluate the kept weights, judge, draw, and write result.json, which is also returned (`trainwright.run/1`)."""
    folder, prepared = training.folder, training.prepared
    epochs = list(folder.records("epoch"))
    chosen, digest = _keep_model(training, len(epochs))
    val_answers = training.evaluate(prepared.split.val, what="judging: val")
    train_answers = training.evaluate(prepared.probe_rows, what="judging: train")
    val, train = prepared.task.scores(val_answers), prepared.task.scores(train_answers)
    errors = _train_errors(training, epochs[chosen], train, val)
    measured = _gap(training, len(epochs), chosen, train, val)
    verdict, findings = judge(_evidence(training, epochs, measured, errors, val))
    for answers, part in ((val_answers, "val"), (train_answers, "train")):
        save_arrays(folder, part, _with_paths(training, answers))
    for finding in findings:
        folder.append("finding", to_json(finding))
    _draw(training, epochs, chosen, val_answers, errors, measured)
    rates = [epoch["images_per_second"] for epoch in epochs]
    recipe = prepared.recipe
    result = {
        "schema": "trainwright.run/1",
        "run": folder.run_id,
        "folder": str(folder.path),
        "metric": prepared.task.metric,
        "score": {"train": train.score, "val": val.score},
        "loss": {"train": train.loss, "val": val.loss},
        "gap": to_json(measured.interval),
        "gap_margin": measured.margin,
        "verdict": verdict,
        "findings": [_public(finding) for finding in findings],
        "train_errors": to_json(errors),
        "per_class": to_json(val.per_class),
        "lr": {"low": None, "high": None, "suggested": None, "used": recipe.optimizer.lr},
        "epochs": len(epochs),
        "kept_epoch": chosen,
        "seconds": seconds,
        "images_per_second": float(np.median(rates)),
        "parameters": sum(parameter.numel() for parameter in prepared.model.parameters()),
        "weights_sha256": digest,
        "recipe": recipe.model_dump(mode="json"),
    }
    clean: dict[str, Any] = to_json(result)
    folder.write_json("result.json", clean)
    return clean


def _keep_model(training: Training, epochs: int) -> tuple[int, str]:
    """Write the weights that the recipe keeps as model.safetensors, load them; (their epoch, their SHA-256)."""
    folder, position = training.folder, training.position
    chosen = epochs - 1
    if training.prepared.recipe.keep == "best" and position.best_epoch is not None:
        chosen = position.best_epoch
        best = checkpoints.load_tensors(training.best_file, position.best_sha256)
        checkpoints.load_model(training.evaluated_model, best)
    if training.average is not None:  # so that a module of the user's own ends up with the weights that were judged
        checkpoints.load_model(training.prepared.model, training.evaluated_model.state_dict())
    digest = checkpoints.save_tensors(folder.checkpoints / "model.safetensors", training.evaluated_model.state_dict())
    content = {"sha256": digest, "epoch": chosen}
    write_atomically(folder.checkpoints / "model.json", json.dumps(content).encode())
    return chosen, digest


def _train_errors(training: Training, epoch: Mapping[str, Any], train: Scores, val: Scores) -> TrainErrors:
    """The four train errors of statistics: A from the epoch itself, B and C measured here, D and val given."""
    task, rows = training.prepared.task, training.prepared.probe_rows
    train_mode = task.scores(training.evaluate(rows, augmented=True, train_mode=True, what="judging: train mode"))
    augmented = task.scores(training.evaluate(rows, augmented=True, what="judging: augmented"))
    return TrainErrors(
        running=1 - _number(epoch["train_running"]["score"]),
        train_mode=1 - train_mode.score,
        augmented=1 - augmented.score,
        clean=1 - train.score,
        val=1 - val.score,
    )


def _gap(training: Training, epochs: int, chosen: int, train: Scores, val: Scores) -> Gap:
    """The gap of the kept weights; cross-fitted where their epoch was chosen on the same validation images."""
    prepared = training.prepared
    total, groups = len(prepared.split.train), _dependent(prepared)
    if prepared.recipe.keep != "best" or epochs < 2 or training.position.best_epoch is None:
        return gap(train.per_image, val.per_image, groups_val=groups, train_total=total)
    per_epoch = []
    for epoch in range(epochs):
        with np.load(training.folder.answers / f"scores-epoch-{epoch:04d}.npz", allow_pickle=False) as scores:
            per_epoch.append((scores["train"], scores["val"]))
    return cross_fitted_gap(
        np.stack([scores[0] for scores in per_epoch]),
        np.stack([scores[1] for scores in per_epoch]),
        strata_N=prepared.dataset.targets[prepared.split.val],
        groups_N=groups,
        train_total=total,
    )


def _dependent(prepared: Prepared) -> np.ndarray | None:
    """A number for each validation image, shared by twins and by images of one group; None where all are on their own."""
    table, hashes = prepared.dataset.table, prepared.dataset.fingerprint.pixel_hashes
    names = [table.groups[row] if table.groups is not None else hashes[row] for row in prepared.split.val]
    groups = np.unique(names, return_inverse=True)[1]
    return None if len(np.unique(groups)) == len(groups) else groups


def _evidence(
    training: Training, epochs: list[dict[str, Any]], measured: Gap, errors: TrainErrors, val: Scores
) -> Evidence:
    prepared = training.prepared
    counts = np.bincount(prepared.dataset.targets[prepared.split.val], minlength=len(prepared.dataset.classes))
    return Evidence(
        gap=measured,
        errors=errors,
        train_loss=tuple(_number(epoch["train"]["loss"]) for epoch in epochs),
        val_loss=tuple(_number(epoch["val"]["loss"]) for epoch in epochs),
        train_score=tuple(_number(epoch["train"]["score"]) for epoch in epochs),
        val_score=tuple(_number(epoch["val"]["score"]) for epoch in epochs),
        classes=prepared.dataset.classes,
        val_per_class=val.per_class,
        val_count=len(prepared.split.val),
        train_count=len(prepared.split.train),
        chance_score=float(counts.max() / counts.sum()),
    )


def _draw(
    training: Training,
    epochs: list[dict[str, Any]],
    chosen: int,
    val_answers: Answers,
    errors: TrainErrors,
    measured: Gap,
) -> None:
    """The pictures of a run, as PNG files in figures/; each is recorded, so that mirrors pick it up."""
    prepared, folder = training.prepared, training.folder
    classes, target = prepared.dataset.classes, val_answers.columns["target"]
    probabilities = val_answers.columns["probabilities"]
    predicted = probabilities.argmax(axis=1)
    shown = figures.worth_showing(predicted == target, probabilities.max(axis=1))
    images = prepared.pixels.take(val_answers.rows[shown])
    matrix = confusion_matrix(target, predicted, len(classes))
    pictures = {
        "learning-curves": figures.learning_curves(epochs, chosen),
        "confusion-val": figures.confusion_matrix(matrix, classes),
        "predictions-val": figures.predictions(
            images,
            [classes[k] for k in target[shown]],
            [classes[k] for k in predicted[shown]],
            probabilities[shown].max(axis=1),
        ),
        "gap": figures.gap(errors, measured.interval),
    }
    for name, png in pictures.items():
        write_atomically(folder.figures / f"{name}.png", png)
        folder.append("figure", {"name": f"{name}.png", "epoch": len(epochs) - 1})


def _with_paths(training: Training, answers: Answers) -> dict[str, np.ndarray]:
    paths = np.array(training.prepared.name_rows([int(row) for row in answers.rows]))
    return {"rows": answers.rows, "paths": paths, **answers.columns}


def _public(finding: Finding) -> dict[str, Any]:
    content: dict[str, Any] = to_json(finding)
    return content


def _number(value: float | None) -> float:
    """A recorded number; records keep what is not finite as null."""
    return float("nan") if value is None else value
