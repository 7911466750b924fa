"""The hardest images of a run beside what speaks for its answers, for its page: made where that is asked for, and kept."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainwright.errors import RunError, TrainwrightError
from trainwright.files import write_atomically
from trainwright.records import Tile
from trainwright.report.values import Picture
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.known_truth import answered_in_words
from trainwright.workflows.options import RunOptions

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
FOLDER, KEPT = "explained", "page.json"  # in the run's folder
SIDE = 160  # pixels of each half, at least: the network's own input is small
MOST_SIDE = 320
JPEG_QUALITY = 85


def explained_pictures(
    folder: RunFolder, result: Mapping[str, Any] | None, options: RunOptions | None
) -> tuple[tuple[Picture, ...], str]:
    """(pictures, a word where there are none). options: to explain anew with; None for those that have been made before.

    Whatever keeps images from being explained, a package that is not installed among it, is told and takes nothing from the page.
    """
    if options is None or result is None:
        return _kept(folder), ""
    try:
        return _made(folder, result, options), ""
    except (TrainwrightError, OSError) as error:
        log.debug("%s: nothing explained", folder.run_id, exc_info=True)
        said = f"{getattr(error, 'message', '') or error} {getattr(error, 'cure', '')}".strip()
        options.reporter.note(f"no image is explained: {said}")
        return (), f"No image is explained: {said}"


def _made(folder: RunFolder, result: Mapping[str, Any], options: RunOptions) -> tuple[Picture, ...]:
    from trainwright.workflows import explain  # torch, which a page needs for nothing else

    (folder.path / FOLDER).mkdir(exist_ok=True)
    made: list[Picture] = []
    listed: list[dict[str, Any]] = []
    for path, said, tiles in explain.hardest_explained(folder, options=options):
        if not tiles:
            raise RunError(f"{path}: {said['error']}.")
        words = _words(said)
        made.append(_beside(tiles, words, path))
        file = f"page-{len(made):02d}.jpg"
        write_atomically(folder.path / FOLDER / file, made[-1].data)
        listed.append({"file": file, "said": words, "path": path, "width": made[-1].width, "height": made[-1].height})
    folder.write_json(f"{FOLDER}/{KEPT}", {"weights_sha256": result["weights_sha256"], "shown": listed})
    return tuple(made)


def _kept(folder: RunFolder) -> tuple[Picture, ...]:
    """What was made for an earlier page; nothing where it is of other weights, as after a run of the same name."""
    kept = folder.read_json(f"{FOLDER}/{KEPT}")
    if kept is None or kept["weights_sha256"] != (folder.result() or {}).get("weights_sha256"):
        return ()
    place = folder.path / FOLDER
    return tuple(
        Picture(
            data=(place / one["file"]).read_bytes(),
            width=one["width"],
            height=one["height"],
            said=one["said"],
            path=one["path"],
        )
        for one in kept["shown"]
        if (place / one["file"]).is_file()
    )


def _words(said: Mapping[str, Any]) -> str:
    """Below a picture: the truth and the answer, and how far the explanation is to be trusted."""
    first = answered_in_words(said).replace(", answer", "\nanswer")
    figures = f"explained: {said['of']} {said['output']:.3g}, of a plain image {said['plain']:.3g}"
    missed = f"{said['unexplained']:.0%} not explained" if said["unexplained"] > 0.1 else ""
    return "\n".join(line for line in (first, figures, missed) if line)


def _beside(tiles: Sequence[Tile], said: str, path: str) -> Picture:
    """An image and its explanation as one picture."""
    from PIL import Image

    halves = [Image.fromarray(_large(tile.image_HWC)) for tile in tiles]
    whole = Image.new("RGB", (2 * halves[0].width, halves[0].height))
    for place, half in enumerate(halves):
        whole.paste(half, (place * halves[0].width, 0))
    if max(halves[0].size) > MOST_SIDE:
        whole.thumbnail((2 * MOST_SIDE, MOST_SIDE))
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Picture(data=file.getvalue(), width=whole.width, height=whole.height, said=said, path=path)


def _large(image_HWC: np.ndarray) -> np.ndarray:
    times = max(1, math.ceil(SIDE / max(image_HWC.shape[:2])))
    repeated: np.ndarray = image_HWC.repeat(times, axis=0).repeat(times, axis=1)
    return repeated
