"""The learning-rate range test: sweeps and short trainings on copies of a model, judged by `diagnosis/lr_choice.py`.

Smith, arXiv:1506.01186 §3.3, with what statistics.md asks beyond it: several seeds, state that stays as it was, an answer that
short trainings confirm, and "cannot tell" where nothing is learned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.diagnosis import lr_choice
from trainwright.diagnosis.lr_choice import Circumstances, Measured
from trainwright.diagnosis.lr_curve import SHOT_PAST, Curve, curve_of
from trainwright.errors import NonFiniteLossError, UsageError
from trainwright.plugins import Task
from trainwright.records import LrRange, Progress
from trainwright.training.device import autocast
from trainwright.training.loop import FitSettings, fit, outputs_of, refuse_single_image
from trainwright.training.probe import Listening, hold_out, others, pieces
from trainwright.training.randomness import randomness_of
from trainwright.training.twin import twin_of

LOW, HIGH = 1e-7, 10.0  # of the sweep: every optimizer's usable rates lie in it
SEEDS = 3  # sweeps, as far as the budget reaches
SHARE = 0.09  # of the training's steps that the test may take
LEAST_STEPS = 48  # what it takes where that share would be less
POINTS_A_DECADE = (2, 4)  # of a sweep; the more where the budget pays for all seeds at that
# Cost of looking at a batch, in training steps: backward costs twice as much as forward (Kaplan et al., arXiv:2001.08361 §2.1).
FORWARD = 1 / 3
LOOKED_AT, TRIED_ON = 4, 8  # batches whose loss is followed along a sweep, and measured at the end of a short training
LEAST_TRIAL = (
    24  # steps of a short training: fewer do not tell learning from chance on images that are hard to tell apart
)
MOST_OF_TRIAL = 0.05  # of the training's steps, where that is more
TRIAL_WARMUP, TRIAL_COOLDOWN = 0.1, 0.3  # of a short training: linear, to 0 at the end, which shows what it has learned
TRIALS_RESERVE = 3 * (LEAST_TRIAL + 2 * FORWARD * TRIED_ON)
FLAT = 1e-3  # of the start's loss: less is nothing moved; every other point of a sweep is looked at until then


def lr_range_test(
    model: nn.Module,
    task: Task,
    batches: Callable[[int], Iterator[Batch]],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    device: torch.device,
    low: float = LOW,
    high: float = HIGH,
    seeds: int = SEEDS,
    published: float | None = None,
    tuned: bool = False,
    fresh: bool = True,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
) -> LrRange:
    """Between which learning rates the loss falls, and which peak to train with; or that it cannot be told, and why.

    model, optimizer: copied for each training, never changed; groups keep their ratio of lr. batches: seed → endless batches
    from the first on. steps: of the training that the test serves: it takes at most SHARE of them, or LEAST_STEPS, and fewer
    seeds where that is little. low, high: of the sweep and of everything that is tried. published: lr to expect, and to try
    where the sweep alone cannot tell; tuned: it was chosen for this task and network. fresh: the weights are random.
    settings: as for `fit`; nothing is averaged. Raises UsageError for bounds or seeds that are none.
    """
    refuse_bounds(low, high, seeds)
    begun = time.perf_counter()
    subject = _Subject(
        model=model,
        task=task,
        optimizer=optimizer,
        batches=batches,
        device=device,
        settings=settings or FitSettings(),
        budget=_Budget(max(float(LEAST_STEPS), SHARE * steps)),
        progress=progress or (lambda what, done, total: None),
    )
    lrs_L = _lrs(low, high, seeds, subject.budget)
    if not any(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"]):
        return untold(lrs_L, "no parameter of the network learns: all of them are frozen")
    around = replace(_circumstances(model, optimizer), published=published, tuned=tuned, fresh=fresh)
    losses_SL, errors_SL, start = _sweeps(subject, lrs_L, seeds, rises=around.normalized)
    if not math.isfinite(start):
        return untold(lrs_L, "the loss is not finite before anything is learned")
    curve = curve_of(lrs_L, losses_SL, errors_SL, start)
    peak = lr_choice.peak_of(curve, around)
    trials = _trials(subject, curve, peak, steps, rises=around.normalized) if curve.moves else {}
    return replace(
        lr_choice.conclude(curve, peak, trials, around),
        losses_SL=losses_SL,
        steps=math.ceil(subject.budget.taken),
        seconds=time.perf_counter() - begun,
    )


@dataclass
class _Budget:
    """Optimizer steps that the test may take, looking counted as parts of steps; and how many it has taken."""

    limit: float
    taken: float = 0.0

    @property
    def left(self) -> float:
        return self.limit - self.taken


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is tested: everything that `fit` takes, to be copied for each training."""

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    batches: Callable[[int], Iterator[Batch]]
    device: torch.device
    settings: FitSettings
    budget: _Budget
    progress: Progress

    def look(self, model: nn.Module, probe: list[Batch]) -> tuple[np.ndarray, np.ndarray | None]:
        """The loss of each image of the probe in train mode, and how much more it would be with other images' targets.

        Neither batch-norm statistics nor random streams move. None for networks that make their loss of the target.
        """
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        listening = Listening(self.task, model)
        losses = []
        model.train()
        try:
            with torch.no_grad(), randomness_of(0, "lr-range", device=self.device):
                for part in (part for batch in probe for part in pieces(batch.to(self.device), self.settings.parts)):
                    with autocast(self.settings.autocast, self.device):
                        losses.append(listening.loss(outputs_of(model, part), part.target)[0])
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
        except ValueError as error:
            refuse_single_image(error)
            raise
        self.budget.taken += FORWARD * sum(map(len, probe)) / max(map(len, probe))
        return torch.cat(losses).double().cpu().numpy(), listening.gains()

    def train(
        self,
        schedule: Callable[[float], float],
        *,
        peak: float,
        steps: int,
        seed: int,
        probe_batches: int,
        listening: Listening | None = None,
    ) -> Iterator[tuple[nn.Module, list[Batch]]]:
        """A copy and its probe, at first before, then after each step of its training; ends early where the loss is lost.

        The probe is of the first batches of the seed's stream, the training takes all other images, those after it first: the
        same for every rate.
        """
        model, optimizer = twin_of(self.model, self.optimizer, where="model", cure="Set optimizer.lr to a number.")
        own = max(group.setdefault("peak_lr", group["lr"]) for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["peak_lr"] *= peak / own
        scaler = None if self.settings.scaler is None else torch.amp.GradScaler(self.device.type)
        settings = replace(self.settings, average=None, momentum=None, scaler=scaler, seed=seed)
        listening = listening or Listening(self.task, model)
        with closing(self.batches(seed)) as batches:  # type: ignore[type-var]
            probe, rest = hold_out(batches, probe_batches)
            yield model, probe
            records = fit(
                model,
                listening,
                others(rest, probe, listening),
                optimizer,
                schedule,
                steps=steps,
                device=self.device,
                settings=settings,
            )
            try:
                for _ in records:
                    self.budget.taken += 1
                    yield model, probe
            except NonFiniteLossError:
                return


def _lrs(low: float, high: float, seeds: int, budget: _Budget) -> np.ndarray:
    """The points of a sweep, geometric: as many as the budget pays for, each looked at, beside three short trainings."""
    few, many = (max(7, round(density * math.log10(high / low)) + 1) for density in POINTS_A_DECADE)
    pays = budget.limit - TRIALS_RESERVE > seeds * many * (1 + FORWARD * LOOKED_AT)
    return np.geomspace(low, high, many if pays else few)


@dataclass
class _Swept:
    """One seed's sweep: loss on its probe after the step at each lr, standard error of its change; nan: not looked at."""

    start: float
    losses_L: np.ndarray
    errors_L: np.ndarray
    cost: float = field(default=0.0)


def _sweeps(subject: _Subject, lrs_L: np.ndarray, seeds: int, *, rises: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """(losses [S, L] shifted to the mean start, their standard errors [S, L], the mean start).

    As many sweeps as were asked for and the budget pays beside three short trainings, at least one.
    """
    budget = subject.budget
    swept: list[_Swept] = []
    for seed in range(seeds):
        if swept:
            fell = curve_of(lrs_L, *_joined(swept)).interval is not None
            if budget.left - swept[-1].cost < _reserve(budget, seed, fell=fell, rises=rises):
                break
        subject.progress("learning-rate range test: sweep", seed, seeds)
        swept.append(_sweep(subject, lrs_L, seed))
    return _joined(swept)


def _reserve(budget: _Budget, seed: int, *, fell: bool, rises: bool) -> float:
    """What has to be left for short trainings after a further sweep."""
    if rises and budget.limit > 2 * TRIALS_RESERVE:
        return 2 * TRIALS_RESERVE  # with two seeds each
    if seed > 1:
        return TRIALS_RESERVE
    return TRIALS_RESERVE / (3 if fell else 1.5)  # one, and a long one where the sweep has shown nothing yet


def _joined(swept: list[_Swept]) -> tuple[np.ndarray, np.ndarray, float]:
    start = float(np.mean([one.start for one in swept]))
    losses_SL = np.stack([one.losses_L - one.start + start for one in swept])
    return losses_SL, np.stack([one.errors_L for one in swept]), start


def _sweep(subject: _Subject, lrs_L: np.ndarray, seed: int) -> _Swept:
    """One step at each lr, rising, until the loss is further above its start than it had fallen."""
    points, ratio, before = len(lrs_L), float(lrs_L[0] / lrs_L[-1]), subject.budget.taken
    training = subject.train(
        lambda progress: ratio ** (1 - progress * points / (points - 1)),
        peak=float(lrs_L[-1]),
        steps=points,
        seed=seed,
        probe_batches=LOOKED_AT,
    )
    with closing(training):  # type: ignore[type-var]
        start_P, _ = subject.look(*next(training))
        swept = _Swept(float(start_P.mean()), np.full(points, np.nan), np.full(points, np.nan))
        moved, lowest = False, swept.start
        for index, (model, probe) in enumerate(training):
            if not moved and index % 2 and index < points - 1:
                continue
            loss_P, _ = subject.look(model, probe)
            loss = float(loss_P.mean())
            if not math.isfinite(loss):
                break
            swept.losses_L[index] = loss
            swept.errors_L[index] = float((loss_P - start_P).std(ddof=1)) / math.sqrt(len(loss_P))
            moved = moved or abs(loss - swept.start) > FLAT * abs(swept.start)
            lowest = min(lowest, loss)
            if loss - swept.start > max(SHOT_PAST * abs(swept.start), swept.start - lowest):
                break
    swept.cost = subject.budget.taken - before
    return swept


def _trials(subject: _Subject, curve: Curve, peak: float, steps: int, *, rises: bool) -> dict[float, list[Measured]]:
    """Short trainings at `peak` and, where the budget pays for three of a useful length, a step below and above it.

    Where none of them ends below its start, a last one at a tenth of the lowest rate. rises: further steps up, as long as the
    loss ends lower at each and the budget lasts. All within the bounds of the sweep.
    """
    left, looks = subject.budget.left, 2 * FORWARD * TRIED_ON
    longest = max(LEAST_TRIAL, round(MOST_OF_TRIAL * steps))
    alone = left / 3 - looks < LEAST_TRIAL
    seeds = 2 if left >= 2 * TRIALS_RESERVE else 1
    length = max(LEAST_TRIAL, min(longest, int(left / (1 if alone else 3 * seeds) - looks)))
    length = min(length, max(2, steps - TRIED_ON))  # or it would learn images by heart that the training sees only once
    found: dict[float, list[Measured]] = {}
    for done, step in enumerate((0,) if alone else (-1, 0, 1)):
        subject.progress("learning-rate range test: short trainings", done, 1 if alone else 3)
        lr = peak * 10 ** (lr_choice.STEP * step)
        if curve.lrs_L[0] <= lr <= curve.lrs_L[-1]:
            found[lr] = [_trial(subject, lr, length, seed) for seed in range(seeds)]
    while rises and not alone and subject.budget.left >= seeds * (length + looks):
        highest = max(found)
        lr = highest * 10**lr_choice.STEP
        if lr > curve.lrs_L[-1] or lr_choice.as_far_up(sorted(found)[-2], found) != highest:
            break
        found[lr] = [_trial(subject, lr, length, seed) for seed in range(seeds)]
    lowest = min(found) / 10
    if not any(m.loss < m.start for measured in found.values() for m in measured) and lowest >= curve.lrs_L[0]:
        found = {lowest: [_trial(subject, lowest, min(length, LEAST_TRIAL), seed) for seed in range(seeds)], **found}
    return found


def _trial(subject: _Subject, lr: float, length: int, seed: int) -> Measured:
    """What a short training at peak `lr` makes of the loss of images that it does not see."""

    def schedule(progress: float) -> float:
        rising = (progress * length + 1) / (TRIAL_WARMUP * length + 1)
        return min(1.0, rising, (1 - progress) / TRIAL_COOLDOWN)

    listening = Listening(subject.task, subject.model)
    training = subject.train(
        schedule, peak=lr, steps=length, seed=1000 + seed, probe_batches=TRIED_ON, listening=listening
    )
    with closing(training):  # type: ignore[type-var]
        model, probe = next(training)
        start_P, _ = subject.look(model, probe)
        taken = sum(1 for _ in training)
        if taken < length:
            return Measured(start_P=start_P, loss_P=np.full_like(start_P, np.nan), gains_P=None)
        loss_P, gains_P = subject.look(model, probe)
        before_P = listening.gains()
        if gains_P is not None and before_P is not None:  # the first half has learned little yet
            gains_P = np.concatenate([gains_P, before_P[len(before_P) // 2 :]])
        return Measured(start_P=start_P, loss_P=loss_P, gains_P=gains_P)


def _circumstances(model: nn.Module, optimizer: torch.optim.Optimizer) -> Circumstances:
    modes = {module: module.training for module in model.modules()}
    model.train()  # what is frozen stays in eval mode, and batch norm there undoes nothing
    normalized = any(
        isinstance(module, nn.GroupNorm) or (isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.training)
        for module in model.modules()
    )
    layered = not normalized and any(isinstance(module, nn.LayerNorm | nn.RMSNorm) for module in model.modules())
    for module, mode in modes.items():
        module.training = mode
    return Circumstances(normalized=normalized, layered=layered, plain=isinstance(optimizer, torch.optim.SGD))


def untold(lrs_L: np.ndarray, reason: str) -> LrRange:
    """The answer where nothing could be swept, for `reason`."""
    nothing_L = np.full(len(lrs_L), np.nan)
    return LrRange(
        lrs_L=lrs_L,
        losses_SL=nothing_L[None],
        smooth_L=nothing_L,
        low_L=nothing_L,
        high_L=nothing_L,
        start=math.nan,
        interval=None,
        suggestion=None,
        reason=reason,
    )


def refuse_bounds(low: float, high: float, seeds: int) -> None:
    """Raise UsageError for a sweep that is none."""
    if not (0 < low < high < math.inf):
        raise UsageError(
            f"a sweep goes from a lower learning rate above 0 to a higher one, got {low:g} to {high:g}.",
            where="low, high",
            cure=f"The usual ones are {LOW:g} and {HIGH:g}.",
        )
    if seeds < 1:
        raise UsageError(
            f"at least one sweep is needed, got {seeds}.", where="seeds", cure=f"The usual number is {SEEDS}."
        )
