"""The page of a study: what came of it in a few sentences, then the story, then what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.diagnosis.wording import EPOCHS_CHOSEN, TOLD_APART, times
from trainwright.report.arms_table import arms_of
from trainwright.report.markup import Html, element, joined
from trainwright.report.openings import opened, test_facts
from trainwright.report.page import UNSEEN, Section, figure, figures, foot, page
from trainwright.report.search_plots import best_of_m, importance_bars, isolation_plots, parallel_coordinates
from trainwright.report.spaces import nuisance_of, spaces_table
from trainwright.report.story import folded, told, words
from trainwright.report.study_plots import best_so_far, unchanged_scores
from trainwright.report.tables import Cell, Column, facts_of, rows_of, table
from trainwright.report.unfinished import unfinished_study
from trainwright.report.values import StudyValues, Trial
from trainwright.report.wording import (
    NOTHING,
    command,
    counted,
    duration,
    end_of,
    finite,
    moment,
    points_within,
    recipe_value,
    score,
    within,
)

BUT_THE_LAST = UNSEEN.removesuffix(".") + " but the final training, which was given no score."
TRAINED_ON = {"train+val": "train and validation images together", "train": "train images"}


def study_page(values: StudyValues) -> str:
    """The page as HTML."""
    result = values.result or {}
    sections = [
        ("story", "Story", "The story", _story(values, result)),
        ("arms", "Arms", "What each arm gained", arms_of(result)),
        ("progress", "Progress", "The best so far", figure(best_so_far(values.trials, values.metric))),
        ("search", "Recipes", "What the search saw", _search(values, result)),
        ("noise", "Noise", "Noise and luck", _noise(values, result)),
        ("runs", "Runs", "All runs", _runs(values)),
        ("test", "Test", "The test part", _test(values)),
        ("asked", "Asked", "What was asked", _asked(values, result)),
        ("repeat", "Repeat", "How to repeat it", _repeat(values)),
    ]
    return page(
        title=values.study,
        kind="report of a study",
        head=_head(values),
        sections=[
            Section(anchor=anchor, short=short, title=title, body=body)
            for anchor, short, title, body in sections
            if body
        ],
        foot=foot(
            values.version,
            end_of(values.folder),
            BUT_THE_LAST if (result.get("best") or {}).get("trained_on") == "train+val" else UNSEEN,
        ),
    )


def _head(values: StudyValues) -> Html:
    result = values.result
    if result is None:
        return unfinished_study(values)
    gain = result.get("gain")
    proven = gain is not None and finite(gain.get("low")) > 0
    word = f"Better by {points_within(gain)}" if proven else "Nothing proven better"
    summary = str(result.get("summary") or "")
    warnings = [element("p", element("strong", "Note: "), warning) for warning in result.get("warnings") or ()]
    banner = element(
        "div",
        element("p", word, class_="word"),
        element("p", summary) if summary else None,
        _against(result, values.metric),
        warnings,
        class_=f"verdict {'good' if proven else 'unsure'}",
    )
    return joined([banner, _facts(values, result)])


def _against(result: Mapping[str, Any], metric: str) -> Html | None:
    """What a gain is over, where it is not the difference of the two scores that stand below it."""
    unchanged = [finite(one) for one in result.get("unchanged_scores") or ()]
    gain, ends = finite((result.get("gain") or {}).get("value")), [result.get("baseline"), result.get("best")]
    if not math.isfinite(gain) or not all(ends):
        return None
    before, now = (finite(end["score"]) for end in ends if end)
    if not abs(now - before - gain) >= TOLD_APART:
        return None
    best = ends[1] or {}
    longer = [one["run"] for one in result.get("lengths") or () if not one["adopted"]]
    if best.get("scored_by") in longer:
        said = (
            "The score is that of a longer training, which has not proven that length pays; the gain was proven before."
        )
        return element("p", said, class_="quiet")
    if len(unchanged) < 2:
        chosen = best.get("recipe", {}).get("keep") == "best"
        return element("p", EPOCHS_CHOSEN, class_="quiet") if chosen else None
    low, high = score(min(unchanged), metric), score(max(unchanged), metric)
    return element(
        "p",
        f"The gain is not over the baseline alone: the unchanged recipe was trained {len(unchanged)} times, with {low} to "
        f"{high}, and one training is no measure of it.",
        class_="quiet",
    )


def _facts(values: StudyValues, result: Mapping[str, Any]) -> Html:
    metric, baseline, best = values.metric, result.get("baseline"), result.get("best")
    facts: list[tuple[str, str, Sequence[str]]] = []
    if baseline:
        more = [_interval(values, baseline["run"]), _gap(baseline)]
        facts.append((f"baseline: {metric} on unseen images", score(baseline["score"], metric), more))
    if best:
        more = [_interval(values, best.get("scored_by") or best["run"]), _gap(best)]
        if best.get("scored_by") and best["scored_by"] != best["run"]:
            more.append("of the run that its recipe was judged by")
        facts.append((f"now: {metric} on unseen images", score(best["score"], metric), more))
    facts += test_facts(values.openings, metric)
    budget = result.get("budget_seconds")
    facts.append(
        (
            "time",
            duration(result.get("seconds")),
            (f"of a budget of {duration(budget)}" if budget else "", counted(len(values.trials), "run")),
        )
    )
    return facts_of(facts)


def _interval(values: StudyValues, run: str) -> str:
    """That of a run's score, as its folder has it."""
    return within(next((one.interval for one in values.trials if one.run == run), None), values.metric)


def _gap(of: Mapping[str, Any]) -> str:
    said = points_within(of.get("gap"))
    return "" if said == NOTHING else f"gap {said}"


def _story(values: StudyValues, result: Mapping[str, Any]) -> Html | None:
    sentences = told(values.story, values.trials)
    return sentences if sentences is None or not result.get("rounds") else joined([sentences, words()])


def _search(values: StudyValues, result: Mapping[str, Any]) -> Html | None:
    """What is worth looking at in a study with many recipes; None for few."""
    importance = result.get("importance") or None
    drawn = [
        importance_bars(importance),
        best_of_m(values.trials, values.metric),
    ]
    whole = parallel_coordinates(values.trials, values.metric, importance)
    noise = finite(result.get("noise_floor"))
    single = isolation_plots(
        values.trials,
        values.metric,
        importance,
        nuisance=nuisance_of(result.get("space") or {}),
        noise=noise if math.isfinite(noise) else 0.0,
    )
    if whole is None and not single and not any(drawn) and len(result.get("spaces") or ()) < 2:
        return None
    return joined([spaces_table(result.get("spaces") or (), values.metric), figure(whole), figures(*drawn, *single)])


def _noise(values: StudyValues, result: Mapping[str, Any]) -> Html | None:
    noise, lucky = finite(result.get("noise_floor")), finite(result.get("luck"))
    if not math.isfinite(noise):
        return None
    unchanged = result.get("unchanged_scores") or ()
    if "compared" in result:  # of a search: the noise is that of the best recipe, once more with another seed
        compared, what, measured = int(result["compared"]), "trainings", "the best recipe with two seeds"
    else:
        compared, what = sum(len(one["arms"]) for one in result.get("rounds") or ()), "arms"
        measured = f"{counted(len(unchanged), 'training')} of the unchanged recipe"
    sentences = [
        f"Two trainings that differ in nothing but the seed differ by chance on single images: the deviation of a score is at "
        f"least {100 * noise:.2f} points (noise floor, from {measured})."
    ]
    if math.isfinite(lucky) and compared > 1:
        sentences.append(
            f"The best of {compared} {what} that are all no better would look better by {100 * lucky:.2f} points: so much of "
            "a best score may be luck."
        )
    if math.isfinite(finite((result.get("gain") or {}).get("value"))):
        sentences.append("The gain above is that of trainings which were not chosen for their score.")
    best = result.get("best") or {}
    drawn = unchanged_scores(unchanged, best.get("score") if best.get("remedies") else None, values.metric)
    return joined([[element("p", sentence) for sentence in sentences], figure(drawn)])


def _runs(values: StudyValues) -> Html | None:
    """Every run with what its recipe changes; the row that the story links to."""
    if not values.trials:
        return None
    columns = [
        Column(title="run", number=True, lower_first=True),
        Column(title="what"),
        Column(title="role"),
        Column(title=values.metric, number=True),
        Column(title="verdict"),
        Column(title="changed against the first"),
        Column(title="time", number=True, lower_first=True),
        Column(title="state"),
    ]
    rows = [
        [
            Cell(shown=one.number, value=float(one.number)),
            Cell(
                shown=joined(
                    [
                        element("a", one.label, href=one.link) if one.link else one.label,
                        element("br"),
                        element("span", one.run, class_="path"),
                    ]
                ),
                value=one.label,
            ),
            one.role,
            Cell(shown=_scored(one, values.metric), value=one.score),
            one.verdict.replace("-", " ") if math.isfinite(one.score) else NOTHING,
            Cell(shown=_changes(one), value=float(len(one.changes))),
            Cell(shown=duration(one.seconds), value=one.seconds),
            one.state if one.there or one.state != "finished" else f"{one.state}, its folder is gone",
        ]
        for one in values.trials
    ]
    ids = [f"run-{one.number}" for one in values.trials]
    without = any(not one.link for one in values.trials)
    own_pages = (
        element("p", "A run's own page: ", element("code", "trainwright report RUN"), class_="quiet small")
        if without
        else None
    )
    return joined(
        [
            table(columns, rows, caption=f"{counted(len(rows), 'run')}; a head sorts by its column", ids=ids),
            own_pages,
            _gone(values),
        ]
    )


def _gone(values: StudyValues) -> Html | None:
    """A word on runs that the study tells of and that are not there any more."""
    gone = sum(one.state == "finished" and not one.there for one in values.trials)
    if not gone:
        return None
    said = f"{counted(gone, 'run')} of {len(values.trials):,} {'is' if gone == 1 else 'are'} not in "
    more = (
        " any more. What stands here is from the study's own journal; neither their pages nor their weights can be had."
    )
    return element("p", said, element("code", end_of(values.runs, 1)), more)


def _scored(one: Trial, metric: str) -> Html:
    interval = within(one.interval, metric) if math.isfinite(one.score) else ""
    quiet = [element("br"), element("span", interval, class_="path")] if interval else None
    return joined([score(one.score, metric), quiet])


def _changes(one: Trial) -> Html | str:
    """What its recipe changes; folded where it is much, as of a whole published recipe."""
    if not one.changes:
        return "nothing"
    changes = one.changes.items()
    return folded([f"{key}: {recipe_value(before)} → {recipe_value(after)}" for key, (before, after) in changes])


def _test(values: StudyValues) -> Html | None:
    if values.openings:  # as the ledger has them: one that came to nothing has unlocked the images too
        return opened(values.openings, heading=False)
    images = int(values.asked.get("test_images") or 0)
    if values.result is None:
        said = f"Locked: its {images:,} images are opened for the run that is handed over, and no study looks at them before."
        return element("p", said) if images else None
    if not images:
        return element("p", "This data has no test part: the last unseen images are those that choices were made by.")
    return joined(
        [
            element(
                "p", f"Locked: no run of this study has looked at its {images:,} images.{_looked_at_before(values)}"
            ),
            element("p", "This opens them, once:"),
            element("pre", f"trainwright finalise {values.study}"),
        ]
    )


def _looked_at_before(values: StudyValues) -> str:
    before = int(values.asked.get("test_opened_before") or 0)
    return (
        f" Others looked at them {times(before)} before it began, so the score on them is no first look."
        if before
        else ""
    )


def _asked(values: StudyValues, result: Mapping[str, Any]) -> Html:
    asked = values.asked
    data = asked.get("data") or {}
    machine = asked.get("machine") or {}
    best = result.get("best") or {}
    return rows_of(
        [
            ("data", end_of(str(data.get("path") or ""), 1)),
            ("strategy", result.get("strategy") or asked.get("kind")),
            ("budget", duration(asked["budget_seconds"]) if asked.get("budget_seconds") else ""),
            ("handed over", best.get("run")),
            ("trained on", TRAINED_ON.get(best.get("trained_on", ""), "")),
            ("remedies", ", ".join(best.get("remedies") or ())),
            ("what the first training needed", ", ".join(best.get("repairs") or ())),
            ("machine", ", ".join(f"{name} {value}" for name, value in machine.items())),
            ("begun", moment(values.created)),
        ]
    )


def _repeat(values: StudyValues) -> Html:
    words = [str(word) for word in values.asked.get("command") or ()]
    if words and words[0].endswith((".py", "trainwright")):
        words[0] = "trainwright"
    packages = values.asked.get("packages") or {}
    return joined(
        [
            [element("p", "The command that made it:"), element("pre", command(*words))] if words else None,
            rows_of(
                [
                    ("data fingerprint", element("code", values.asked.get("fingerprint", ""))),
                    ("sources", element("code", str(values.asked.get("code_sha256", ""))[:12])),
                    ("versions", ", ".join(f"{name} {version}" for name, version in packages.items())),
                    (
                        "recipe handed over",
                        element("code", end_of(values.handed_over, 3)) if values.handed_over else "",
                    ),
                    ("folder", element("code", end_of(values.folder))),
                ]
            ),
        ]
    )
