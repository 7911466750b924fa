"""The learning-rate range test of a dataset and a recipe: run, put into a recipe, recorded in a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from trainwright.batch import Batch
from trainwright.diagnosis.lr_sweep import still_falling, swept_interval, tight_bounds
from trainwright.errors import RecipeError
from trainwright.files import write_atomically
from trainwright.optim.published_rates import published_lr
from trainwright.recipe import RANDOM, Recipe
from trainwright.recipes.published import rate_for
from trainwright.records import Finding, LrRange, to_json
from trainwright.report import lr_figure
from trainwright.seeding import derive
from trainwright.tracking.mirrors import parameters
from trainwright.tracking.run_folder import RunFolder
from trainwright.training import lr_range
from trainwright.training.lr_range import HIGH, LEAST_STEPS, LOW, SEEDS, SHARE
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.training import save_arrays

CYCLIC = ("triangular", "triangular2", "exponential-range")  # schedules between two bounds: Smith, arXiv:1506.01186 §3
# Times the suggestion: a cycle is at its peak for a moment only, its mean is about half of it; and the upper end of the interval
# is where single steps still help, which no training survives for long (docs/learning-rate.md).
CYCLE_PEAK = 2.0
RULE, PICTURE = "lr-range", "lr-range"  # the finding's name, and that of the files in a run folder


def range_of(
    prepared: Prepared, *, options: RunOptions, low: float = LOW, high: float = HIGH, seeds: int = SEEDS
) -> LrRange:
    """The range test of a training that is ready to start: its batches, augmentation, precision, clipping and groups.

    Changes nothing of `prepared`; `recipe.optimizer.lr` may be None. Raises RecipeError for an optimizer without a learning
    rate to be found.
    """
    recipe = prepared.recipe
    refuse_without_lr(recipe)
    if not any(parameter.requires_grad for parameter in prepared.model.parameters()):
        return lr_range.untold(np.array([low, high]), "no parameter of the network learns: all of them are frozen")
    known, _, tuned = known_rate(recipe)
    found = lr_range.lr_range_test(
        prepared.model,
        prepared.task,
        _batches(prepared, options.workers),
        optimizer_of(prepared, lr=known),  # any would do: only the groups' shares of it matter
        steps=training_steps(prepared),
        device=prepared.device,
        low=low,
        high=high,
        seeds=seeds,
        published=known,
        tuned=tuned,
        fresh=recipe.network.weights == RANDOM,
        settings=settings_of(prepared),
        progress=options.reporter.progress,
    )
    options.reporter.progress("learning-rate range test", 1, 1)  # a bar that is up comes down
    return found


def known_rate(recipe: Recipe) -> tuple[float, str, bool]:
    """(peak lr, where it is from, whether it was chosen for this) before anything is measured.

    That of a published recipe for the same task, network and optimizer, where there is one; else the optimizer's own.
    """
    chosen = None if recipe.task is None else rate_for(recipe, recipe.task)
    if chosen is not None:
        return chosen[0], f"that of recipe {chosen[1]}, for the same task, network and optimizer", True
    lr, source = published_lr(recipe.optimizer, batch_size=recipe.step_images)
    return lr, f"{recipe.optimizer.name}'s published rate: {source}", False


def _without_an_answer(recipe: Recipe, found: LrRange) -> tuple[float, str]:
    """(peak lr, where it is from) of a training for which the test cannot tell."""
    lr, source, _ = known_rate(recipe)
    if found.likeliest is None:
        return lr, source
    return found.likeliest, f"between {source}; and a decade and a half below where the sweep breaks down"


def with_range(recipe: Recipe, found: LrRange, *, low_is_given: bool = False) -> Recipe:
    """The recipe with the learning rate that was found: cyclic schedules go between the ends of the interval, at most up to
    CYCLE_PEAK times the suggestion.

    Where the test cannot tell it is the likeliest one, or the known one. low_is_given: whether `schedule.low` was not left open,
    and stays.
    """
    if found.suggestion is None:
        return recipe.changed({"optimizer.lr": _without_an_answer(recipe, found)[0]})
    low, high = found.interval or (found.suggestion, found.suggestion)
    if recipe.schedule.name in CYCLIC and low < high:
        peak = min(high, CYCLE_PEAK * found.suggestion)
        bounds = {"optimizer.lr": peak} if low_is_given else {"optimizer.lr": peak, "schedule.low": low / peak}
        return recipe.changed(bounds)
    return recipe.changed({"optimizer.lr": found.suggestion})


def stated(recipe: Recipe, found: LrRange, *, training_steps: int | None = None, asked: int = SEEDS) -> str:
    """Which learning rate a training gets and why, and what finding it took, in a few sentences.

    recipe: as `with_range` gives it. training_steps: those of the training that the test was for. asked: sweeps asked for.
    """
    said = [answer(recipe, found)]
    if (bounds := cycle_of(recipe)) is not None:
        said.append(f"The {recipe.schedule.name} schedule goes between {bounds[0]:.3g} and {bounds[1]:.3g}")
    said += [f"{note[0].upper()}{note[1:]}" for note in tight_bounds(found)]
    if found.steps:
        said.append(f"The test took {cost(found, training_steps)}: {sweeps(found, training_steps, asked=asked)}")
    return ". ".join(said)


def answer(recipe: Recipe, found: LrRange) -> str:
    """Which learning rate a training gets and why. recipe: as `with_range` gives it."""
    if found.suggestion is not None:
        return f"learning rate from the range test: {rates(found)}"
    _, source = _without_an_answer(recipe, found)
    return (
        f"the learning-rate range test cannot tell: {sentence(found.reason)} Training with {recipe.optimizer.peak_lr:.3g} "
        f"({source})"
    )


def cycle_of(recipe: Recipe) -> tuple[float, float] | None:
    """(lowest, highest) learning rate of a cyclic schedule; None of others. recipe: filled in, with its rate."""
    if recipe.schedule.name not in CYCLIC or recipe.schedule.low is None:
        return None
    peak = recipe.optimizer.peak_lr
    return recipe.schedule.low * peak, peak


def cost(found: LrRange, training_steps: int | None = None) -> str:
    """'330 steps, 8.9 % of the training's 3,700, in 4.2 s'; of a short training that there is a least that a test takes."""
    said = f"{found.steps:,} steps"
    if training_steps:
        said += f", {found.steps / training_steps * 100:.1f} % of the training's {training_steps:,}"
        if SHARE * training_steps < LEAST_STEPS <= found.steps:
            said += f" (a test takes about {LEAST_STEPS} at least)"
    return f"{said}, in {found.seconds:.1f} s"


def sweeps(found: LrRange, training_steps: int | None = None, *, asked: int = SEEDS) -> str:
    """'3 sweeps'; of fewer than were asked for also why: '1 of 5 sweeps, more would take over 9 % of the training'."""
    done = seeds_of(found)
    if done >= asked or found.steps == 0:
        return f"{done} sweep{'' if done == 1 else 's'}"
    short = training_steps is not None and SHARE * training_steps < LEAST_STEPS
    why = "the training is too short for more" if short else f"more would take over {SHARE * 100:.0f} % of the training"
    return f"{done} of {asked} sweeps, {why}"


def seeds_of(found: LrRange) -> int:
    """How many sweeps there were; 0 of a test that ended before any."""
    return len(found.losses_SL) if found.steps else 0


def record_range(folder: RunFolder, found: LrRange) -> None:
    """Keep a range test in its run folder: a record `lr_range`, all of its arrays, its picture; a finding if it cannot tell."""
    arrays = {name: getattr(found, name) for name in ("lrs_L", "losses_SL", "smooth_L", "low_L", "high_L")}
    save_arrays(folder, PICTURE, arrays)
    write_atomically(folder.figures / f"{PICTURE}.png", lr_figure.lr_range(found))
    folder.append("lr_range", as_json(found))
    folder.append("figure", {"name": f"{PICTURE}.png"})
    if found.suggestion is None:
        folder.append("finding", to_json(_cannot_tell(folder, found)))


def as_json(found: LrRange) -> dict[str, Any]:
    """A range test as plain JSON, without the losses of each seed: verdict, interval, suggestion, reason, trials, curve.

    swept_interval: the part of the interval where a sweep fell. notes: what its bounds hid.
    """
    plain: dict[str, Any] = to_json(
        {
            "verdict": found.verdict,
            "interval": found.interval,
            "swept_interval": swept_interval(found),
            "suggestion": found.suggestion,
            "likeliest": found.likeliest,
            "reason": found.reason,
            "still_falling": still_falling(found),
            "notes": tight_bounds(found),
            "seeds": seeds_of(found),
            "start": found.start,
            "trials": found.trials,
            "steps": found.steps,
            "seconds": found.seconds,
            "lrs": found.lrs_L,
            "smooth": found.smooth_L,
            "band_low": found.low_L,
            "band_high": found.high_L,
        }
    )
    return plain


def recorded_lr(folder: RunFolder, *, used: float) -> dict[str, float | None]:
    """`lr` of a run's result: low, high, suggested as its range test found them, None without one; used: the recipe's."""
    tests = list(folder.records("lr_range"))
    low, high = (tests[-1]["interval"] if tests else None) or (None, None)
    return {"low": low, "high": high, "suggested": tests[-1]["suggestion"] if tests else None, "used": used}


def recorded_finding(folder: RunFolder) -> list[Finding]:
    """What the range test of a run had to say of itself: one finding where it could not tell, else none."""
    known = {f.name for f in fields(Finding)}
    return [
        Finding(**{key: value for key, value in record.items() if key in known})
        for record in folder.records("finding")
        if record["rule"] == RULE
    ][-1:]


def _cannot_tell(folder: RunFolder, found: LrRange) -> Finding:
    used = parameters(folder)
    return Finding(
        rule=RULE,
        verdict="cannot-tell",
        evidence=f"The learning-rate range test cannot tell: {sentence(found.reason)}",
        advice=f"Trained with {used['optimizer.lr']:.3g}, a published rate that nothing measured here supports. Look at "
        f"figures/{PICTURE}.png; set optimizer.lr yourself where you know better.",
        figures={"start_loss": found.start, "steps": found.steps} if math.isfinite(found.start) else {},
    )


def sentence(reason: str) -> str:
    """The reason with a full stop."""
    return f"{reason.rstrip('.')}."


def where_it_falls(low: float, high: float) -> str:
    """'the loss falls at learning rates from 0.0002 to 0.06'; of a single rate: that a short training fell there alone."""
    if low == high:
        return "where a short training brings the loss down"
    return f"the loss falls at learning rates from {low:.2g} to {high:.2g}"


def rates(found: LrRange) -> str:
    """'0.013, the loss falls at learning rates from 0.0002 to 0.06', of a test that found one."""
    assert found.suggestion is not None
    falls = "" if found.interval is None else f", {where_it_falls(*found.interval)}"
    return f"{found.suggestion:.3g}{falls}"


def _batches(prepared: Prepared, workers: int) -> Callable[[int], Iterator[Batch]]:
    """Seed → endless batches as the training will see them, in an order and with draws of the test's own."""

    def of(seed: int) -> Iterator[Batch]:
        seed = derive(prepared.recipe.seed, "lr-range", seed)
        return batches_of(prepared, seed=seed, workers=workers).iterate()

    return of


def training_steps(prepared: Prepared) -> int:
    """Optimizer steps of the training that the test is for."""
    images = len(prepared.split.train)
    return prepared.recipe.epochs * (images // min(images, prepared.recipe.step_images))


def refuse_without_lr(recipe: Recipe) -> None:
    """Raise RecipeError for an optimizer without a learning rate to be found."""
    if recipe.optimizer.name == "rprop":
        raise RecipeError(
            "rprop finds the size of every weight's step by itself; lr is only the first one, so there is none to be found.",
            where="optimizer.name",
            cure="Give it one (--set optimizer.lr=0.01), or take another optimizer (--set optimizer.name=adamw).",
        )
