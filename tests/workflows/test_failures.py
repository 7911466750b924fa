"""How a run ends that cannot go on: its folder says why, and it can be resumed where that makes sense."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import trainwright as tw
from trainwright import files
from trainwright.errors import NonFiniteLossError, OutOfResourcesError


class Explodes(nn.Module):
    """A linear network whose output is not a number where an image's first pixel stands out from the rest of the batch."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 2)

    def forward(self, images_NCHW):
        stands_out_N = images_NCHW[:, 0, 0, 0] > 10 * images_NCHW.std()
        return torch.where(stands_out_N[:, None], float("nan"), self.head(images_NCHW.flatten(1)))


@pytest.fixture
def marked():
    """Forty images of two classes; the first pixel of one in train is far brighter than all the others."""
    draws = np.random.Generator(np.random.Philox(0))
    images_NHWC = draws.integers(0, 2, (40, 16, 16, 3)).astype(np.uint8)
    parts = ["train"] * 30 + ["val"] * 10
    images_NHWC[7, 0, 0] = 255
    names = [f"photo-{index:02d}.png" for index in range(40)]
    return tw.Dataset.from_arrays(images_NHWC, [index % 2 for index in range(40)], parts=parts, names=names)


@pytest.fixture
def exploded(train, marked, tmp_path):
    """(the error, the folder of the run) of a training whose loss is not a number in its first epoch."""
    changes = {"augment.crop_padding": 0.0, "batch_size": 30}
    with pytest.raises(NonFiniteLossError) as caught:
        train(changes, data=marked, model=Explodes())
    return caught.value, only_run(tmp_path)


def only_run(tmp_path):
    (folder,) = (entry for entry in (tmp_path / "runs").iterdir() if entry.is_dir())
    return folder


def test_a_loss_that_is_not_a_number_names_step_and_image(exploded):
    error, _ = exploded

    assert "the loss is not finite at step 0" in error.message
    assert "it concerns 1 image(s): photo-07.png." in error.message
    assert "optimizer.lr" in error.cure
    assert error.exit_code == 1


def test_its_run_says_failed_and_diverged(exploded):
    error, folder = exploded

    status = json.loads((folder / "status.json").read_text())
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]

    assert status["state"] == "failed"
    assert status["message"] == f"NonFiniteLossError: {error}"
    assert [(r["rule"], r["verdict"]) for r in records if r["kind"] == "finding"] == [("diverged", "yes")]


def test_its_run_is_listed_as_failed(exploded):
    _, folder = exploded

    (summary,) = tw.list_runs(folder.parent)

    assert (summary.state, summary.verdict) == ("failed", None)


def test_a_learning_rate_far_too_high_is_not_called_trained(train):
    changes = {"optimizer.name": "sgd", "optimizer.lr": 1e30, "clip_norm": None}

    with pytest.raises(NonFiniteLossError, match=r"[012]/\d{4}\.png"):
        train(changes)


@pytest.mark.parametrize("name", ["step-", "best", "scores-epoch", "val.npz", "model.json", "result.json"])
def test_a_full_disk_ends_the_run_and_it_resumes_when_there_is_space(train, trained, monkeypatch, tmp_path, name):
    write = files.write_atomically

    def full(path, data):
        if path.name.startswith(name):
            raise files.explain_full_disk(OSError(errno.ENOSPC, "No space left on device"), path)
        write(path, data)

    with monkeypatch.context() as patched:
        for module in ("training.checkpoint", "workflows.training", "workflows.judge", "tracking.run_folder"):
            patched.setattr(f"trainwright.{module}.write_atomically", full)
        with pytest.raises(OutOfResourcesError, match="no space left on the disk while writing") as caught:
            train()
    folder = only_run(tmp_path)
    state = json.loads((folder / "status.json").read_text())["state"]
    resumed = tw.resume(folder, mirrors=())

    assert caught.value.exit_code == 5
    assert state == "failed"
    assert resumed.result["weights_sha256"] == trained.result["weights_sha256"]


def test_a_full_disk_that_takes_no_status_either_shows_the_first_error(train, monkeypatch):
    def full(path, data):
        raise files.explain_full_disk(OSError(errno.ENOSPC, "No space left on device"), path)

    for module in ("training.checkpoint", "workflows.training", "tracking.run_folder"):
        monkeypatch.setattr(f"trainwright.{module}.write_atomically", full)

    with pytest.raises(OutOfResourcesError, match=r"while writing (best|scores|step)"):
        train()


def test_no_space_for_the_run_folder_is_told_before_training(train, monkeypatch):
    def full(self, *arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)

    with pytest.raises(OutOfResourcesError):
        train()
