"""What a run's record keeps to judge it by."""

from __future__ import annotations

from dataclasses import replace

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.recorded import from_json
from trainwright.errors import RunError
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.judge import EVIDENCE
from trainwright.workflows.probes import recorded_probes


def evidence_of(folder: RunFolder) -> Evidence:
    """What the rules look at, from the record of a finished run and its probes. Raises RunError where there is none."""
    content = folder.read_json(EVIDENCE)
    if content is None:
        state = folder.status()["state"]
        cure = "Train it again." if state == "finished" else f"Go on with 'trainwright resume {folder.run_id}'."
        raise RunError(f"nothing to judge by was kept (it is {state}).", where=folder.run_id, cure=cure)
    return replace(from_json(Evidence, content), probes=recorded_probes(folder))
