"""`trainwright predict`: labels and probabilities for files and folders, the same as in the record."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from trainwright.data.decode import decode


@pytest.fixture
def new(digits, tmp_path):
    """A folder with three images below it, a text, and a file that is no whole image."""
    folder = tmp_path / "new"
    (folder / "below").mkdir(parents=True)
    for label in ("0", "1", "2"):
        shutil.copy(min((digits / label).iterdir()), folder / "below" / f"of-{label}.png")
    (folder / "readme.txt").write_text("no image")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def predict(cli, runs, run, *more):
    return cli("predict", run.id, *more, "--runs", runs)


def test_an_image_is_answered_with_label_and_probability(cli, two_runs, runs, new):
    image = new / "below" / "of-0.png"

    done = predict(cli, runs, two_runs[0], image)

    path, label, probability = done.out.split()
    assert (done.code, path) == (0, str(image))
    assert label in ("0", "1", "2")
    assert 1 / 3 <= float(probability) <= 1


def test_a_folder_is_searched_and_broken_files_are_named(cli, two_runs, runs, new):
    done = predict(cli, runs, two_runs[0], new, "--json")

    answers = {answer["image"]: answer for answer in done.json["predictions"]}
    assert done.code == 0
    assert done.json["schema"] == "trainwright.predictions/1"
    assert set(answers) == {str(new / "torn.png"), *(str(new / "below" / f"of-{label}.png") for label in "012")}
    assert answers[str(new / "torn.png")]["error"].startswith("truncated: ")
    assert "1 of 4 files could not be read" in done.err


def test_probabilities_are_those_of_the_record(cli, two_runs, runs, digits):
    with np.load(two_runs[0].folder / "answers" / "val.npz", allow_pickle=False) as answers:
        paths, recorded = answers["paths"].tolist(), answers["probabilities"]

    found = predict(cli, runs, two_runs[0], *(digits / path for path in paths), "--json").json["predictions"]

    predicted = np.array([[answer["probabilities"][name] for name in "012"] for answer in found])
    np.testing.assert_allclose(predicted, recorded, atol=1e-5)


def test_the_label_is_the_most_probable_class(cli, two_runs, runs, new):
    found = predict(cli, runs, two_runs[0], new / "below", "--json").json["predictions"]

    assert [answer["label"] for answer in found] == [
        max(answer["probabilities"], key=answer["probabilities"].get) for answer in found
    ]
    assert [sum(answer["probabilities"].values()) for answer in found] == pytest.approx([1.0] * 3)


def test_a_csv_file_has_a_row_for_each_image(cli, two_runs, runs, new, tmp_path):
    done = predict(cli, runs, two_runs[0], new, "--csv", tmp_path / "labels.csv")

    rows = list(csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())))
    assert f"{len(rows)} lines in {tmp_path / 'labels.csv'}" in done.err
    assert done.out == ""
    assert list(rows[0]) == ["image", "label", "probability", "0", "1", "2", "error"]
    assert [row["label"] != "" for row in rows] == [row["error"] == "" for row in rows]
    assert len(rows) == 4


def test_a_csv_file_that_cannot_be_written_is_told_before_the_work(cli, runs, new, tmp_path):
    done = cli("predict", "last", new, "--csv", tmp_path / "absent" / "labels.csv", "--runs", runs)

    assert (done.code, done.out) == (2, "")
    assert str(tmp_path / "absent" / "labels.csv") in done.err


def test_quiet_prints_nothing_on_stderr(cli, two_runs, runs, new):
    assert predict(cli, runs, two_runs[0], new, "--quiet").err == ""


def test_nothing_but_broken_files_ends_with_3(cli, two_runs, runs, new):
    done = predict(cli, runs, two_runs[0], new / "torn.png")

    assert done.code == 3
    assert "truncated" in done.out


def test_a_folder_without_images_ends_with_3(cli, two_runs, runs, tmp_path):
    (tmp_path / "empty").mkdir()

    done = predict(cli, runs, two_runs[0], tmp_path / "empty", "--json")

    assert (done.code, done.json["kind"]) == (3, "data")


def test_a_path_that_does_not_exist_is_named(cli, two_runs, runs, tmp_path):
    done = predict(cli, runs, two_runs[0], tmp_path / "absent.png")

    assert done.code == 3
    assert str(tmp_path / "absent.png") in done.err


def test_a_run_that_is_not_there_is_told_before_torch_is_loaded(cli, runs, new):
    done = cli("predict", "nonsense", new, "--runs", runs)

    assert (done.code, done.out) == (1, "")
    assert "no such run 'nonsense'" in done.err


def test_a_damaged_model_is_refused(cli, two_runs, runs, new, tmp_path):
    copy = shutil.copytree(two_runs[0].folder, tmp_path / "runs" / two_runs[0].id)
    content = bytearray((copy / "checkpoints" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "checkpoints" / "model.safetensors").write_bytes(content)

    done = cli("predict", "last", new, "--runs", tmp_path / "runs", "--json")

    assert (done.code, done.json["kind"]) == (1, "checkpoint")


def test_sheets_of_pictures_show_every_image_that_could_be_read(cli, two_runs, runs, digits, new, tmp_path):
    forty = sorted(digits.glob("*/*.png"))[:40]

    done = predict(cli, runs, two_runs[0], *forty, new / "torn.png", "--pictures", tmp_path / "sheets")

    sheets = sorted((tmp_path / "sheets").iterdir())
    assert done.code == 0
    assert [sheet.name for sheet in sheets] == ["predictions-001.png", "predictions-002.png"]
    assert decode(sheets[0]).shape[0] > decode(sheets[1]).shape[0]


def test_paths_are_read_from_standard_input_and_one_that_is_gone_is_told_of_it_alone(
    cli, two_runs, runs, new, monkeypatch
):
    good = new / "below" / "of-1.png"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{good}\n\n{new / 'gone.png'}\n{new / 'torn.png'}\n"))

    done = predict(cli, runs, two_runs[0], "-", "--json")

    found = json.loads(done.out)["predictions"]
    assert done.code == 0
    assert [item["image"] for item in found] == [str(good), str(new / "gone.png"), str(new / "torn.png")]
    assert [item.get("error", "").split(":")[0] for item in found] == ["", "unreadable", "truncated"]


def test_standard_input_without_paths_is_refused(cli, two_runs, runs, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))

    done = predict(cli, runs, two_runs[0], "-")

    assert done.code == 2
    assert "standard input has no paths" in done.err


def calibrated(run, monkeypatch, *, temperature, gain_low):
    """Let the diagnosis of a run have found a temperature."""
    figures = {"temperature": temperature, "temperature_gain_low": gain_low}
    finding = {"rule": "over-confident", "verdict": "yes", "evidence": "", "advice": "", "figures": figures}
    result = {**run.result, "findings": [finding]}
    monkeypatch.setattr("trainwright.tracking.run_folder.RunFolder.result", lambda folder: result)


def test_calibrated_probabilities_are_those_of_logits_divided_by_the_temperature(cli, two_runs, runs, new, monkeypatch):
    plain = json.loads(predict(cli, runs, two_runs[0], new / "below", "--json").out)["predictions"]
    calibrated(two_runs[0], monkeypatch, temperature=2.0, gain_low=0.1)

    honest = json.loads(predict(cli, runs, two_runs[0], new / "below", "--calibrated", "--json").out)["predictions"]

    assert [item["label"] for item in honest] == [item["label"] for item in plain]
    for before, after in zip(plain, honest, strict=True):
        roots = {name: value**0.5 for name, value in before["probabilities"].items()}
        expected = {name: root / sum(roots.values()) for name, root in roots.items()}
        assert after["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_a_temperature_that_may_not_help_is_refused(cli, two_runs, runs, new, monkeypatch):
    calibrated(two_runs[0], monkeypatch, temperature=1.1, gain_low=-0.01)

    done = predict(cli, runs, two_runs[0], new / "below", "--calibrated")

    assert done.code == 4
    assert "not sure that any temperature makes the probabilities better" in done.err


def test_an_exported_file_is_calibrated_when_it_is_made(cli, new):
    done = cli("predict", "model.onnx", new / "below", "--calibrated")

    assert done.code == 2
    assert "give it to 'trainwright export'" in done.err
