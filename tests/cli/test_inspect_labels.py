"""`trainwright inspect --labels`."""

import csv

import pytest


@pytest.mark.slow
def test_doubtful_labels_are_told_and_written(cli, digits, small, tmp_path):
    changes = [change for change in small if not change.startswith("--mirrors")]

    done = cli(
        "inspect",
        digits,
        "--labels",
        "--relabel",
        tmp_path / "doubtful.csv",
        "--epochs",
        1,
        "--runs",
        tmp_path,
        *changes,
    )

    rows = list(csv.DictReader((tmp_path / "doubtful.csv").read_text().splitlines()))
    assert done.code == 0, done.err
    assert "5 networks, accuracy" in done.out
    assert f"doubtful     {len(rows):,}, all in {tmp_path / 'doubtful.csv'}" in done.out


def test_a_list_without_labels_is_refused(cli, digits, tmp_path):
    done = cli("inspect", digits, "--relabel", tmp_path / "doubtful.csv")

    assert done.code == 2
    assert "there is no list without --labels" in done.err


def test_a_list_into_a_folder_that_is_not_there_is_refused_before_anything_is_trained(cli, digits, tmp_path):
    done = cli("inspect", digits, "--labels", "--relabel", tmp_path / "nowhere" / "doubtful.csv")

    assert done.code == 2
    assert "its folder does not exist" in done.err
