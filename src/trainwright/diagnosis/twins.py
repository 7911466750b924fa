"""Near twins between two sets of images: neighbours that are much nearer than images of such data are to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainwright.records import Answer, Interval

CELLS = 16  # the signature is the image in grey at 16 × 16: keeps its form, loses compression, noise and small shifts
LEAST_CONTRAST = 2.0  # grey levels of deviation: flatter images are all alike
NEIGHBOURS = 5  # a twin is compared with the distance to the fifth nearest: twins may come in several copies
CHANCE = 0.01  # of a single false twin among all images that are asked about
MOST_QUERIES = 500  # train images that the usual distances are taken from
CHUNK = 512  # images that are compared with all others at once
SHARE_MARGIN = (
    0.02  # as for the gap: twins are right nearly always, and fewer of them cannot move a score by two points
)


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Unseen images that the training has seen.

    exact: validation images with the very same pixels as a train image. near: further ones with a near twin. images: how many
    were looked at; total: how many there are. with_them, without: the score of all validation images, and of those without a
    twin. examples: paths of pairs, the unseen image first. embedded: compared by what a network makes of them.
    """

    exact: int
    near: int
    images: int
    total: int
    with_them: Interval
    without: Interval
    examples: tuple[tuple[str, str], ...] = ()
    embedded: bool = False

    @property
    def share(self) -> float:
        return (self.exact + self.near) / max(1, self.images)

    @property
    def matter(self) -> Answer:
        """Whether they are so many that they can move the score by more than the margin."""
        if not self.images:
            return "cannot-tell"
        return "yes" if self.share > SHARE_MARGIN else "no"


def signatures(images_NHWC: np.ndarray) -> np.ndarray:
    """The form of each image, float32 [N, CELLS²]: grey, in small, without its brightness and contrast; nan where it is flat.

    images_NHWC: uint8 RGB. A perceptual hash that is not rounded to bits, so that distances have a scale.
    """
    grey_NHW = images_NHWC.sum(axis=3, dtype=np.uint16).astype(np.float32) / 3
    small_NP = (_averages(images_NHWC.shape[1]) @ grey_NHW @ _averages(images_NHWC.shape[2]).T).reshape(
        len(grey_NHW), -1
    )
    centred = small_NP - small_NP.mean(axis=1, keepdims=True)
    contrast = centred.std(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    return np.where(contrast >= LEAST_CONTRAST, unit, np.nan).astype(np.float32)


def mirrored(signatures_NP: np.ndarray) -> np.ndarray:
    """The signatures of the same images mirrored left to right."""
    return signatures_NP.reshape(-1, CELLS, CELLS)[:, :, ::-1].reshape(len(signatures_NP), -1)


def near_twins(
    known_MD: np.ndarray, asked_ND: np.ndarray, *, flipped_ND: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """([N] bool: has a near twin among `known`; [N]: the nearest one's position). Rows that are nan have none.

    known_MD, asked_ND: signatures or embeddings, a row an image. flipped_ND: of the asked images mirrored.

    The distance to the nearest over that to the fifth nearest. Within `known`, where nothing is asked, it has the
    distribution of neighbours in some number of dimensions, which the median of the ratio tells; a ratio smaller than
    all but CHANCE / N of such is that of a twin. Twins within `known` leave the median as it is.
    Source: Facco et al. 2017, Scientific Reports 7:12140 (the ratio of neighbours' distances and the dimension).
    """
    found, nearest = np.zeros(len(asked_ND), dtype=bool), np.zeros(len(asked_ND), dtype=np.int64)
    usable_known, usable = (np.flatnonzero(np.isfinite(rows).all(axis=1)) for rows in (known_MD, asked_ND))
    if len(usable_known) < 10 * NEIGHBOURS or not len(usable):
        return found, nearest
    known = known_MD[usable_known]
    least = _least_ratio(known, len(usable))
    for rows in [asked_ND] if flipped_ND is None else [asked_ND, flipped_ND]:
        distance_N2, place_N = _nearest(rows[usable], known, NEIGHBOURS)
        twin = distance_N2[:, 0] < least * distance_N2[:, 1]
        fresh = usable[twin & ~found[usable]]
        nearest[fresh] = usable_known[place_N[np.isin(usable, fresh)]]
        found[fresh] = True
    return found, nearest


def _least_ratio(known: np.ndarray, asked: int) -> float:
    """Below this ratio of the nearest to the fifth nearest distance an image is a twin.

    With D dimensions P(ratio < x) = 1 − (1 − x^D)^(k − 1): the distances to the first k neighbours are those of a Poisson
    process, and the nearest of k is the smallest of k − 1 uniform volumes.
    """
    queries = np.linspace(0, len(known) - 1, min(len(known), MOST_QUERIES)).astype(np.int64)
    itself_and_nearest, _ = _nearest(known[queries], known, 2)
    farther, _ = _nearest(known[queries], known, NEIGHBOURS + 1)
    ratio = float(np.median(itself_and_nearest[:, 1] / np.maximum(farther[:, 1], 1e-12)))
    if not 0 < ratio < 1:
        return 0.0
    others = NEIGHBOURS - 1
    dimensions = math.log(1 - 0.5 ** (1 / others)) / math.log(ratio)
    rare = 1 - (1 - CHANCE / asked) ** (1 / others)
    return float(rare ** (1 / dimensions))


def _nearest(rows: np.ndarray, known: np.ndarray, far: int) -> tuple[np.ndarray, np.ndarray]:
    """([N, 2] Euclidean distances to the nearest of `known` and to the one that is `far`-th nearest; [N] the nearest one)."""
    square_M = np.einsum("md,md->m", known, known)
    distances, places = [], []
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        square_NM = part @ known.T
        square_NM *= -2
        square_NM += np.einsum("nd,nd->n", part, part)[:, None]
        square_NM += square_M
        place = square_NM.argmin(axis=1)
        nearest = square_NM[np.arange(len(part)), place]
        square_NM.partition(far - 1, axis=1)
        distances.append(np.sqrt(np.maximum(0, np.column_stack([nearest, square_NM[:, far - 1]]))))
        places.append(place)
    return np.concatenate(distances), np.concatenate(places)


def _averages(side: int) -> np.ndarray:
    """[CELLS, side]: the mean of each cell of a side of so many pixels; a smaller side is repeated."""
    edges = np.linspace(0, side, CELLS + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.maximum(0, overlap)
    averages: np.ndarray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return averages
