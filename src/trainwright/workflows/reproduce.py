"""A run trained again from its folder alone, and a verdict: identical, within noise, or differs because of what."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.memory import Facts, recall
from trainwright.errors import DataError, RunError, UsageError, WeightsError
from trainwright.recipe import PRETRAINED, RANDOM, Recipe
from trainwright.records import EpochRecord, to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import owner_of
from trainwright.training.device import choose_device
from trainwright.training.names import CUSTOM
from trainwright.training.repeatable import repeatable
from trainwright.training.weights import check_weights
from trainwright.workflows import run as runs
from trainwright.workflows.crew import as_recorded, crew_for, python_only, refuse_share, with_crew
from trainwright.workflows.finalise import model_run
from trainwright.workflows.manifest import command_line, manifest_of
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.prepare import prepare
from trainwright.workflows.recorded_images import IMAGES, record_images
from trainwright.workflows.reporting import Reporter
from trainwright.workflows.reproduction_checks import Difference, differences
from trainwright.workflows.reproduction_verdict import (
    course_of,
    first_parting,
    paired,
    said,
    word_for,
)
from trainwright.workflows.run import Run, recipe_of

if TYPE_CHECKING:
    from torch import nn

    from trainwright.workflows.studies import Study

REPRODUCTION = "reproduction.json"  # in the folder of the new run
SCHEMA = "trainwright.reproduction/1"


def reproduce(
    run: str | os.PathLike[str] | Run | Study,
    *,
    data: Dataset | str | os.PathLike[str] | None = None,
    model: nn.Module | None = None,
    weights: str | os.PathLike[str] | None = None,
    epochs_only: int | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Train the recorded recipe of a finished run again, as a new run; the `trainwright.reproduction/1` object.

    run: id, unique beginning of one, `last`, a run folder wherever it lies, or a study, whose best run is taken. data: where its
    data is now, or what only Python code can give; None for where it was. model: your own nn.Module, as it was before the
    training. weights: where the weight file that the recipe names is now. epochs_only: stop after so many epochs of the same
    schedule, and compare those. options, or its fields as keywords; processes, threads and device are the recorded ones unless
    they are given.

    `verdict` is `identical` (weights, all step losses and all scores of epochs to the last bit), `within-noise` (the same
    training, whose score on the same images differs by no more than chance), or `differs`; `differences` are all that is
    recorded and is not as it was, the likeliest causes first, and `first_parting` the first step or epoch that is not the
    same. Kept as `reproduction.json` in the new run's folder. One that was stopped goes on when its own run is given; its
    verdict is None until then.
    Raises RunError where there is no such run or it has not finished, DataError where its data is not to be had, UsageError where
    its network has to be given, WeightsError where its first weights are gone.
    """
    options = options_from(options, more)
    if epochs_only is not None and epochs_only < 1:
        raise UsageError(
            f"expected a number of epochs from 1 up, got {epochs_only}.", where="epochs_only", cure="For example 1."
        )
    folder, _ = model_run(run, options)
    begun = folder.read_json(REPRODUCTION)
    if begun is not None and not _is_concluded(begun):
        return _go_on(folder, begun, data=data, model=model, epochs_only=epochs_only, options=options)
    _refuse_unfinished(folder)
    recipe = _recipe(folder, weights)
    if recipe.network.name == CUSTOM and model is None:
        raise UsageError(
            "this run trained a network of your own, which its folder does not hold.",
            where=folder.run_id,
            cure="Give it as it was before the training: tw.reproduce(run, model=model).",
        )
    if model is None:
        _refuse_missing(recipe, folder)
        check_weights(recipe.network, offline=options.offline)
    options, device = _shared(folder, options, kept=python_only(data, model))
    dataset, remembered = _data(folder, data, options)
    with crew_for(options) as crew, repeatable(device, options.threads):
        prepared = prepare(
            dataset, recipe, device=device, workers=options.workers, reporter=options.reporter, custom=model
        )
        refuse_share(prepared, options.processes)
        found = differences(
            folder,
            prepared,
            remembered=remembered,
            weights_given=weights is not None,
            processes=options.processes or 1,
        )
        for one in found:
            options.reporter.note(one.said)
        manifest = {**_manifest(folder, prepared), **as_recorded(prepared, options.processes)}
        new = RunFolder.create(options.runs, recipe_yaml=prepared.recipe.to_yaml(), manifest=manifest)
        with new:
            record_images(new, prepared.dataset, prepared.split)
            content = _begun(folder, new, found, recipe.epochs)
            new.write_json(REPRODUCTION, content)
            watched = _stopping(options, epochs_only)
            runs.carry_out(new, lambda: runs.training_in(new, prepared, watched, crew), watched)
    return _concluded(folder, new, content, epochs_only=epochs_only)


def _go_on(
    new: RunFolder,
    begun: Mapping[str, Any],
    *,
    data: Dataset | str | os.PathLike[str] | None,
    model: nn.Module | None,
    epochs_only: int | None,
    options: RunOptions,
) -> dict[str, Any]:
    """Finish a reproduction that was stopped, then compare."""
    try:
        folder = RunFolder.open(Path(begun["of"]))
    except RunError as error:
        raise RunError(
            f"repeats the run {begun['reproduces']}, which is not there any more.",
            where=new.run_id,
            cure=f"Bring {begun['of']} back.",
        ) from error
    if data is not None and not isinstance(data, Dataset):
        data, _ = _data(new, data, options)
    runs.resume(Run(new), data=data, model=model, options=_stopping(options, epochs_only))
    return _concluded(folder, RunFolder.open(new.path), begun, epochs_only=epochs_only)


def _is_concluded(content: Mapping[str, Any]) -> bool:
    """Whether there is a verdict on the whole training."""
    return content["verdict"] is not None and content["weights"]["now"] is not None


def _begun(folder: RunFolder, new: RunFolder, found: tuple[Difference, ...], epochs: int) -> dict[str, Any]:
    """What is known before the training: enough to go on with it after a kill."""
    started: dict[str, Any] = to_json(
        {
            "schema": SCHEMA,
            "run": new.run_id,
            "folder": str(new.path),
            "reproduces": folder.run_id,
            "of": str(folder.path),
            "verdict": None,
            "said": "",
            "metric": folder.manifest["metric"],
            "weights": {"then": (folder.result() or {}).get("weights_sha256"), "now": None},
            "score": None,
            "comparison": None,
            "first_parting": None,
            "compared": None,
            "epochs": epochs,
            "differences": [vars(one) for one in found],
        }
    )
    return started


def _concluded(
    folder: RunFolder, new: RunFolder, begun: Mapping[str, Any], *, epochs_only: int | None
) -> dict[str, Any]:
    """Compare the two, write what comes of it and return it; as it was begun where the new run did not get far enough."""
    result, then = folder.result(), course_of(folder)
    assert result is not None
    now, finished = course_of(new), new.result()
    whole = finished is not None
    if not whole and (epochs_only is None or len(now.epochs) < epochs_only):
        return {**begun, "verdict": None}
    epochs = None if whole else epochs_only
    then, now = then.first(epochs), now.first(epochs)
    found = tuple(Difference(**one) for one in begun["differences"])
    parting = first_parting(then, now)
    digest = None if finished is None else finished["weights_sha256"]
    same = parting is None and (digest is None or digest == result["weights_sha256"])
    compared = paired(folder, new, epochs=epochs, noise=_noise(folder))
    word = word_for(same_bits=same, differences=found, found=compared)
    lengths = {"steps": len(then.steps["loss"]), "epochs": len(then.epochs)}
    text = said(word, **lengths, whole=whole, differences=found, found=compared)
    content: dict[str, Any] = to_json(
        {
            **begun,
            "verdict": word,
            "said": text,
            "weights": {"then": result["weights_sha256"], "now": digest},
            "score": _scores(result, finished, then.epochs, now.epochs),
            "comparison": compared,
            "first_parting": parting,
            "compared": lengths,
        }
    )
    new.write_json(REPRODUCTION, content)
    return content


def _scores(
    result: Mapping[str, Any], finished: Mapping[str, Any] | None, then: Any, now: Any
) -> dict[str, dict[str, float | None]]:
    """Train and val scores of both: of their models, or after the last epoch that both had."""
    if finished is not None:
        return {part: {"then": result["score"][part], "now": finished["score"][part]} for part in ("train", "val")}
    return {part: {"then": then[-1][part]["score"], "now": now[-1][part]["score"]} for part in ("train", "val")}


def _refuse_unfinished(folder: RunFolder) -> None:
    """Raise RunError for a run without an end to compare with."""
    if folder.result() is not None:
        return
    status, study = folder.status(), owner_of(folder)
    go_on = f"Go on with 'trainwright resume {folder.run_id}', then reproduce it."
    if status["state"] == "running":
        message, cure = f"is still being trained (process {status['pid']}).", "Wait until it has finished."
    elif status["state"] == "failed":
        message, cure = f"failed, so there is no end to compare with: {status['message']}", go_on
    else:
        message, cure = "was interrupted, so there is no end to compare with.", go_on
    if study is not None and study.result() is None:
        cure = f"It is a run of the study {study.name}: go on with 'trainwright resume {study.name}'."
    elif study is not None:
        message = f"was given up by the study {study.name}: there is no end to compare with."
        cure = f"Reproduce one that finished, or the study's best: 'trainwright reproduce {study.name}'."
    raise RunError(message, where=folder.run_id, cure=cure)


def _noise(folder: RunFolder) -> float | None:
    """The noise floor of one training's score, where the run's study has measured it."""
    study = owner_of(folder)
    return None if study is None else (study.result() or {}).get("noise_floor")


def _recipe(folder: RunFolder, weights: str | os.PathLike[str] | None) -> Recipe:
    recipe = recipe_of(folder)
    if weights is None:
        return recipe
    return recipe.changed({"network.weights": str(Path(weights).expanduser().absolute())})


def _refuse_missing(recipe: Recipe, folder: RunFolder) -> None:
    """Raise WeightsError where the file that the network starts from is not there, and the recipe is to stay as it was."""
    file = recipe.network.weights
    if file not in (RANDOM, PRETRAINED) and not Path(file).is_file():
        raise WeightsError(
            "the run started from this weight file, which is not there.",
            where=file,
            cure=f"Say where it is now: 'trainwright reproduce {folder.run_id} --weights FILE', in Python weights=….",
        )


def _device(folder: RunFolder, options: RunOptions) -> torch.device:
    """The one that was asked for, the recorded one, or where this machine has none such, what it has."""
    if options.device != "auto":
        return choose_device(options.device)
    try:
        return choose_device(folder.manifest["machine"]["device"])
    except UsageError:
        return choose_device("auto")


def _shared(folder: RunFolder, options: RunOptions, *, kept: str) -> tuple[RunOptions, torch.device]:
    """(the options with processes and threads as recorded unless they say others, the device of the first process)."""
    device, recorded = _device(folder, options), folder.manifest["machine"]["torch_threads"]
    options = replace(options, threads=recorded if options.threads is None else options.threads)
    kind = options.device if options.device != "auto" else device.type
    shared = with_crew(replace(options, device=kind), manifest=folder.manifest, again=True, kept=kept)
    return (options, device) if shared.processes == 1 else (shared, torch.device(shared.device))


def _data(
    folder: RunFolder, given: Dataset | str | os.PathLike[str] | None, options: RunOptions
) -> tuple[Dataset, dict[str, Facts]]:
    """(the run's data as it is now, what was known of its files before). Raises DataError where it is not to be had."""
    if isinstance(given, Dataset):
        return given, {}
    source: Mapping[str, Any] | None = folder.manifest["dataset"]["source"]
    if given is None and source is None:
        raise DataError(
            "this run's data was given by Python code.",
            where=folder.run_id,
            cure="Give it again: tw.reproduce(run, data=…).",
        )
    before = None if source is None else Path(source["path"])
    path = before if given is None else _inside(Path(given).expanduser(), before)
    assert path is not None
    if not path.exists():
        raise DataError(
            "the run's data is not there." if given is None else "no such file or folder.",
            where=str(path),
            cure="Say where it is now: --data PATH, in Python data=…." if given is None else "Check the path.",
        )
    kept = (folder.path / IMAGES).is_file()
    remembered = {} if kept else {**recall(path.absolute().parent), **recall(path.absolute())}
    opened = open_dataset(
        path,
        target=None if source is None else source["target"],
        task=folder.manifest["dataset"]["task"] if source is None else source["task"],
        workers=options.workers,
        progress=options.reporter.progress,
    )
    return opened, remembered


def _inside(given: Path, before: Path | None) -> Path:
    """The file of the same name in a folder that is given, where the data was a file."""
    if before is not None and given.is_dir() and before.suffix and (given / before.name).is_file():
        return given / before.name
    return given


def _manifest(folder: RunFolder, prepared: Any) -> dict[str, Any]:
    """That of a new run, with what the first one was asked."""
    manifest = manifest_of(prepared, name=folder.manifest["name"], command=command_line())
    asked: dict[str, Any] = {
        key: folder.manifest[key] for key in ("measured", "asked", "recipe") if key in folder.manifest
    }
    return {**manifest, **asked, "reproduces": folder.run_id}


def _stopping(options: RunOptions, epochs: int | None) -> RunOptions:
    """The options with a stop after so many epochs; for None as they are."""
    if epochs is None:
        return options
    watch = _Epochs(options.reporter, epochs)
    return replace(options, reporter=watch, stop_asked=_either(options.stop_asked, lambda: watch.enough))


def _either(one: Callable[[], bool], other: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: one() or other()


class _Epochs:
    """A reporter that passes everything on, and sees when there have been enough epochs."""

    def __init__(self, inner: Reporter, wanted: int) -> None:
        self._inner, self._wanted = inner, wanted
        self.enough = False

    def progress(self, what: str, done: int, total: int) -> None:
        self._inner.progress(what, done, total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._inner.epoch(record, epochs)
        self.enough = record.epoch + 1 >= self._wanted

    def note(self, text: str) -> None:
        self._inner.note(text)
