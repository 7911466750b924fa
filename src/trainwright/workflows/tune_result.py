"""What came out of a study that tuned: the best with its doubt, the table of trials, what the search says of its space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright.diagnosis.comparison import compare
from trainwright.diagnosis.noise import luck, noise_floor
from trainwright.diagnosis.wording import points_within
from trainwright.errors import RunError
from trainwright.records import Interval, Outcome, to_json
from trainwright.report.search_plots import expected_bests
from trainwright.search.audit import Edge, edges_of, importance_of, isolation_of, regions_of, widened
from trainwright.search.recipe_search import label_of
from trainwright.search.recipe_space import flat
from trainwright.search.space_file import space_tree
from trainwright.search.tuning import Found, Tuner
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.outcomes import answers_of
from trainwright.workflows.predict import task_of
from trainwright.workflows.run import recipe_of
from trainwright.workflows.study_result import said_of_test, shortened
from trainwright.workflows.tune_highest import highest_of

SEEN_OFTEN = 0.3  # share of the trials of a region that diverged from which on it is said


def end_of_tuning(folder: StudyFolder, tuner: Tuner, runs: Path) -> dict[str, Any]:
    """Write the best recipe beside the result, and return that: `trainwright.study/1`."""
    tuner.settle()  # the time may have been over before the search was
    held = tuner.held
    if held is not None:
        recipe = tuner.search.recipe.changed(held.trial.values)
        folder.write_json("best-recipe.json", recipe.model_dump(mode="json"))
        folder.write_text("best-recipe.yaml", recipe.to_yaml())
    return tune_result(folder, tuner, runs)


def tune_result(folder: StudyFolder, tuner: Tuner, runs: Path) -> dict[str, Any]:
    """The `trainwright.study/1` object. runs: where the study's runs lie."""
    asked, found, held, first = folder.asked, tuner.found, tuner.held, tuner.first
    trials = trials_table(folder)
    searched = [trial for trial in trials if trial["role"] == "trial"]
    as_it_is = flat(tuner.search.recipe)
    for trial in searched:
        trial["values"] = {key: trial["changes"].get(key, as_it_is.get(key)) for key in asked["space"]}
    complete = [one["score"] for one in searched if one["state"] == "finished" and one["score"] is not None]
    noise, gain = _doubt(tuner, runs)
    if held is None or found is None or held.trial.number != found.trial.number:
        gain = None  # of what is not handed over
    audit = _audit(tuner, searched, complete, noise)
    lucky = luck(noise, len(complete)) if math.isfinite(noise) and complete else None
    result = {
        "schema": "trainwright.study/1",
        "kind": "tune",
        "study": folder.name,
        "folder": str(folder.path),
        "strategy": asked["strategy"],
        "metric": first.result["metric"] if first else None if found is None else found.chosen.result["metric"],
        "trials": trials,
        "baseline": None if first is None else _of(first),
        "best": None if held is None else _best(held, tuner, runs),
        "gain": gain,
        "noise_floor": noise,
        "unchanged_scores": [] if first is None else [first.score],
        "luck": lucky,
        "compared": len(complete),
        "importance": audit.pop("importance"),
        "audit": audit,
        "space": asked["space"],
        "spaces": spaces_of(tuner),
        "rounds": [],
        "journal": tuner.entries,
        "test_images": asked["test_images"],
        "test_opened_before": asked.get("test_opened_before", 0),  # studies of before it kept none
        "seconds": tuner.ledger.spent,
        "budget_seconds": asked["budget_seconds"],
        "budget": {key: asked[key] for key in ("trials", "full_trainings")},
        "epochs": asked["recipe"]["epochs"],
        "epochs_trained": sum(trial["epochs"] for trial in trials),
    }
    result["highest"] = highest_of(
        searched,
        result["best"],
        found=None if found is None else found.trial.number,
        first_score=None if first is None else first.score,
        compared=len(complete),
    )
    result["warnings"] = [*shortened(asked), *_warnings(result, tuner)]
    result["summary"] = " ".join([*_summary(result, tuner), *said_of_test(asked)])
    clean: dict[str, Any] = to_json(result)
    return clean


def trials_table(folder: StudyFolder) -> list[dict[str, Any]]:
    """A row for each training that was begun, with all of its pieces: number, run, role, label, changes, score, epochs, seconds,
    state. unfinished: asked for, and not told of when the time was over."""
    rows: dict[int, dict[str, Any]] = {}
    began: dict[int, int] = {}
    for asked in folder.records("ask"):
        number = asked["number"]
        trial = began[number] = number if asked.get("continues") is None else asked["continues"]
        if trial == number:
            changes = asked.get("changes", {})
            rows[number] = {
                "number": number,
                "run": folder.run_id(number),
                "role": asked["role"],
                "label": label_of(changes) if asked["role"] == "trial" else asked["label"],
                "changes": changes,
                "score": None,
                "epochs": 0,
                "seconds": 0.0,
                "state": "unfinished",
            }
    for told in folder.records("tell"):
        row = rows[began[told["number"]]]
        diverged = told["state"] == "failed" and told["result"].get("verdict") == "diverged"
        row["state"] = "diverged" if diverged else told["state"]
        row["seconds"] += told["seconds"]
        row["epochs"] = told["result"].get("epochs") or row["epochs"]
        if told["score"] is not None:
            row["score"] = told["score"]
    return list(rows.values())


def _of(outcome: Outcome) -> dict[str, Any]:
    return {
        "run": outcome.run,
        "score": outcome.score,
        "gap": outcome.result["gap"],
        "verdict": outcome.result["verdict"],
    }


def _best(held: Found, tuner: Tuner, runs: Path) -> dict[str, Any]:
    """What is handed over. score: of the training with another seed, where there is one; interval: of that."""
    judged = held.judged
    model = tuner.final or judged
    return {
        "run": model.run,
        "trial": held.trial.number,
        "score": judged.score,
        "interval": _interval(runs / judged.run),
        "gap": judged.result["gap"],
        "verdict": judged.result["verdict"],
        "scored_by": judged.run,
        "chosen_score": held.chosen.score,
        "optimistic": tuner.optimistic,
        "trained_on": "train+val" if tuner.final is not None else "train",
        "changes": dict(held.trial.values),
        "recipe": tuner.search.recipe.changed(held.trial.values).model_dump(mode="json"),
    }


def _interval(path: Path) -> dict[str, Any] | None:
    """Of the val score of a run; None where its folder does not say."""
    try:
        result = RunFolder.open(path).result() or {}
    except RunError:
        return None
    found: dict[str, Any] | None = (result.get("intervals") or {}).get("score")
    return found


def _doubt(tuner: Tuner, runs: Path) -> tuple[float, Interval | None]:
    """(noise floor of one training; gain of what was found over the first trial, by a training that nothing was chosen by)."""
    found = tuner.found
    if found is None or found.fresh is None:
        return math.nan, None
    folder = RunFolder.open(runs / found.chosen.run)
    task = task_of(folder, recipe_of(folder))
    score = None if task.counts_right else score_of(task)
    chosen, groups = answers_of(folder)
    fresh, _ = answers_of(RunFolder.open(runs / found.fresh.run))
    noise = noise_floor(chosen, fresh, score=score, groups=groups)
    if tuner.first is None or found.trial.number == 0:
        return noise, None
    first, _ = answers_of(RunFolder.open(runs / tuner.first.run))
    return noise, compare([fresh], [first], score=score, groups=groups, noise=noise).gain


def _audit(
    tuner: Tuner, trials: Sequence[Mapping[str, Any]], complete: Sequence[float], noise: float
) -> dict[str, Any]:
    """What the search says of its own space."""
    space, seed = tuner.search.search.space, tuner.search.recipe.seed
    searched = [trial for trial in trials if trial["state"] != "unfinished"]
    scored = [
        (trial["changes"], trial["score"])
        for trial in searched
        if trial["state"] == "finished" and trial["score"] is not None
    ]
    edges = [] if tuner.found is None else edges_of(space, tuner.found.trial.values, tried=len(searched))
    tried = [(trial["changes"], trial["state"] == "diverged") for trial in searched]
    return {
        "boundary": edges,
        "follow_up_space": widened(space_tree(space), edges) if edges else None,
        "diverged": {
            "trials": sum(diverged for _, diverged in tried),
            "of": len(tried),
            "regions": regions_of(space, tried),
        },
        "isolation": isolation_of(space, scored, noise),
        "best_of_m": expected_bests(complete, len(complete)),
        "importance": importance_of(space, scored, seed=seed),
        "over": tuner.over or "the time was over",
    }


def spaces_of(tuner: Tuner) -> list[dict[str, Any]]:
    """Every space that the study looked at, the follow-ups last: what it is, why, how many trials began in it, its best score."""
    search = tuner.search.search
    ends = [one.began for one in tuner.spaces[1:]] + [len(search.history.asks)]
    rows = []
    for looked, end in zip(tuner.spaces, ends, strict=True):
        trials = [number for number in search.history.trials if looked.began <= number < end]
        scores = [score for number, score in tuner.ended.items() if looked.began <= number < end]
        within = looked.within if looked.within != looked.space else None
        rows.append(
            {
                "space": space_tree(looked.space),
                "within": None if within is None else space_tree(within),
                "because": list(looked.edges),
                "trials": trials,
                "best_score": max(scores, default=None),
            }
        )
    return rows


def _followed(spaces: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """What the follow-ups brought."""
    said = []
    for number, after in enumerate(spaces[1:], start=1):
        ends = " and ".join(f"the {edge.end} end of {edge.key}" for edge in after["because"])
        reached = f"; of {len(after['trials'])} further trials "
        best, known = after["best_score"], [one["best_score"] for one in spaces[:number]]
        before = max((score for score in known if score is not None), default=None)
        if best is None:
            reached += "none came to its end"
        else:
            reached += f"the best reached {metric} {best:.3f}, {'none' if before is None else f'{before:.3f}'} before"
        said.append(f"Follow-up: the best lay at {ends}{reached}.")
    return said


def _warnings(result: Mapping[str, Any], tuner: Tuner) -> list[str]:
    audit, best = result["audit"], result["best"]
    said = [_boundary(edge) for edge in audit["boundary"]]
    said += [
        f"{region.diverged} of {region.trials} trials with {region.where} diverged"
        for region in audit["diverged"]["regions"]
        if region.diverged >= 2 and region.diverged >= SEEN_OFTEN * region.trials
    ]
    if best is not None and best["optimistic"]:
        said.append(
            f"the score is that of the best of {result['compared']} trainings, and so optimistic: it was not trained once more "
            "with another seed"
        )
    if audit["boundary"] and not tuner.follows_up:
        said.append(
            "'tune --follow-up' looks beyond such an end in the same study, with the last two fifths of its budget"
        )
    left = [trial for trial in result["trials"] if trial["state"] == "unfinished"]
    if left:
        said.append(f"{len(left)} training{'s were' if len(left) > 1 else ' was'} under way when the time was over")
    return said


def _boundary(edge: Edge) -> str:
    low, high = edge.wider
    return (
        f"the best {edge.key} ({edge.value:.3g}) lies at the {edge.end} end of {edge.low:.3g} to {edge.high:.3g}: look at "
        f"{low:.3g} to {high:.3g} next"
    )


def _summary(result: Mapping[str, Any], tuner: Tuner) -> list[str]:
    """The study in a few sentences."""
    found, held = tuner.found, tuner.held
    begun = sum(trial["role"] == "trial" for trial in result["trials"])
    if found is None or held is None:
        return [f"None of {begun} trials came to its end with a score: nothing is handed over."]
    metric = found.chosen.result["metric"]
    ended = result["compared"]
    said = [f"{begun} trials, {ended} of them trained to their end." if ended < begun else f"{begun} trials."]
    named = "the recipe as it is" if found.trial.number == 0 else label_of(found.trial.values)
    which = "best" if held.trial.number == found.trial.number else "highest"
    said.append(f"The {which} is {named}: {metric} {found.chosen.score:.3f}.")
    if found.fresh is not None:
        said.append(f"Once more with another seed it reaches {found.fresh.score:.3f}.")
    if result["luck"] is not None and ended > 1:
        said.append(
            f"The best of {ended} trainings that are all alike would look better by {100 * result['luck']:.1f} points."
        )
    said += _followed(result["spaces"], metric)
    gain, highest = result["gain"], result["highest"]
    if held.trial.number != found.trial.number and (highest or {}).get("trial") != found.trial.number:
        said.append(f"That is not above the first trial's {held.chosen.score:.3f}, so the recipe stays as it is.")
    if highest is not None and highest["why_not"] is not None:
        said.append(highest["why_not"])
    if gain is not None and held.trial.number == found.trial.number:
        sure = "beyond chance" if gain.low > 0 else "which may be chance"
        said.append(f"Over the recipe as it is: {points_within(gain)}, {sure}.")
    return said
