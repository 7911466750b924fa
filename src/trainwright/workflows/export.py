"""A run's model handed over: files that run without this package, each held against the model itself before it is written."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

import trainwright
from trainwright.data.dataset import Dataset
from trainwright.deploy import certificate as parity
from trainwright.deploy import onnx, program, reader
from trainwright.deploy.folder import (
    CARD,
    CERTIFICATE,
    CERTIFICATE_TEXT,
    DESCRIBED,
    FILES,
    READER,
    made,
    put,
    refuse_foreign,
)
from trainwright.deploy.graph import ServedModel
from trainwright.deploy.model_card import model_card
from trainwright.errors import GoalNotMetError, UsageError, unknown_name
from trainwright.files import explain_full_disk, write_atomically
from trainwright.plugins import Task, networks
from trainwright.recipe import Recipe
from trainwright.records import Answers, to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.checkpoint import load_model as fill
from trainwright.training.model import ImageNetwork
from trainwright.training.names import CUSTOM
from trainwright.workflows.finalise import model_run, with_interval
from trainwright.workflows.manifest import machine, packages
from trainwright.workflows.model_answers import CPU, in_torch, own_answers
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.predict import load_model, task_of
from trainwright.workflows.prepare import stored_for
from trainwright.workflows.run import Run, data_of, recipe_of
from trainwright.workflows.training import repeatable

if TYPE_CHECKING:
    from torch import nn

    from trainwright.workflows.studies import Study

Format = Literal["onnx", "torch", "safetensors", "all"]
READ_FILES = 50  # whose reading is timed


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is handed over, and what it is held against."""

    folder: RunFolder
    recipe: Recipe
    task: Task
    network: ImageNetwork = field(repr=False)
    result: Mapping[str, Any] = field(repr=False)
    temperature: float
    described: Mapping[str, Any] = field(repr=False)  # `trainwright.export/1` without its files


def export(
    run: str | os.PathLike[str] | Run | Study,
    *,
    format: Format = "all",
    out: str | os.PathLike[str] | None = None,
    calibrated: bool = False,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Hand over the model of a run or of a study; the `trainwright.export/1` object with its `certificate`.

    run: id, unique beginning of one, folder, or `last`; of a study its name. format: onnx, torch (a torch.export program),
    safetensors (weights), or all. out: folder, in place of the run's `export`. calibrated: divide logits of classes by the
    temperature that the run's diagnosis found; probabilities are then others than those of `predict`. data, model: what only
    Python code could give. Each file is held against the model on every validation image, from the image file on. Raises
    GoalNotMetError, and writes nothing, where one does not answer as the model does; RunError for no such run or one without a
    model, DataError where the data changed, UsageError for what no graph can be made of, MissingPackageError without onnx.
    """
    options = options_from(options, more)
    if format not in (*FILES, "all"):
        raise unknown_name(format, (*FILES, "all"), where="format", what="format")
    formats = tuple(FILES) if format == "all" else (format,)
    if "onnx" in formats:
        onnx.check_installed()
    folder, _ = model_run(run, options)
    subject = _subject(folder, model, calibrated=calibrated)
    target = folder.path / "export" if out is None else Path(out).absolute()
    refuse_foreign(target)
    served = _served(subject) if {"onnx", "torch"} & set(formats) else None
    data = data_of(folder, data, options)
    with repeatable(CPU, options.threads), tempfile.TemporaryDirectory(prefix="trainwright-") as scratch:
        own, files, groups = own_answers(
            folder,
            subject.network,
            subject.task,
            data,
            temperature=subject.temperature,
            options=options,
            scratch=Path(scratch),
        )
        stage = Path(tempfile.mkdtemp(prefix=".export-", dir=made(target.parent)))
        try:
            stage.chmod(0o755)  # as any other folder: mkdtemp's is for its owner alone
            runs = {FILES[name]: _write(name, subject, served, stage, options) for name in formats}
            content = _certified(subject, runs, own, files, groups, stage, options)
            exported = _describe(subject, content, stage)
            put(stage, target)
        except OSError as error:
            raise explain_full_disk(error, stage) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return {**exported, "folder": str(target), "certificate": content}


def _subject(folder: RunFolder, custom: nn.Module | None, *, calibrated: bool) -> _Subject:
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    network = load_model(folder, recipe, task, custom=custom)
    result = Run(folder).result
    temperature = _temperature(result, task) if calibrated else 1.0
    network.eval()
    described: dict[str, Any] = {
        "schema": "trainwright.export/1",
        "run": folder.run_id,
        "task": task.name,
        "metric": task.metric,
        "names": list(task.info.names),
        "info": to_json(task.info),
        "network_of": _maker(recipe.network.name),
        "input": {
            "name": onnx.INPUT,
            "layout": "uint8 RGB [N, H, W, 3]",
            "size": list(recipe.data.size),
            "stored": list(stored_for(task, recipe)),
            "fit": recipe.data.fit,
        },
        "temperature": temperature,
        "weights_sha256": result["weights_sha256"],
        "recipe": recipe.model_dump(mode="json"),
        "packages": packages() | _versions(onnx.PACKAGES) | {"trainwright": trainwright.__version__},
    }
    return _Subject(
        folder=folder,
        recipe=recipe,
        task=task,
        network=network,
        result=result,
        temperature=temperature,
        described=described,
    )


def _maker(network: str) -> str:
    """Whose code makes a network of that name: trainwright, timm, or custom, which is that of the run's owner."""
    if network == CUSTOM:
        return CUSTOM
    return "trainwright" if network in networks.names() else "timm"


def _temperature(result: Mapping[str, Any], task: Task) -> float:
    """What the diagnosis found logits are best divided by. Raises UsageError where it found nothing."""
    of_rule = {finding["rule"]: finding["figures"] for finding in result["findings"]}
    found = of_rule.get("over-confident", {}).get("temperature")
    if found is None or task.name != "classification":
        raise UsageError(
            "the run's diagnosis found no temperature to divide logits by.",
            where="calibrated",
            cure="It needs a classification with at least 40 validation images: 'trainwright diagnose'. Or leave it out.",
        )
    return float(found)


def _served(subject: _Subject) -> ServedModel:
    return ServedModel(
        subject.network, subject.task, size=subject.recipe.data.size, temperature=subject.temperature
    ).eval()


def _write(name: str, subject: _Subject, served: ServedModel | None, stage: Path, options: RunOptions) -> parity.Runs:
    """Write the file of one format; what runs it, read from the file again."""
    options.reporter.note(f"writing {FILES[name]}")
    path, size, metadata = stage / FILES[name], subject.recipe.data.size, _metadata(subject)
    if name == "safetensors":
        return _weights(subject, path, metadata)
    assert served is not None
    if name == "onnx":
        onnx.write_onnx(served, path, size=size, metadata=metadata)
        return onnx.OnnxModel(path)
    program.write_program(served, path, size=size, metadata=metadata)
    return program.ProgramModel(path)


def _metadata(subject: _Subject) -> dict[str, Any]:
    """What a file says of itself: everything in one, and what other programs look for by itself."""
    said = subject.described
    return {
        "trainwright": dict(said),
        "task": said["task"],
        "classes": said["names"],
        "image_size": said["input"]["size"],
        "recipe": said["recipe"],
        "run": said["run"],
    }


def _weights(subject: _Subject, path: Path, metadata: Mapping[str, Any]) -> parity.Runs:
    """The weights with their normalization, and the network filled with them from the file again."""
    from safetensors.torch import load_file, save

    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in subject.network.state_dict().items()}
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    write_atomically(path, save(tensors, metadata={"format": "pt", **text}))
    network = copy.deepcopy(subject.network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()  # so that what the file does not bring back is seen
    fill(network, load_file(path))
    return in_torch(network, subject.task, temperature=subject.temperature)


def from_files(runs: parity.Runs, spec: Mapping[str, Any]) -> parity.Answering:
    """Answers to raw image files, read by the reader that goes along with what is exported. spec: `input` of export.json."""

    def answering(files: Sequence[Path]) -> Mapping[str, np.ndarray]:
        images = []
        for file in files:
            try:
                images.append(reader.read_image(file, spec))
            except (ValueError, OSError) as error:
                raise GoalNotMetError(
                    f"the exported reader cannot read it ({error}).",
                    where=str(file),
                    cure="Save it as 8-bit RGB, and train on that.",
                ) from error
        return runs(np.stack(images))

    return answering


def _certified(
    subject: _Subject,
    runs: Mapping[str, parity.Runs],
    own: Answers,
    files: Sequence[Path],
    groups: np.ndarray,
    stage: Path,
    options: RunOptions,
) -> dict[str, Any]:
    """The `trainwright.certificate/1` object. Raises GoalNotMetError where any file does not answer as the model does."""
    task, spec, size = subject.task, subject.described["input"], subject.recipe.data.size
    held: dict[str, Any] = {}
    for name, run in runs.items():
        found = parity.check(from_files(run, spec), files, own, task, progress=options.reporter.progress)
        parity.refuse_breaches(found, what=name)
        same = found.agreement
        held[name] = {
            "bytes": (stage / name).stat().st_size,
            "sha256": _sha256(stage / name),
            "agreement": same.share,
            "agreement_of": same.of,
            "largest_difference": same.largest,
            "largest_difference_of": same.largest_of,
            "score": with_interval(task, found.exported, groups),
            "seconds_per_image": parity.latency(run, size=size),
        }
    result, manifest = subject.result, subject.folder.manifest
    trained_on = any(finding["rule"] == "nothing-unseen" for finding in result["findings"])
    interval = result["intervals"]["score"] or {}
    content: dict[str, Any] = to_json(
        {
            "schema": "trainwright.certificate/1",
            "run": subject.folder.run_id,
            "task": task.name,
            "metric": task.metric,
            "images": len(files),
            "note": "These images were trained on: the scores say nothing of unseen ones." if trained_on else "",
            "limits": {"agreement": parity.LEAST_AGREEMENT, "score": parity.SCORE_TOLERANCE},
            "score": {
                "model": with_interval(task, task.scores(own), groups),
                "trained": {
                    "score": result["score"]["val"],
                    "low": interval.get("low"),
                    "high": interval.get("high"),
                    "precision": manifest["precision"]["name"],
                },
            },
            "files": held,
            "model_seconds_per_image": parity.latency(
                in_torch(subject.network, subject.task, temperature=subject.temperature), size=size
            ),
            "reading_seconds_per_image": _reading_seconds(files, spec),
            "machine": machine(CPU),
            "packages": subject.described["packages"],
        }
    )
    return content


def _reading_seconds(files: Sequence[Path], spec: Mapping[str, Any]) -> float:
    """Median time of reading one file to pixels."""
    seconds = []
    for file in files[:READ_FILES]:
        begun = time.perf_counter()
        reader.read_image(file, spec)
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))


def _describe(subject: _Subject, certificate: Mapping[str, Any], stage: Path) -> dict[str, Any]:
    """Write what goes along with the model; the `trainwright.export/1` object."""
    shutil.copyfile(reader.__file__, stage / READER)
    (stage / CERTIFICATE_TEXT).write_text(parity.as_text(certificate), encoding="utf-8")
    write_atomically(stage / CERTIFICATE, _json(certificate))
    models = {name: {"bytes": made["bytes"], "sha256": made["sha256"]} for name, made in certificate["files"].items()}
    exported: dict[str, Any] = {
        **subject.described,
        "outputs": _served_outputs(subject, models),
        "files": models,
        "created": time.time(),
    }
    openings = [opening for opening in (subject.folder.read_json("test.json"),) if opening is not None]
    card = model_card(
        result=subject.result,
        manifest=subject.folder.manifest,
        exported=exported,
        certificate=certificate,
        openings=openings,
        recipe_yaml=subject.folder.recipe_yaml,
    )
    (stage / CARD).write_text(card, encoding="utf-8")
    beside = {name: {"sha256": _sha256(stage / name)} for name in (READER, CARD, CERTIFICATE, CERTIFICATE_TEXT)}
    exported["files"] = {**models, **beside}
    write_atomically(stage / DESCRIBED, _json(exported))
    return exported


def _served_outputs(subject: _Subject, models: Mapping[str, Any]) -> list[str]:
    """The names of the answers of a graph, in order; of weights alone there are none."""
    if not {onnx.FILE, program.FILE} & set(models):
        return []
    return list(_served(subject).names(subject.recipe.data.size))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n").encode()


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
