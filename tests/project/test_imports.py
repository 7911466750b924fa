"""The import contracts hold for the code as it is, and catch each kind of violation that they are there for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """The package and its contracts in a folder where a violation may be planted."""
    shutil.copytree(
        ROOT / "src" / "trainwright", tmp_path / "src" / "trainwright", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    """Exit code and output of lint-imports on the package in `folder`, not on the installed one."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_code_as_it_is_keeps_every_contract(copy):
    code, output = lint(copy)

    assert code == 0, output
    assert "0 broken" in output


@pytest.mark.parametrize(
    ("planted", "line", "contract", "complaint"),
    [
        pytest.param(
            "data/planted.py",
            "import trainwright.workflows",
            "Imports go down",
            "trainwright.data is not allowed to import trainwright.workflows",
            id="upwards",
        ),
        pytest.param(
            "training/planted.py",
            "import trainwright.tracking",
            "Imports go down",
            "trainwright.training is not allowed to import trainwright.tracking",
            id="sideways",
        ),
        pytest.param(
            "tasks/planted.py",
            "def late():\n    import trainwright.optim.losses",
            "Imports go down",
            "trainwright.tasks is not allowed to import trainwright.optim",
            id="sideways inside a function",
        ),
        pytest.param(
            "helpers.py",
            "",
            "Imports go down",
            "trainwright.helpers",
            id="a root module that stands nowhere",
        ),
        pytest.param(
            "diagnosis/planted.py",
            "import torch",
            "Judging, records and reports never reach torch",
            "trainwright.diagnosis is not allowed to import torch",
            id="torch in diagnosis",
        ),
        pytest.param(
            "report/planted.py",
            "from trainwright.batch import Batch",
            "Judging, records and reports never reach torch",
            "trainwright.report is not allowed to import torch",
            id="torch in report by a detour",
        ),
        pytest.param(
            "workflows/planted.py",
            "def late():\n    import mlflow.tracking",
            "Only tracking/mlflow.py imports mlflow",
            "trainwright is not allowed to import mlflow",
            id="mlflow elsewhere",
        ),
        pytest.param(
            "workflows/planted.py",
            "def late():\n    import onnxruntime",
            "Only deploy/onnx.py imports onnx and onnxruntime",
            "trainwright is not allowed to import onnxruntime",
            id="onnxruntime elsewhere",
        ),
    ],
)
def test_a_planted_violation_is_caught(copy, planted, line, contract, complaint):
    (copy / "src" / "trainwright" / planted).write_text(line + "\n")

    code, output = lint(copy)

    assert code == 1
    assert contract in output
    assert complaint in output, output


def test_what_a_signature_names_for_the_type_checker_alone_is_no_import(copy):
    planted = copy / "src" / "trainwright" / "diagnosis" / "planted.py"
    planted.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n")

    code, output = lint(copy)

    assert code == 0, output
