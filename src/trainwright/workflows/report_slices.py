"""Which kinds of images a run fails at, as its page tells it: looked at once, and kept beside the answers."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.errors import TrainwrightError
from trainwright.files import write_atomically
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows import failing
from trainwright.workflows.options import RunOptions
from trainwright.workflows.run_data import data_of

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset

log = logging.getLogger(__name__)
KEPT = "val-looks.npz"  # in the folder of answers: what the unseen images look like
ROWS = "rows"
MOST = 2000  # images that a page looks at, evenly drawn: about three seconds of one core
MOST_OPENED = 50_000  # images of a dataset that a page opens again; of more the command does, which takes its time


def slices_of_page(folder: RunFolder, data: Dataset | None) -> tuple[Mapping[str, Any] | None, str]:
    """(the `trainwright.slices/1` object of the validation images, why it is not there). data: where it is at hand."""
    try:
        rows, scores, groups = failing.answers_of(folder, "val")
        looks = _kept(folder)
        if looks is None:
            looks = _looked_at(folder, data, rows)
        chosen_N = np.isin(rows, looks[ROWS])
        order_N = np.argsort(looks[ROWS])
        place_N = order_N[np.searchsorted(looks[ROWS], rows[chosen_N], sorter=order_N)]
        attributes = {name: values[place_N] for name, values in looks.items() if name != ROWS}
        return failing.told(folder, "val", attributes, scores[chosen_N], groups[chosen_N]), ""
    except (TrainwrightError, OSError) as error:
        log.debug("%s: no slices: %s", folder.run_id, error)
        return None, f"Left out: {getattr(error, 'message', '') or error}"


def _kept(folder: RunFolder) -> dict[str, np.ndarray] | None:
    file = folder.path / "answers" / KEPT
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def _looked_at(folder: RunFolder, data: Dataset | None, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the images of these rows look like, of at most MOST of them; kept, so that no later page needs the images."""
    options = RunOptions()
    count = sum(int(folder.manifest["split"].get(part) or 0) for part in ("train", "val", "test"))
    if data is None and count > MOST_OPENED:
        raise TrainwrightError(f"{count:,} images take their time: 'trainwright slices {folder.run_id}' looks at them.")
    chosen = rows if len(rows) <= MOST else rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
    looks = {ROWS: chosen, **failing.attributes_of(data_of(folder, data, options), chosen, options)}
    file = io.BytesIO()
    np.savez_compressed(file, **looks)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):  # a folder that nobody may write has a page all the same
        write_atomically(folder.answers / KEPT, file.getvalue())
    return looks
