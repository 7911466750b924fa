"""The MLflow mirror: one MLflow run for each run folder, found again by its tag. The only module that imports mlflow."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trainwright.errors import TrainwrightError
from trainwright.tracking.journal import Tail
from trainwright.tracking.lock import FileLock
from trainwright.tracking.mirrors import (
    Scalar,
    closing_scalars,
    epoch_scalars,
    mirrors,
    need,
    opening_scalars,
    parameters,
    range_scalars,
    step_scalars,
    tags,
)
from trainwright.tracking.run_folder import MANIFEST, RECIPE, RECORDS, RESULT, RunFolder
from trainwright.tracking.store import Store, store_of

T = TypeVar("T")
RUN_TAG = "trainwright.run_id"
MODEL = "model"  # of the artifacts of a run: what is registered
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "paused": "KILLED"}
MAX_METRICS, MAX_PARAMS = 1000, 100  # of one log_batch: mlflow.utils.validation
MAX_TEXT = 6000  # characters of a parameter's value: mlflow.utils.validation
CREATE_SECONDS = 120.0  # what another process may take to create the tables
CALM = {  # for the time of a call; what the user has set is kept
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # keeps no connection to a database that has been deleted
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(kw_only=True)
class _Copy:
    """What is known of one run's copy in the store."""

    store: Store
    client: Any
    mlflow_id: str
    status: str
    tags: dict[str, str]
    params: set[str]
    steps: dict[str, set[int]]
    tail: Tail  # of the records, for the steps: reading all of them again at every update would take long
    params_complete: bool = False
    files: dict[str, tuple[int, int]] = field(default_factory=dict)  # uploaded: time and size of what was


@mirrors.register("mlflow")
class MlflowMirror:
    """Parameters, metrics of each epoch, of steps and of the range test, tags, figures and files of a run, in MLflow.

    The store is MLFLOW_TRACKING_URI, else mlflow.db beside the runs. What was looked up there is remembered as long
    as the copy is there and nothing fails. An experiment that was deleted is restored; a deleted run is made anew.
    """

    def __init__(self) -> None:
        self._copies: dict[Path, _Copy] = {}

    def update(self, run: Path) -> int:
        """Add what the store lacks; returns how many parameters, metric values and files that were.

        Raises TrainwrightError with the cause where the store cannot be reached, MissingPackageError without mlflow.
        """
        folder = RunFolder.open(run)
        with self._reaching(folder) as store:
            _create(store)
            copy = self._copy(folder, store) or self._new_copy(folder, store)
            added = _add_params(copy, folder) + _add_metrics(copy, folder) + _add_files(copy, folder)
            _set_tags(copy, folder)
            if copy.status != "RUNNING" and folder.status()["state"] == "running":  # it was resumed
                copy.client.update_run(copy.mlflow_id, status="RUNNING")
                copy.status = "RUNNING"
        return added

    def close(self, run: Path, state: str) -> None:
        """Give the run's copy its final status. Where there is no store or no copy, none is made."""
        folder = RunFolder.open(run)
        if not store_of(folder.path.parent).exists():
            return
        with self._reaching(folder) as store:
            copy = self._copy(folder, store)
            if copy is not None and copy.status != STATUS[state]:
                copy.client.set_terminated(copy.mlflow_id, STATUS[state], end_time=_ended_ms(folder))
                copy.status = STATUS[state]

    @contextlib.contextmanager
    def _reaching(self, folder: RunFolder) -> Iterator[Store]:
        """Whatever goes wrong with the store ends as a TrainwrightError, and what was known of the copy is forgotten."""
        need("mlflow")
        store = store_of(folder.path.parent)
        try:
            store.check()
            with _calm():
                yield store
        except TrainwrightError:
            self._copies.pop(folder.path, None)
            raise
        except Exception as error:  # mlflow, sqlalchemy, requests and the file system each raise their own
            self._copies.pop(folder.path, None)
            raise store.unusable(_first_line(error)) from error

    def _copy(self, folder: RunFolder, store: Store) -> _Copy | None:
        """The run's copy: as known from before, else looked up in the store; None where there is none."""
        known = self._copies.get(folder.path)
        if known is not None and known.store == store and _still_there(known):
            return known
        client = _client(store)
        experiment = client.get_experiment_by_name(_experiment(folder))
        if experiment is None:
            return None
        found = client.search_runs(
            [experiment.experiment_id], f"tags.`{RUN_TAG}` = '{folder.run_id}'", order_by=["attributes.start_time ASC"]
        )
        return self._remember(folder, store, client, found[0]) if found else None

    def _new_copy(self, folder: RunFolder, store: Store) -> _Copy:
        client = _client(store)
        created = client.create_run(
            _experiment_id(client, folder, store),
            run_name=folder.run_id,
            start_time=int(float(folder.manifest.get("created") or 0.0) * 1000) or None,
            tags={RUN_TAG: folder.run_id},
        )
        return self._remember(folder, store, client, created)

    def _remember(self, folder: RunFolder, store: Store, client: Any, found: Any) -> _Copy:
        copy = _Copy(
            store=store,
            client=client,
            mlflow_id=found.info.run_id,
            status=found.info.status,
            tags=dict(found.data.tags),
            params=set(found.data.params),
            steps=defaultdict(set),
            tail=Tail(folder.path / RECORDS),
        )
        for name in found.data.metrics:
            copy.steps[name] = {metric.step for metric in client.get_metric_history(copy.mlflow_id, name)}
        self._copies[folder.path] = copy
        return copy

    def register(
        self, run: Path, file: Path, *, loader: str, name: str, alias: str, requirements: Sequence[str]
    ) -> tuple[int, str]:
        """Put a run's model into MLflow's registry, as a version of `name`; (its number, the store that it is in).

        file: what `loader`, the name of a module with `_load_pyfunc`, reads. alias: given to this version, taken from any other;
        empty for none. The run's copy is brought up to date first. Raises as `update` does.
        """
        self.update(run)
        folder = RunFolder.open(run)
        with self._reaching(folder) as store, tempfile.TemporaryDirectory(prefix="trainwright-") as place:
            from mlflow.exceptions import MlflowException

            copy = self._copies[folder.path]
            made = Path(place) / MODEL
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about type hints in code of its own
                import mlflow.pyfunc

                mlflow.pyfunc.save_model(
                    str(made), loader_module=loader, data_path=str(file), pip_requirements=list(requirements)
                )
            target = f"{MODEL}-{file.stem}-{secrets.token_hex(4)}"  # versions do not share their files
            copy.client.log_artifacts(copy.mlflow_id, str(made), target)
            try:
                copy.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{copy.client.get_run(copy.mlflow_id).info.artifact_uri}/{target}"
            version = copy.client.create_model_version(
                name, source, run_id=copy.mlflow_id, tags={RUN_TAG: folder.run_id}, await_creation_for=None
            ).version
            if alias:
                copy.client.set_registered_model_alias(name, alias, str(version))
        return int(version), store.uri


def _create(store: Store) -> None:
    """Create a SQLite store, once and as a whole: a kill while the tables are made leaves no half of them."""
    database = store.database
    if database is None or store.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")) as lock:
        if not lock.acquire(wait_seconds=CREATE_SECONDS):
            raise store.unusable(f"process {lock.holder} has been creating it for {CREATE_SECONDS:.0f} s")
        if store.exists():
            return
        for left in database.parent.glob(f".{database.name}.*.tmp*"):  # by a kill, with SQLite's journal
            left.unlink(missing_ok=True)
        temporary = database.with_name(f".{database.name}.{secrets.token_hex(4)}.tmp")
        try:
            _client(Store(uri=f"sqlite:///{temporary}", artifacts=None)).search_experiments(max_results=1)
            temporary.replace(database)
        finally:
            temporary.unlink(missing_ok=True)


def _client(store: Store) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store.uri)


def _still_there(copy: _Copy) -> bool:
    """Whether a copy that was known is still in the store: people delete runs, databases, and what a server stands on."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(copy.client.get_run(copy.mlflow_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _experiment(folder: RunFolder) -> str:
    return str(folder.manifest.get("name") or "trainwright")[:500]


def _experiment_id(client: Any, folder: RunFolder, store: Store) -> str:
    """The experiment named after the dataset, created or restored. Two processes may create it at the same time."""
    from mlflow.exceptions import MlflowException

    name = _experiment(folder)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, store.artifacts.as_uri() if store.artifacts else None))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _add_params(copy: _Copy, folder: RunFolder) -> int:
    from mlflow.entities import Param

    if copy.params_complete:  # a recipe never changes
        return 0
    wanted = parameters(folder)
    missing = [
        Param(name, "null" if value is None else str(value)[:MAX_TEXT])
        for name, value in wanted.items()
        if name not in copy.params
    ]
    for part in _parts(missing, MAX_PARAMS):
        copy.client.log_batch(copy.mlflow_id, params=part)
    copy.params_complete = True
    return len(missing)


def _add_metrics(copy: _Copy, folder: RunFolder) -> int:
    from mlflow.entities import Metric

    wanted = [scalar for record in folder.records("lr_range") for scalar in range_scalars(record)]
    wanted += [scalar for record in folder.records("epoch") for scalar in epoch_scalars(record)]
    wanted += [*_new_steps(copy, folder), *closing_scalars(folder), *opening_scalars(folder)]
    missing = _unique(s for s in wanted if s.step not in copy.steps[s.name])
    for part in _parts(missing, MAX_METRICS):
        metrics = [Metric(s.name, s.value, int(s.time * 1000), s.step) for s in part]
        copy.client.log_batch(copy.mlflow_id, metrics=metrics)
        for scalar in part:
            copy.steps[scalar.name].add(scalar.step)
    return len(missing)


def _new_steps(copy: _Copy, folder: RunFolder) -> Iterator[Scalar]:
    """Curves of the steps recorded since the last call; of all of them where a resume went back behind that."""
    records = copy.tail.read()
    if records is None:
        copy.tail = Tail(folder.path / RECORDS)
        records = copy.tail.read() or []
    for record in records:
        if record["kind"] == "steps":
            yield from step_scalars(record)


def _add_files(copy: _Copy, folder: RunFolder) -> int:
    """Upload what the store does not have, or has in another size. Figures go into figures/."""
    named = [folder.path / name for name in (RECIPE, MANIFEST, RESULT, "report.html")]
    wanted = {path.name: path for path in named if path.is_file()}
    wanted |= {f"figures/{path.name}": path for path in sorted((folder.path / "figures").glob("[!.]*.png"))}
    stamps = {name: (path.stat().st_mtime_ns, path.stat().st_size) for name, path in wanted.items()}
    if stamps == copy.files:
        return 0
    sizes = {
        item.path: item.file_size
        for place in (None, "figures")
        for item in copy.client.list_artifacts(copy.mlflow_id, place)
    }
    missing = [
        name
        for name, stamp in stamps.items()
        if sizes.get(name) != stamp[1] or copy.files.get(name, stamp) != stamp  # unknown of before: the size decides
    ]
    for name in missing:
        copy.client.log_artifact(copy.mlflow_id, str(wanted[name]), "figures" if "/" in name else None)
    copy.files = stamps
    return len(missing)


def _set_tags(copy: _Copy, folder: RunFolder) -> None:
    from mlflow.entities import RunTag

    wanted = tags(folder)
    if "source" in wanted:
        wanted |= {"mlflow.source.name": wanted["source"], "mlflow.source.type": "LOCAL"}
    changed = {name: value[:MAX_TEXT] for name, value in wanted.items() if copy.tags.get(name) != value[:MAX_TEXT]}
    if changed:
        copy.client.log_batch(copy.mlflow_id, tags=[RunTag(name, value) for name, value in changed.items()])
        copy.tags |= changed


def _unique(scalars: Iterable[Scalar]) -> list[Scalar]:
    """One scalar for each name and step."""
    return list({(scalar.name, scalar.step): scalar for scalar in scalars}.values())


def _parts(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _ended_ms(folder: RunFolder) -> int | None:
    ended = folder.status()["time"]
    return int(ended * 1000) if ended else None


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """MLflow with short timeouts, without telemetry, and silent unless an error is raised; undone afterwards."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # for good: a convention of ours
    added = {name: value for name, value in CALM.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its own, about sqlalchemy and others
            warnings.simplefilter("ignore", FutureWarning)
            with _silent():
                yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    import mlflow  # noqa: F401  # sets its loggers' levels when it is imported

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "sqlalchemy")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    """The cause in a line: MLflow's texts go on with hints, SQL and addresses of documentation."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")
