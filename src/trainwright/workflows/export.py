"""A run's model handed over: files that run without this package, each held against the model itself before it is written."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

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
    put,
    refuse_foreign,
    staged,
)
from trainwright.deploy.graph import ServedModel
from trainwright.deploy.model_card import model_card
from trainwright.errors import unknown_name
from trainwright.files import explain_full_disk, write_atomically
from trainwright.records import to_json
from trainwright.training.checkpoint import load_model as fill
from trainwright.training.repeatable import repeatable
from trainwright.workflows.certified import Held, certified, sha256
from trainwright.workflows.chosen_epoch import groups_of
from trainwright.workflows.export_subject import Subject, subject_of, without_paths
from trainwright.workflows.finalise import model_run
from trainwright.workflows.model_answers import (
    CPU,
    image_files,
    in_torch,
    own_answers,
    refuse_other_than_trained,
    split_of,
)
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.run import Run
from trainwright.workflows.run_data import data_of

if TYPE_CHECKING:
    from torch import nn

    from trainwright.workflows.studies import Study

Format = Literal["onnx", "torch", "safetensors", "all"]


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
    Python code could give. The model is held against its answers of the day that it was judged, and each file against the model
    on every validation image, from the image file on. Raises GoalNotMetError, and writes nothing, where one does not answer as
    the other does and where no temperature surely helps; RunError for no such run or one without a model, DataError where the
    data changed, UsageError for what no graph can be made of, MissingPackageError without onnx.
    """
    options = options_from(options, more)
    if format not in (*FILES, "all"):
        raise unknown_name(format, (*FILES, "all"), where="format", what="format")
    formats = tuple(FILES) if format == "all" else (format,)
    if "onnx" in formats:
        onnx.check_installed()
    folder, _ = model_run(run, options)
    subject = subject_of(folder, model, calibrated=calibrated)
    target = folder.path / "export" if out is None else Path(out).absolute()
    refuse_foreign(target)
    served = _served(subject) if {"onnx", "torch"} & set(formats) else None
    data = data_of(folder, data, options)
    with repeatable(CPU, options.threads), tempfile.TemporaryDirectory(prefix="trainwright-") as scratch:
        held = _held(subject, data, Path(scratch), options)
        try:
            with staged(target) as stage:
                runs = {FILES[name]: _write(name, subject, served, stage, options) for name in formats}
                content = certified(subject, runs, held, stage, options)
                exported = _describe(subject, content, stage)
                kept = put(stage, target)
        except OSError as error:
            raise explain_full_disk(error, target) from error
    if kept is not None:
        options.reporter.note(f"the card that lay there had been changed: it is kept as {kept}")
    return {**exported, "folder": str(target), "certificate": content}


def _held(subject: Subject, data: Dataset, scratch: Path, options: RunOptions) -> Held:
    """The model's own answers to the validation images, once they are seen to be those that it was judged by."""
    folder, network, task = subject.folder, subject.network, subject.task
    own = own_answers(folder, network, task, data, split_of(folder, data).val, options=options)
    return Held(
        own=own,
        files=image_files(data, own.rows, scratch),
        groups=groups_of(data, own.rows),
        trained=refuse_other_than_trained(folder, network, task, data, own, options=options),
    )


def _served(subject: Subject) -> ServedModel:
    return ServedModel(
        subject.network, subject.task, size=subject.recipe.data.size, temperature=subject.temperature
    ).eval()


def _write(name: str, subject: Subject, served: ServedModel | None, stage: Path, options: RunOptions) -> parity.Runs:
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


def _metadata(subject: Subject) -> dict[str, Any]:
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


def _weights(subject: Subject, path: Path, metadata: Mapping[str, Any]) -> parity.Runs:
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
    return in_torch(network, subject.task, temperature=1.0)  # which is no part of the weights


def _describe(subject: Subject, certificate: Mapping[str, Any], stage: Path) -> dict[str, Any]:
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
        recipe_yaml=without_paths(subject.recipe).to_yaml(),
    )
    (stage / CARD).write_text(card, encoding="utf-8")
    beside = {name: {"sha256": sha256(stage / name)} for name in (READER, CARD, CERTIFICATE, CERTIFICATE_TEXT)}
    exported["files"] = {**models, **beside}
    write_atomically(stage / DESCRIBED, _json(exported))
    return exported


def _served_outputs(subject: Subject, models: Mapping[str, Any]) -> list[str]:
    """The names of the answers of a graph, in order; of weights alone there are none."""
    if not {onnx.FILE, program.FILE} & set(models):
        return []
    return list(_served(subject).names(subject.recipe.data.size))


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n").encode()
