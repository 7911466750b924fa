"""How much more data would help: the recipe trained on parts of the train images, and the curve that comes of it carried on.

Every run is an ordinary one, defined by its recipe (`data.train_fraction`) and recorded in the runs folder. What is there already
from an earlier call is not trained again, and what was interrupted is gone on with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis import more_data as judging
from trainwright.diagnosis.curve_points import TrainedOn
from trainwright.diagnosis.wording import percent
from trainwright.errors import RecipeError, RunError, UsageError
from trainwright.recipe import Recipe
from trainwright.records import EpochRecord
from trainwright.report import more_data_figure
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import list_runs
from trainwright.training.names import CUSTOM
from trainwright.workflows import run as runs
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.predict import task_of
from trainwright.workflows.reporting import Reporter

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the train images: statistics.md, "How much would more data help"
SEEDS = 2
LEAST_IMAGES = 8  # of the smallest part: of fewer there is nothing to learn


@dataclass(frozen=True, kw_only=True)
class MoreDataStudy:
    """The answer, and what it was asked of. recipe: of the runs on all train images, every value filled in."""

    answer: judging.MoreData
    metric: str
    recipe: Recipe = field(repr=False)

    def figure(self) -> bytes:
        """The curve with its points, fits, band and back-test, as PNG."""
        return more_data_figure.more_data(self.answer, metric=self.metric)


def more_data(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    seed: int | None = None,
    target: str | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = SEEDS,
    options: RunOptions | None = None,
    **more: Any,
) -> MoreDataStudy:
    """Train the recipe on parts of the train images with several seeds each, and say whether more of them would help.

    fractions: of the train images, the last one 1. seeds: runs of each fraction, at least 2; each has train images of its own,
    a smaller part of them within a larger one. All runs have the same validation images and as many optimizer steps. Learning
    rate and batch size are those of all images. Mirrors get no copy unless `options` names some. The other arguments are those of
    `train`. Raises UsageError for fractions or seeds that make no curve, what `train` raises, and KeyboardInterrupt where
    `stop_asked` says so: runs that have finished are kept.
    """
    _refuse_no_curve(fractions, seeds)
    options = options_from(options, more)
    options = replace(options, mirrors=options.mirrors or (), report=False)
    prepared = runs.plan(data, recipe, changes=changes, seed=seed, target=target, options=options).prepared
    dataset, whole = prepared.dataset, _whole(prepared.recipe)
    wanted = [_Wanted.of(dataset, whole, fraction, number) for fraction in fractions for number in range(seeds)]
    least = min(of.images for of in wanted)
    if least < LEAST_IMAGES:
        raise UsageError(
            f"{min(fractions):g} of {max(of.images for of in wanted):,} train images are {least}: of so few nothing is learned.",
            where="fractions",
            cure="Take larger fractions, for example 0.25, 0.5, 0.75, 1.",
        )
    sizes = [_mean_images(wanted, fraction) for fraction in fractions]
    if len(set(sizes)) < len(sizes):
        raise UsageError(
            f"the fractions come to {', '.join(map(str, sizes))} train images: twins and groups stay together.",
            where="fractions",
            cure="Take fractions that lie further apart.",
        )
    found = []
    with_all = f"{seeds} seeds of {len(fractions)} sizes"
    options.reporter.note(
        f"learning curve: {len(wanted)} trainings ({with_all}), each of as many steps as one on all images"
    )
    known = list(_finished(options.runs, dataset))
    for index, of in enumerate(wanted):
        run = _carried_out(of, dataset, known, options, f"training {index + 1} of {len(wanted)}")
        error = 1 - run.score["val"]
        options.reporter.note(f"{of.images:,} train images, seed {of.recipe.seed}: error {percent(error)} ({run.id})")
        found.append((of, run, error))
    return MoreDataStudy(answer=_judged(found, prepared.split.val, dataset), metric=prepared.task.metric, recipe=whole)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One run of the curve. images: how many it is trained on."""

    recipe: Recipe
    fraction: float
    images: int

    @classmethod
    def of(cls, dataset: Dataset, whole: Recipe, fraction: float, number: int) -> _Wanted:
        """The recipe on a part of the images, for as many steps as it has on all of them: what it lacks is images alone.

        With the same number of epochs a run on an eighth would take an eighth of the steps, and what a longer training brings
        would be put down to the images.
        """
        images = len(dataset.split(whole.data).train)
        seed = whole.seed + number
        if fraction == 1:
            return cls(recipe=whole.changed({"seed": seed}), fraction=fraction, images=images)
        part = {"data.train_fraction": fraction, "data.train_seed": number, "seed": seed}
        recipe = whole.changed(part)
        own = len(dataset.split(recipe.data).train)
        times = _steps(images, whole.step_images) / _steps(own, whole.step_images)
        recipe = recipe.changed({"epochs": max(1, round(whole.epochs * times))})
        if whole.early_stop is not None:
            recipe = recipe.changed({"early_stop": max(1, round(whole.early_stop * times))})
        return cls(recipe=recipe, fraction=fraction, images=own)


def _mean_images(wanted: Sequence[_Wanted], fraction: float) -> int:
    """Train images of a fraction: seeds differ by a few where twins and groups stay together."""
    images = [of.images for of in wanted if of.fraction == fraction]
    return round(sum(images) / len(images))


def _steps(images: int, batch_size: int) -> int:
    """Optimizer steps of an epoch (`data/loader.py`)."""
    return images // min(batch_size, images)


def _refuse_no_curve(fractions: Sequence[float], seeds: int) -> None:
    ascending = list(fractions) == sorted(set(fractions))
    if not ascending or len(fractions) < judging.LEAST_SIZES or not fractions[0] > 0 or fractions[-1] != 1:
        raise UsageError(
            f"expected at least {judging.LEAST_SIZES} ascending fractions up to 1, got {list(fractions)}.",
            where="fractions",
            cure="For example 0.125, 0.25, 0.5, 1.",
        )
    if seeds < judging.LEAST_SEEDS:
        raise UsageError(
            f"expected at least {judging.LEAST_SEEDS} seeds, got {seeds}: one does not show the noise between runs.",
            where="seeds",
            cure=f"Take {judging.LEAST_SEEDS}.",
        )


def _whole(recipe: Recipe) -> Recipe:
    if recipe.network.name == CUSTOM:
        raise UsageError(
            "a network of your own cannot be made anew for each run.", where="model", cure="Name a network."
        )
    if recipe.data.train_on != "train":
        raise RecipeError(
            "nothing unseen is left to score by.", where="data.train_on", cure="Set it to train for a learning curve."
        )
    return recipe.changed({"data.train_fraction": 1.0, "data.train_seed": 0})


def _finished(folder: Path, dataset: Dataset) -> Iterator[tuple[str, Recipe, RunFolder]]:
    """(state, recipe, run) of the runs of this very dataset that have finished, or can be gone on with."""
    for summary in list_runs(folder):
        if summary.state not in ("finished", "interrupted"):
            continue
        try:
            run = RunFolder.open(folder / summary.folder)
            of = run.manifest["dataset"]
            same = (of["fingerprint"], of["targets_fingerprint"]) == (
                dataset.digest,
                dataset.fingerprint.targets_digest,
            )
            if same:
                yield summary.state, runs.recipe_of(run), run
        except (RunError, RecipeError, KeyError, OSError):  # damaged, or of a version before: not one to build on
            continue


def _carried_out(
    of: _Wanted, dataset: Dataset, known: Sequence[tuple[str, Recipe, RunFolder]], options: RunOptions, what: str
) -> runs.Run:
    """The run, found finished, gone on with, or trained. Raises KeyboardInterrupt where it was asked to stop."""
    same = {state: folder for state, recipe, folder in known if recipe == of.recipe}
    if "finished" in same:
        return runs.Run(same["finished"])
    watched = replace(options, reporter=_Part(options.reporter, what))
    if "interrupted" in same:
        run = runs.resume(runs.Run(same["interrupted"]), data=dataset, options=watched)
    else:
        run = runs.train(dataset, of.recipe, options=watched)
    if not run.finished:
        error = KeyboardInterrupt()
        error.add_note("Runs that have finished are kept: the same command goes on where it stopped.")
        raise error
    return run


class _Part:
    """Says how far one of many trainings is, without its notes and epochs."""

    def __init__(self, whole: Reporter, what: str) -> None:
        self._whole, self._what = whole, what

    def progress(self, what: str, done: int, total: int) -> None:
        return

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._whole.progress(self._what, record.epoch + 1, epochs)

    def note(self, text: str) -> None:
        return


def _judged(found: Sequence[tuple[_Wanted, runs.Run, float]], val: np.ndarray, dataset: Dataset) -> judging.MoreData:
    wanted = [of for of, _, _ in found]
    last = RunFolder.open(found[-1][1].folder)
    task = task_of(last, found[-1][0].recipe)
    trained, groups = [], None
    for of, run, error in found:
        with np.load(run.folder / "answers" / "val.npz", allow_pickle=False) as saved:
            order = np.argsort(saved["rows"], kind="stable")
            tally_NQ, groups = saved["tally"][order].astype(np.float64), saved["groups"][order]
        images = _mean_images(wanted, of.fraction)
        trained.append(TrainedOn(images=images, seed=of.recipe.seed, error=error, tally_NQ=tally_NQ, run=run.id))
    return judging.more_data(trained, score_of(task), groups=groups, chance_error=_chance_error(dataset, val))


def _chance_error(dataset: Dataset, val: np.ndarray) -> float:
    """1 − score of the best answer that does not look at the image: always the most frequent class, the mean, nothing."""
    if dataset.targets.kind != "class":
        return 1.0
    counts = dataset.targets.counts(val).values()
    return 1 - max(counts) / max(1, sum(counts))
