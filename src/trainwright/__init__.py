"""trainwright: the training phase of a machine-learning project as one tool.

`import trainwright as tw` gives the names below; each is imported when it is first used, so the import itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "trainwright.data.dataset",
    "FitSettings": "trainwright.training.loop",
    "Recipe": "trainwright.recipe",
    "Run": "trainwright.workflows.run",
    "RunOptions": "trainwright.workflows.options",
    "Study": "trainwright.workflows.studies",
    "TrainwrightError": "trainwright.errors",
    "diagnose": "trainwright.workflows.diagnose",
    "evaluate": "trainwright.training.evaluate",
    "explain": "trainwright.workflows.explain",
    "export": "trainwright.workflows.export",
    "facts_of": "trainwright.workflows.choose",
    "finalise": "trainwright.workflows.finalise",
    "fit": "trainwright.training.loop",
    "improve": "trainwright.workflows.improve",
    "list_runs": "trainwright.workflows.library",
    "load_recipe": "trainwright.recipe",
    "lr_range_test": "trainwright.workflows.range_test",
    "open_dataset": "trainwright.data.dataset",
    "open_run": "trainwright.workflows.library",
    "predict": "trainwright.workflows.predict",
    "register": "trainwright.workflows.register",
    "reproduce": "trainwright.workflows.reproduce",
    "resume": "trainwright.workflows.run",
    "resume_study": "trainwright.workflows.resuming",
    "slices_of": "trainwright.workflows.failing",
    "sync": "trainwright.workflows.library",
    "train": "trainwright.workflows.run",
    "tune": "trainwright.workflows.tune",
    "write_report": "trainwright.workflows.report",
}

__all__ = [
    "Dataset",
    "FitSettings",
    "Recipe",
    "Run",
    "RunOptions",
    "Study",
    "TrainwrightError",
    "diagnose",
    "evaluate",
    "explain",
    "export",
    "facts_of",
    "finalise",
    "fit",
    "improve",
    "list_runs",
    "load_recipe",
    "lr_range_test",
    "open_dataset",
    "open_run",
    "predict",
    "recipes",
    "register",
    "reproduce",
    "resume",
    "resume_study",
    "slices_of",
    "sync",
    "train",
    "tune",
    "write_report",
]

if TYPE_CHECKING:
    from trainwright import recipes
    from trainwright.data.dataset import Dataset, open_dataset
    from trainwright.errors import TrainwrightError
    from trainwright.recipe import Recipe, load_recipe
    from trainwright.training.evaluate import evaluate
    from trainwright.training.loop import FitSettings, fit
    from trainwright.workflows.choose import facts_of
    from trainwright.workflows.diagnose import diagnose
    from trainwright.workflows.explain import explain
    from trainwright.workflows.export import export
    from trainwright.workflows.failing import slices_of
    from trainwright.workflows.finalise import finalise
    from trainwright.workflows.improve import improve
    from trainwright.workflows.library import list_runs, open_run, sync
    from trainwright.workflows.options import RunOptions
    from trainwright.workflows.predict import predict
    from trainwright.workflows.range_test import lr_range_test
    from trainwright.workflows.register import register
    from trainwright.workflows.report import write_report
    from trainwright.workflows.reproduce import reproduce
    from trainwright.workflows.resuming import resume_study
    from trainwright.workflows.run import Run, resume, train
    from trainwright.workflows.studies import Study
    from trainwright.workflows.tune import tune


def __getattr__(name: str) -> Any:
    if name == "recipes":
        return importlib.import_module("trainwright.recipes")
    if name not in _HOMES:
        raise AttributeError(f"module 'trainwright' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
