"""Studies of every kind, gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset
from trainwright.errors import RunError
from trainwright.tracking.runs import folder_of_studies
from trainwright.tracking.study_folder import StudyFolder, find_study, last_study
from trainwright.workflows.improve import IMPROVE
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.studies import Study, Tell, go_on
from trainwright.workflows.tune import TUNE

if TYPE_CHECKING:
    from torch import nn

KINDS = {kind.name: kind for kind in (IMPROVE, TUNE)}


def resume_study(
    study: str | Study,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    told: Tell = lambda entry: None,
    options: RunOptions | None = None,
    **more: Any,
) -> Study:
    """Go on with a study that stopped: the same trainings and decisions as if it never had.

    study: its name or a unique beginning of one, its folder, or `last`. data, model: what only Python code could give, again.
    Threads, device and offline are those that it began with unless `options` has others; other threads, or another device,
    give other bits. Raises RunError for no such study, DataError where its data changed.
    """
    options = options_from(options, more)
    if isinstance(study, Study):
        folder: StudyFolder | None = study._folder
    else:
        folder = last_study(options.runs) if study == "last" else find_study(options.runs, study)
    if folder is None:
        raise RunError(
            "there is no such study.", where=str(study), cure=f"Studies lie in {folder_of_studies(options.runs)}."
        )
    if folder.result() is not None:
        return Study(folder, options.runs)
    kind = KINDS.get(folder.asked["kind"])
    if kind is None:
        raise RunError(
            f"is of a kind that this version does not know: {folder.asked['kind']!r}.",
            where=folder.name,
            cure="Resume it with the version that began it.",
        )
    return go_on(kind, folder, data=data, model=model, told=told, options=options)
