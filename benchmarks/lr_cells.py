"""The cells of `lr_range.py`: data × network × optimizer, each with a short training of its own, the same every time it is run.

Data: digits from scikit-learn; cats-dogs, flowers12, camvid-small and bccd (red cells counted, camvid segmented, the others
classified) from folders of these names, at most 64 pixels wide. Networks: the package's small-resnet and small-unet, width 8; a
multilayer perceptron, a residual network of four stages as ResNet-18 has them, width 16, and a transformer of two blocks.

Unseen cells are those that nothing was ever fitted on, most of other networks: the package's small-resnet-9, width 8, plain
convolutions without any norm, and MobileNetV3 as timm has it, from random weights.
"""

from __future__ import annotations

import csv
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models.resnet import BasicBlock

from trainwright.data.dataset import Dataset
from trainwright.recipe import Recipe


@dataclass(frozen=True)
class Cell:
    """One training: `steps` steps of `batch` images with a cosine schedule and 5 % warm-up, whatever the lr.

    further: beyond the three classification sets and one cell of another task, by which the test is measured; told beside them.
    unseen: measured after the rule was last changed, by which nobody chose anything; told on their own too.
    """

    data: str
    network: str
    optimizer: str
    steps: int
    batch: int = 32
    further: bool = False
    unseen: bool = False

    @property
    def name(self) -> str:
        return f"{self.data}.{self.network}.{self.optimizer}"


CELLS = (
    Cell("digits", "mlp", "sgd", 1000),
    Cell("digits", "mlp", "adam", 1000),
    Cell("digits", "mlp", "adamw", 1000),
    Cell("digits", "mlp", "lion", 1000),
    Cell("cats-dogs", "small-resnet", "sgd", 1000),
    Cell("cats-dogs", "small-resnet", "adamw", 1000),
    Cell("cats-dogs", "mlp", "adam", 1000),
    Cell("cats-dogs", "transformer", "lion", 800),
    Cell("flowers12", "small-resnet", "adam", 800),
    Cell("flowers12", "transformer", "adamw", 800),
    Cell("flowers12", "mlp", "sgd", 800),
    Cell("flowers12", "resnet18-like", "sgd", 720),
    Cell("digits", "small-resnet", "lion", 800),
    Cell("digits", "transformer", "sgd", 800),
    Cell("digits", "resnet18-like", "adamw", 800),
    Cell("cats-dogs", "resnet18-like", "adam", 720),
    Cell("camvid", "small-unet", "adamw", 720, 8),
    Cell("red-cells", "small-resnet", "sgd", 720, 8, further=True),
    Cell("cats-dogs", "transformer", "sgd", 800),
    Cell("flowers12", "small-resnet", "lion", 720),
    Cell("red-cells", "small-resnet", "adam", 720, 8, further=True),
    Cell("digits", "transformer", "adam", 800),
    Cell("flowers12", "mlp", "lion", 800),
    Cell("camvid", "small-unet", "sgd", 720, 8, further=True),
    # The rest of three datasets, four networks and four optimizers, measured when the test was finished but for layer norms.
    Cell("digits", "transformer", "adamw", 800),
    Cell("digits", "transformer", "lion", 800),
    Cell("digits", "small-resnet", "sgd", 800),
    Cell("digits", "small-resnet", "adam", 800),
    Cell("digits", "small-resnet", "adamw", 800),
    Cell("digits", "resnet18-like", "sgd", 800),
    Cell("digits", "resnet18-like", "adam", 800),
    Cell("digits", "resnet18-like", "lion", 800),
    Cell("cats-dogs", "mlp", "sgd", 1000),
    Cell("cats-dogs", "mlp", "adamw", 1000),
    Cell("cats-dogs", "mlp", "lion", 1000),
    Cell("cats-dogs", "transformer", "adam", 800),
    Cell("cats-dogs", "transformer", "adamw", 800),
    Cell("cats-dogs", "small-resnet", "adam", 1000),
    Cell("cats-dogs", "small-resnet", "lion", 1000),
    Cell("cats-dogs", "resnet18-like", "sgd", 720),
    Cell("cats-dogs", "resnet18-like", "adamw", 720),
    Cell("cats-dogs", "resnet18-like", "lion", 720),
    Cell("flowers12", "mlp", "adam", 800),
    Cell("flowers12", "mlp", "adamw", 800),
    Cell("flowers12", "transformer", "sgd", 800),
    Cell("flowers12", "transformer", "adam", 800),
    Cell("flowers12", "transformer", "lion", 800),
    Cell("flowers12", "small-resnet", "sgd", 800),
    Cell("flowers12", "small-resnet", "adamw", 800),
    Cell("flowers12", "resnet18-like", "adam", 720),
    Cell("flowers12", "resnet18-like", "adamw", 720),
    Cell("flowers12", "resnet18-like", "lion", 720),
)
UNSEEN = tuple(
    Cell(data, network, optimizer, steps, 8 if data in ("camvid", "red-quarters") else 32, unseen=True)
    for data, network, optimizers, steps in (
        ("digits", "small-resnet-9", ("sgd", "adam", "adamw"), 800),
        ("digits", "plain", ("sgd", "adam", "adamw", "lion"), 800),
        ("flowers12", "small-resnet-9", ("sgd", "adamw", "lion"), 720),
        ("flowers12", "plain", ("sgd", "adamw"), 720),
        ("flowers12", "mobilenet", ("sgd", "adam"), 720),
        ("cats-dogs", "small-resnet-9", ("adam", "lion"), 720),
        ("cats-dogs", "plain", ("adam", "lion"), 720),
        ("cats-dogs", "mobilenet", ("adamw",), 720),
        ("camvid", "small-unet", ("adam",), 720),
        ("red-quarters", "small-resnet", ("adamw",), 720),
    )
    for optimizer in optimizers
)
CELLS = (*CELLS, *UNSEEN)
DRY = Cell("digits", "mlp", "adam", 40, 8)  # shows that everything runs, and nothing else


def recipe_of(cell: Cell, *, lr: float, seed: int) -> Recipe:
    """float32, no weight decay except AdamW's, flips where they do not lie; all else as the package has it."""
    changes: dict[str, Any] = {
        "data.image_size": list(SOURCES[cell.data].size),
        "optimizer.name": cell.optimizer,
        "optimizer.lr": lr,
        "optimizer.weight_decay": 0.05 if cell.optimizer == "adamw" else 0.0,
        "schedule.name": "cosine",
        "schedule.warmup": 0.05,
        "batch_size": cell.batch,
        "seed": seed,
        "precision": "fp32",
    }
    if cell.data in ("cats-dogs", "flowers12", "camvid"):
        changes["augment.flip"] = 0.5
    if cell.network not in NETWORKS:
        changes |= {"network.name": cell.network, "network.width": 8}
    if cell.data == "camvid":
        changes["loss.name"] = "dice+cross-entropy"
    return Recipe().changed(changes)


def network_of(cell: Cell, *, outputs: int, seed: int) -> nn.Module | None:
    """A network of this file, the same weights for the same seed; None for the package's own, which the recipe names."""
    if cell.network not in NETWORKS:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        return NETWORKS[cell.network](SOURCES[cell.data].size, outputs)


@dataclass(frozen=True)
class Source:
    """Where a cell's images are from. size: height, width. val: share of the images that are scored, not trained on."""

    make: Callable[[Path], tuple[np.ndarray, Any]]
    size: tuple[int, int]
    val: float
    outputs: int
    folder: str | None = None
    task: str = "classification"


@cache
def dataset_of(name: str, root: Path) -> Dataset:
    """The dataset in memory; root: where the folders are. The split is drawn here, not the folders' own."""
    source = SOURCES[name]
    images_NHWC, targets = source.make(root / (source.folder or ""))
    held_back = np.random.default_rng(1).random(len(images_NHWC)) < source.val
    classes = [str(k) for k in range(source.outputs)] if source.task == "segmentation" else None
    parts = np.where(held_back, "val", "train").tolist()
    return Dataset.from_arrays(images_NHWC, targets, task=source.task, parts=parts, classes=classes)


@contextmanager
def folders(given: Path | None, cells: Iterable[Cell]) -> Iterator[Path]:
    """The folder that the cells' datasets are in: the one given, or the archives of TRAINWRIGHT_DATA unpacked for the time."""
    if given is not None:
        yield given
        return
    needed = sorted({SOURCES[cell.data].folder for cell in cells} - {None})  # type: ignore[type-var]
    archives = os.environ.get("TRAINWRIGHT_DATA")
    if needed and not archives:
        raise SystemExit(f"lr_range.py: needs {', '.join(map(str, needed))}: give --data or set TRAINWRIGHT_DATA.")
    with tempfile.TemporaryDirectory() as place:
        for name in needed:
            with tarfile.open(Path(archives or "") / f"{name}.tar.gz") as tar:
                tar.extractall(place, filter="data")
        yield Path(place)


def _digits(_: Path) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    grey_NHW = (loaded.images * 255 / 16).round().astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return np.stack([grey_NHW] * 3, axis=-1), loaded.target.astype(str)


def _classes(size: tuple[int, int], limit: int | None = None) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    """Reads images, labelled with the name of their folder; `limit` of them, drawn."""

    def make(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        files = sorted(folder.rglob("*.jpg"))
        files = [files[row] for row in np.random.default_rng(0).permutation(len(files))[:limit]]
        return np.stack([_image(file, size) for file in files]), np.array([file.parent.name for file in files])

    return make


def _camvid(folder: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    files = [file for part in ("train", "val") for file in sorted((folder / part / "images").glob("*.jpg"))]
    return np.stack([_image(file, (48, 64)) for file in files]), [_mask(file, (48, 64)) for file in files]


def _red_cells(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, counts = [], []
    for table in sorted(folder.rglob("red-cell-counts.csv")):
        with table.open() as lines:
            for row in csv.DictReader(lines):
                images.append(_image(table.parent / row["image"], (48, 64)))
                counts.append(float(row["red_cells"]))
    return np.stack(images), np.array(counts)


def _red_quarters(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The four quarters of each photograph, one after the other, and how many annotated red cells have their centre in each."""
    images, counts = [], []
    for file in sorted(folder.rglob("annotations/*.xml")):
        boxes = [
            [float(found.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for found in ElementTree.parse(file).getroot().iter("object")
            if found.findtext("name") == "RBC"
        ]
        centres_M2 = np.array(boxes).reshape(-1, 2, 2).mean(axis=1)
        with Image.open(file.parent.parent / "images" / f"{file.stem}.jpg") as photograph:
            half = np.array(photograph.size) / 2
            for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
                place = (*(corner * half), *((corner + np.ones(2)) * half))
                quarter = photograph.convert("RGB").crop(tuple(round(side) for side in place))
                images.append(np.asarray(quarter.resize((64, 48), Image.Resampling.BICUBIC)))
                counts.append(float((np.floor(centres_M2 / half) == corner).all(axis=1).sum()))
    return np.stack(images), np.array(counts)


def _image(file: Path, size: tuple[int, int]) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))


def _mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    with Image.open(file.parent.parent / "masks" / f"{file.stem}.png") as mask:
        mask_HW = np.array(mask.resize(size[::-1], Image.Resampling.NEAREST))
    mask_HW[mask_HW == 11] = 255  # nothing that CamVid's eleven classes name
    return mask_HW


SOURCES = {
    "digits": Source(_digits, (16, 16), 0.35, 10),
    "cats-dogs": Source(_classes((32, 32), limit=4000), (32, 32), 0.4, 2, "cats-dogs"),
    "flowers12": Source(_classes((32, 32)), (32, 32), 0.4, 12, "flowers12"),
    "camvid": Source(_camvid, (48, 64), 0.35, 11, "camvid-small", "segmentation"),
    "red-cells": Source(_red_cells, (48, 64), 0.35, 1, "bccd", "regression"),
    "red-quarters": Source(_red_quarters, (48, 64), 0.35, 1, "bccd", "regression"),
}


class Perceptron(nn.Sequential):
    """Two hidden layers of 128."""

    def __init__(self, size: tuple[int, int], outputs: int, hidden: int = 128) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(3 * size[0] * size[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(images_NCHW.contiguous())  # type: ignore[no-untyped-call]
        return logits


class ResNet18Like(nn.Module):
    """Four stages of two basic blocks, a quarter of ResNet-18's channels and half its first stride."""

    def __init__(self, size: tuple[int, int], outputs: int, width: int = 16) -> None:
        super().__init__()
        stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(_stage(width, width), *(_stage(k * width, 2 * k * width) for k in (1, 2, 4)))
        self.head = nn.Linear(8 * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.stages(self.stem(images_NCHW)).mean(dim=(2, 3)))
        return logits


def _stage(channels: int, wider: int) -> nn.Sequential:
    """Two blocks, halved in size where there are more channels."""
    if channels == wider:
        return nn.Sequential(BasicBlock(wider, wider), BasicBlock(wider, wider))
    shortcut = nn.Sequential(nn.Conv2d(channels, wider, 1, stride=2, bias=False), nn.BatchNorm2d(wider))
    return nn.Sequential(BasicBlock(channels, wider, stride=2, downsample=shortcut), BasicBlock(wider, wider))


class Plain(nn.Sequential):
    """Four 3 × 3 convolutions with ReLU and two poolings, no norm, initialised as PyTorch does; a linear head on the mean."""

    def __init__(self, size: tuple[int, int], outputs: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, outputs),
        )


def mobilenet(size: tuple[int, int], outputs: int) -> nn.Module:
    """timm's mobilenetv3_small_050, random weights, without its dropout."""
    import timm

    network: nn.Module = timm.create_model("mobilenetv3_small_050", num_classes=outputs, drop_rate=0.0)
    return network


class Transformer(nn.Module):
    """Two pre-norm blocks on sixteen patches, mean over the patches, no dropout."""

    def __init__(self, size: tuple[int, int], outputs: int, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        patch = size[0] // 4
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        count = (size[0] // patch) * (size[1] // patch)
        self.position = nn.Parameter(torch.randn(1, count, width) * 0.02)
        block = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        tokens_NTD = self.patches(images_NCHW).flatten(2).transpose(1, 2) + self.position
        logits: torch.Tensor = self.head(self.norm(self.blocks(tokens_NTD)).mean(dim=1))
        return logits


NETWORKS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {
    "mlp": Perceptron,
    "mobilenet": mobilenet,
    "plain": Plain,
    "resnet18-like": ResNet18Like,
    "transformer": Transformer,
}
