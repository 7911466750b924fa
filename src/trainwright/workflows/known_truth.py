"""What a run keeps of the truth of its images, and what its model says of one, in words that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.plugins import Task
from trainwright.tracking.run_folder import RunFolder


class KnownTruth:
    """The truth of the images that a run was judged by, by their files; nothing of others."""

    def __init__(self, folder: RunFolder, task: Task) -> None:
        source = folder.manifest["dataset"].get("source")
        self.root = None if source is None else data_folder(Path(source["path"]))
        self._known: dict[str, dict[str, Any]] = {}
        for part in ("train", "val"):
            file = folder.answers / f"{part}.npz"
            if self.root is not None and file.is_file():
                self._known |= _truths(file, task)

    def of(self, file: Path) -> Mapping[str, Any]:
        """`truth`: the class, or the numbers by name; or `score`, that of the image alone, where it is no class or number."""
        if self.root is None:
            return {}
        try:
            path = file.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return {}
        return self._known.get(path, {})


def data_folder(source: Path) -> Path:
    """What the paths of a dataset's images are relative to: it, or the folder of its table."""
    return source if source.is_dir() else source.parent


def answered(said: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of one image beside what explains it. said: as `Task.say` has it. known: as `KnownTruth.of` has it.

    `answer` and its `probability`, or `values`; where they are known `truth` (and its `probability_of_truth`), or `score`.
    """
    told: dict[str, Any] = {}
    if "label" in said:
        told = {"answer": said["label"], "probability": said["probability"]}
    elif "values" in said:
        told = {"values": dict(said["values"])}
    truth = known.get("truth")
    if truth is not None and told:
        told["truth"] = truth
        if "label" in said and truth in said["probabilities"]:
            told["probability_of_truth"] = said["probabilities"][truth]
    elif "score" in known:
        told["score"] = known["score"]
    return told


def answered_in_words(told: Mapping[str, Any]) -> str:
    """'truth iris 0.021, answer dandelion 0.934'; nothing where nothing is known."""
    parts = []
    if "truth" in told:
        parts.append(f"truth {_words(told['truth'])}{_probability(told.get('probability_of_truth'))}")
    if "answer" in told:
        parts.append(f"answer {told['answer']}{_probability(told['probability'])}")
    if "values" in told:
        parts.append(f"answer {_words(told['values'])}")
    if "score" in told:
        parts.append(f"score of the image {told['score']:.3f}")
    return ", ".join(parts)


def _words(truth: Any) -> str:
    if not isinstance(truth, Mapping):
        return str(truth)
    if len(truth) == 1:
        return f"{next(iter(truth.values())):.4g}"
    return " ".join(f"{name} {value:.4g}" for name, value in truth.items())


def _probability(value: float | None) -> str:
    return "" if value is None else f" {value:.3f}"


def _truths(file: Path, task: Task) -> dict[str, dict[str, Any]]:
    with np.load(file, allow_pickle=False) as saved:
        return dict(zip(saved["paths"].tolist(), _each(saved, task), strict=False))


def _each(saved: Mapping[str, np.ndarray], task: Task) -> Iterator[dict[str, Any]]:
    """Of each image; arrays of pixels, which are large, are left in the file."""
    names = task.info.names
    if task.target == "class" and "target" in saved and saved["target"].ndim == 1:
        yield from ({"truth": names[number]} for number in saved["target"].tolist())
    elif task.target == "numbers" and "target" in saved:
        yield from ({"truth": dict(zip(names, row, strict=True))} for row in saved["target"].tolist())
    elif "per_image" in saved:
        yield from ({"score": score} for score in saved["per_image"].tolist())
