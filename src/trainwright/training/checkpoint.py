"""Checkpoints: tensors as safetensors, everything else as JSON with the SHA-256 of both. Nothing is ever unpickled.

A checkpoint counts once its JSON file is in place. Both files are written aside, synced and renamed, and the one before
is kept until then, so that a kill at any moment leaves a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from trainwright.errors import CheckpointError
from trainwright.files import write_atomically
from trainwright.training.ema import WeightAverage

KEPT = 2  # the newest and, should it turn out damaged, the one before


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """tensors: by name, on the CPU. state: what else is needed to go on, as plain JSON data."""

    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write the resume checkpoint of `step`, then remove all but the newest two. Raises OutOfResourcesError on a full disk."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{step:09d}"
    digest = save_tensors(folder / f"{name}.safetensors", checkpoint.tensors)
    content = {"sha256": digest, "step": step, "state": checkpoint.state}
    write_atomically(folder / f"{name}.json", json.dumps({**content, "content_sha256": _digest(content)}).encode())
    # Later ones are damaged or of a future that was given up: this training went back to before them.
    past = [file.stem for file in sorted(folder.glob("step-*.json"), reverse=True) if file.stem <= name]
    for ending in ("json", "safetensors"):  # first the file that makes it count
        for file in folder.glob(f"step-*.{ending}"):
            if file.stem not in past[:KEPT]:
                file.unlink(missing_ok=True)
    for leftover in folder.glob(".*.part"):  # of a write that a kill cut short; one process writes to this folder
        leftover.unlink(missing_ok=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, None where there is none at all. Raises CheckpointError where all are damaged."""
    candidates = sorted(folder.glob("step-*.json"), reverse=True)
    problems = []
    for file in candidates:
        try:
            content = _read_content(file)
            return Checkpoint(
                tensors=load_tensors(file.with_suffix(".safetensors"), content["sha256"]), state=content["state"]
            )
        except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{file.name}: {error}")
    if problems:
        raise CheckpointError(
            f"no whole checkpoint is left ({'; '.join(problems)}).",
            where=str(folder),
            cure="Start the training again with 'trainwright train'.",
        )
    return None


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write tensors as safetensors, atomically; returns the file's SHA-256 as hex. Equal tensors give an equal file."""
    data = save(_separate(tensors))
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, by name; safetensors takes no two that share memory, as tied weights do."""
    separate: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        separate[name] = plain.clone() if plain.untyped_storage().data_ptr() in seen else plain
        seen.add(plain.untyped_storage().data_ptr())
    return separate


def load_tensors(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    """Tensors on the CPU. Raises CheckpointError where the file is missing or its bytes are not those that were written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot be read ({error.strerror}).", where=str(path), cure="Check the run folder."
        ) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            "its content is not what was written (SHA-256 differs).", where=str(path), cure="Restore it from a copy."
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"is not a whole safetensors file ({error}).", where=str(path), cure="Restore it from a copy."
        ) from error


def training_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, plain state) of a training in progress: model, optimizer and averaged weights."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.model.state_dict().items()}
    optimizer_state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in optimizer_state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    groups = []
    for index, group in enumerate(optimizer_state["param_groups"]):
        counted = {name: value for name, value in group.items() if isinstance(value, torch.Tensor)}  # steps, mostly
        tensors |= {f"optimizer-group.{index}.{name}": tensor for name, tensor in counted.items()}
        groups.append({name: value for name, value in group.items() if name not in counted})
    state = {
        "optimizer": {"groups": groups, "scalars": scalars},
        "average_updates": average.updates if average is not None else None,
    }
    return tensors, state


def restore_training(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> None:
    """Put a training back to where `training_tensors` took it. Raises CheckpointError where the model is another one."""
    _load_module(model, checkpoint.tensors, "model.")
    if average is not None:
        _load_module(average.model, checkpoint.tensors, "average.")
        average.updates = checkpoint.state["average_updates"]
    entries: dict[int, dict[str, Any]] = {}
    groups = [dict(group) for group in checkpoint.state["optimizer"]["groups"]]
    for key, tensor in checkpoint.tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            entries.setdefault(int(number), {})[name] = tensor
        elif key.startswith("optimizer-group."):
            _, number, name = key.split(".", 2)
            groups[int(number)][name] = tensor
    for number, values in checkpoint.state["optimizer"]["scalars"].items():
        entries.setdefault(int(number), {}).update(values)
    for group, fresh in zip(groups, optimizer.param_groups, strict=False):
        group |= {
            name: tuple(group[name]) for name, value in fresh.items() if isinstance(value, tuple) and name in group
        }
    in_order = dict(sorted(entries.items()))  # the file's own order changes from one reading to the next
    optimizer.load_state_dict({"state": in_order, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = _laid_out_like(parameter, value)


def load_model(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill a model with its saved weights. Raises CheckpointError where they belong to another model."""
    _load_module(model, tensors, "")


def _laid_out_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` in the parameter's memory layout, which the file does not keep: fused kernels walk both by address, so that
    channels-last weights would silently meet the momentum of other weights."""
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _read_content(file: Path) -> dict[str, Any]:
    content: Any = json.loads(file.read_bytes())
    if not isinstance(content, dict) or content.pop("content_sha256") != _digest(content):
        raise CheckpointError(
            "its content is not what was written (SHA-256 differs).", where=str(file), cure="Restore it from a copy."
        )
    return dict(content)


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content's JSON text, which is the same again after reading it back."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _load_module(module: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"these weights belong to another network ({' '.join(str(error).split())[:300]}).",
            where="checkpoint",
            cure="Give the network that the run was trained with.",
        ) from error
