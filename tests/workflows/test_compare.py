"""Two runs compared by the library."""

import shutil

import pytest
from PIL import Image

from trainwright.errors import RunError
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
