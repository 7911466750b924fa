"""A run that stopped goes on where it stood and ends in the very same weights; what must not go on is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import trainwright as tw
from trainwright.errors import CheckpointError, DataError, RunError, UsageError
from trainwright.tracking.lock import FileLock
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.training import Training


def finish(run, polls, count):
    """Resume with a stop after `count` polls again and again until it is done."""
    for _ in range(100):
        if run.finished:
            break
        run = tw.resume(run, mirrors=(), stop_asked=polls(count))
    return run


def same_result(run, other):
    return [run.result[key] == other.result[key] for key in ("weights_sha256", "score", "loss", "gap", "findings")]


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_a_run_stopped_again_and_again_ends_in_the_same_weights(train, trained, polls, count):
    run = train(stop_asked=polls(count))

    resumed = finish(run, polls, count)

    assert resumed.id == run.id
    assert same_result(resumed, trained) == [True] * 5


def test_a_stopped_run_says_interrupted_and_has_no_result(train, polls):
    run = train(stop_asked=polls(1))

    status = json.loads((run.folder / "status.json").read_text())
    assert (run.finished, status["state"]) == (False, "interrupted")
    with pytest.raises(RunError, match=f"trainwright resume {run.id}"):
        _ = run.result


def test_records_of_a_resumed_run_are_those_of_an_untouched_one(train, trained, polls):
    resumed = finish(train(stop_asked=polls(4)), polls, 4)

    losses = [[loss for piece in run._folder.records("steps") for loss in piece["loss"]] for run in (resumed, trained)]
    assert losses[0] == losses[1]
    assert [epoch["val"] for epoch in resumed.epochs] == [epoch["val"] for epoch in trained.epochs]
    assert sum(1 for _ in resumed._folder.records("finding")) == sum(1 for _ in trained._folder.records("finding"))


def test_resuming_with_averaged_weights_and_momentum_changes_nothing(train, polls):
    changes = {"ema_decay": 0.9, "optimizer.name": "sgd", "optimizer.lr": 0.05, "clip_norm": 1.0}
    untouched = train(changes)

    resumed = finish(train(changes, stop_asked=polls(5)), polls, 5)

    assert same_result(resumed, untouched) == [True] * 5


def test_a_run_that_fails_in_the_middle_says_so_and_can_be_resumed(train, trained, monkeypatch, tmp_path):
    original = RunFolder.append

    def fail_once(self, kind, record):
        if kind == "epoch" and record["epoch"] == 1:
            raise RuntimeError("the roof fell in")
        original(self, kind, record)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "append", fail_once)
        with pytest.raises(RuntimeError, match="the roof fell in"):
            train()
    folder = only_run(tmp_path)
    status = RunFolder.open(folder).status()
    resumed = tw.resume(folder, mirrors=())

    assert (status["state"], status["message"]) == ("failed", "RuntimeError: the roof fell in")
    assert same_result(resumed, trained) == [True] * 5
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


def test_a_torn_last_record_is_forgotten(train, trained, polls):
    run = train(stop_asked=polls(6))
    with (run.folder / "records.jsonl").open("ab") as file:
        file.write(b'{"kind":"steps","first_step":5,"lo')

    resumed = tw.resume(run, mirrors=())

    assert same_result(resumed, trained) == [True] * 5


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(train, trained, polls, ending):
    run = finish_twice(train, polls)
    files = sorted((run.folder / "checkpoints").glob(f"step-*.{ending}"))
    content = bytearray(files[-1].read_bytes())
    content[len(content) // 2] ^= 1
    files[-1].write_bytes(content)

    resumed = tw.resume(run, mirrors=())

    assert len(files) == 2
    assert same_result(resumed, trained) == [True] * 5


def finish_twice(train, polls):
    """A run stopped after its second step, with a checkpoint of each."""
    return tw.resume(train(stop_asked=polls(1)), mirrors=(), stop_asked=polls(1))


def test_a_run_whose_checkpoints_are_all_damaged_says_so(train, polls):
    run = finish_twice(train, polls)
    for file in (run.folder / "checkpoints").glob("step-*.safetensors"):
        file.write_bytes(b"nothing")

    with pytest.raises(CheckpointError, match="no whole checkpoint is left"):
        tw.resume(run, mirrors=())


def test_a_run_killed_before_its_first_checkpoint_starts_over(train, trained, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_save", lambda self: _die())
        with pytest.raises(KeyboardInterrupt):
            train()
    folder = only_run(tmp_path)
    assert list((folder / "checkpoints").glob("step-*")) == []

    resumed = tw.resume(folder, mirrors=())

    assert same_result(resumed, trained) == [True] * 5


def _die():
    raise KeyboardInterrupt


def only_run(tmp_path):
    """The one run folder in `tmp_path / "runs"`."""
    (folder,) = (entry for entry in (tmp_path / "runs").iterdir() if entry.is_dir())
    return folder


def test_a_run_killed_while_it_was_judged_is_judged_again(train, trained, monkeypatch, tmp_path):
    from trainwright.workflows import judge

    with monkeypatch.context() as patched:
        patched.setattr(judge, "_draw", lambda *arguments: _die())
        with pytest.raises(KeyboardInterrupt):
            train()

    resumed = tw.resume(only_run(tmp_path), mirrors=())

    assert same_result(resumed, trained) == [True] * 5
    assert sum(1 for _ in resumed._folder.records("finding")) == len(resumed.findings)


def test_resuming_a_finished_run_returns_its_result_and_does_nothing(trained):
    before = (trained.folder / "records.jsonl").read_bytes()

    again = tw.resume(trained, mirrors=())

    assert again.result == trained.result
    assert (trained.folder / "records.jsonl").read_bytes() == before


def test_changed_data_is_refused_and_the_run_stays_as_it_was(train, digits, polls, tmp_path):
    data = shutil.copytree(digits, tmp_path / "copy")
    run = train(data=data, stop_asked=polls(1))
    min((data / "0").iterdir()).unlink()

    with pytest.raises(DataError, match="the data has changed since the run began") as caught:
        tw.resume(run, mirrors=())

    assert caught.value.exit_code == 3
    assert run._folder.status()["state"] == "interrupted"


def test_moved_data_is_named(train, digits, polls, tmp_path):
    data = shutil.copytree(digits, tmp_path / "copy")
    run = train(data=data, stop_asked=polls(1))
    data.rename(tmp_path / "moved")

    with pytest.raises(DataError, match=str(data)):
        tw.resume(run, mirrors=())


def test_a_run_that_another_process_writes_is_refused(train, polls):
    run = train(stop_asked=polls(1))

    with FileLock(run.folder / "run.lock") as lock:
        assert lock.acquire()
        with pytest.raises(RunError, match=r"process \d+ is writing this run"):
            tw.resume(run, mirrors=())

    assert run._folder.status()["state"] == "interrupted"


class Mine(nn.Module):
    """A network of one's own, the same each time it is made."""

    def __init__(self, outputs=3, width=8):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
            )
            self.head = nn.Linear(4 * width, outputs)

    def forward(self, images_NCHW):
        return self.head(self.features(images_NCHW))


def test_a_network_of_ones_own_goes_on_when_it_is_given_again(train, polls):
    untouched = train(model=Mine())
    run = train(model=Mine(), stop_asked=polls(5))

    resumed = tw.resume(run, model=Mine(), mirrors=())

    assert same_result(resumed, untouched) == [True] * 5


def test_a_network_of_ones_own_is_asked_for_again(train, polls):
    run = train(model=Mine(), stop_asked=polls(1))

    with pytest.raises(UsageError, match=r"tw\.resume\(run, model=model\)"):
        tw.resume(run, mirrors=())

    assert run._folder.status()["state"] == "interrupted"


def test_another_network_is_refused(train, polls):
    run = train(model=Mine(), stop_asked=polls(1))

    with pytest.raises(CheckpointError, match="these weights belong to another network"):
        tw.resume(run, model=Mine(width=16), mirrors=())


def test_a_network_with_outputs_for_other_classes_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(UsageError, match=r"outputs of shape \(2, 1000\) for 2 images, expected shape \(2, 3\)"):
        train(model=Mine(outputs=1000))

    assert not (tmp_path / "runs").exists()


def test_a_run_stopped_at_once_goes_on_without_the_weights_it_started_from(train, polls, tmp_path):
    shutil.copy(
        train({"epochs": 1}, seed=7).folder / "checkpoints" / "model.safetensors", tmp_path / "start.safetensors"
    )
    changes = {"network.weights": str(tmp_path / "start.safetensors")}
    untouched = train(changes)
    run = train(changes, stop_asked=polls(1))
    (tmp_path / "start.safetensors").unlink()

    resumed = tw.resume(run, mirrors=())

    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]


def test_tied_weights_are_saved_and_resumed(train, polls):
    def tied():
        model = Mine()
        model.twin = model.head  # one module under two names
        return model

    untouched = train(model=tied())
    run = train(model=tied(), stop_asked=polls(4))

    resumed = tw.resume(run, model=tied(), mirrors=())

    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]


def test_a_dataset_opened_in_python_is_opened_again(digits, recipe, polls, tmp_path, trained):
    run = tw.train(tw.open_dataset(digits), recipe, runs=tmp_path, mirrors=(), stop_asked=polls(5))

    resumed = tw.resume(run, mirrors=())

    assert resumed.result["weights_sha256"] == trained.result["weights_sha256"]


@pytest.fixture
def noise():
    """Forty images of noise in two classes, in memory."""
    images_NHWC = np.random.Generator(np.random.Philox(0)).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    return tw.Dataset.from_arrays(images_NHWC, np.arange(40) % 2)


def test_data_from_memory_is_asked_for_again(noise, recipe, polls, tmp_path):
    run = tw.train(noise, recipe, runs=tmp_path, mirrors=(), stop_asked=polls(1))

    with pytest.raises(UsageError, match="given by Python code") as caught:
        tw.resume(run, mirrors=())

    assert "data=…" in caught.value.cure


def test_data_from_memory_given_again_goes_on(train, noise, polls):
    untouched = train(data=noise)
    run = train(data=noise, stop_asked=polls(2))

    resumed = tw.resume(run, data=noise, mirrors=())

    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]


def test_a_run_is_found_by_last_and_by_the_beginning_of_its_id(train, polls, tmp_path):
    run = train(stop_asked=polls(1))

    by_last = tw.resume("last", runs=tmp_path / "runs", mirrors=(), stop_asked=polls(1))
    by_beginning = tw.resume(run.id[:-2], runs=tmp_path / "runs", mirrors=(), stop_asked=polls(1))

    assert by_last.id == by_beginning.id == run.id


def test_other_versions_and_threads_are_told(train, polls, listener):
    run = train(stop_asked=polls(1))
    manifest = json.loads((run.folder / "manifest.json").read_text())
    manifest["packages"]["torch"] = "2.0.0"
    (run.folder / "manifest.json").write_text(json.dumps(manifest))

    tw.resume(run.folder, mirrors=(), reporter=listener, stop_asked=polls(1))

    assert any(note.startswith("torch was 2.0.0 when the run began") for note in listener.notes)
