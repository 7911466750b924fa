"""A learning-rate range test in a run folder, and how it reaches TensorBoard and MLflow."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from trainwright.tracking.mirrors import range_scalars
from trainwright.tracking.mlflow import MlflowMirror
from trainwright.tracking.store import store_of
from trainwright.tracking.tensorboard import TensorboardMirror
from trainwright.workflows.lr import record_range

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside the readers' own imports
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # MLflow's client, when it reads back


def read_tensorboard(run):
    accumulator = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's, about its own old file interface
        accumulator.Reload()
    return accumulator


def read_mlflow(runs):
    client = MlflowClient(tracking_uri=store_of(runs).uri)
    (copy,) = client.search_runs([client.get_experiment_by_name("cats-dogs").experiment_id])
    return client, copy


def test_the_record_is_plain_json_without_the_losses_of_each_seed(bare_runs, new_run, lr_range_of):
    run = new_run(bare_runs)

    record_range(run, lr_range_of("found"))

    (record,) = run.records("lr_range")
    assert (record["verdict"], record["interval"], record["suggestion"]) == ("found", [2e-4, 6e-2], 0.013)
    assert record["trials"][2] == {"lr": 0.04, "losses": [1.0, None, 1.3]}
    assert len(record["lrs"]) == len(record["smooth"]) == 97
    assert record["smooth"][-1] is None  # no seed got there
    assert len(json.dumps(record)) < 15_000


def test_the_arrays_are_kept_as_they_are(bare_runs, new_run, lr_range_of):
    run, found = new_run(bare_runs), lr_range_of("found")

    record_range(run, found)

    with np.load(run.answers / "lr-range.npz") as kept:
        assert set(kept) == {"lrs_L", "losses_SL", "smooth_L", "low_L", "high_L"}
        np.testing.assert_array_equal(kept["losses_SL"], found.losses_SL)


def test_a_test_that_found_something_is_no_finding(bare_runs, new_run, lr_range_of):
    run = new_run(bare_runs)

    record_range(run, lr_range_of("found"))

    assert list(run.records("finding")) == []


def test_a_test_that_cannot_tell_is_a_finding_that_says_what_was_used_instead(bare_runs, new_run, lr_range_of):
    run = new_run(bare_runs, recipe="optimizer: {name: adam, lr: 0.001}\n")

    record_range(run, lr_range_of("flat"))

    (finding,) = run.records("finding")
    assert (finding["rule"], finding["verdict"]) == ("lr-range", "cannot-tell")
    assert finding["evidence"].endswith("the loss never falls below its start by more than the noise between seeds.")
    assert "Trained with 0.001, a published rate" in finding["advice"]


def test_scalars_are_those_that_are_finite():
    record = {"time": 1.0, "lrs": [0.1, 1.0], "smooth": [2.0, None], "interval": None, "suggestion": None}

    found = {(scalar.name, scalar.step): scalar.value for scalar in range_scalars(record)}

    assert found == {("lr_range/lr", 0): 0.1, ("lr_range/lr", 1): 1.0, ("lr_range/loss", 0): 2.0}


def test_tensorboard_shows_the_curve_the_answer_the_reason_and_the_picture(bare_runs, new_run, lr_range_of):
    run, found = new_run(bare_runs), lr_range_of("found")
    record_range(run, found)

    TensorboardMirror().update(run.path)

    there = read_tensorboard(run)
    curve = [event.value for event in there.Scalars("lr_range/loss")]
    assert curve == pytest.approx(found.smooth_L[np.isfinite(found.smooth_L)])
    assert [event.value for event in there.Scalars("lr_range/lr")] == pytest.approx(found.lrs_L)
    assert [there.Scalars(f"lr_range/{name}")[0].value for name in ("low", "high", "suggested")] == pytest.approx(
        [2e-4, 6e-2, 0.013]
    )
    assert there.Tensors("lr_range/text_summary")[0].tensor_proto.string_val[0].startswith(b"found: of three")
    (image,) = there.Images("figures/lr-range")
    assert image.encoded_image_string == (run.figures / "lr-range.png").read_bytes()


def test_tensorboard_gets_nothing_twice(bare_runs, new_run, lr_range_of):
    run, mirror = new_run(bare_runs), TensorboardMirror()
    record_range(run, lr_range_of("found"))
    mirror.update(run.path)

    assert mirror.update(run.path) == 0
    assert TensorboardMirror().update(run.path) == 0


def test_mlflow_has_the_curve_the_answer_and_the_picture(runs, new_run, lr_range_of):
    run = new_run(runs, 1)
    record_range(run, lr_range_of("found"))

    MlflowMirror().update(run.path)

    client, copy = read_mlflow(runs)
    metrics = copy.data.metrics
    assert [metrics[f"lr_range/{name}"] for name in ("low", "high", "suggested")] == [2e-4, 6e-2, 0.013]
    assert len(client.get_metric_history(copy.info.run_id, "lr_range/lr")) == 97
    assert "figures/lr-range.png" in [item.path for item in client.list_artifacts(copy.info.run_id, "figures")]
    assert MlflowMirror().update(run.path) == 0


def test_mlflow_has_no_answer_where_the_test_could_not_tell(runs, new_run, lr_range_of):
    run = new_run(runs, recipe="optimizer: {name: adam, lr: 0.001}\n")
    record_range(run, lr_range_of("flat"))

    MlflowMirror().update(run.path)

    _, copy = read_mlflow(runs)
    assert "lr_range/loss" in copy.data.metrics
    assert "lr_range/suggested" not in copy.data.metrics


def test_what_came_before_the_first_step_is_where_a_training_without_a_checkpoint_goes_back_to(
    bare_runs, new_run, lr_range_of
):
    run = new_run(bare_runs)
    record_range(run, lr_range_of("found"))
    before = run.position()
    run.append("steps", {"first_step": 0, "loss": [1.0], "lr": [0.1]})
    run.append("figure", {"name": "later.png"})

    run.cut(run.opening())

    assert run.position() == before
    assert [record["kind"] for record in run.records()] == ["lr_range", "figure"]


def test_a_run_without_records_has_no_opening(bare_runs, new_run):
    assert new_run(bare_runs).opening() == 0
