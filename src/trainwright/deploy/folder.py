"""The folder of an export: which files are ours, and how they come there whole or not at all."""

from __future__ import annotations

from pathlib import Path

from trainwright.deploy import onnx, program
from trainwright.errors import RunError, UsageError

WEIGHTS = "model.safetensors"
FILES = {"onnx": onnx.FILE, "torch": program.FILE, "safetensors": WEIGHTS}  # by format
CERTIFICATE, DESCRIBED, CARD, READER = "certificate.json", "export.json", "README.md", "reader.py"
CERTIFICATE_TEXT = "certificate.txt"
OURS = (*FILES.values(), CERTIFICATE, CERTIFICATE_TEXT, DESCRIBED, CARD, READER)


def refuse_foreign(target: Path) -> None:
    """Raise UsageError for a place where writing would cost somebody else's files."""
    if target.exists() and not target.is_dir():
        raise UsageError("is a file.", where=str(target), cure="Name a folder.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not all((target / name).is_file() for name in (DESCRIBED, CERTIFICATE)):
        raise UsageError(
            "is not empty, and no earlier export lies there.", where=str(target), cure="Name an empty or a new folder."
        )


def put(stage: Path, target: Path) -> None:
    """Move what is certified to its place, over an earlier export. The certificate is the last to come, and the first to go:
    what lies there half made looks like nothing that was certified."""
    target.mkdir(exist_ok=True)
    fresh = {path.name for path in stage.iterdir()}
    for name in (CERTIFICATE, CERTIFICATE_TEXT, *(set(OURS) - fresh)):
        (target / name).unlink(missing_ok=True)
    for name in sorted(fresh, key=lambda name: name == CERTIFICATE):
        (stage / name).replace(target / name)


def made(folder: Path) -> Path:
    """The folder, made where it is not there yet. Raises RunError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot be made ({error.strerror}).", where=str(folder), cure="Name another folder.") from error
    return folder
