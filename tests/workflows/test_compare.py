"""Two runs compared by the library."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from trainwright.errors import RunError
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.compare import compare_runs


def test_runs_on_different_validation_images_are_not_compared_image_by_image(train, trained):
    other = train({"data.split_seed": 1, "epochs": 1})

    content = compare_runs(trained._folder, other._folder)

    assert content["gain"] is None
    assert "cannot be compared image by image" in content["conclusion"]
    assert content["recipe"] == {"data.split_seed": [0, 1], "epochs": [2, 1]}


def test_the_same_recipe_again_gains_exactly_nothing(train, trained):
    content = compare_runs(trained._folder, train()._folder)

    assert (content["recipe"], content["gain"]["value"], content["gain"]["p"]) == ({}, 0.0, 1.0)


def as_of_version_0_1(folder, to):
    """A copy of a run as version 0.1 recorded it: without tallies, groups, and what the task knew of its targets."""
    copy = shutil.copytree(folder, to)
    with np.load(folder / "answers" / "val.npz", allow_pickle=False) as saved:
        old = {name: saved[name] for name in ("rows", "paths", "probabilities", "target")}
    np.savez(copy / "answers" / "val.npz", **old)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["dataset"]["info"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return RunFolder.open(copy)


def test_a_run_of_version_0_1_is_compared_like_one_of_today(train, trained, tmp_path):
    old = as_of_version_0_1(trained.folder, tmp_path / trained.id)
    other = train({"optimizer.lr": 1e-6})._folder

    assert compare_runs(old, other)["gain"] == compare_runs(trained._folder, other)["gain"]
    assert compare_runs(other, old)["gain"] == compare_runs(other, trained._folder)["gain"]


def test_images_are_paired_by_path_whatever_their_order(train, trained, tmp_path):
    other = train({"optimizer.lr": 1e-6})._folder
    copy = shutil.copytree(other.path, tmp_path / "turned")
    with np.load(other.path / "answers" / "val.npz", allow_pickle=False) as saved:
        np.savez(copy / "answers" / "val.npz", **{name: saved[name][::-1] for name in saved.files})

    found = compare_runs(trained._folder, RunFolder.open(copy))

    assert found["gain"] == compare_runs(trained._folder, other)["gain"]


def test_the_answers_hold_what_a_comparison_needs(trained):
    with np.load(trained.folder / "answers" / "val.npz", allow_pickle=False) as saved:
        right_N = saved["probabilities"].argmax(axis=1) == saved["target"]

        assert saved["per_image"].tolist() == right_N.astype(float).tolist()
        assert saved["tally"][:, 0].tolist() == right_N.astype(float).tolist()
        assert len(np.unique(saved["groups"])) == len(saved["paths"])  # no twins among the digits


def test_a_run_that_has_not_finished_is_refused(train, trained, polls):
    run = train(stop_asked=polls(1))

    with pytest.raises(RunError, match=f"{run.id}: has not finished"):
        compare_runs(trained._folder, run._folder)


def test_runs_on_other_data_with_the_same_file_names_are_not_compared_image_by_image(train, trained, digits, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(digits, other)
    Image.new("L", (16, 16), 77).save(min((other / "0").iterdir()))

    content = compare_runs(trained._folder, train(data=other)._folder)

    assert content["gain"] is None
