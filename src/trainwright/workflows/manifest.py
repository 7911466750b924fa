"""What a run was made of and on: enough to repeat it, and to see what differs where it does not repeat."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import trainwright
from trainwright.records import to_json
from trainwright.workflows.prepare import Prepared

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "scipy",
    "segmentation-models-pytorch",
    "pydantic",
    "safetensors",
    "mlflow",
    "tensorboard",
)


def manifest_of(prepared: Prepared, *, name: str, command: Sequence[str]) -> dict[str, Any]:
    """The manifest of a run about to start. name: of the dataset. command: how the process was started."""
    dataset, split = prepared.dataset, prepared.split
    return {
        "schema": "trainwright.manifest/1",
        "name": name,
        "metric": prepared.task.metric,
        "command": list(command),
        "code": {"version": trainwright.__version__, "sources_sha256": sources_sha256()},
        "packages": packages(),
        "machine": machine(prepared.device),
        "precision": {"name": prepared.precision.name, "reason": prepared.precision.reason},
        "start": {"sha256": start_sha256(prepared.model.network)},
        "seeds": {"recipe": prepared.recipe.seed, "split": prepared.recipe.data.split_seed},
        "dataset": {
            "source": dict(dataset.source) if dataset.source is not None else None,
            "task": dataset.task,
            "classes": list(dataset.classes),
            "info": to_json(prepared.task.info),
            "counts": dataset.counts,
            "fingerprint": dataset.digest,
            "targets_fingerprint": dataset.fingerprint.targets_digest,
            "left_out": int((~dataset.fingerprint.usable).sum()),
        },
        "split": {
            "digest": split.digest,
            "train": len(split.train),
            "val": len(split.val),
            "test": len(split.test),
            "test_opened": 0,
        },
    }


def packages() -> dict[str, str]:
    """Versions of the packages whose numbers a training depends on, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, threads and device; another thread count or device gives other bits."""
    found = {
        "system": platform.platform(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


@cache
def sources_sha256() -> str:
    """Hash of this package's own source files, so that two runs of an edited version can be told apart."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def start_sha256(network: nn.Module) -> str:
    """Hash of the weights that a training starts from, by name; another network, or the same one from others, gives another."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, torch.Tensor):  # a module may keep other things as its extra state
            plain = tensor.detach().cpu().contiguous().flatten()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def command_line() -> list[str]:
    """How this process was started, the program by its name alone."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv and sys.argv[0] else ["python"]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
