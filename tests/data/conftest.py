"""Images to test with: small, colourful, and written to disk with names of the test's choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def noise(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    """Random uint8 pixels [height, width, 3], different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes PNG files of given names, each with other pixels, and returns their folder.

    `twins` maps a name to the name whose pixels it shares.
    """

    def write(*names: str, twins: dict[str, str] | None = None, root: Path | None = None) -> Path:
        root = root or tmp_path / "dataset"
        twins = twins or {}
        seeds = {name: seed for seed, name in enumerate((*names, *twins))}
        for name in seeds:
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(seeds[twins.get(name, name)])).save(file, "PNG")
        return root

    return write


def class_folders(*parts: str, classes: tuple[str, ...] = ("cat", "dog"), images: int = 6) -> list[str]:
    """Names of PNG files in class folders, `images` a class in each part ("" for no part folders)."""
    prefixes = [f"{part}/" if part else "" for part in parts]
    return [f"{prefix}{name}/{index}.png" for prefix in prefixes for name in classes for index in range(images)]


@pytest.fixture
def names() -> Callable[..., list[str]]:
    return class_folders
