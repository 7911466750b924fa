"""The folder of an export: which files are ours, and how they come there whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainwright.deploy import onnx, program
from trainwright.errors import RunError, UsageError

WEIGHTS = "model.safetensors"
FILES = {"onnx": onnx.FILE, "torch": program.FILE, "safetensors": WEIGHTS}  # by format
CERTIFICATE, DESCRIBED, CARD, READER = "certificate.json", "export.json", "README.md", "reader.py"
CERTIFICATE_TEXT = "certificate.txt"
OURS = (*FILES.values(), CERTIFICATE, CERTIFICATE_TEXT, DESCRIBED, CARD, READER)
SCHEMA = "trainwright.export/1"
STAGE = ".export-"  # prefix of the folder in which an export is made


def refuse_foreign(target: Path) -> None:
    """Raise UsageError for a place where writing would cost somebody else's files. What an export that was killed has left is
    not that: a stage, or a description of ours without its certificate."""
    if target.exists() and not target.is_dir():
        raise UsageError("is a file.", where=str(target), cure="Name a folder.")
    if not target.is_dir() or all(path.name.startswith(STAGE) for path in target.iterdir()):
        return
    if _described(target) is None:
        raise UsageError(
            "is not empty, and no earlier export lies there.", where=str(target), cure="Name an empty or a new folder."
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty folder inside of `target`, so that what is made there can be renamed to its place wherever that is mounted.

    At the end it is gone, and so is `target` where it was made for this and nothing came to lie in it; what an export that was
    killed has left goes at the beginning. Raises RunError where it cannot be made.
    """
    was_there = target.is_dir()
    stage = None
    try:
        try:
            target.mkdir(parents=True, exist_ok=True)
            for left in target.glob(f"{STAGE}*"):
                shutil.rmtree(left, ignore_errors=True)
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=target))
        except OSError as error:
            raise RunError(
                f"cannot be written to ({error.strerror}).", where=str(target), cure="Name another folder."
            ) from error
        stage.chmod(0o755)  # as any other folder: mkdtemp's is for its owner alone
        yield stage
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if not was_there:
            with suppress(OSError):
                target.rmdir()


def put(stage: Path, target: Path) -> str | None:
    """Move what is certified to its place, over an earlier export. The certificate is the last to come, and the first to go:
    what lies there half made looks like nothing that was certified. The description is the first to come, by which a later
    export knows what it may replace.

    A card that was filled in since is kept; returns the name that it then has.
    """
    fresh = {path.name for path in stage.iterdir()}
    kept = _keep_card(target)
    for name in (CERTIFICATE, CERTIFICATE_TEXT, *sorted(set(OURS) - fresh)):
        (target / name).unlink(missing_ok=True)
    for name in sorted(fresh, key=lambda name: (name == CERTIFICATE, name != DESCRIBED, name)):
        (stage / name).replace(target / name)
    return kept


def _keep_card(target: Path) -> str | None:
    """Set a card aside that is not as it was written."""
    card = target / CARD
    if not card.is_file():
        return None
    written = (_described(target) or {}).get("files", {}).get(CARD, {}).get("sha256")
    if hashlib.sha256(card.read_bytes()).hexdigest() == written:
        return None
    names = itertools.chain([f"{CARD}.bak"], (f"{CARD}.bak-{number}" for number in itertools.count(2)))
    kept = next(name for name in names if not (target / name).exists())
    card.replace(target / kept)
    return kept


def _described(target: Path) -> Mapping[str, Any] | None:
    """What an earlier export says of itself; None where none lies there."""
    try:
        found = json.loads((target / DESCRIBED).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None
