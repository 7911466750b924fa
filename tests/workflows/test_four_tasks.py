"""What classification can do, every task can: train, judge, stop and resume to the same bits, answer new images, compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.errors import RecipeError
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.compare import compare_runs

TASKS = ("classification", "regression", "segmentation", "detection")
IMAGES, SIDE = 40, 32
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}
RECIPE = {
    "data.fit": "pad",
    "data.image_size": SIDE,
    "augment.flip": 0.5,
    "augment.crop_scale": [0.6, 1.0],
    "augment.crop_padding": 0.0,
    "network.width": 8,
    "optimizer.lr": 0.01,
    "batch_size": 8,
    "epochs": 2,
    "ema_decay": 0.5,
    "precision": "fp32",
}
NETWORKS = {
    "classification": {"network.name": "small-resnet", "network.dropout": 0.2},
    "regression": {"network.name": "small-resnet", "network.dropout": 0.2},
    "segmentation": {"network.name": "small-unet"},
    "detection": {"network.name": "small-detector"},
}


def squares(rng: np.random.Generator) -> tuple[np.ndarray, str, tuple[int, int, int, int]]:
    """A grey noisy image with one coloured square: (uint8 pixels, its colour, its box)."""
    pixels_HWC = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    side = int(rng.integers(8, 20))
    left, top = (int(rng.integers(0, SIDE - side)) for _ in range(2))
    name = ("red", "blue")[int(rng.integers(2))]
    pixels_HWC[top : top + side, left : left + side] = COLOURS[name]
    return pixels_HWC, name, (left, top, left + side, top + side)


def write(folder: Path, task: str) -> tuple[Path, dict[str, Any]]:
    """A dataset of coloured squares for a task; (its path, what `train` needs beside it)."""
    rng = np.random.default_rng(0)
    images = folder / ("images" if task != "classification" else "")
    images.mkdir(parents=True, exist_ok=True)
    lines = ["image,area,side"]
    for number in range(IMAGES):
        pixels_HWC, name, (left, top, right, bottom) = squares(rng)
        file = f"{number:03d}"
        place = folder / name if task == "classification" else images
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels_HWC).save(place / f"{file}.png")
        lines.append(f"images/{file}.png,{(right - left) ** 2},{right - left}")
        if task == "segmentation":
            mask_HW = np.zeros((SIDE, SIDE), np.uint8)
            mask_HW[top:bottom, left:right] = 1 + (name == "blue")
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask_HW).save(folder / "masks" / f"{file}.png")
        if task == "detection":
            (folder / "labels").mkdir(exist_ok=True)
            middle = [
                (left + right) / 2 / SIDE,
                (top + bottom) / 2 / SIDE,
                (right - left) / SIDE,
                (bottom - top) / SIDE,
            ]
            text = f"{int(name == 'blue')} {' '.join(f'{value:.6f}' for value in middle)}\n"
            (folder / "labels" / f"{file}.txt").write_text(text)
    if task == "segmentation":
        (folder / "classes.txt").write_text("ground\nred\nblue\n")
    if task == "detection":
        (folder / "classes.txt").write_text("red\nblue\n")
    if task == "regression":
        (folder / "areas.csv").write_text("\n".join(lines))
        return folder / "areas.csv", {"target": "area,side"}
    return folder, {}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """By task: (path, keywords of `train`). Read them, never write to them."""
    folder = tmp_path_factory.mktemp("squares")
    return {task: write(folder / task, task) for task in TASKS}


@pytest.fixture(scope="module")
def start(datasets: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tw.Run]:
    """(task, changes, any option) → a run, without mirrors."""
    runs = tmp_path_factory.mktemp("runs")

    def begin(task: str, changes: dict[str, Any] | None = None, **more: Any) -> tw.Run:
        path, keywords = datasets[task]
        wanted = {**RECIPE, **NETWORKS[task], **(changes or {})}
        return tw.train(path, changes=wanted, runs=runs, mirrors=(), workers=1, **keywords, **more)

    return begin


@pytest.fixture(scope="module")
def trained(start: Callable[..., tw.Run]) -> Callable[[str], tw.Run]:
    """(task) → a finished run of it, seed 0; made once."""
    made: dict[str, tw.Run] = {}

    def run(task: str) -> tw.Run:
        if task not in made:
            made[task] = start(task)
        return made[task]

    return run


def test_beside_what_explains_a_number_or_a_map_stands_the_truth_or_the_score(trained, datasets, tmp_path):
    pytest.importorskip("captum")
    numbers, maps = trained("regression"), trained("segmentation")
    areas = dict(line.split(",", 1) for line in datasets["regression"][0].read_text().splitlines())

    (number, *_), (painted, *_) = (tw.explain(run, out=tmp_path / run.id)["images"] for run in (numbers, maps))

    area, side = map(float, areas[numbers.result["hardest"][0]["path"]].split(","))
    assert number["truth"] == {"area": area, "side": side}
    assert set(number["values"]) == {"area", "side"}
    assert painted["score"] == maps.result["hardest"][0]["score"]


@pytest.mark.parametrize("task", TASKS)
def test_the_task_follows_from_the_layout_and_every_part_of_a_result_is_there(trained, task):
    result = trained(task).result

    assert result["task"] == task
    assert set(result["score"]) == {"train", "val"}
    assert result["gap"]["low"] <= result["gap"]["value"] <= result["gap"]["high"]
    assert result["verdict"] in ("overfits", "generalizes", "underfits", "diverged", "cannot-tell")
    assert [value is not None for value in result["train_errors"].values()] == [True] * 5
    low, high = (result["intervals"]["score"][end] for end in ("low", "high"))
    assert low <= result["score"]["val"] <= high
    assert result["recipe"]["loss"]["name"]


@pytest.mark.parametrize("task", TASKS)
def test_the_record_holds_answers_for_each_image_and_pictures(trained, task):
    run = trained(task)

    with np.load(run.folder / "answers" / "val.npz", allow_pickle=False) as answers:
        assert len(answers["paths"]) == len(answers["tally"]) == len(answers["per_image"]) > 0
        assert (answers["per_image"] >= 0).all()
    pictures = {file.stem for file in (run.folder / "figures").glob("*.png")}
    assert {"learning-curves", "gap", "predictions-val"} <= pictures
    assert len(pictures) >= 4


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("task", TASKS)
def test_stopped_and_resumed_it_ends_in_the_same_weights_and_scores(start, trained, polls, task, count):
    run = start(task, stop_asked=polls(count))
    for _ in range(30):
        if run.finished:
            break
        run = tw.resume(run, mirrors=(), workers=2, stop_asked=polls(count))

    untouched = trained(task)
    for key in ("weights_sha256", "score", "gap", "train_errors", "findings", "metrics"):
        assert run.result[key] == untouched.result[key]


@pytest.mark.parametrize("task", TASKS)
def test_another_seed_gives_another_model_and_the_two_are_compared_image_by_image(start, trained, task):
    other = start(task, seed=1)

    found = compare_runs(RunFolder.open(trained(task).folder), RunFolder.open(other.folder))

    assert other.result["weights_sha256"] != trained(task).result["weights_sha256"]
    assert found["recipe"] == {"seed": [0, 1]}
    assert found["gain"]["low"] <= found["gain"]["value"] <= found["gain"]["high"]
    assert found["gain"]["value"] == pytest.approx(other.score["val"] - trained(task).score["val"])


@pytest.mark.parametrize("task", TASKS)
def test_new_images_are_answered_in_the_pixels_of_their_files(trained, tmp_path, task):
    large = Image.fromarray(squares(np.random.default_rng(5))[0]).resize((3 * SIDE, 2 * SIDE))
    large.save(tmp_path / "large.png")

    (said,) = tw.predict(trained(task), tmp_path / "large.png", pictures=tmp_path / "pictures")

    assert (tmp_path / "pictures" / "predictions-001.png").is_file()
    if task == "classification":
        assert said["label"] in COLOURS
    if task == "regression":
        assert set(said["values"]) == {"area", "side"}
    if task == "segmentation":
        assert said["mask"].shape == (2 * SIDE, 3 * SIDE)
        with Image.open(tmp_path / "pictures" / "masks" / "large.png") as mask:
            assert mask.size == large.size
    if task == "detection":
        for box in said["boxes"]:
            left, top, right, bottom = box["box"]
            assert 0 <= left <= right <= 3 * SIDE
            assert 0 <= top <= bottom <= 2 * SIDE
    json.dumps({key: value for key, value in said.items() if key != "mask"})


@pytest.mark.parametrize("task", TASKS)
def test_squares_are_learned(start, task):
    """A dozen epochs more than suffice for a coloured square on grey."""
    longer = {"epochs": 12, "augment.crop_scale": None, "ema_decay": None, "schedule.name": "cosine"}

    run = start(task, longer)

    assert run.score["val"] > {"classification": 0.9, "regression": 0.4, "segmentation": 0.6, "detection": 0.4}[task]


def test_a_network_of_another_form_is_refused_with_those_that_fit(start):
    with pytest.raises(RecipeError, match=r"network\.name.*small-unet"):
        start("segmentation", {"network.name": "small-resnet"})


def test_a_loss_of_another_task_is_refused_with_those_that_fit(start):
    with pytest.raises(RecipeError, match=r"loss\.name.*'dice' does not go with.*cross-entropy"):
        start("classification", {"loss.name": "dice"})


def test_a_reflected_border_is_refused_where_it_would_show_objects_without_boxes(start):
    with pytest.raises(RecipeError, match=r"augment\.crop_padding"):
        start("detection", {"augment.crop_scale": None, "augment.crop_padding": 0.1})


def test_answers_that_cannot_be_averaged_with_those_to_the_mirror_image_are_refused(start):
    with pytest.raises(RecipeError, match=r"test_time_flip: boxes cannot be averaged .* Set it to false"):
        start("detection", {"test_time_flip": True})


@pytest.mark.parametrize("task", TASKS)
def test_twins_stay_in_one_part(tmp_path, task):
    path, keywords = write(tmp_path / task, task)
    root = path if path.is_dir() else path.parent
    first = min(root.rglob("000.png"))
    for other in ("001", "002", "003"):
        min(file for file in root.rglob(f"{other}.png") if "masks" not in file.parts).write_bytes(first.read_bytes())

    data = tw.open_dataset(path, **keywords)
    split = data.split(tw.Recipe().data)

    parts = {
        name
        for name in ("train", "val", "test")
        for row in getattr(split, name)
        if data.table.paths[row].endswith(("000.png", "001.png", "002.png", "003.png"))
    }
    assert len(parts) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "network"),
    [
        ("classification", "resnet18"),
        ("regression", "resnet18"),
        ("segmentation", "unet"),
        ("segmentation", "fpn"),
        ("segmentation", "deeplabv3plus"),
        ("detection", "faster-rcnn"),
        ("detection", "retinanet"),
        ("detection", "fcos"),
    ],
)
def test_networks_of_other_libraries_go_the_whole_way_and_resume_to_the_same_bits(start, polls, task, network):
    """One epoch on images of 64 pixels; what it learns is not the question."""
    changes = {"network.name": network, "data.image_size": 64, "epochs": 1, "optimizer.lr": 1e-4}
    untouched = start(task, changes)

    run = start(task, changes, stop_asked=polls(1))
    stopped = not run.finished
    resumed = tw.resume(run, mirrors=(), workers=1)

    assert stopped
    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]
    assert resumed.result["score"] == untouched.result["score"]
    assert resumed.result["gap"]["low"] <= resumed.result["gap"]["high"]
