"""What stands first on the page of a run or a study without a result: what happened, what is there, how to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.report.markup import Html, element, joined
from trainwright.report.provenance import on_its_data
from trainwright.report.values import Progress, RunValues, StudyValues
from trainwright.report.wording import amount, command, counted, duration, finite, moment, score

DIVERGED = "diverged"  # the rule, and what such a run is called
WORDS = {  # (kind, the word, what it means) of each state
    "failed": ("bad", "Failed", "It ended with an error before it had a result."),
    "running": ("unsure", "Still running", "It has no result yet; this page is written anew when it has one."),
    "interrupted": ("unsure", "Interrupted", "It was stopped before it had a result."),
    "paused": (
        "unsure",
        "Paused",
        "Its study paused it, and goes on with it only where that promises more than others do.",
    ),
    DIVERGED: ("bad", "Diverged", "The training broke down: its loss is not a number any more, and there is no model."),
}


def unfinished_head(values: RunValues) -> Html:
    """Of a run."""
    progress = values.progress or Progress(steps=0, epochs=0, saved=None, ended=None)
    found = next((one for one in progress.findings if one["rule"] == DIVERGED and one["verdict"] == "yes"), None)
    state = values.state if found is None else DIVERGED
    kind, word, meaning = WORDS.get(state, WORDS["interrupted"])
    told = (found["evidence"], found["advice"]) if found is not None else (values.message,)
    happened = [_sentence(text) for text in told]
    return element(
        "div",
        element("p", word, class_="word"),
        element("p", meaning),
        [element("p", text) for text in happened if text],
        [element("p", element("strong", f"{name}: "), text) for name, text in _there(values, progress) if text],
        _how_to_go_on(values, progress, state),
        class_=f"verdict {kind}",
    )


def _there(values: RunValues, progress: Progress) -> Sequence[tuple[str, str]]:
    """What was done, what of it is kept, and when it ended."""
    when = "" if progress.ended is None else f"{moment(progress.ended)}."
    said = "Last sign of life" if values.state == "running" else "Ended"
    return (("What is there", f"{_done(values, progress)} {_saved(values, progress)}".strip()), (said, when))


def _done(values: RunValues, progress: Progress) -> str:
    planned = f" of {progress.epochs:,}" if progress.epochs else ""
    if not values.epochs:
        tested = " The learning-rate range test below is whole." if values.lr_range is not None else ""
        if not progress.steps:
            return f"No step of its {counted(progress.epochs, 'epoch')} is recorded.{tested}"
        first = f"of the first{planned} epochs" if progress.epochs != 1 else "of its one epoch"
        return f"{counted(progress.steps, 'step')} {first}: it was evaluated not once.{tested}"
    last, best = values.epochs[-1], _best(values)
    of, part = ("unseen", "val") if values.unseen else ("train", "train")
    scored = finite((last.get(part) or {}).get("score"))
    text = f"{len(values.epochs):,}{planned} {'epoch' if (progress.epochs or len(values.epochs)) == 1 else 'epochs'}"
    if math.isfinite(scored):
        text += f"; after the last one the score on {of} images was {amount(scored)}"
    return f"{text}{best}."


def _best(values: RunValues) -> str:
    """After which epoch the score was highest, where that was not the last one."""
    scores = [finite((epoch.get("val") or {}).get("score")) for epoch in values.epochs]
    known = [one for one in scores if math.isfinite(one)]
    if not known or not values.unseen or scores[-1] == max(known):
        return ""
    return f", the highest {amount(max(known))} after epoch {scores.index(max(known)) + 1}"


def _saved(values: RunValues, progress: Progress) -> str:
    if values.state == "running" or not progress.steps:
        return ""
    if progress.saved is None:
        return "No state of it was saved: going on begins with its first step."
    lost = max(0, progress.steps - progress.saved)
    again = f"; {counted(lost, 'step')} after it would be trained once more" if lost else ""
    return f"Its state after {counted(progress.saved, 'step')} is saved{again}."


def _how_to_go_on(values: RunValues, progress: Progress, state: str) -> Html | None:
    if state == "running":
        return None
    if state == DIVERGED:
        return _other_rate(values)
    said = "The result will be the same as if it had never stopped, to the last bit:"
    if not _has_files(values.manifest):
        said = (
            "Its data was given by Python code, so that has to be given again, as tw.resume(…, data=…); for a folder:"
        )
    cause = "Once its cause is gone. " if state == "failed" else ""
    owner = None if values.study is None else values.study[0]
    if state == "paused":
        said = "With the study it belongs to:"
    return joined(
        [
            element("p", element("strong", "How to go on: "), f"{cause}{said}"),
            element("pre", command("trainwright", "resume", owner if state == "paused" and owner else values.run)),
        ]
    )


def _other_rate(values: RunValues) -> Html | None:
    """The same training at a tenth of its learning rate."""
    rate = next((one.value for one in values.recipe if one.key == "optimizer.lr"), None)
    lower = "--set=clip_norm=1" if rate is None else f"--set=optimizer.lr={rate / 10:.2g}"
    again = on_its_data(values.manifest, "train", lower, folder=values.folder)
    if again is None:
        return None
    why = "Going on from a saved state would break down at the same step. A new training, at a tenth of the learning rate:"
    return joined([element("p", element("strong", "How to go on: "), why), element("pre", again)])


def _has_files(manifest: Mapping[str, Any]) -> bool:
    return bool(((manifest.get("dataset") or {}).get("source") or {}).get("path"))


def _sentence(text: str) -> str:
    """A message as it was written down, with a full stop, and a capital where it begins with a word."""
    text = text.strip()
    if not text or text == "interrupted":
        return ""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def unfinished_study(values: StudyValues) -> Html:
    """Of a study."""
    kind, word, _ = WORDS.get(values.state, WORDS["interrupted"])
    meaning = {
        "failed": "It ended with an error before it was decided what to hand over.",
        "running": "Nothing is decided yet; this page is written anew at its end.",
    }.get(values.state, "It was stopped before it was decided what to hand over.")
    scored = [one for one in values.trials if math.isfinite(one.score)]
    open_ = [one for one in values.trials if one.state == "running"]
    what = "under way" if values.state == "running" else "cut short"
    under_way = f"; {counted(len(open_), 'training')} {what}" if open_ else ""
    if scored:
        best = max(scored, key=lambda one: one.score)
        done = (
            f"{counted(len(scored), 'training')} with a score{under_way}. The best so far, which may be luck: {best.label}, "
            f"{values.metric} {score(best.score, values.metric)}."
        )
    else:
        done = f"No training has a score yet{under_way}."
    spent = sum(one.seconds for one in values.trials if math.isfinite(one.seconds))
    budget = values.asked.get("budget_seconds")
    time = f"{duration(spent)} of training so far" + (f"; its budget is {duration(budget)}." if budget else ".")
    go_on = joined(
        [
            element(
                "p",
                element("strong", "How to go on: "),
                "Once its cause is gone. " if values.state == "failed" else "",
                "The same trainings and decisions follow as if it had never stopped:",
            ),
            element("pre", command("trainwright", "resume", values.study)),
        ]
    )
    return element(
        "div",
        element("p", word, class_="word"),
        element("p", meaning),
        element("p", _sentence(values.message)) if _sentence(values.message) else None,
        element("p", element("strong", "What is there: "), done),
        element("p", element("strong", "Time: "), time) if values.trials else None,
        go_on if values.state != "running" else None,
        class_=f"verdict {kind}",
    )
