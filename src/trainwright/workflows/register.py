"""A run's model in MLflow's registry, ready to be served: exported, held against the run, and put there with an alias."""

from __future__ import annotations

import os
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trainwright
from trainwright.data.dataset import Dataset
from trainwright.deploy import onnx
from trainwright.errors import UsageError
from trainwright.tracking.mirrors import need
from trainwright.tracking.mlflow import MlflowMirror
from trainwright.tracking.mlflow_commands import serve_command
from trainwright.workflows import served
from trainwright.workflows.export import export
from trainwright.workflows.finalise import model_run
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.run import Run
from trainwright.workflows.studies import Study

if TYPE_CHECKING:
    from torch import nn

CHAMPION = "champion"  # MLflow's own example of an alias: the version that is in use
ALIAS = re.compile(r"[A-Za-z0-9_\-]{1,255}")
NO_ALIAS = re.compile(r"v\d+|latest", re.IGNORECASE)  # which MLflow keeps for itself


def register(
    run: str | os.PathLike[str] | Run | Study,
    *,
    name: str | None = None,
    alias: str = CHAMPION,
    calibrated: bool = False,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Put the model of a run or of a study into MLflow's registry; the `trainwright.registered/1` object.

    It is exported to ONNX and held against the run as `export` does it, and what passes is logged as a pyfunc model that answers
    as `predict` with that file does. name: of the registered model; the dataset's where none is given. alias: that this version
    gets, and any other loses; empty for none. calibrated, data, model: as of `export`. Raises what `export` raises, UsageError
    for a name or an alias that MLflow takes none of, TrainwrightError where the store cannot be reached, MissingPackageError
    without mlflow or onnx.
    """
    options = options_from(options, more)
    need("mlflow")
    _refuse_alias(alias)
    folder, _ = model_run(run, options)
    called = str(folder.manifest.get("name") or "trainwright") if name is None else name
    if not called.strip() or set(called) & set("/:"):
        raise UsageError(f"no such name {called!r}.", where="name", cure="Use no '/' and no ':', which MLflow refuses.")
    with tempfile.TemporaryDirectory(prefix="trainwright-") as place:
        out = Path(place) / "export"
        made = export(run, format="onnx", out=out, calibrated=calibrated, data=data, model=model, options=options)
        number, store = MlflowMirror().register(
            folder.path,
            out / onnx.FILE,
            loader=served.__name__,
            name=called,
            alias=alias,
            requirements=(f"trainwright=={trainwright.__version__}", f"onnxruntime=={version('onnxruntime')}"),
        )
    return {
        "schema": "trainwright.registered/1",
        "run": folder.run_id,
        "name": called,
        "version": number,
        "alias": alias or None,
        "store": store,
        "certificate": made["certificate"],
        "serve": serve_command(called, alias, number),
    }


def _refuse_alias(alias: str) -> None:
    if alias and (not ALIAS.fullmatch(alias) or NO_ALIAS.fullmatch(alias)):
        raise UsageError(
            f"no such alias {alias!r}.",
            where="alias",
            cure="Use letters, digits, '-' and '_', and neither 'latest' nor 'v1', which are MLflow's own.",
        )
