"""One run from a recipe to a judged, recorded model; and the same run taken up again where it stopped."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.problems import Problem, counted, few
from trainwright.errors import DataError, NonFiniteLossError, RunError, TrainwrightError, UsageError
from trainwright.recipe import Recipe, parse_recipe
from trainwright.recipes import published
from trainwright.records import Finding, Interval, to_json
from trainwright.tracking.follow import Follower
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run
from trainwright.training.checkpoint import load_newest
from trainwright.training.device import choose_device
from trainwright.training.weights import check_weights
from trainwright.workflows.early import check_names
from trainwright.workflows.judge import judge_run
from trainwright.workflows.manifest import command_line, machine, manifest_of, packages, sources_sha256
from trainwright.workflows.prepare import prepare
from trainwright.workflows.reporting import Reporter, Silent
from trainwright.workflows.training import CHECKPOINT_SECONDS, Training, repeatable

if TYPE_CHECKING:
    from torch import nn

MIRRORS = ("mlflow", "tensorboard")
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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out, as against what it is: none of this changes its result.

    runs: folder of run folders. device: auto, cpu, cuda, cuda:N. workers: loader threads. offline: fetch nothing.
    mirrors: of mlflow and tensorboard, those to copy the record to; None: those installed. threads: of torch on the CPU;
    None leaves them. stop_asked: polled between steps; the run then saves and ends. checkpoint_seconds: the most work
    that a kill costs.
    """

    runs: Path = Path("runs")
    device: str = "auto"
    workers: int = 2
    offline: bool = False
    mirrors: Sequence[str] | None = None
    threads: int | None = None
    reporter: Reporter = field(default_factory=Silent)
    stop_asked: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = CHECKPOINT_SECONDS


def train(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | None = None,
    *,
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> Run:
    """Train, evaluate, judge and record one run.

    data: a folder, a CSV file or a Dataset. recipe: a Recipe, a published one's name, or None for the default of the task
    that the data is for. changes: of the recipe, `{"optimizer.lr": 1e-3}`. model: your own nn.Module from images_NCHW (float,
    normalized) to the task's outputs; it is trained in place. target: label or number column of a CSV, several separated by
    commas. name: how the dataset is called. options, or its fields as keywords: `device="cpu"`.
    Raises DataError, RecipeError, UsageError, WeightsError before anything is written; NonFiniteLossError and
    OutOfResourcesError leave a run that says so.
    """
    options = _with(options, more)
    wanted = {**(changes or {}), **({} if seed is None else {"seed": seed})}
    asked = Recipe().changed(wanted) if recipe is None else _recipe(recipe).changed(wanted)
    check_names(asked)
    device = choose_device(options.device)
    if model is None and (recipe is not None or "network.name" in wanted):
        check_weights(asked.network, offline=options.offline)
    if not isinstance(data, Dataset):
        data = open_dataset(
            Path(data), target=target, task=asked.task, workers=options.workers, progress=options.reporter.progress
        )
    if recipe is None:
        recipe = published.get(published.default_for(data.task)).changed(wanted)
        if model is None:
            check_weights(recipe.network, offline=options.offline)
    else:
        recipe = asked
    _note_problems(data, options.reporter)
    prepared = prepare(data, recipe, device=device, workers=options.workers, reporter=options.reporter, custom=model)
    options.reporter.note(f"precision {prepared.precision.name}: {prepared.precision.reason}")
    with repeatable(device, options.threads):
        manifest = manifest_of(prepared, name=name or _name_of(data), command=command_line())
        folder = RunFolder.create(options.runs, recipe_yaml=prepared.recipe.to_yaml(), manifest=manifest)
        with folder:
            return _carry_out(folder, lambda: _training(folder, prepared, options), options)


def _recipe(given: Recipe | str) -> Recipe:
    recipe = published.get(given) if isinstance(given, str) else given
    if not isinstance(recipe, Recipe):
        raise UsageError(
            f"expected a Recipe or the name of a published one, got {type(recipe).__name__}.",
            where="recipe",
            cure="For example tw.recipes.get('scratch-default').changed({'epochs': 10}).",
        )
    return recipe


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
    options = _with(options, more)
    folder = RunFolder.open(run.folder) if isinstance(run, Run) else find_run(options.runs, str(run))
    if folder.result() is not None and folder.status()["state"] == "finished":
        return Run(folder)
    with folder:
        folder.claim()
        recipe, manifest = recipe_of(folder), folder.manifest
        device = choose_device(manifest["machine"]["device"] if options.device == "auto" else options.device)
        started = load_newest(folder.checkpoints) is not None
        if model is None and not started:
            check_weights(recipe.network, offline=options.offline)
        data = data or _open_again(folder, options)
        _refuse_other_data(data, folder)
        threads = manifest["machine"]["torch_threads"] if options.threads is None else options.threads
        with repeatable(device, threads):
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
            return _carry_out(folder, lambda: _training(folder, prepared, options), options)


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe that a run folder records. Raises RecipeError where it was damaged."""
    import io

    from ruamel.yaml import YAML

    return parse_recipe(
        YAML(typ="safe", pure=True).load(io.StringIO(folder.recipe_yaml)), where=str(folder.path / "recipe.yaml")
    )


def installed_mirrors() -> tuple[str, ...]:
    """Those of mlflow and tensorboard that are installed, or what TRAINWRIGHT_MIRRORS says (`none`, or names)."""
    asked = os.environ.get("TRAINWRIGHT_MIRRORS")
    if asked is not None:
        return parse_mirrors(asked)
    return tuple(name for name in MIRRORS if importlib.util.find_spec(name) is not None)


def parse_mirrors(text: str) -> tuple[str, ...]:
    """`mlflow,tensorboard` or `none` as names. Raises UsageError for another name."""
    names = tuple(name.strip() for name in text.split(",") if name.strip() not in ("", "none"))
    unknown = [name for name in names if name not in MIRRORS]
    if unknown:
        raise UsageError(
            f"no such mirror {unknown[0]!r}.", where="--mirrors", cure=f"Known: {', '.join(MIRRORS)}, none."
        )
    return names


def _training(folder: RunFolder, prepared: Any, options: RunOptions) -> Training:
    return Training(
        folder,
        prepared,
        workers=options.workers,
        reporter=options.reporter,
        stop_asked=options.stop_asked,
        checkpoint_seconds=options.checkpoint_seconds,
    )


def _carry_out(folder: RunFolder, start: Callable[[], Training], options: RunOptions) -> Run:
    """Train and judge under the eyes of the mirrors; whatever happens, the folder says how it ended."""
    names = installed_mirrors() if options.mirrors is None else options.mirrors
    follower = Follower.start(folder.path, mirrors=names) if names else None
    patience = HASTE_SECONDS
    try:
        training = start()
        if training.run():
            judge_run(training, seconds=training.seconds())
            folder.set_status("finished")
            patience = MIRROR_PATIENCE_SECONDS
        else:
            folder.set_status("interrupted", message="stopped when asked to; its state is saved")
    except BaseException as error:
        _record_failure(folder, error)
        raise
    finally:
        if follower is not None:
            _end_mirrors(follower, folder, options.reporter, patience)
    return Run(folder)


def _record_failure(folder: RunFolder, error: BaseException) -> None:
    """Say in the folder how the run ended. A full disk takes no word more; the error itself is what has to be seen."""
    with contextlib.suppress(OSError, TrainwrightError):
        if isinstance(error, KeyboardInterrupt | SystemExit):
            folder.set_status("interrupted", message="interrupted")
            return
        if isinstance(error, NonFiniteLossError):
            folder.append("finding", to_json(_diverged(error)))
        folder.set_status("failed", message=f"{type(error).__name__}: {error}")


def _end_mirrors(follower: Follower, folder: RunFolder, reporter: Reporter, patience_seconds: float) -> None:
    reporter.note("waiting for the mirrors")
    behind = follower.stop(timeout_seconds=patience_seconds)
    if behind:
        reporter.note(
            f"{' and '.join(behind)} could not follow (see {folder.path / 'mirrors.log'}); "
            f"the run folder has everything: 'trainwright sync {folder.run_id}' fills them up"
        )


def _diverged(error: NonFiniteLossError) -> Finding:
    return Finding(rule="diverged", verdict="yes", evidence=error.message, advice=error.cure)


def _open_again(folder: RunFolder, options: RunOptions) -> Dataset:
    source: Mapping[str, Any] | None = folder.manifest["dataset"]["source"]
    if source is None:
        raise UsageError(
            "this run's data was given by Python code.", where=folder.run_id, cure="Call tw.resume(run, data=…)."
        )
    return open_dataset(
        Path(source["path"]),
        target=source["target"],
        task=source["task"],
        workers=options.workers,
        progress=options.reporter.progress,
    )


def _refuse_other_data(data: Dataset, folder: RunFolder) -> None:
    expected = folder.manifest["dataset"]["fingerprint"]
    if data.digest != expected:
        raise DataError(
            f"the data has changed since the run began (fingerprint {data.digest[:12]}, then {expected[:12]}).",
            where=str(data.table.root),
            cure="Bring the files back as they were, or start a new run with 'trainwright train'.",
        )


def _note_differences(manifest: Mapping[str, Any], now: Mapping[str, Any], reporter: Reporter) -> None:
    """Tell what may keep a resumed run from ending in the very same bits."""
    then = {**manifest["machine"], **manifest["packages"], "trainwright": manifest["code"]["version"]}
    if manifest["code"]["sources_sha256"] != sources_sha256():
        reporter.note("trainwright's own code has changed since the run began: the last bits may differ")
    for key, value in {**now, **packages()}.items():
        if key != "system" and then.get(key) not in (None, value):
            reporter.note(f"{key} was {then[key]} when the run began and is {value} now: the last bits may differ")


def _note_problems(data: Dataset, reporter: Reporter) -> None:
    """A note for each kind of problem, with the first files of it: a folder may hold thousands of them."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in data.problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, problems in by_kind.items():
        files = [file for problem in problems for file in problem.files]
        told = len(problems) == 1 and "left out" in problems[0].message
        out = ", left out" if not told and all(problem.severity == "error" for problem in problems) else ""
        which = f"{counted(len(files), 'file')}{out}: {few(files)}. " if files else ""
        said = problems[0].message if len(problems) == 1 else "'trainwright inspect' says what is wrong with each."
        reporter.note(f"{kind}: {which}{said}")


def _name_of(data: Dataset) -> str:
    return "arrays" if data.source is None else Path(data.source["path"]).stem


def _with(options: RunOptions | None, more: Mapping[str, Any]) -> RunOptions:
    from dataclasses import fields, replace

    known = {f.name for f in fields(RunOptions)}
    unknown = set(more) - known
    if unknown:
        raise TypeError(f"unexpected argument {sorted(unknown)[0]!r}; known options: {', '.join(sorted(known))}")
    changes: dict[str, Any] = {key: Path(value) if key == "runs" else value for key, value in more.items()}
    if isinstance(changes.get("mirrors"), str):
        changes["mirrors"] = parse_mirrors(changes["mirrors"])
    elif changes.get("mirrors"):
        changes["mirrors"] = parse_mirrors(",".join(changes["mirrors"]))
    return replace(options or RunOptions(), **changes)
