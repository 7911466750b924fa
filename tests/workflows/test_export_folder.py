"""The folder of an export: whole or not at all, and nothing of anybody else's is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainwright as tw
from trainwright.deploy import reader
from trainwright.errors import GoalNotMetError, UsageError


def test_a_later_export_leaves_nothing_of_the_one_before(
    weights: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    weights()
    (tmp_path / "out" / "model.pt2").write_text("of another format")

    weights()

    assert not (tmp_path / "out" / "model.pt2").exists()


def test_it_lies_in_the_run_unless_said_otherwise(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})

    made = tw.export(run, format="safetensors", workers=1)

    assert made["folder"] == str(run.folder / "export")
    assert (run.folder / "export" / "certificate.json").is_file()


def test_a_breach_leaves_nothing_at_all(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = reader.read_image
    monkeypatch.setattr(reader, "read_image", lambda path, spec: true(path, spec)[::-1].copy())  # upside down

    with pytest.raises(GoalNotMetError, match=r"model\.safetensors: does not answer as the model does: agreement 0"):
        weights()
    assert list(tmp_path.iterdir()) == []


def test_a_breach_leaves_an_earlier_export_as_it_was(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(reader, "read_image", lambda path, spec: np.zeros((16, 16, 3), np.uint8))

    with pytest.raises(GoalNotMetError):
        weights()

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_export_that_was_killed_is_made_up_for(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, left = Path.replace, iter([None, None])

    def killed(path: Path, target: Path) -> Path:
        if path.parent.name.startswith(".export-") and target.parent == tmp_path / "out" and next(left, path) is path:
            raise KeyboardInterrupt
        return true(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            weights()
    (tmp_path / "out" / ".export-of-a-killed-one").mkdir()
    lay = sorted(path.name for path in (tmp_path / "out").iterdir())

    weights()

    assert lay == [".export-of-a-killed-one", "README.md", "export.json"]
    assert ".export-of-a-killed-one" not in [path.name for path in (tmp_path / "out").iterdir()]
    assert (tmp_path / "out" / "certificate.json").is_file()


def test_it_is_made_within_its_folder_and_renamed_there(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()  # as where another disk is mounted: nothing can be renamed into it from beside it
    true = Path.replace
    moved: list[tuple[Path, Path]] = []
    monkeypatch.setattr(Path, "replace", lambda path, target: moved.append((path, Path(target))) or true(path, target))

    weights()

    into = [(path, target) for path, target in moved if target.parent == tmp_path / "out"]
    assert len(into) == 6
    assert all(path.is_relative_to(tmp_path / "out") for path, _ in into)


def test_a_card_that_was_filled_in_is_kept(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, listener: Any
) -> None:
    weights()
    weights()
    (tmp_path / "out" / "README.md").write_text("license: mit")

    weights(reporter=listener)

    assert (tmp_path / "out" / "README.md.bak").read_text() == "license: mit"
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: unknown")
    assert "the card that lay there had been changed: it is kept as README.md.bak" in listener.notes

    (tmp_path / "out" / "README.md").write_text("license: bsd")
    weights()

    kept = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.bak*")}
    assert kept == {"README.md.bak": "license: mit", "README.md.bak-2": "license: bsd"}


def test_a_folder_of_other_things_is_left_alone(weights: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")

    with pytest.raises(UsageError, match="out: is not empty, and no earlier export lies there"):
        weights()
    assert (tmp_path / "out" / "README.md").read_text() == "mine"
