"""A search over recipe fields as a user of Optuna would write it around our trainer, within a wall time (`improve.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import trainwright as tw
from improve_budget import FINAL_SHARE, TRIALS, Job, Paces, Wall, final_epochs, trial_epochs
from improve_space import drawn
from trainwright.errors import NonFiniteLossError
from trainwright.recipe import Recipe
from trainwright.records import EpochRecord
from trainwright.training.device import choose_device
from trainwright.training.repeatable import repeatable
from trainwright.workflows.pace import pace_of
from trainwright.workflows.prepare import prepare
from trainwright.workflows.reporting import Silent

TENTHS = 10  # trials are compared at tenths of their training, since they differ in epochs


class Search:
    """Trials one after the other, each a training of the recipe that a draw makes of the base.

    best: the finished run with the best unseen score. states: how each trial ended, `finished`, `pruned` or `failed`.
    """

    def __init__(self, job: Job, wall: Wall, base: Recipe) -> None:
        self.wall, self.options = wall, job.options
        self.base = base.changed({"seed": job.seed})
        self.data = tw.open_dataset(job.data, workers=job.options.workers)
        self.best: tw.Run | None = None
        self.states: list[str] = []
        self._paces = Paces()
        self._run_seconds, self._on_all = self._measured()
        self._share = wall.for_trials / TRIALS

    def _measured(self) -> tuple[float, float]:
        """Seconds of a run beside its epochs, and how much longer an epoch is on all images; the pace of `base`, too.

        Measured as our own loop does it before it begins, and inside of the wall time as there.
        """
        device = choose_device(self.options.device)
        asked = {"workers": self.options.workers, "reporter": self.options.reporter}
        prepared = prepare(self.data, self.base, device=device, **asked)
        with repeatable(device, self.options.threads):
            pace = pace_of(prepared, options=self.options)
        self._paces.learn(self.base, pace.epoch_seconds)
        train, val = len(prepared.split.train), len(prepared.split.val)
        return pace.run_seconds, (train + val) / train

    def room(self) -> bool:
        """Whether at least half of a trial still fits: what is less goes to the last training."""
        return self.wall.for_trials > self._share / 2

    def train(self, draws: Any) -> float | None:
        """The unseen score of the recipe of a draw; None where its training did not get to the end, as `states` then says.

        draws: what asks for values (`improve_space.Draws`), is told scores (`report`) and says when to stop (`should_prune`).
        """
        recipe = drawn(draws, self.base)
        seconds = min(self._share, self.wall.for_trials)
        pace = {"epoch_seconds": self._paces.of(recipe), "run_seconds": self._run_seconds}
        recipe = recipe.changed({"epochs": trial_epochs(recipe.epochs, **pace, seconds=seconds)})
        watch = Watch(draws, out_of_time=lambda: self.wall.for_trials < -FINAL_SHARE / 2 * self.wall.budget)
        began = time.perf_counter()
        try:
            run = tw.train(self.data, recipe, options=replace(self.options, reporter=watch, stop_asked=watch.stop))
        except NonFiniteLossError:
            self.states.append("failed")
            return None
        if watch.epoch_seconds is not None:
            self._paces.learn(recipe, watch.epoch_seconds)
        if not run.finished:
            self.states.append("pruned")
            return None
        self.states.append("finished")
        if watch.epoch_seconds is not None:
            self._run_seconds = max(0.0, time.perf_counter() - began - recipe.epochs * watch.epoch_seconds)
        if self.best is None or run.score["val"] > self.best.score["val"]:
            self.best = run
        return run.score["val"]

    def finish(self) -> tuple[tw.Run, str]:
        """(the run that is handed over, how it came about): the best recipe on train and val, for as long as time remains."""
        assert self.best is not None
        recipe = self.best.recipe
        epochs = final_epochs(
            epoch_seconds=self._on_all * self._paces.of(recipe), run_seconds=self._run_seconds, seconds=self.wall.left
        )
        if epochs < recipe.epochs:
            return self.best, f"the best trial: {epochs} epochs on all images would have been fewer than its own"
        changes = {"epochs": epochs, "data.train_on": "train+val", "keep": "last"}
        try:
            return tw.train(self.data, recipe.changed(changes), options=self.options), f"{epochs} epochs on all images"
        except NonFiniteLossError:
            return self.best, f"the best trial: its recipe broke down over {epochs} epochs on all images"


class Watch(Silent):
    """Tells a trial its unseen scores as they come, and stops its training where the trial says so or no time is left."""

    def __init__(self, draws: Any, *, out_of_time: Callable[[], bool]) -> None:
        self._draws, self._out_of_time = draws, out_of_time
        self._stamps: list[float] = []
        self._told, self._hopeless = 0, False

    @property
    def epoch_seconds(self) -> float | None:
        """The usual time from the end of an epoch to that of the next, evaluation and all; None before there are two."""
        between = [later - earlier for earlier, later in zip(self._stamps, self._stamps[1:], strict=False)]
        return median(between) if between else None

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._stamps.append(time.perf_counter())
        tenth = TENTHS * (record.epoch + 1) // epochs
        if self._told < tenth < TENTHS:
            self._told = tenth
            self._draws.report(record.val.score, tenth)
            self._hopeless = self._draws.should_prune()

    def stop(self) -> bool:
        return self._hopeless or self._out_of_time()
