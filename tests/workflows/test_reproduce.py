"""A run trained again from its folder: what comes out of it, and the causes that are named where it is not the same."""

import gzip
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import trainwright as tw
from trainwright.errors import DataError, RunError, UsageError, WeightsError
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows import judge, manifest
from trainwright.workflows.recorded_images import IMAGES, recorded_images
from trainwright.workflows.reproduction_checks import Difference
from trainwright.workflows.reproduction_verdict import Course, beyond_chance, first_parting, word_for

TASKS = ("classification", "regression", "segmentation", "detection")
SMALL = {
    "data.fit": "pad",
    "data.image_size": 32,
    "augment.flip": 0.5,
    "augment.crop_scale": [0.6, 1.0],
    "augment.crop_padding": 0.0,
    "network.width": 8,
    "optimizer.lr": 0.01,
    "batch_size": 8,
    "epochs": 2,
    "precision": "fp32",
}
NETWORKS = {
    "classification": "small-resnet",
    "regression": "small-resnet",
    "segmentation": "small-unet",
    "detection": "small-detector",
}


@pytest.fixture
def again(tmp_path, monkeypatch):
    """(run, any argument) → what `tw.reproduce` says of it; the new run lies in `tmp_path / "again"`."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)

    def reproduce(run, **more):
        return tw.reproduce(run, **{"runs": tmp_path / "again", "mirrors": (), "workers": 1, "report": False, **more})

    return reproduce


@pytest.fixture
def copied(trained, tmp_path):
    """The finished run's folder somewhere else, to be written to."""
    return shutil.copytree(trained.folder, tmp_path / "elsewhere" / trained.id)


@pytest.fixture
def moved(digits, tmp_path):
    """The data somewhere else, to be written to."""
    return shutil.copytree(digits, tmp_path / "moved")


def altered(folder, name, change):
    """Change a JSON file of a run folder in place."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def causes(found):
    return [one["what"] for one in found["differences"]]


def squares(folder, task):
    """Forty noisy images with one square each, red or blue; (path, target)."""
    stream = np.random.default_rng(0)
    lines = ["image,side"]
    for number in range(40):
        pixels_HWC = stream.integers(90, 130, (32, 32, 3)).astype(np.uint8)
        side, blue = int(stream.integers(8, 20)), number % 2
        left, top = (int(stream.integers(0, 32 - side)) for _ in range(2))
        pixels_HWC[top : top + side, left : left + side] = (40, 40, 220) if blue else (220, 40, 40)
        mask_HW = np.zeros((32, 32), np.uint8)
        mask_HW[top : top + side, left : left + side] = 1 + blue
        box = ((left + side / 2) / 32, (top + side / 2) / 32, side / 32, side / 32)
        place = folder / (("red", "blue")[blue] if task == "classification" else "images")
        for beside in (place, folder / "masks", folder / "labels"):
            beside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_HWC).save(place / f"{number:02d}.png")
        Image.fromarray(mask_HW).save(folder / "masks" / f"{number:02d}.png")
        (folder / "labels" / f"{number:02d}.txt").write_text(f"{blue} {' '.join(f'{of:.6f}' for of in box)}\n")
        lines.append(f"images/{number:02d}.png,{side}")
    (folder / "sides.csv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("ground\nred\nblue\n" if task == "segmentation" else "red\nblue\n")
    for name in {"segmentation": ["labels"], "detection": ["masks"]}.get(task, ["labels", "masks"]):
        shutil.rmtree(folder / name)
    if task != "regression":
        (folder / "sides.csv").unlink()
    return (folder / "sides.csv", "side") if task == "regression" else (folder, None)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_any_task_comes_out_identical(again, tmp_path, task):
    data, target = squares(tmp_path / "squares", task)
    changes = {**SMALL, "network.name": NETWORKS[task]}
    run = tw.train(data, target=target, changes=changes, runs=tmp_path / "runs", mirrors=(), workers=1, report=False)

    found = again(run)

    assert (found["verdict"], found["first_parting"], found["differences"]) == ("identical", None, [])
    assert found["weights"]["now"] == found["weights"]["then"] == run.result["weights_sha256"]
    assert found["compared"]["epochs"] == 2
    assert found["comparison"]["value"] == 0


def test_the_new_run_says_what_it_repeats_and_keeps_the_verdict(again, trained):
    found = again(trained)

    new = RunFolder.open(found["folder"])
    assert new.manifest["reproduces"] == trained.id
    assert new.read_json("reproduction.json") == found
    assert new.status()["state"] == "finished"
    assert found["said"] == "the same weights, all 12 step losses and the scores of 2 epochs, bit for bit."


def test_a_run_folder_and_its_data_that_were_both_moved_are_enough(again, copied, moved):
    altered(copied, "manifest.json", lambda content: content["dataset"]["source"].update(path="/nowhere/digits"))

    found = again(copied, data=moved)

    assert (found["verdict"], found["differences"]) == ("identical", [])


def test_data_that_is_gone_is_asked_for(again, copied):
    altered(copied, "manifest.json", lambda content: content["dataset"]["source"].update(path="/nowhere/digits"))

    with pytest.raises(DataError, match=r"/nowhere/digits: the run's data is not there\. Say where it is now: --data"):
        again(copied)


def test_a_file_of_data_is_found_in_the_folder_that_is_given(again, tmp_path):
    data, target = squares(tmp_path / "squares", "regression")
    changes = {**SMALL, "network.name": "small-resnet", "epochs": 1}
    run = tw.train(data, target=target, changes=changes, runs=tmp_path / "runs", mirrors=(), report=False)
    (tmp_path / "squares").rename(tmp_path / "squares-moved")

    assert again(run, data=tmp_path / "squares-moved")["verdict"] == "identical"


def repainted(folder, name):
    Image.new("L", (16, 16), 77).save(folder / name)


def in_part(run, part):
    """The first image of a run's part."""
    return next(path for path, one in recorded_images(RunFolder.open(run.folder)).items() if one.part == part)


def test_a_changed_image_is_named_and_makes_it_another_training(again, trained, moved):
    name = in_part(trained, "train")
    repainted(moved, name)

    found = again(trained, data=moved)

    data = found["differences"][0]
    assert (found["verdict"], causes(found), data["another"]) == ("differs", ["data"], True)
    assert data["said"].startswith("the data has changed since: 1 image has other pixels: " + name + " (train)")
    assert data["details"]["pixels"] == {"count": 1, "paths": [name]}
    assert found["said"].startswith("this is another training than the recorded one, because of: data.")


def test_a_changed_image_of_the_test_part_is_named_and_changes_nothing(again, trained, moved):
    name = in_part(trained, "test")
    with Image.open(moved / name) as image:
        pixels_HW = np.array(image)
    pixels_HW[0, 0] ^= 1
    train = recorded_images(trained._folder)
    Image.fromarray(pixels_HW).save(moved / name)

    found = again(trained, data=moved)

    now = recorded_images(RunFolder.open(found["folder"]))
    same_parts = all(one.part == now[path].part for path, one in train.items())
    assert f"{name} (test)" in found["differences"][0]["said"]
    assert (found["verdict"] == "identical") == same_parts


def test_every_way_in_which_images_change_is_named(again, trained, moved):
    (moved / "0").joinpath("new.png").write_bytes(
        (moved / "0" / min(path.name for path in (moved / "0").iterdir())).read_bytes()
    )
    paths = sorted(path.relative_to(moved).as_posix() for path in moved.rglob("*.png"))
    of_two = [path for path in paths if path.startswith("2/")]
    (moved / of_two[0]).unlink()
    (moved / of_two[1]).rename(moved / "2" / "renamed.png")

    found = again(trained, data=moved)

    details = found["differences"][0]["details"]
    assert details["gone"]["paths"] == [of_two[0]]
    assert details["added"]["paths"] == ["0/new.png"]
    assert details["renamed"]["paths"] == [f"{of_two[1]} → 2/renamed.png"]


def test_scores_on_changed_data_are_compared_on_the_images_that_stayed_the_same(again, trained, moved):
    repainted(moved, in_part(trained, "val"))

    found = again(trained, data=moved)

    before, after = (recorded_images(RunFolder.open(folder)) for folder in (trained.folder, found["folder"]))
    in_val = [{path for path, one in of.items() if one.part == "val"} for of in (before, after)]
    same = [path for path in in_val[0] & in_val[1] if before[path].pixels == after[path].pixels]
    assert found["comparison"]["images"] == len(same) < len(in_val[0])


def test_a_run_without_a_list_of_images_names_what_the_cache_of_fingerprints_knows(again, train, moved):
    run = train(data=moved)
    tw.open_dataset(moved)  # a file is remembered once it is some hundredths of a second old
    (run.folder / IMAGES).unlink()
    name = sorted(path.relative_to(moved).as_posix() for path in moved.rglob("*.png"))[7]
    repainted(moved, name)

    said = again(run)["differences"][0]["said"]

    assert (
        said == f"the data has changed since: 1 image has other pixels: {name} (known from the cache of fingerprints)"
    )


def test_a_run_without_a_list_of_images_whose_data_was_moved_too_tells_what_it_can(again, trained, copied, moved):
    (copied / IMAGES).unlink()
    name = in_part(trained, "val")
    (moved / name).unlink()

    said = again(copied, data=moved)["differences"][0]["said"]

    assert "which images is not known, as this run keeps no list of them" in said
    assert f"{name[0]} (all): 50 then, 49 now; gone from the validation part: {name}" in said


def test_a_run_of_an_older_version_comes_out_identical(again, copied):
    (copied / IMAGES).unlink()
    altered(copied, "manifest.json", lambda content: (content.pop("start"), content["machine"].pop("instructions")))

    found = again(copied)

    assert (found["verdict"], found["differences"]) == ("identical", [])


def test_another_number_of_threads_is_named(again, trained):
    found = again(trained, threads=2)

    assert causes(found) == ["threads"]
    assert found["differences"][0]["said"] == "threads: 1 then, 2 now"
    assert found["verdict"] in ("identical", "within-noise")


def test_the_recorded_number_of_threads_is_taken(again, train):
    run = train({"epochs": 1}, threads=2)

    found = again(run)

    assert (found["verdict"], causes(found)) == ("identical", [])
    assert RunFolder.open(found["folder"]).manifest["machine"]["torch_threads"] == 2
    assert torch.get_num_threads() == 1


def test_other_versions_and_another_machine_are_named_the_likeliest_first(again, copied):
    def change(content):
        content["packages"] |= {"torch": "2.0.0", "python": "3.9.1", "mlflow": "0.1"}
        content["machine"] |= {"processor": "Abacus", "device": "cuda:1", "gpu": "Some GPU"}
        content["code"]["sources_sha256"] = "0" * 64

    altered(copied, "manifest.json", change)

    found = again(copied)

    assert causes(found) == ["code", "device", "processor", "torch", "python"]
    assert f"torch: 2.0.0 then, {manifest.packages()['torch']} now" in [one["said"] for one in found["differences"]]
    assert found["verdict"] == "identical"
    assert found["said"].endswith("What differs (code, device, processor, torch, python) changed nothing.")


def test_another_seed_in_the_copy_of_the_recipe_differs_and_is_named(again, copied):
    recipe = copied / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("\nseed: 0", "\nseed: 7"))

    found = again(copied)

    assert (found["verdict"], causes(found)) == ("differs", ["seed"])
    assert found["differences"][0]["said"] == "recipe.yaml says seed 7, the run was trained with 0"
    assert (found["first_parting"]["epoch"], found["first_parting"]["step"]) == (1, 1)


class Mine(nn.Module):
    """A network of one's own, whose first weights hang on `start` alone."""

    def __init__(self, start=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(start)
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
            )
            self.head = nn.Linear(32, 3)

    def forward(self, images_NCHW):
        return self.head(self.features(images_NCHW))


def test_a_network_of_ones_own_is_asked_for_and_comes_out_identical(again, train):
    run = train(model=Mine())

    with pytest.raises(UsageError, match=r"a network of your own.*tw\.reproduce\(run, model=model\)"):
        again(run)
    assert again(run, model=Mine())["verdict"] == "identical"


def test_another_start_of_a_network_of_ones_own_is_named(again, train):
    run = train(model=Mine())

    found = again(run, model=Mine(start=1))

    assert (found["verdict"], causes(found)) == ("differs", ["starting weights"])


def test_a_weight_file_that_was_moved_is_asked_for(again, train, trained, tmp_path):
    file = shutil.copy(trained.folder / "checkpoints" / "model.safetensors", tmp_path / "start.safetensors")
    run = train({"network.weights": str(file), "epochs": 1})
    (tmp_path / "start.safetensors").rename(tmp_path / "moved.safetensors")

    with pytest.raises(WeightsError, match="--weights FILE"):
        again(run)
    found = again(run, weights=tmp_path / "moved.safetensors")
    assert (found["verdict"], found["differences"]) == ("identical", [])


def test_data_from_memory_is_asked_for_and_comes_out_identical(again, recipe, tmp_path):
    images_NHWC = np.random.Generator(np.random.Philox(0)).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    noise = tw.Dataset.from_arrays(images_NHWC, np.arange(40) % 2)
    run = tw.train(noise, recipe.changed({"epochs": 1}), runs=tmp_path / "runs", mirrors=(), report=False)

    with pytest.raises(DataError, match=r"given by Python code.*tw\.reproduce\(run, data=…\)"):
        again(run)
    assert again(run, data=noise)["verdict"] == "identical"


def test_the_first_epochs_alone_are_trained_on_the_same_schedule_and_the_rest_later(again, trained):
    found = again(trained, epochs_only=1)
    rest = again(found["folder"])

    assert (found["verdict"], found["compared"]) == ("identical", {"steps": 6, "epochs": 1})
    assert found["weights"]["now"] is None
    assert found["said"].endswith("bit for bit; what comes after was not trained again.")
    assert (rest["run"], rest["verdict"], rest["compared"]) == (found["run"], "identical", {"steps": 12, "epochs": 2})


def test_a_reproduction_that_was_stopped_goes_on_when_its_own_run_is_given(again, trained, polls):
    stopped = again(trained, stop_asked=polls(3))

    found = again(stopped["folder"])

    assert stopped["verdict"] is None
    assert (found["run"], found["reproduces"], found["verdict"]) == (stopped["run"], trained.id, "identical")


def test_a_run_that_trained_on_all_images_is_compared_on_those_it_learned_from(again, train):
    run = train({"data.train_on": "train+val", "epochs": 1})

    found = again(run, threads=2)

    assert found["comparison"]["part"] == "train"
    assert found["score"]["val"] == {"then": None, "now": None}
    assert found["verdict"] in ("identical", "within-noise")


def test_an_interrupted_run_is_refused(again, train, polls):
    run = train(stop_asked=polls(1))

    with pytest.raises(RunError, match=rf"was interrupted, so there is no end to compare.*trainwright resume {run.id}"):
        again(run)


def test_a_run_of_a_study_that_has_not_ended_is_refused_by_the_studys_name(again, train, polls, tmp_path):
    run = train(stop_asked=polls(1), run_id="mine-001")
    (tmp_path / "studies" / "mine").mkdir(parents=True)
    (tmp_path / "studies" / "mine" / "study.json").write_text('{"study": "mine", "created": 0}')

    with pytest.raises(RunError, match="a run of the study mine: go on with 'trainwright resume mine'"):
        again(run)


def test_the_noise_floor_is_the_one_that_the_runs_study_has_measured(again, train, tmp_path):
    run = train({"epochs": 1}, run_id="mine-001")
    (tmp_path / "studies" / "mine").mkdir(parents=True)
    (tmp_path / "studies" / "mine" / "study.json").write_text('{"study": "mine", "created": 0}')
    (tmp_path / "studies" / "mine" / "result.json").write_text('{"noise_floor": 0.02, "best": null}')

    comparison = again(run)["comparison"]

    assert (comparison["noise"], comparison["noise_from"]) == (0.02, "the study's seeds")


def test_the_list_of_images_can_be_read_without_trainwright(trained):
    head, *rows = gzip.decompress((trained.folder / IMAGES).read_bytes()).decode().splitlines()

    assert json.loads(head)["schema"] == "trainwright.images/1"
    assert len(rows) == 150
    parts = [json.loads(row)[1] for row in rows]
    assert {part: parts.count(part) for part in ("train", "val", "test")} == {
        part: trained._folder.manifest["split"][part] for part in ("train", "val", "test")
    }


# The verdict itself


def course(losses, scores):
    steps = {"loss": losses, "lr": [0.1] * len(losses), "momentum": [0.0] * len(losses)}
    per = len(losses) // len(scores)
    epochs = [
        {
            "step": (number + 1) * per - 1,
            "lr": 0.1,
            "train_running": {"loss": 1.0},
            "train": {"loss": 1.0},
            "val": {"loss": 1.0, "score": score},
        }
        for number, score in enumerate(scores)
    ]
    return Course(steps=steps, epochs=epochs)


THEN = course([4.0, 3.0, 2.0, 1.0], [0.5, 0.6])


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(course([4.0, 3.0, 2.0, 1.0], [0.5, 0.6]), None, id="nowhere"),
        pytest.param(course([4.0, 3.0, 2.5, 1.0], [0.5, 0.7]), (2, 1, "loss", 2.0, 2.5), id="step"),
        pytest.param(
            course([4.0, 3.0, 2.5, 1.0], [0.4, 0.6]), (1, None, "val.score", 0.5, 0.4), id="evaluation-before"
        ),
        pytest.param(course([4.0, 3.5, 2.0, 1.0], [0.4, 0.6]), (1, 2, "loss", 3.0, 3.5), id="step-before"),
        pytest.param(course([4.0, None, 2.0, 1.0], [0.5, 0.6]), (1, 2, "loss", 3.0, None), id="not-finite"),
        pytest.param(course([4.0, 3.0], [0.5]), (2, 1, "end", 4, 2), id="ended-early"),
    ],
)
def test_the_first_parting_is_the_earliest_record_that_differs(now, expected):
    found = first_parting(THEN, now)

    assert (found and tuple(found[key] for key in ("epoch", "step", "what", "then", "now"))) == expected


def difference(*, another):
    return Difference(what="it", then=1, now=2, another=another, said="it differs")


GAIN = {"value": -0.1, "low": -0.2, "high": -0.05, "p": 0.001}
CHANCE = {"value": -0.1, "low": -0.2, "high": 0.05, "p": 0.3}


@pytest.mark.parametrize(
    ("same_bits", "another", "found", "word"),
    [
        (True, True, GAIN, "identical"),
        (False, False, CHANCE, "within-noise"),
        (False, False, GAIN, "differs"),
        (False, True, CHANCE, "differs"),
        (False, False, None, "differs"),
    ],
)
def test_the_word_follows_from_bits_causes_and_scores(same_bits, another, found, word):
    assert word_for(same_bits=same_bits, differences=[difference(another=another)], found=found) == word


def test_a_score_that_too_few_images_decide_is_not_beyond_chance():
    assert not beyond_chance({"value": 0.1, "low": None, "high": None, "p": 1.0})


def test_differences_are_plain_json():
    assert json.loads(json.dumps(to_json(vars(difference(another=True)))))["what"] == "it"


@pytest.mark.slow
def test_a_run_on_photos_comes_out_identical_and_a_changed_one_is_named(again, real_data, tmp_path):
    data = shutil.copytree(real_data("cats-dogs"), tmp_path / "photos")
    changes = {**SMALL, "network.name": "small-resnet", "batch_size": 64, "epochs": 1}
    run = tw.train(data, changes=changes, runs=tmp_path / "runs", mirrors=(), report=False)
    same = again(run)
    name = in_part(run, "train")
    repainted(data, name)

    other = again(run)

    assert same["verdict"] == "identical"
    assert other["differences"][0]["details"]["pixels"]["paths"] == [name]
