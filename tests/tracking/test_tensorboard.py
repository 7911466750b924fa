"""The TensorBoard mirror, read back with TensorBoard's own reader."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import pytest

from trainwright.errors import MissingPackageError, TrainwrightError
from trainwright.tracking import events
from trainwright.tracking import mirrors as mirrors_module
from trainwright.tracking.tensorboard import TensorboardMirror

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside tensorboard's own imports
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata


def read(run):
    accumulator = EventAccumulator(
        str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's, about its own old file interface
        accumulator.Reload()
    return accumulator


def steps(run, tag):
    return [event.step for event in read(run).Scalars(tag)]


def test_a_finished_run_arrives_whole(bare_runs, new_run, ending):
    run = new_run(bare_runs, 3)
    ending(run)
    TensorboardMirror().update(run.path)
    there = read(run)
    scores = [(event.step, event.value) for event in there.Scalars("train/score")]
    assert scores == [(0, pytest.approx(0.5)), (1, pytest.approx(0.51)), (2, pytest.approx(0.52))]
    assert [event.step for event in there.Scalars("train_step/loss")] == list(range(9))
    assert [event.step for event in there.Scalars("train_step/lr")] == list(range(9))
    assert [(event.step, event.value) for event in there.Scalars("gap")] == [(2, pytest.approx(0.2))]


def test_figures_are_shown_at_their_epoch(bare_runs, new_run):
    run = new_run(bare_runs, 2)
    TensorboardMirror().update(run.path)
    images = read(run).Images("figures/confusion-val")
    assert [(image.step, image.width, image.height) for image in images] == [(0, 3, 2), (1, 3, 2)]
    assert images[0].encoded_image_string == (run.figures / "confusion-val-epoch-0000.png").read_bytes()


def test_the_recipe_is_there_as_text_and_for_the_hparams_page(bare_runs, new_run):
    run = new_run(bare_runs)
    TensorboardMirror().update(run.path)
    there = read(run)
    (text,) = there.Tensors("recipe/text_summary")
    assert b"name: resnet18" in text.tensor_proto.string_val[0]
    content = there.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    assert values["network.name"].string_value == "resnet18"
    assert values["network.dropout"].number_value == 0.2
    content = there.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    names = [info.name for info in metadata.parse_experiment_plugin_data(content).hparam_infos]
    assert "optimizer.betas" in names


def test_a_loss_that_is_no_number_is_shown_as_such(bare_runs, new_run):
    run = new_run(bare_runs)
    run.append("steps", {"first_step": 0, "loss": [1.0, float("nan")], "lr": [0.1, 0.1]})
    TensorboardMirror().update(run.path)
    assert [math.isnan(event.value) for event in read(run).Scalars("train_step/loss")] == [False, True]


def test_live_updates_append_what_is_new(bare_runs, new_run, next_epoch, ending):
    run = new_run(bare_runs)
    mirror = TensorboardMirror()
    for epoch in range(4):
        next_epoch(run, epoch)
        assert mirror.update(run.path) > 0
    ending(run)
    mirror.update(run.path)
    assert mirror.update(run.path) == 0
    assert len(list(run.tensorboard.iterdir())) == 1
    assert steps(run, "lr") == [0, 1, 2, 3]
    assert steps(run, "train_step/loss") == list(range(12))
    assert steps(run, "gap") == [3]


def test_another_mirror_adds_only_what_is_missing(bare_runs, new_run, next_epoch):
    run = new_run(bare_runs, 2)
    TensorboardMirror().update(run.path)
    assert TensorboardMirror().update(run.path) == 0
    next_epoch(run, 2)
    TensorboardMirror().update(run.path)
    assert steps(run, "lr") == [0, 1, 2]
    assert [image.step for image in read(run).Images("figures/confusion-val")] == [0, 1, 2]


@pytest.mark.parametrize("renew", [True, False], ids=["another mirror", "the same mirror"])
def test_after_a_resume_went_back_each_step_is_there_once(bare_runs, new_run, next_epoch, renew):
    run = new_run(bare_runs, 2)
    position = run.position()
    next_epoch(run, 2)
    mirror = TensorboardMirror()
    mirror.update(run.path)
    run.cut(position)
    run.append("resume", {})
    mirror = TensorboardMirror() if renew else mirror
    mirror.update(run.path)
    assert steps(run, "lr") == [0, 1]
    for epoch in (2, 3):
        next_epoch(run, epoch)
    mirror.update(run.path)
    assert steps(run, "lr") == [0, 1, 2, 3]
    assert steps(run, "train_step/loss") == list(range(12))


def test_a_torn_event_file_is_written_anew(bare_runs, new_run):
    run = new_run(bare_runs, 3)
    TensorboardMirror().update(run.path)
    (file,) = run.tensorboard.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    TensorboardMirror().update(run.path)
    assert steps(run, "lr") == [0, 1, 2]
    assert len(list(run.tensorboard.iterdir())) == 1


def test_values_that_are_there_twice_are_written_anew(bare_runs, new_run):
    run = new_run(bare_runs, 2)
    TensorboardMirror().update(run.path)
    (file,) = run.tensorboard.iterdir()
    (run.tensorboard / f"{file.name}.copy").write_bytes(file.read_bytes())
    TensorboardMirror().update(run.path)
    assert steps(run, "lr") == [0, 1]


def test_files_deleted_while_the_run_is_live_are_written_again(bare_runs, new_run, next_epoch):
    run = new_run(bare_runs, 2)
    mirror = TensorboardMirror()
    mirror.update(run.path)
    for file in run.tensorboard.iterdir():
        file.unlink()
    run.tensorboard.rmdir()
    next_epoch(run, 2)
    mirror.update(run.path)
    assert steps(run, "lr") == [0, 1, 2]


def test_other_files_in_the_folder_are_left_alone(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    (run.tensorboard / "trace.json").write_text("{}")
    (run.tensorboard / "events.out.tfevents.1.torn").write_bytes(b"torn")
    TensorboardMirror().update(run.path)
    assert (run.tensorboard / "trace.json").exists()
    assert steps(run, "lr") == [0]


def test_a_figure_that_is_missing_or_no_image_is_left_out(bare_runs, new_run):
    run = new_run(bare_runs, 2)
    (run.figures / "confusion-val-epoch-0000.png").unlink()
    (run.figures / "confusion-val-epoch-0001.png").write_bytes(b"no image")
    TensorboardMirror().update(run.path)
    assert "figures/confusion-val" not in read(run).Tags()["images"]
    assert steps(run, "lr") == [0, 1]


def test_a_figure_without_an_epoch_in_its_name_is_shown_at_its_record_s(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    (run.figures / "curves.png").write_bytes((run.figures / "confusion-val-epoch-0000.png").read_bytes())
    run.append("figure", {"name": "curves.png", "epoch": 7})
    TensorboardMirror().update(run.path)
    assert [image.step for image in read(run).Images("figures/curves")] == [7]


def test_files_that_cannot_be_written_are_named(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    (run.path / "tensorboard").write_text("a file where the folder should be")
    with pytest.raises(TrainwrightError, match=r"TensorBoard's files cannot be written.*trainwright sync RUN"):
        TensorboardMirror().update(run.path)


def test_without_tensorboard_the_cure_is_named(bare_runs, new_run, monkeypatch):
    monkeypatch.setattr(mirrors_module, "installed", lambda _: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'trainwright\[tensorboard\]'"):
        TensorboardMirror().update(new_run(bare_runs).path)


def test_neither_torch_nor_tensorflow_is_loaded(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    code = (
        "import sys; from pathlib import Path; from trainwright.tracking.tensorboard import TensorboardMirror\n"
        "TensorboardMirror().update(Path(sys.argv[1])); print({'torch', 'tensorflow', 'mlflow'} & set(sys.modules))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(run.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "set()"


def test_an_empty_event_file_counts_as_damaged(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert events.read_events(tmp_path / "empty") == ([], False)
