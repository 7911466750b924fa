"""`trainwright reproduce`: what it prints and which exit code it ends with."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def reproduce(cli, tmp_path):
    """(run, more words) → what the command left behind; the new run lies in a folder of its own."""

    def run(name, *more):
        return cli("reproduce", name, "--runs", tmp_path / "again", "--mirrors=none", "--workers=1", "--quiet", *more)

    return run


def test_the_same_machine_gives_the_same_bits_and_the_page_says_so(reproduce, two_runs):
    done = reproduce(two_runs[0].folder)

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[0] == f"run        {two_runs[0].id}"
    assert lines[2:4] == [
        "verdict    identical: the same weights, all 18 step losses and the scores of 3 epochs, bit for bit.",
        f"accuracy   unseen then {two_runs[0].score['val']:.3f}   now {two_runs[0].score['val']:.3f}",
    ]
    assert "parted     nowhere in 18 steps and 3 epochs" in lines
    assert "not as it was" not in done.out


def test_another_seed_in_the_recipe_is_named_and_ends_with_4(reproduce, two_runs, tmp_path):
    copy = shutil.copytree(two_runs[0].folder, tmp_path / "copy")
    (copy / "recipe.yaml").write_text((copy / "recipe.yaml").read_text().replace("\nseed: 0", "\nseed: 7"))

    done = reproduce(copy)

    assert done.code == 4
    assert "verdict    differs: this is another training than the recorded one, because of: seed." in done.out
    assert "parted     at step 1 of epoch 1: loss " in done.out
    assert "● recipe.yaml says seed 7, the run was trained with 0" in done.out


def test_json_is_the_object_that_the_folder_keeps(reproduce, two_runs):
    done = reproduce(two_runs[0].folder, "--epochs-only=1", "--threads=2", "--json")

    assert done.json == json.loads((Path(done.json["folder"]) / "reproduction.json").read_text())
    assert (done.json["schema"], done.json["compared"]["epochs"]) == ("trainwright.reproduction/1", 1)
    assert [one["what"] for one in done.json["differences"]] == ["threads"]


def test_what_is_left_of_the_epochs_is_said(reproduce, two_runs):
    done = reproduce(two_runs[0].folder, "--epochs-only=1")

    assert done.code == 0
    assert "identical: the same 6 step losses and the scores of 1 epoch, bit for bit" in done.out
    assert done.out.splitlines()[-1].startswith("the rest: trainwright reproduce ")


def test_data_that_is_not_to_be_had_ends_with_3(reproduce, two_runs, tmp_path):
    copy = shutil.copytree(two_runs[0].folder, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["dataset"]["source"]["path"] = "/nowhere/digits"
    (copy / "manifest.json").write_text(json.dumps(manifest))

    done = reproduce(copy, "--json")

    assert (done.code, done.json["kind"]) == (3, "data")
    assert done.json["cure"] == "Say where it is now: --data PATH, in Python data=…."


def test_no_such_run_is_told(reproduce):
    done = reproduce("nothing")

    assert done.code == 1
    assert "no such run 'nothing'" in done.err
