"""The curves of lr, momentum and loss, step by step, as TensorBoard and MLflow read them back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.tracking.mirrors import step_scalars
from trainwright.tracking.mlflow import MlflowMirror
from trainwright.tracking.store import store_of
from trainwright.tracking.tensorboard import TensorboardMirror

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside their own imports
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # the client's, when it reads back
RECIPE = tw.Recipe().changed(
    {"network.width": 8, "epochs": 3, "batch_size": 4, "precision": "fp32", "optimizer.lr": 0.01, "title": "curves"}
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of thirty noisy images each, one of them brighter."""
    folder, stream = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, brightness in (("dark", 0), ("light", 100)):
        (folder / name).mkdir()
        for number in range(30):
            pixels_HWC = (stream.integers(0, 150, (16, 16, 3)) + brightness).astype(np.uint8)
            Image.fromarray(pixels_HWC).save(folder / name / f"{number:02d}.png")
    return folder


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's, about its own old file interface
        accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def metrics(runs: Path, name: str) -> list[tuple[int, float]]:
    client = MlflowClient(tracking_uri=store_of(runs).uri)
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    (copy,) = client.search_runs([experiment.experiment_id])
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(copy.info.run_id, name))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["triangular", "one-cycle"])
def test_lr_and_loss_of_every_step_of_a_cyclic_training_land_in_both(images, runs, name):
    changes = {"schedule.name": name, "optimizer.name": "sgd"}

    run = tw.train(images, RECIPE.changed(changes), runs=runs, mirrors=("tensorboard", "mlflow"), workers=0)

    recorded = [loss for record in run._folder.records("steps") for loss in record["loss"]]
    steps = len(recorded)
    schedule = build_schedule(run.recipe.schedule)
    lrs = [0.01 * schedule(step / steps) for step in range(steps)]
    assert max(lrs) > 2 * min(lrs)
    for read in (lambda tag: scalars(run.folder, tag), lambda tag: metrics(runs, tag)):
        assert [step for step, _ in read("train_step/lr")] == list(range(steps))
        assert [lr for _, lr in read("train_step/lr")] == pytest.approx(lrs)
        assert [loss for _, loss in read("train_step/loss")] == pytest.approx(recorded)
        assert [step for step, _ in read("val/loss")] == [0, 1, 2]
    momentum = momentum_of(run.recipe.schedule)
    expected = [] if momentum is None else [momentum(step / steps) for step in range(steps)]
    shown = [value for row in run._folder.records("steps") for value in row.get("momentum", ())]
    assert shown == expected


def test_momentum_is_shown_where_it_is_moved(runs, new_run):
    run = new_run(runs)
    run.append("steps", {"first_step": 0, "loss": [1.0, 0.5], "lr": [0.1, 0.2], "momentum": [0.95, 0.85]})

    TensorboardMirror().update(run.path)
    MlflowMirror().update(run.path)

    assert scalars(run.path, "train_step/momentum") == [(0, pytest.approx(0.95)), (1, pytest.approx(0.85))]
    assert metrics(runs, "train_step/momentum") == [(0, 0.95), (1, 0.85)]


def test_mlflow_gets_the_steps_that_were_recorded_since_and_each_once(runs, new_run):
    run, mirror = new_run(runs), MlflowMirror()
    run.append("steps", {"first_step": 0, "loss": [1.0, None], "lr": [0.1, 0.2]})
    mirror.update(run.path)
    position = run.position()
    run.append("steps", {"first_step": 2, "loss": [0.5], "lr": [0.3]})
    mirror.update(run.path)
    run.cut(position)
    run.append("steps", {"first_step": 2, "loss": [0.5, 0.25], "lr": [0.3, 0.4]})

    mirror.update(run.path)

    assert metrics(runs, "train_step/lr") == [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)]
    assert metrics(runs, "train_step/loss") == [(0, 1.0), (2, 0.5), (3, 0.25)]


def test_curves_for_a_store_are_thinned_by_the_step_alone():
    """All of 256, half of the next 256, a quarter of the next 512; however they were recorded."""
    lrs = [float(step) for step in range(1024)]
    whole = {"first_step": 0, "lr": lrs, "time": 0.0}
    pieces = [{"first_step": start, "lr": lrs[start : start + 100], "time": 0.0} for start in range(0, 1024, 100)]

    chosen = [scalar.step for scalar in step_scalars(whole)]

    assert chosen == [*range(256), *range(256, 512, 2), *range(512, 1024, 4)]
    assert [scalar.step for piece in pieces for scalar in step_scalars(piece)] == chosen
