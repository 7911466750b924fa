"""One run from a recipe to a judged, recorded model; and the same run taken up again where it stopped."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainwright.data.dataset import Dataset
from trainwright.errors import NonFiniteLossError, ProcessLostError, RunError, TrainwrightError
from trainwright.recipe import Recipe, parse_recipe
from trainwright.records import Finding, Interval, to_json
from trainwright.tracking.follow import Follower
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run
from trainwright.training.checkpoint import load_newest
from trainwright.training.device import choose_device
from trainwright.training.repeatable import repeatable
from trainwright.training.weights import check_weights
from trainwright.workflows.crew import Crew, as_recorded, crew_for, python_only, refuse_share, stated, with_crew
from trainwright.workflows.helper import help_out, helps
from trainwright.workflows.judge import judge_run
from trainwright.workflows.lr import record_range
from trainwright.workflows.manifest import command_line, machine, manifest_of, packages, sources_sha256
from trainwright.workflows.options import RunOptions, installed_mirrors, options_from
from trainwright.workflows.prepare import prepare
from trainwright.workflows.recorded_images import record_images
from trainwright.workflows.reporting import Reporter
from trainwright.workflows.request import asked_as_json, asked_for, wanted_of
from trainwright.workflows.run_data import data_of
from trainwright.workflows.settle import Settled, settle
from trainwright.workflows.training import Training

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
HASTE_SECONDS = 5.0  # what a run that was stopped or failed waits for them: somebody wants the machine back
MIRROR_PATIENCE_SECONDS = (
    60.0  # what a finished run waits for its mirrors: a first MLflow store takes about 15 s to make
)


class Run:
    """A run: its folder, and what came out of it once it has finished."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder.path
        self.id = folder.run_id
        self._folder = folder

    @property
    def result(self) -> dict[str, Any]:
        """The `trainwright.run/1` object. Raises RunError before the run has finished."""
        result = self._folder.result()
        if result is None:
            raise RunError(
                f"has not finished (it is {self._folder.status()['state']}).",
                where=self.id,
                cure=f"Go on with 'trainwright resume {self.id}'.",
            )
        return result

    @property
    def finished(self) -> bool:
        return self._folder.result() is not None

    @property
    def recipe(self) -> Recipe:
        """The recipe, every value filled in."""
        return recipe_of(self._folder)

    @property
    def score(self) -> dict[str, float]:
        """`train` and `val`, both in eval mode on the clean transform; nan where the images do not define one."""
        return {part: math.nan if score is None else score for part, score in self.result["score"].items()}

    @property
    def gap(self) -> Interval:
        """Unseen minus train error, with its 95 % interval."""
        return Interval(**{end: math.nan if value is None else value for end, value in self.result["gap"].items()})

    @property
    def verdict(self) -> str:
        verdict: str = self.result["verdict"]
        return verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(Finding(**finding) for finding in self.result["findings"])

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The record of every epoch so far."""
        return list(self._folder.records("epoch"))

    def report(
        self, out: str | os.PathLike[str] | None = None, *, data: Dataset | None = None, explain: bool = False
    ) -> Path:
        """Write its page, and return where it is: `report.html` in its folder, or `out`. data, explain: as for `write_report`."""
        from trainwright.workflows.report import write_report

        return write_report(self, out=out, data=data, explain=explain)

    def __repr__(self) -> str:
        if not self.finished:
            return f"Run({self.id!r}, {self._folder.status()['state']})"
        return f"Run({self.id!r}, val {self.score['val']:.3f}, {self.verdict})"

    def _repr_html_(self) -> str:
        import base64
        import html

        curves = self.folder / "figures" / "learning-curves.png"
        picture = (
            f'<img src="data:image/png;base64,{base64.b64encode(curves.read_bytes()).decode()}">'
            if curves.is_file()
            else ""
        )
        return f"<p>{html.escape(repr(self))}</p>{picture}"


def train(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    batch_size: int | Literal["auto"] | None = None,
    run_id: str | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> Run:
    """Train, evaluate, judge and record one run.

    data: a folder, a CSV file or a Dataset. recipe: a Recipe, a published one's name, a YAML file, or None for the one
    that suits the data. changes: on top of the recipe, `{"optimizer.lr": 1e-3}`; for another optimizer.name without an
    optimizer.lr the learning rate is found anew. model: your own nn.Module from images_NCHW (float,
    normalized) to the task's outputs; it is trained in place. target: label or number column of a CSV, several separated by
    commas. name: how the dataset is called. batch_size: in place of the recipe's, `auto` measures it here; unless `changes`
    has an optimizer.lr, the learning rate is found anew for another size (a number in `changes` leaves the rate alone).
    run_id: what the run is called; None for a name of its own. options, or its fields as keywords: `device="cpu"`.
    Raises DataError, RecipeError, UsageError, WeightsError before anything is written; NonFiniteLossError and
    OutOfResourcesError leave a run that says so.
    """
    options = options_from(options, more)
    if helps():
        return _helped(data, model)
    options = with_crew(options, kept=python_only(data, model))
    with crew_for(options) as crew:
        settled = plan(
            data, recipe, model=model, seed=seed, target=target, changes=changes, batch_size=batch_size, options=options
        )
        return _trained(settled, name=name, run_id=run_id, options=options, crew=crew)


def _trained(settled: Settled, *, name: str | None, run_id: str | None, options: RunOptions, crew: Crew | None) -> Run:
    """A new run of what was settled."""
    prepared = settled.prepared
    with repeatable(prepared.device, options.threads):
        manifest = manifest_of(prepared, name=name or _name_of(prepared.dataset), command=command_line())
        manifest |= {"measured": settled.measured} if settled.measured else {}
        manifest |= {"asked": settled.asked, **as_recorded(prepared, options.processes)}
        manifest |= {"recipe": to_json(settled.choice)} if settled.choice else {}
        folder = RunFolder.create(options.runs, recipe_yaml=prepared.recipe.to_yaml(), manifest=manifest, run_id=run_id)
        with folder:
            record_images(folder, prepared.dataset, prepared.split)
            if settled.lr_range is not None:
                record_range(folder, settled.lr_range)
            return carry_out(folder, lambda: training_in(folder, prepared, options, crew), options)


def plan(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    changes: Mapping[str, Any] | None = None,
    batch_size: int | Literal["auto"] | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> Settled:
    """Everything that `train` does with the same arguments before it trains; nothing is written."""
    options = options_from(options, more)
    asked = asked_as_json(recipe, changes, seed=seed, batch_size=batch_size)
    wanted = wanted_of(changes, seed=seed)
    if batch_size is None and wanted.get("batch_size") == "auto":
        batch_size = "auto"
    if batch_size is not None:
        wanted.pop("batch_size", None)
        Recipe().changed({"batch_size": batch_size})  # refused before any file is read
    device = choose_device(options.device)
    data, recipe, choice = asked_for(
        data, recipe, wanted, own_network=model is not None, target=target, options=options
    )
    own_batch_size = usual = None
    if batch_size is not None:
        if recipe.batch_size != "auto":
            usual = recipe.batch_size
            own_batch_size = None if "optimizer.lr" in wanted else usual
        recipe = recipe.changed({"batch_size": batch_size})
    prepared = prepare(data, recipe, device=device, workers=options.workers, reporter=options.reporter, custom=model)
    options.reporter.note(prepared.counted)
    options.reporter.note(f"precision {prepared.precision.name}: {prepared.precision.reason}")
    refuse_share(prepared, options.processes)
    with repeatable(device, options.threads):
        settled = settle(prepared, options=options, own_batch_size=own_batch_size, usual=usual)
    refuse_share(settled.prepared, options.processes)  # of a batch size that was measured
    return replace(settled, choice=choice, asked=asked)


def resume(
    run: str | os.PathLike[str] | Run,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> Run:
    """Go on with a run that stopped; it ends in the very same weights as if it never had.

    run: its id, a unique beginning of it, its folder, or `last`. data, model: what only Python code could give, again.
    Raises RunError for no such run or one that another process is writing, DataError where the data has changed.
    """
    options = options_from(options, more)
    if helps():
        return _helped(data, model)
    folder = RunFolder.open(run.folder) if isinstance(run, Run) else find_run(options.runs, str(run), stopped=True)
    if folder.result() is not None and folder.status()["state"] == "finished":
        return Run(folder)
    manifest = folder.manifest
    options = with_crew(options, manifest=manifest, kept=python_only(data, model))
    with folder, crew_for(options) as crew:
        folder.claim()
        recipe, device = recipe_of(folder), choose_device(options.device)
        started = load_newest(folder.checkpoints) is not None
        if model is None and not started:
            check_weights(recipe.network, offline=options.offline)
        data = data_of(folder, data, options)
        with repeatable(device, options.threads):
            prepared = prepare(
                data,
                recipe,
                device=device,
                workers=options.workers,
                reporter=options.reporter,
                custom=model,
                weights_follow=started,
            )
            _note_differences(manifest, machine(device), options.reporter)
            folder.set_status("running")
            return carry_out(folder, lambda: training_in(folder, prepared, options, crew), options)


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe that a run folder records. Raises RecipeError where it was damaged."""
    import io

    from ruamel.yaml import YAML

    return parse_recipe(
        YAML(typ="safe", pure=True).load(io.StringIO(folder.recipe_yaml)), where=str(folder.path / "recipe.yaml")
    )


def _helped(data: Any, model: nn.Module | None) -> Run:
    """The run that this process has helped to train. Raises ProcessLostError where the first one began none."""
    folder = help_out(data=data if isinstance(data, Dataset) else None, model=model, to_the_end=True)
    if folder is None:
        raise ProcessLostError("the first process began no training.", cure="It has said why.")
    return Run(RunFolder.open(folder))


def training_in(folder: RunFolder, prepared: Any, options: RunOptions, crew: Crew | None = None) -> Training:
    if crew is not None:
        options.reporter.note(stated(prepared, crew.count))
    return Training(
        folder,
        prepared,
        workers=options.workers,
        reporter=options.reporter,
        stop_asked=options.stop_asked,
        checkpoint_seconds=options.checkpoint_seconds,
        crew=crew,
    )


def carry_out(folder: RunFolder, start: Callable[[], Training], options: RunOptions) -> Run:
    """Train and judge under the eyes of the mirrors; whatever happens, the folder says how it ended."""
    names = installed_mirrors() if options.mirrors is None else options.mirrors
    follower = Follower.start(folder.path, mirrors=names) if names else None
    patience = HASTE_SECONDS
    try:
        training = start()
        if training.run():
            judge_run(training, seconds=training.seconds())
            folder.set_status("finished")
            if options.report:
                _report(folder, training.prepared.dataset, options.reporter)
            patience = MIRROR_PATIENCE_SECONDS
        else:
            folder.set_status("interrupted", message="stopped when asked to; its state is saved")
    except BaseException as error:
        _record_failure(folder, error)
        if options.report and isinstance(error, Exception):  # not where somebody wants the machine back
            _report(folder, None, options.reporter)
        raise
    finally:
        if follower is not None:
            _end_mirrors(follower, folder, options.reporter, patience)
    return Run(folder)


def _report(folder: RunFolder, dataset: Dataset | None, reporter: Reporter) -> None:
    """Write the run's page. The run has ended: whatever keeps a page from being written takes nothing from it."""
    from trainwright.workflows.report import write_run_report

    try:
        write_run_report(folder, data=dataset)
    except Exception as error:
        log.warning("%s: no page was written", folder.run_id, exc_info=True)
        reporter.note(f"no report was written ({error}); 'trainwright report {folder.run_id}' tries again")


def _record_failure(folder: RunFolder, error: BaseException) -> None:
    """Say in the folder how the run ended. A full disk takes no word more; the error itself is what has to be seen."""
    with contextlib.suppress(OSError, TrainwrightError):
        if isinstance(error, ProcessLostError):
            folder.set_status("interrupted", message=error.message)
            return
        if isinstance(error, KeyboardInterrupt | SystemExit):
            error.add_note(f"Go on with 'trainwright resume {folder.run_id}'.")
            folder.set_status("interrupted", message="interrupted")
            return
        if isinstance(error, NonFiniteLossError):
            folder.append("finding", to_json(diverged(error)))
        folder.set_status("failed", message=f"{type(error).__name__}: {error}")


def _end_mirrors(follower: Follower, folder: RunFolder, reporter: Reporter, patience_seconds: float) -> None:
    reporter.note("waiting for the mirrors")
    behind = follower.stop(timeout_seconds=patience_seconds)
    if behind:
        reporter.note(
            f"{' and '.join(behind)} could not follow (see {folder.path / 'mirrors.log'}); "
            f"the run folder has everything: 'trainwright sync {folder.run_id}' fills them up"
        )


def diverged(error: NonFiniteLossError) -> Finding:
    """What a run whose loss became infinite or not a number is found to be."""
    return Finding(rule="diverged", verdict="yes", evidence=error.message, advice=error.cure)


def _note_differences(manifest: Mapping[str, Any], now: Mapping[str, Any], reporter: Reporter) -> None:
    """Tell what may keep a resumed run from ending in the very same bits."""
    then = {**manifest["machine"], **manifest["packages"], "trainwright": manifest["code"]["version"]}
    if manifest["code"]["sources_sha256"] != sources_sha256():
        reporter.note("trainwright's own code has changed since the run began: the last bits may differ")
    for key, value in {**now, **packages()}.items():
        if key != "system" and then.get(key) not in (None, value):
            reporter.note(f"{key} was {then[key]} when the run began and is {value} now: the last bits may differ")


def _name_of(data: Dataset) -> str:
    return "arrays" if data.source is None else Path(data.source["path"]).stem
