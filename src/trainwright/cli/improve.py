"""`trainwright improve`, `finalise`: the closed loop, and the test part opened."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.recipes import recipe_from
from trainwright.cli.show import wrapped
from trainwright.cli.training import check_early, mirrors_from, stopped, under_signals
from trainwright.data.problems import counted

if TYPE_CHECKING:
    from trainwright.search.rounds import Entry
    from trainwright.workflows.studies import Study

Budget = Annotated[
    str, typer.Option(metavar="TIME", help="Wall-clock for everything: 90s, 10m, 1h30m. It is used, and not overrun.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the study is called.")]
OnAll = Annotated[
    bool | None,
    typer.Option(
        "--final/--no-final",
        help="Train the best recipe once more, on train and val together. Unless said: where there is a test part.",
        show_default=False,
    ),
]
HOW = (
    "Brackets are 95 % intervals, each remedy's own. One is adopted if it is better after correction for all of its round "
    "(Holm), and then once more with another seed, unless the story says that it was sure at first sight; a longer training at "
    "the end if it alone is better than those without it. "
    "Scores are of the epoch that is kept; no gain holds that choice."
)
MARKS = {"belief": "#", "trial": "→", "outcome": "=", "decision": "●"}


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Diagnose, prescribe, train beside a control, keep what is proven.",
        epilog="Examples:\n\n  trainwright improve photos/ --budget 30m\n\n"
        "  trainwright improve photos/ --recipe story --budget 10m --seed 0 --json",
    )(improve)
    app.command(
        short_help="Open the locked test part, once.",
        epilog="Examples:\n\n  trainwright finalise last\n\n  trainwright finalise 20261122-0117-improve-photos-3f2a --json",
    )(finalise)


@grouped
def improve(
    data: options.Data,
    *,
    budget: Budget = "30m",
    asked: options.Asked,
    seed: options.Seed = None,
    name: Name = None,
    final: OnAll = None,
    machine: options.Machine,
    at_once: options.AtOnce,
    mirrors: options.Mirrors = None,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Find a better recipe for DATA within a budget, and prove that it is better.

    A baseline is trained and judged. In each round the findings become prescriptions; each is trained beside a control, the
    unchanged recipe with another seed, and adopted only where it is better beyond chance. The test part stays locked.
    """
    named, wanted = recipe_from(asked.recipe, asked.changes, epochs=asked.epochs, seed=seed, task=asked.task)
    check_early(named, wanted, data, offline=offline)
    chosen = {**vars(machine), **vars(at_once), "offline": offline, "mirrors": mirrors_from(mirrors)}

    def work(stop: Callable[[], bool]) -> Study:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows import improve as workflow
        from trainwright.workflows.options import RunOptions

        close_dead_runs(machine.runs)
        settings = RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop)
        return workflow.improve(
            data,
            named,
            budget=budget,
            target=asked.target,
            name=name,
            changes=wanted,
            on_all=final,
            told=teller(output.quiet),
            options=settings,
        )

    return carry_out(work, output)


def resume_study(study: str, output: options.Output, *, chosen: dict[str, Any]) -> int:
    """Go on with a study, by its name. chosen: fields of `RunOptions`."""

    def work(stop: Callable[[], bool]) -> Study:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows import resuming
        from trainwright.workflows.options import RunOptions

        close_dead_runs(chosen["runs"])
        settings = RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop)
        return resuming.resume_study(study, options=settings, told=teller(output.quiet))

    return carry_out(work, output)


@grouped
def finalise(
    run: options.RunName,
    *,
    machine: options.Machine,
    output: options.Output,
) -> None:
    """Open the locked test part for the model of RUN, a run or a study: one figure for images that nothing was chosen by.

    Each opening is written down; a second one of the same images says so beside its figure.
    """
    from trainwright.cli.runs import close_dead_runs
    from trainwright.workflows import finalise as workflow
    from trainwright.workflows.options import RunOptions

    close_dead_runs(machine.runs)
    found = workflow.finalise(run, options=RunOptions(**vars(machine), reporter=output.reporter()))
    if output.as_json:
        print(json.dumps(found))
        return
    test = found["test"]
    print(f"run        {found['run']}")
    interval = f"({number(test['low'])} to {number(test['high'])})"
    print(f"test       {found['metric']} {number(test['score'])} {interval}, {found['images']:,} images")
    print("\n".join(wrapped("", found["note"])))


def carry_out(work: Callable[[Callable[[], bool]], Study], output: options.Output) -> int:
    """Do the work under signal handlers, print what came of it, return the exit code."""
    study, signals = under_signals(work, quiet=output.quiet)
    if study.finished:
        print(json.dumps(study.result) if output.as_json else shown(study.result))
        return 0
    return stopped(study.name, "everything so far is saved", signals, as_json=output.as_json)


def shown(result: dict[str, Any]) -> str:
    """A finished study of any kind on a page."""
    if result.get("kind") != "tune":
        return show_study(result)
    from trainwright.cli.tune import show_tuning

    return show_tuning(result)


def show_study(result: dict[str, Any]) -> str:
    """A finished study on a page: the rounds, the answer, what to do next."""
    metric = result["metric"] or "score"
    lines = ["", f"study      {result['study']}"]
    for one in result["rounds"]:
        lines += ["", *wrapped("found      ", one["verdict"])]
        lines += [
            f"round {one['round']}, {counted(one['epochs'], 'epoch')}",
            f"  {'control':<34} {metric} {number(one['control']['score'])}",
        ]
        lines += [_arm(arm["remedy"], arm, _sides(arm, one), metric) for arm in one["arms"]]
    lengths = result.get("lengths", ())  # studies of before it kept none
    lines += ["", "longer, at the end"] if lengths else []
    lines += [
        _arm(f"{counted(one['epochs'], 'epoch')} in place of {one['before']}", one, _sides(one, one), metric)
        for one in lengths
    ]
    if result["rounds"] or lengths:
        lines += wrapped("", HOW)
    lines += ["", *wrapped("", result["summary"]), *_seeds(result, metric)]
    lines += [line for said in result.get("warnings", ()) for line in wrapped("note: ", said)]
    best = result["best"]
    if best is not None:
        unscored = "" if best["trained_on"] == "train" else ", which leaves no image but those of test to score it by"
        lines += ["", *wrapped("model      ", f"{best['run']}, trained on {best['trained_on']}{unscored}")]
        lines += [
            f"time       {result['seconds']:,.0f} s of {result['budget_seconds']:,.0f}",
            f"folder     {result['folder']}",
            f"report     {Path(result['folder']) / 'report.html'}",
        ]
        lines += ["", *next_step(result), *_more_time(result)]
    return "\n".join(lines)


def _arm(name: str, arm: Mapping[str, Any], sides: str, metric: str) -> str:
    mark = "●" if arm["adopted"] else " "
    reached = "given up" if arm["score"] is None else f"{metric} {number(arm['score'])}"
    verdict = "not proven" if arm["verdict"] == "no evidence" else arm["verdict"]
    return f"{mark} {name[:34]:<34} {reached}  {_points(arm['gain'])}{sides}  {verdict}"


def _more_time(result: Mapping[str, Any]) -> list[str]:
    """What else to do where there was no time for a single remedy."""
    if result["rounds"] or not result.get("short_of_time"):
        return []
    twice = 2 * math.ceil(result["budget_seconds"])
    return [f"  or: the same with twice the budget, --budget {twice}s, so that remedies can be tried"]


def _seeds(result: dict[str, Any], metric: str) -> list[str]:
    """What seed alone does: the trainings of the baseline's recipe."""
    scores = [score for score in result["unchanged_scores"] if score is not None]
    if len(scores) < 2:
        return []
    said = f"Seed alone: {len(scores)} trainings of the baseline's recipe reached {metric} "
    return wrapped("", said + ", ".join(f"{score:.3f}" for score in scores) + ".")


def _points(gain: dict[str, float | None] | None) -> str:
    """'+8.0 points (+5.0 to +11.0)'; nothing without a gain, no interval where too few images decide the score."""
    if gain is None:
        return ""
    value, low, high = gain["value"], gain["low"], gain["high"]
    if value is None:
        return "cannot be told"
    return f"{100 * value:+5.1f} points" + (
        "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    )


def _sides(arm: Mapping[str, Any], round_: Mapping[str, Any]) -> str:
    """How many trainings a gain is the difference of, and their length where it is the remedy's own."""
    sides, epochs = arm.get("trainings"), arm.get("epochs")
    if sides is None or arm["gain"] is None:
        return ""
    if epochs in (None, round_["epochs"]):
        return f", {sides[0]} against {sides[1]} trainings"
    return f", {counted(sides[0], 'training')} of {epochs} epochs against {sides[1]} of {round_['epochs']}"


def next_step(result: Mapping[str, Any]) -> list[str]:
    """What a study's model is for: its test part, or where there is none images of one's own."""
    from trainwright.diagnosis.wording import times

    if result["test_images"]:
        images, opened = f"{result['test_images']:,} images", result.get("test_opened_before", 0)
        scores = f"      scores this model on {images} that nobody has looked at; do it once, when you are done: only the first "
        said = [scores + "time is an honest estimate"]
        if opened:
            said = [
                f"      scores this model on {images}, which were looked at {times(opened)} before this study: what was chosen "
                "since may fit them by chance"
            ]
        return [f"next: trainwright finalise {result['study']}", *said]
    return [f"next: trainwright predict {result['best']['run']} IMAGE|FOLDER…    (there is no test part to open)"]


def teller(quiet: bool) -> Callable[[Entry], None]:
    """Says every sentence of the story on stderr."""

    def tell(entry: Entry) -> None:
        from trainwright.cli.reporters import end_bars

        end_bars()
        typer.echo("\n".join(wrapped(f"{MARKS[entry.step]} ", entry.text)), err=True)

    return (lambda entry: None) if quiet else tell


def number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
