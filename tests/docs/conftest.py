"""What the documentation's pages are tried with: small made datasets under the names that the pages use, and the site itself."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SIDE = 32
COLOURS = {"cat": (210, 60, 50), "dog": (60, 80, 210)}
VOC = """<annotation><size><width>{side}</width><height>{side}</height><depth>3</depth></size><object><name>{name}</name>
<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object></annotation>"""


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """A function from the name of a file in `tools/` to its module, imported as the programs there do."""
    sys.path.insert(0, str(ROOT / "tools"))
    return importlib.import_module


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], ModuleType]) -> Path:
    """The folder that a site was built in: `.site/` is what it was built from, `site/` the pages. Read it, never write to it."""
    place = tmp_path_factory.mktemp("docs")
    assert tool("site_of_docs").build(place) == 0
    return place


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every dataset and file that a page speaks of. Read it, never write to it."""
    folder = tmp_path_factory.mktemp("made")
    random = np.random.Generator(np.random.Philox(7))
    _classes(folder / "photos", random, images=48, suffix="jpg")
    _classes(folder / "cats-dogs" / "train", random, images=40)
    _classes(folder / "cats-dogs" / "test", random, images=20)
    for number in range(4):
        _save(folder / "flowers12" / "test" / "iris" / f"image_{number}.jpg", _square(random, "cat")[0])
        _save(folder / "new" / f"{number}.jpg", _square(random, "dog")[0])
    _save(folder / "photo.jpg", _square(random, "cat")[0])
    photos = sorted(path.relative_to(folder) for path in (folder / "photos").rglob("*.jpg"))
    _table(folder / "labels.csv", "image,species", [f"{path},{path.parent.name}" for path in photos])
    _table(folder / "cameras.csv", "image,camera", [f"{path.name},{'AB'[i % 2]}" for i, path in enumerate(photos)])
    _maps(folder / "camvid", random)
    for part, images in (("train", 32), ("val", 12)):
        _boxes(folder / "blood-cells" / part, random, images=images)
        _numbers(folder / "cells" / part / "counts.csv", random, ("red_cells",), images=images)
    _numbers(folder / "counts.csv", random, ("red_cells",))
    _numbers(folder / "plants.csv", random, ("height", "leaf_area"))
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of the made folder, to try one page in."""
    folder = tmp_path / "page"
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What the commands of a page find: `trainwright` and `python` of this environment, and a browser that shows nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"trainwright": "-m trainwright", "python": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "BROWSER": "true", "COLUMNS": "120", "PYTHONWARNINGS": "default"}


def _square(random: np.random.Generator, name: str) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """(a grey noisy image with a square in the colour of its class, the box of the square)."""
    pixels_HWC = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    side = int(random.integers(12, 22))
    left, top = (int(random.integers(1, SIDE - side)) for _ in range(2))
    pixels_HWC[top : top + side, left : left + side] = COLOURS[name] + random.integers(-40, 40, 3)
    return pixels_HWC, (left, top, left + side, top + side)


def _save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def _table(file: Path, head: str, rows: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([head, *rows]) + "\n")


def _classes(folder: Path, random: np.random.Generator, *, images: int, suffix: str = "png") -> None:
    for name in COLOURS:
        for number in range(images):
            _save(folder / name / f"{name}-{number:03d}.{suffix}", _square(random, name)[0])


def _numbers(file: Path, random: np.random.Generator, columns: tuple[str, ...], *, images: int = 48) -> None:
    """A table of the areas of squares, and their pictures beside it."""
    rows = []
    for number in range(images):
        pixels_HWC, (left, _, right, _) = _square(random, "cat")
        _save(file.parent / "images" / f"{file.stem}-{number:03d}.png", pixels_HWC)
        values = ",".join(str((right - left) ** (power + 1)) for power in range(len(columns)))
        rows.append(f"images/{file.stem}-{number:03d}.png,{values}")
    _table(file, f"image,{','.join(columns)}", rows)


def _maps(folder: Path, random: np.random.Generator) -> None:
    _table(folder / "classes.txt", "ground", ["cat", "dog"])
    for part, images in (("train", 24), ("val", 10)):
        for number in range(images):
            name = ("cat", "dog")[number % 2]
            pixels_HWC, (left, top, right, bottom) = _square(random, name)
            mask_HW = np.zeros((SIDE, SIDE), np.uint8)
            mask_HW[top:bottom, left:right] = 1 + number % 2
            _save(folder / part / "images" / f"{number:04d}.png", pixels_HWC)
            _save(folder / part / "masks" / f"{number:04d}.png", mask_HW)


def _boxes(folder: Path, random: np.random.Generator, *, images: int) -> None:
    """Pascal VOC, and a table of numbers of the same images."""
    rows = []
    for number in range(images):
        name = ("cat", "dog")[number % 2]
        pixels_HWC, (left, top, right, bottom) = _square(random, name)
        _save(folder / "images" / f"{number:04d}.jpg", pixels_HWC)
        text = VOC.format(side=SIDE, name=name, left=left + 1, top=top + 1, right=right, bottom=bottom)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{number:04d}.xml").write_text(text)
        rows.append(f"images/{number:04d}.jpg,{right - left + number % 7}")
    _table(folder / "counts.csv", "image,red_cells", rows)
