"""`trainwright export`, and `predict` with what it wrote."""

import csv
import json

import numpy as np
import pytest

from trainwright.deploy import reader


@pytest.fixture(scope="module")
def made(two_runs, tmp_path_factory):
    """The folder of an ONNX export of the first run, made by the workflow. Read it, never write to it."""
    import trainwright as tw

    run = two_runs[0]
    found = tw.export(run, format="onnx", out=tmp_path_factory.mktemp("made") / "model", runs=run.folder.parent)
    return found["folder"]


def export(cli, runs, run, *more):
    return cli("export", run.id, *more, "--runs", runs, "--workers", 1)


def test_what_was_written_is_shown_with_how_far_it_agrees(cli, two_runs, runs, tmp_path):
    done = export(cli, runs, two_runs[0], "--format", "safetensors", "--out", tmp_path / "model")

    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0].split() == ["file", "bytes", "agreement", "largest", "difference"]
    assert lines[1].split()[0] == "model.safetensors"
    assert lines[1].split()[2:] == ["1.00000", "0", "(probability)"]
    assert lines[-2] == "which agrees by 1.00000 with the answers that it was judged by (images with the same class)"
    assert lines[-1].split() == ["folder", str(tmp_path / "model")]


def test_json_is_the_description_with_its_certificate(cli, two_runs, runs, tmp_path):
    done = export(cli, runs, two_runs[0], "--format", "safetensors", "--out", tmp_path / "model", "--json")

    written = json.loads((tmp_path / "model" / "certificate.json").read_text())
    assert done.json["schema"] == "trainwright.export/1"
    assert done.json["certificate"] == written


def test_what_does_not_answer_as_the_model_does_ends_with_4(cli, two_runs, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "read_image", lambda path, spec: np.zeros((16, 16, 3), np.uint8))

    done = export(cli, runs, two_runs[0], "--format", "safetensors", "--out", tmp_path / "model", "--json")

    assert done.code == 4
    assert done.json["kind"] == "goal-not-met"
    assert "model.safetensors: does not answer as the model does: agreement" in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_exported_file_predicts_in_place_of_a_run(cli, two_runs, runs, made, digits, tmp_path):
    of_run = cli("predict", two_runs[0].id, digits / "1", "--csv", tmp_path / "run.csv", "--runs", runs)

    of_file = cli("predict", f"{made}/model.onnx", digits / "1", "--csv", tmp_path / "file.csv")

    assert (of_run.code, of_file.code) == (0, 0)
    rows = [list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("run.csv", "file.csv")]
    assert rows[0][0].keys() == rows[1][0].keys()
    assert [row["label"] for row in rows[0]] == [row["label"] for row in rows[1]]


def test_json_of_a_files_predictions_names_its_run(cli, two_runs, made, digits):
    done = cli("predict", f"{made}/model.onnx", digits / "1", "--json")

    assert done.json["run"] == two_runs[0].id
    assert len(done.json["predictions"]) == 50


def test_an_unknown_format_is_a_usage_error(cli, two_runs, runs):
    done = export(cli, runs, two_runs[0], "--format", "tflite")

    assert done.code == 2
    assert "Known formats: all, onnx, safetensors, torch" in done.err
