"""Regression: one or more numbers an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trainwright.plugins import tasks
from trainwright.records import Answers, Chart, OutputForm, ResidualChart, Scores, TargetInfo, TargetKind, Tile

FIGURES = 6  # of a column in a tally, see `_tally`
NO_SPREAD = 1e-12  # of the mean square: less variance than this is rounding, and R² is not defined
GOOD_ERROR = 0.5  # train deviations: a picture's answer within it is drawn as a good one
FURTHEST = 1e9  # train deviations: an answer beyond is as wrong as one there, and its square is still a number
MOST_SHOWN = 4  # columns written beside a picture


@tasks.register("regression")
class Regression:
    """T numbers an image. Outputs are standardized [N, T] (mean 0, deviation 1 over the train images), targets in their own

    unit; the score is R², the mean over the columns, 1 at best, 0 for always saying the mean, without limit below.
    """

    name = "regression"
    metric = "R²"
    target: TargetKind = "numbers"
    form: OutputForm = "vector"
    losses: tuple[str, ...] = ("huber", "mse", "mae")
    counts_right = False

    def __init__(self, info: TargetInfo, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.info = info
        self.outputs = len(info.names)
        self._loss = loss
        self._mean_T = np.array(info.mean, dtype=np.float64)
        self._std_T = np.array([std or 1.0 for std in info.std], dtype=np.float64)  # 0: always the same in train
        self._scales: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, 6T + 1]); the loss is that of the standardized numbers."""
        target_NT = self._standardized(target)
        tally_NQ = torch.stack(_figures(outputs.detach().double(), target_NT.double()), dim=2).flatten(1)
        return self._loss(outputs, target_NT), torch.cat([tally_NQ, torch.ones_like(tally_NQ[:, :1])], dim=1)

    def answers(self, outputs: torch.Tensor, target: torch.Tensor | None, rows: np.ndarray) -> Answers:
        """Columns `values` float64 [N, T], the answers in the target's unit; where known, `target` float64 [N, T] and

        `loss` float32 [N], that of the training.
        """
        columns = {"values": outputs.float().cpu().numpy().astype(np.float64) * self._std_T + self._mean_T}
        if target is not None:
            columns["target"] = target.cpu().numpy().astype(np.float64)
            columns["loss"] = self._loss(outputs, self._standardized(target)).detach().float().cpu().numpy()
        return Answers(rows=rows, columns=columns)

    def scores(self, answers: Answers) -> Scores:
        """R², the mean loss of the training, and errors in the target's unit by name as `measures` has them.

        per_image is exp(−|error| in train deviations): an order for pictures, no measure of anything.
        """
        values_NT, target_NT = ((answers.columns[name] - self._mean_T) / self._std_T for name in ("values", "target"))
        values_NT = np.clip(np.nan_to_num(values_NT), -FURTHEST, FURTHEST)
        figures = np.stack(_figures(values_NT, target_NT), axis=2).reshape(len(values_NT), -1)
        tally_NQ = np.column_stack([figures, np.ones(len(values_NT))])
        metrics = {name: float(value_B[0]) for name, value_B in self.measures(tally_NQ.sum(axis=0)[None]).items()}
        return Scores(
            score=metrics.pop("score"),
            loss=float(answers.columns["loss"].mean(dtype=np.float64)),
            per_image=np.exp(-np.abs(values_NT - target_NT).mean(axis=1)),
            tally=tally_NQ,
            metrics=metrics,
        )

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """R² and, in the target's unit, mean absolute error, root of the mean squared error and bias (answer − truth).

        `mae ratio` is the mean absolute error as a part of that of always saying the train mean. With several columns each
        has its own figures, `mae NAME`. R² is nan where the target does not vary; such columns are left out of its mean.
        """
        sums_BTF = tally_BQ[:, :-1].astype(np.float64).reshape(len(tally_BQ), self.outputs, FIGURES)
        count_B1 = tally_BQ[:, -1:].astype(np.float64)
        squared_BT, target_BT, square_BT, absolute_BT, error_BT, guess_BT = np.moveaxis(sums_BTF, 2, 0)
        spread_BT = square_BT - target_BT**2 / count_B1
        r2_BT = 1 - _ratio(squared_BT, spread_BT, spread_BT > NO_SPREAD * square_BT)
        found = {
            "mae": absolute_BT / count_B1 * self._std_T,
            "rmse": np.sqrt(squared_BT / count_B1) * self._std_T,
            "bias": error_BT / count_B1 * self._std_T,
            "mae ratio": _ratio(absolute_BT, guess_BT, guess_BT > 0),
        }
        score = {"score": _mean_of_known(r2_BT)}
        if self.outputs == 1:
            return score | {name: figure_BT[:, 0] for name, figure_BT in found.items()}
        by_column = {
            f"{name} {column}": figure_BT[:, t]
            for t, column in enumerate(self.info.names)
            for name, figure_BT in ({"R²": r2_BT} | found).items()
        }
        return score | {"mae ratio": _mean_of_known(found["mae ratio"])} | by_column

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """`values`: the number of each column, in its own unit."""
        return [
            {"values": dict(zip(self.info.names, values_T.tolist(), strict=True))}
            for values_T in answers.columns["values"]
        ]

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """The image as it is, with the numbers and, where they are known, the true ones: `18.2, is 17`."""
        values_NT, target_NT = answers.columns["values"], answers.columns.get("target")
        tiles = []
        for n, image_HWC in enumerate(images_NHWC):
            target_T = None if target_NT is None else target_NT[n]
            good = None
            if target_T is not None:
                good = bool(np.abs((values_NT[n] - target_T) / self._std_T).mean() <= GOOD_ERROR)
            tiles.append(Tile(image_HWC=image_HWC, title=self._title(values_NT[n], target_T), good=good))
        return tiles

    def charts(self, answers: Answers) -> list[Chart]:
        """Truth against answer."""
        truth_NT, answer_NT = answers.columns["target"], answers.columns["values"]
        return [ResidualChart(name="residuals", truth=truth_NT, answer=answer_NT, columns=self.info.names)]

    def _title(self, values_T: np.ndarray, target_T: np.ndarray | None) -> str:
        lines = []
        for t, column in enumerate(self.info.names[:MOST_SHOWN]):
            decimals = max(0, 1 - math.floor(math.log10(self._std_T[t])))  # a tenth of a deviation, or finer
            line = f"{values_T[t]:.{decimals}f}" + ("" if target_T is None else f", is {target_T[t]:.7g}")
            lines.append(line if self.outputs == 1 else f"{column} {line}")
        return "\n".join(lines) + ("\n…" if self.outputs > MOST_SHOWN else "")

    def _standardized(self, target_NT: torch.Tensor) -> torch.Tensor:
        if target_NT.device not in self._scales:
            mean_T, std_T = (torch.from_numpy(a).float().to(target_NT.device) for a in (self._mean_T, self._std_T))
            self._scales[target_NT.device] = mean_T, std_T
        mean_T, std_T = self._scales[target_NT.device]
        return (target_NT - mean_T) / std_T


def _figures(values_NT: Any, target_NT: Any) -> list[Any]:
    """What an image adds to a tally for each column, all standardized: squared error, target, its square, |error|, error,

    and |target|, the error of always saying the train mean (which is 0 here). For numpy and torch alike.
    """
    error_NT = values_NT - target_NT
    return [error_NT**2, target_NT, target_NT**2, abs(error_NT), error_NT, abs(target_NT)]


def _ratio(above: np.ndarray, below: np.ndarray, known: np.ndarray) -> np.ndarray:
    """above / below, nan where it is not known."""
    found: np.ndarray = np.divide(above, below, out=np.full_like(above, np.nan), where=known)
    return found


def _mean_of_known(figure_BT: np.ndarray) -> np.ndarray:
    """The mean over T of what is not nan, nan where nothing is."""
    known_BT = ~np.isnan(figure_BT)
    return _ratio(
        np.where(known_BT, figure_BT, 0.0).sum(axis=1), known_BT.sum(axis=1).astype(float), known_BT.any(axis=1)
    )
