"""The notebook runs from its first cell to its last, and says what it is there to say."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_run.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> str:
    made = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output["data"].get("text/plain", "") for output in made)


def test_no_output_is_kept_in_the_repository(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert len(cells) > 6
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_from_the_first_cell_to_the_last(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND")  # a notebook shows its pictures; tests elsewhere draw none

    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    said = " ".join(outputs(notebook).split())
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert "('classification', {'all': 1797}, ('0', '1'" in said
    assert "overfits" in said or "cannot-tell" in said
    assert "Baseline: accuracy" in said
    assert "The first time that anybody looked at these images" in said
    assert len(pictures) == 1
