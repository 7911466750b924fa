"""Boxes written as Pascal VOC, COCO and YOLO are one dataset: the same fingerprint of targets, split and first batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data.augment import stored_size
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.loader import TrainBatches
from trainwright.recipe import AugmentSpec, DataSpec

NAMES = ("zebra", "ape", "emu")  # not in alphabetical order: each format has its own way to count them
IMAGES = 12
AUGMENT = AugmentSpec(flip=0.5, crop_scale=(0.5, 1.0))
SIZE = (48, 64)


def boxes_of(number: int) -> tuple[int, int, list[tuple[str, int, int, int, int]]]:
    """(width, height, objects) of image `number`; sides are odd, so that YOLO's fractions are no round numbers."""
    draws = np.random.default_rng(number)
    width, height = (int(side) for side in draws.integers(61, 131, 2) | 1)
    objects = []
    for _ in range(number % 4):
        left, top = int(draws.integers(0, width - 20)), int(draws.integers(0, height - 20))
        right, bottom = left + int(draws.integers(5, 20)), top + int(draws.integers(5, 20))
        objects.append((NAMES[int(draws.integers(3))], left, top, right, bottom))
    return width, height, objects


def images(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(IMAGES):
        width, height, _ = boxes_of(number)
        pixels_HWC = np.random.default_rng(100 + number).integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels_HWC).save(folder / "images" / f"{number:02d}.png")
    return folder


def voc(folder: Path) -> Path:
    (images(folder) / "annotations").mkdir()
    for number in range(IMAGES):
        width, height, objects = boxes_of(number)
        text = f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        for name, left, top, right, bottom in objects:
            text += f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
            text += f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        (folder / "annotations" / f"{number:02d}.xml").write_text(f"{text}</annotation>")
    return folder


def coco(folder: Path) -> Path:
    (images(folder) / "annotations").mkdir()
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 10 * index, "name": name} for index, name in enumerate(NAMES, 1)]
    for number in reversed(range(IMAGES)):
        width, height, objects = boxes_of(number)
        content["images"].append({"id": number, "file_name": f"{number:02d}.png", "width": width, "height": height})
        for name, left, top, right, bottom in reversed(objects):
            place = {"id": len(content["annotations"]), "image_id": number, "category_id": 10 * (NAMES.index(name) + 1)}
            content["annotations"].append({**place, "bbox": [left, top, right - left, bottom - top], "iscrowd": 0})
    (folder / "annotations" / "instances.json").write_text(json.dumps(content))
    return folder


def yolo(folder: Path) -> Path:
    (images(folder) / "labels").mkdir()
    (folder / "classes.txt").write_text("\n".join(NAMES))
    for number in range(IMAGES):
        width, height, objects = boxes_of(number)
        lines = []
        for name, left, top, right, bottom in objects:
            middle = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            sides = ((right - left) / width, (bottom - top) / height)
            lines.append(f"{NAMES.index(name)} " + " ".join(f"{value:.6f}" for value in (*middle, *sides)))
        (folder / "labels" / f"{number:02d}.txt").write_text("\n".join(lines))
    return folder


def first_batch(data: Dataset, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = data.split(DataSpec()).train
    stored = stored_size(SIZE, AUGMENT)
    key = pixels_key((data.fingerprint.pixel_hashes[row] for row in rows), fit="pad")
    pixels = open_pixels(lambda row: data.read(row, stored, "pad"), rows=rows, size=stored, key=key, cache_dir=cache)
    targets = data.stored_targets(rows, stored, "pad", cache_dir=cache)
    batches = TrainBatches(pixels, targets, rows, batch_size=4, image_size=SIZE, augment=AUGMENT, seed=0, workers=0)
    batch = batches.batch(0)
    return batch.images_NCHW.numpy(), batch.target.numpy()


@pytest.fixture
def copies(tmp_path: Path) -> list[Dataset]:
    folders = [write(tmp_path / write.__name__) for write in (voc, coco, yolo)]
    return [open_dataset(folder, cache_dir=tmp_path / "memory") for folder in folders]


def test_copies_have_one_fingerprint_of_targets(copies: list[Dataset]) -> None:
    assert len({data.fingerprint.targets_digest for data in copies}) == 1
    assert {data.classes for data in copies} == {("ape", "emu", "zebra")}


def test_copies_are_split_alike(copies: list[Dataset]) -> None:
    assert len({data.split(DataSpec()).digest for data in copies}) == 1


def test_copies_begin_with_the_same_batch(copies: list[Dataset], tmp_path: Path) -> None:
    batches = [first_batch(data, tmp_path / "pixels") for data in copies]

    for images_NCHW, target_NM5 in batches[1:]:
        assert np.array_equal(images_NCHW, batches[0][0])
        assert np.array_equal(target_NM5, batches[0][1])
    assert (batches[0][1][:, :, 0] >= 0).any()  # there are boxes in it
