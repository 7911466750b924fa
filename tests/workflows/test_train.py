"""A training from a folder to its run folder: what is in it, and that it comes out the same again."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import nn

import trainwright as tw
from trainwright.data.dataset import Dataset
from trainwright.errors import DataError, UsageError
from trainwright.recipe import recipe_keys
from trainwright.workflows import chosen_epoch

RESULT_KEYS = {  # those of interface.md: programs rely on them
    "schema",
    "run",
    "folder",
    "metric",
    "score",
    "gap",
    "verdict",
    "findings",
    "lr",
    "epochs",
    "seconds",
    "images_per_second",
    "recipe",
}


def test_the_result_has_every_promised_key_and_its_schema_first(trained):
    result = json.loads((trained.folder / "result.json").read_text())

    assert next(iter(result.items())) == ("schema", "trainwright.run/1")
    assert set(result) >= RESULT_KEYS
    assert set(result["score"]) == {"train", "val"}
    assert set(result["images"]) == {"train", "val", "test"}
    assert set(result["gap"]) == {"value", "low", "high"}
    assert set(result["lr"]) == {"low", "high", "suggested", "used"}
    assert all(set(finding) >= {"rule", "verdict", "evidence", "advice"} for finding in result["findings"])


def test_the_result_says_which_run_and_where(trained):
    assert trained.result["run"] == trained.id == trained.folder.name
    assert trained.result["folder"] == str(trained.folder)


def test_three_digits_are_learned(trained):
    assert trained.score["val"] > 0.6  # a third by chance


def test_the_recorded_recipe_has_every_value(trained):
    recorded = tw.load_recipe(trained.folder / "recipe.yaml")

    assert recorded == trained.recipe == tw.Recipe.model_validate(trained.result["recipe"])
    assert all(f"{key.rsplit('.', 1)[-1]}:" in (trained.folder / "recipe.yaml").read_text() for key in recipe_keys())
    assert None not in (recorded.task, recorded.data.image_size, recorded.channels_last)
    assert recorded.precision != "auto"


def test_the_recorded_recipe_trains_to_the_same_weights(trained, digits, tmp_path):
    recorded = tw.load_recipe(trained.folder / "recipe.yaml")

    again = tw.train(digits, recorded, runs=tmp_path, mirrors=())

    assert again.result["weights_sha256"] == trained.result["weights_sha256"]
    assert again.score == trained.score
    assert again.gap == trained.gap


@pytest.mark.parametrize("workers", [0, 3])
def test_the_number_of_workers_changes_nothing(train, trained, workers):
    run = train(workers=workers)

    assert run.result["weights_sha256"] == trained.result["weights_sha256"]


def test_another_seed_gives_other_weights(train, trained):
    run = train(seed=1)

    assert run.recipe.seed == 1
    assert run.result["weights_sha256"] != trained.result["weights_sha256"]


def test_the_weights_are_those_whose_hash_is_recorded(trained):
    described = json.loads((trained.folder / "checkpoints" / "model.json").read_text())

    weights = load_file(trained.folder / "checkpoints" / "model.safetensors")

    assert described["sha256"] == trained.result["weights_sha256"]
    assert sum(array.size for array in weights.values()) >= trained.result["parameters"]


def test_every_epoch_is_recorded_with_all_its_figures(trained):
    epochs = trained.epochs

    assert [epoch["epoch"] for epoch in epochs] == [0, 1]
    assert all(set(epoch[part]) == {"loss", "score"} for epoch in epochs for part in ("train_running", "train", "val"))
    assert all(epoch["images_per_second"] > 0 and epoch["step_seconds"] > 0 for epoch in epochs)
    assert all(epoch["memory_bytes"] > 0 and epoch["seconds"] > 0 for epoch in epochs)


def test_every_step_is_recorded_once_with_loss_and_lr(trained):
    lines = [json.loads(line) for line in (trained.folder / "records.jsonl").read_text().splitlines()]
    pieces = [line for line in lines if line["kind"] == "steps"]

    steps = [piece["first_step"] + index for piece in pieces for index in range(len(piece["loss"]))]

    assert steps == list(range(trained.epochs[-1]["step"] + 1))
    assert all(len(piece["lr"]) == len(piece["loss"]) for piece in pieces)


def test_the_manifest_says_what_the_run_was_made_of(trained, digits):
    manifest = json.loads((trained.folder / "manifest.json").read_text())

    assert manifest["dataset"]["source"]["path"] == str(digits)
    assert manifest["dataset"]["classes"] == ["0", "1", "2"]
    assert len(manifest["dataset"]["fingerprint"]) == 64
    assert manifest["split"]["train"] + manifest["split"]["val"] + manifest["split"]["test"] == 150
    assert manifest["split"]["test_opened"] == 0
    assert manifest["machine"]["torch_threads"] == 1
    assert "torch" in manifest["packages"]
    assert len(manifest["code"]["sources_sha256"]) == 64


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_answers_of_each_image_give_the_score(trained, part):
    with np.load(trained.folder / "answers" / f"{part}.npz", allow_pickle=False) as answers:
        right = answers["probabilities"].argmax(axis=1) == answers["target"]
        labels = [path.split("/")[0] for path in answers["paths"].tolist()]

    assert right.mean() == trained.score[part]
    assert [str(label) for label in answers_of(trained, part)["target"]] == labels


def answers_of(run, part):
    with np.load(run.folder / "answers" / f"{part}.npz", allow_pickle=False) as answers:
        return dict(answers)


def test_train_and_val_answers_are_of_different_images(trained):
    train_paths, val_paths = (set(answers_of(trained, part)["paths"].tolist()) for part in ("train", "val"))

    assert train_paths & val_paths == set()


def test_the_figures_are_pictures(trained):
    files = sorted((trained.folder / "figures").iterdir())

    assert [file.name for file in files] == [
        "confusion-val.png",
        "gap.png",
        "learning-curves.png",
        "predictions-val.png",
    ]
    assert [smallest_side(file) > 200 for file in files] == [True] * 4


def smallest_side(file):
    """Of a PNG picture, in pixels, decoded whole."""
    with Image.open(file, formats=["PNG"]) as picture:
        picture.load()
        return min(picture.size)


def test_the_gap_is_unseen_minus_train_error_of_the_kept_weights_when_nothing_was_chosen(train):
    run = train({"keep": "last"})

    assert run.gap.value == pytest.approx(run.score["train"] - run.score["val"])
    assert run.gap.low <= run.gap.value <= run.gap.high


def test_the_gap_is_cross_fitted_over_all_epochs_when_the_best_was_chosen(monkeypatch, train):
    seen, original = [], chosen_epoch.cross_fitted_gap
    monkeypatch.setattr(chosen_epoch, "cross_fitted_gap", lambda *a, **k: seen.append(a) or original(*a, **k))

    run = train()

    ((train_epochs, val_epochs),) = seen
    assert len(train_epochs) == len(val_epochs) == run.result["epochs"] == 2
    assert [val_N.shape for val_N in val_epochs] == [answers_of(run, "val")["rows"].shape] * 2
    assert np.array_equal(val_epochs[run.result["kept_epoch"]], answers_of(run, "val")["per_image"])


def test_the_test_part_is_never_read(train, digits, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing decoded yet
    data, rows = tw.open_dataset(digits), []
    original = Dataset.read
    monkeypatch.setattr(Dataset, "read", lambda self, row, *rest: rows.append(row) or original(self, row, *rest))

    run = train(data=data)

    split = data.split(run.recipe.data)
    assert len(split.test) > 0
    assert sorted(set(rows)) == sorted([*split.train.tolist(), *split.val.tolist()])


def test_keeping_the_last_epoch_keeps_the_last(train):
    run = train({"keep": "last", "epochs": 3})

    assert run.result["kept_epoch"] == 2
    assert not (run.folder / "checkpoints" / "best.safetensors").exists()


def test_keeping_the_best_epoch_gives_its_score(train):
    run = train({"epochs": 4, "optimizer.lr": 0.03})

    scores = [epoch["val"]["score"] for epoch in run.epochs]
    assert run.result["kept_epoch"] == scores.index(max(scores))
    assert run.score["val"] == max(scores)


def test_averaged_weights_are_what_is_judged_and_kept(train):
    raw, averaged = train({"keep": "last"}), train({"keep": "last", "ema_decay": 0.5})

    assert averaged.result["weights_sha256"] != raw.result["weights_sha256"]
    assert losses_of(averaged) == losses_of(raw)


def losses_of(run):
    """Of every step; how many of them are in one record depends on the clock."""
    lines = [json.loads(line) for line in (run.folder / "records.jsonl").read_text().splitlines()]
    return [loss for line in lines if line["kind"] == "steps" for loss in line["loss"]]


def test_training_ends_early_where_nothing_gets_better(train):
    run = train({"epochs": 6, "early_stop": 1, "optimizer.lr": 1e-9, "keep": "last"})

    assert run.result["epochs"] == 2
    assert run.finished


def test_a_batch_in_parts_sees_the_same_images_and_takes_as_many_steps(train):
    run = train({"accumulate": 4, "epochs": 1, "network.norm": "group", "network.dropout": 0.0})
    whole = train({"epochs": 1, "network.norm": "group", "network.dropout": 0.0})

    assert run.epochs[-1]["step"] == whole.epochs[-1]["step"]
    assert run.epochs[0]["train_running"]["loss"] == pytest.approx(whole.epochs[0]["train_running"]["loss"], abs=1e-4)


def test_training_the_head_alone_leaves_the_rest_as_it_was(train):
    first = train({"network.trainable": "head", "epochs": 1})
    second = train({"network.trainable": "head", "epochs": 1, "optimizer.lr": 0.02})

    a, b = (load_file(run.folder / "checkpoints" / "model.safetensors") for run in (first, second))
    changed = {name for name in a if not np.array_equal(a[name], b[name])}
    assert changed == {"network.head.weight", "network.head.bias"}


def test_images_left_out_are_counted_and_named_in_a_note(train, digits, tmp_path, listener):
    folder = shutil.copytree(digits, tmp_path / "some broken")
    (folder / "1" / "torn.png").write_bytes((folder / "1" / min((folder / "1").iterdir()).name).read_bytes()[:60])

    run = train({"epochs": 1}, data=folder, reporter=listener)

    assert "truncated: 1 file, left out: 1/torn.png." in " ".join(listener.notes)
    assert json.loads((run.folder / "manifest.json").read_text())["dataset"]["left_out"] == 1


def test_the_reporter_hears_of_every_epoch_and_why_the_precision(train, listener):
    train(reporter=listener)

    assert listener.epochs == [0, 1]
    assert any(note.startswith("precision fp32: ") for note in listener.notes)
    assert "train 102, val 27, test 21 images; the train score is of 27 of the 102" in listener.notes
    assert all(done == total for done, total in listener.work.values())


def test_twins_of_one_image_stay_on_one_side_and_the_run_says_so(train, digits, tmp_path, listener):
    folder = shutil.copytree(digits, tmp_path / "twins")
    for file in sorted((folder / "0").iterdir())[:20]:
        shutil.copy(file, file.with_name(f"twin-{file.name}"))

    run = train({"epochs": 1}, data=folder, reporter=listener)

    parts = [{path.replace("twin-", "") for path in answers_of(run, p)["paths"].tolist()} for p in ("train", "val")]
    assert parts[0] & parts[1] == set()
    assert sum(note.startswith("duplicate-in-part: ") for note in listener.notes) == 1


def test_data_that_cannot_be_trained_on_is_refused_before_anything_is_written(train, digits, tmp_path):
    folder = shutil.copytree(digits, tmp_path / "one class", ignore=shutil.ignore_patterns("1", "2"))

    with pytest.raises(DataError) as caught:
        train(data=folder)

    assert caught.value.exit_code == 3
    assert not (tmp_path / "runs").exists()


def test_a_recipe_for_another_task_is_refused(digits, recipe, tmp_path):
    data = tw.open_dataset(digits)

    with pytest.raises(UsageError, match="the recipe is for regression, the data for classification"):
        tw.train(data, recipe.changed({"task": "regression"}), runs=tmp_path, mirrors=())


def test_a_task_that_does_not_exist_is_refused_with_the_nearest(digits, recipe, tmp_path):
    with pytest.raises(UsageError, match=r"no such task 'clasification'\. Did you mean 'classification'"):
        tw.train(digits, recipe.changed({"task": "clasification"}), runs=tmp_path, mirrors=())


def test_something_else_than_a_recipe_is_refused_with_the_way_to_make_one(digits):
    with pytest.raises(UsageError, match=r"expected a Recipe .* got dict\. For example tw\.recipes\.get"):
        tw.train(digits, {"epochs": 1})


def test_an_unknown_option_is_refused_with_the_known_ones(digits):
    with pytest.raises(TypeError, match=r"unexpected argument 'run'; known options: .*workers"):
        tw.train(digits, run="here")


def test_a_thread_count_of_the_run_is_put_back_afterwards(train):
    run = train({"epochs": 1}, threads=2)

    assert json.loads((run.folder / "manifest.json").read_text())["machine"]["torch_threads"] == 2
    assert torch.get_num_threads() == 1


class NormedHead(nn.Module):
    """A network that cannot be trained on a single image: batch norm over one value for each channel."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 3)

    def forward(self, images_NCHW):
        return self.head(self.norm(images_NCHW.mean(dim=(2, 3))))


def test_scored_images_that_are_one_more_than_a_batch_are_judged_in_whole_batches(train, digits, recipe):
    scored = len(tw.open_dataset(digits).split(recipe.data).val)

    run = train({"batch_size": scored - 1, "epochs": 1}, model=NormedHead())

    assert 0 <= run.result["train_errors"]["train_mode"] <= 1


def test_a_wrong_name_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(UsageError, match=r"no such optimizer 'adanw'\. Did you mean 'adamw'"):
        train({"optimizer.name": "adanw"})

    assert not (tmp_path / "runs").exists()


def test_mirrors_may_be_given_as_text(train):
    with pytest.raises(UsageError, match="no such mirror 'mlfow'"):
        train(mirrors="mlfow")
