"""The command line starts without the heavy libraries: `--help` and a usage error are there at once."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "pandas",
    "plotly",
    "tensorboard",
}

PROGRAM = """
import contextlib, io, json, sys
sys.argv = ["trainwright", *json.loads(sys.argv[1])]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    from trainwright.cli.main import main
    if sys.argv[1:] != ["import only"]:
        with contextlib.suppress(SystemExit):
            main()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    "arguments",
    [["import only"], ["--help"], ["train", "--help"], ["train", "--no-such-option"], ["no-such-command"]],
    ids=" ".join,
)
def test_starting_loads_no_heavy_library(arguments):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)], capture_output=True, text=True, check=True
    )

    loaded = set(json.loads(done.stdout))

    assert "trainwright" in loaded
    assert loaded & HEAVY == set()
