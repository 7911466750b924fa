"""What each image of a run's data was, kept in its folder: where the data has changed since, the images are named.

A line of JSON for each image, compressed: `zcat images.jsonl.gz` shows it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.data.fingerprint import from_facts
from trainwright.data.memory import Facts
from trainwright.data.problems import counted, few
from trainwright.data.split import Split
from trainwright.errors import RunError
from trainwright.files import write_atomically
from trainwright.tracking.run_folder import RunFolder

IMAGES = "images.jsonl.gz"
SCHEMA = "trainwright.images/1"
# Of the hashes that are kept: hexadecimal letters, bytes. The fingerprint says whether anything changed; these only name the
# images, and that a changed target has the same four bytes by chance has a probability of 2e-10.
PIXEL_LETTERS, TARGET_BYTES = 16, 4


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image as a run had it. part: train, val, test, train+val, or "" for none. pixels: "" where it was unusable."""

    part: str
    pixels: str
    target: str
    group: str


@dataclass(frozen=True, kw_only=True)
class ChangedImages:
    """Paths by what became of the images since a run. renamed: as 'old → new'. part: those that are in another part now.

    parts: of each path named here, the part that it was in, or is in where it is new.
    """

    pixels: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self) if one.name != "parts")

    def said(self) -> str:
        """In words, the first names of each kind with their parts; nothing where nothing changed."""
        kinds = (
            (self.pixels, "has other pixels", "have other pixels"),
            (self.target, "has another target", "have another target"),
            (self.group, "is of another group", "are of another group"),
            (self.gone, "is gone", "are gone"),
            (self.added, "was added", "were added"),
            (self.renamed, "has another name", "have another name"),
            (self.part, "is in another part", "are in another part"),
        )
        return "; ".join(
            f"{counted(len(paths), 'image')} {one if len(paths) == 1 else many}: {few(map(self._named, paths))}"
            for paths, one, many in kinds
            if paths
        )

    def _named(self, path: str) -> str:
        part = self.parts.get(path.partition(" → ")[0], "")
        return f"{path} ({part})" if part else path

    def as_json(self, limit: int = 100) -> dict[str, Any]:
        """Of each kind how many, and the first `limit` paths."""
        kinds = [one.name for one in fields(self) if one.name != "parts" and getattr(self, one.name)]
        return {kind: {"count": len(getattr(self, kind)), "paths": getattr(self, kind)[:limit]} for kind in kinds}


def record_images(folder: RunFolder, dataset: Dataset, split: Split) -> None:
    """Write what each image is, and which part it is in, into the run folder: some 15 bytes an image."""
    lines = [json.dumps({"schema": SCHEMA, "fingerprint": dataset.digest})]
    lines += [
        json.dumps([path, one.part, one.pixels, one.target, one.group], separators=(",", ":"))
        for path, one in images_of(dataset, split).items()
    ]
    write_atomically(folder.path / IMAGES, gzip.compress("\n".join(lines).encode(), mtime=0))


def recorded_images(folder: RunFolder) -> dict[str, ImageRecord] | None:
    """What `record_images` wrote, by path; None for a run that keeps none, as those of older versions. Raises RunError."""
    file = folder.path / IMAGES
    if not file.is_file():
        return None
    try:
        head, *lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        if json.loads(head)["schema"] != SCHEMA:
            return None
        rows = [json.loads(line) for line in lines]
        return {
            path: ImageRecord(part=part, pixels=pixels, target=target, group=group)
            for path, part, pixels, target, group in rows
        }
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise RunError(
            "damaged: it cannot be read.", where=str(file), cure="Restore it from a copy, or remove it."
        ) from error


def images_of(dataset: Dataset, split: Split) -> dict[str, ImageRecord]:
    """What each image of a dataset is, by path."""
    table, hashes = dataset.table, dataset.fingerprint.pixel_hashes
    parts = np.full(len(table), "", dtype="U9")
    for name in ("train", "val", "test"):
        rows = getattr(split, name)
        parts[rows] = np.where(parts[rows] == "train", "train+val", name)  # of a training on both
    groups = table.groups or ("",) * len(table)
    return {
        path: ImageRecord(
            part=str(parts[row]),
            pixels=hashes[row][:PIXEL_LETTERS],
            target=blake2b(table.targets.text(row).encode(), digest_size=TARGET_BYTES).hexdigest(),
            group=groups[row],
        )
        for row, path in enumerate(table.paths)
    }


def changed_images(then: Mapping[str, ImageRecord], now: Mapping[str, ImageRecord]) -> ChangedImages:
    """What became of each image; those that only moved to another part are named where nothing else of them changed."""
    both = [path for path in then if path in now]
    gone, added = ([path for path in one if path not in other] for one, other in ((then, now), (now, then)))
    by_content: dict[tuple[str, str], list[str]] = {}
    for path in added:
        by_content.setdefault((now[path].pixels, now[path].target), []).append(path)
    renamed = {}
    for path in gone:
        same = by_content.get((then[path].pixels, then[path].target))
        if same:
            renamed[path] = same.pop(0)
    of = {
        name: [path for path in both if getattr(then[path], name) != getattr(now[path], name)]
        for name in ("pixels", "target", "group", "part")
    }
    content = {*of["pixels"], *of["target"], *of["group"]}
    kept = set(renamed.values())
    return ChangedImages(
        pixels=tuple(of["pixels"]),
        target=tuple(of["target"]),
        group=tuple(of["group"]),
        gone=tuple(path for path in gone if path not in renamed),
        added=tuple(path for path in added if path not in kept),
        renamed=tuple(f"{old} → {new}" for old, new in renamed.items()),
        part=tuple(path for path in of["part"] if path not in content),
        parts={**{path: one.part for path, one in now.items()}, **{path: one.part for path, one in then.items()}},
    )


def changed_pixels(dataset: Dataset, remembered: Mapping[str, Facts], fingerprint: str) -> tuple[str, ...] | None:
    """The images whose pixels have changed since a dataset had this fingerprint, for a run that keeps no record of images.

    remembered: what was known of its files before they were read again (`data.memory.recall`). None where that does not
    give the fingerprint: then it tells of another time, or more than pixels changed.
    """
    paths = dataset.table.paths
    if any(path not in remembered for path in paths):
        return None
    before = from_facts(dataset.table, [remembered[path] for path in paths])
    if before.digest != fingerprint:
        return None
    now = dataset.fingerprint.pixel_hashes
    return tuple(path for path, old, new in zip(paths, before.pixel_hashes, now, strict=True) if old != new)
