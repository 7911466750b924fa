"""`trainwright tune`: a search over recipes, from the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.improve import Name, carry_out, next_step, number, teller
from trainwright.cli.recipes import recipe_from
from trainwright.cli.show import wrapped
from trainwright.cli.training import check_early, mirrors_from

if TYPE_CHECKING:
    from trainwright.workflows.studies import Study

SHOWN = 12  # trials of the table
KEYS = 60  # letters of a trial's changes

Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help="freeze-thaw (unless said), tpe, gp, cmaes, bohb, asha, hyperband, sobol, random, grid, list.",
        show_default=False,
    ),
]
SpaceFile = Annotated[
    Path | None,
    typer.Option(
        "--space",
        metavar="FILE",
        help="What may be searched, as YAML. Unless given: what the budget can look through.",
        show_default=False,
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Wall-clock for everything: 90s, 10m, 1h30m. Unless limited: 30m.",
        show_default=False,
    ),
]
Trials = Annotated[int | None, typer.Option("--trials", metavar="N", min=1, help="Trials that are begun, at most.")]
Full = Annotated[
    float | None,
    typer.Option("--full-trainings", metavar="X", min=1, help="Epochs of the search, in whole trainings."),
]
First = Annotated[
    Path | None,
    typer.Option(
        "--first", metavar="FILE", help="YAML list of changes that are trained first, after the recipe as it is."
    ),
]
Lag = Annotated[
    int | None,
    typer.Option(
        "--lag",
        metavar="N",
        min=1,
        help="Trials by which learning lags behind, so that up to N at a time find what one does. Unless said: 4.",
        show_default=False,
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the strategy, as points=3 of grid; repeatable."),
]
LeastEpochs = Annotated[
    int, typer.Option("--least-epochs", metavar="N", min=1, help="Fewest epochs after which trainings are compared.")
]
OnAll = Annotated[
    bool | None,
    typer.Option(
        "--final/--no-final",
        help="Train the best once more, on train and val together. Unless said: where there is a test part.",
        show_default=False,
    ),
]
Confirm = Annotated[
    bool,
    typer.Option(
        "--confirm/--no-confirm", help="Train the best once more with another seed, for a score without luck."
    ),
]

FollowUp = Annotated[
    bool,
    typer.Option(
        "--follow-up", help="Where the best lies at an end of a range, look beyond it, in the same study and budget."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """By what, where and for how long is searched: arguments of `workflows.tune`."""

    strategy: Strategy = None
    space: SpaceFile = None
    budget: Time = None
    trials: Trials = None
    full_trainings: Full = None
    first: First = None


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Search for the values that train best, within a budget.",
        epilog="Examples:\n\n  trainwright tune photos/ --budget 30m\n\n"
        "  trainwright tune photos/ --strategy sobol --trials 16 --space space.yaml\n\n"
        "  trainwright tune photos/ --strategy list --first three.yaml",
    )(tune)


@grouped
def tune(
    data: options.Data,
    *,
    search: Searched,
    asked: options.Asked,
    seed: options.Seed = None,
    name: Name = None,
    final: OnAll = None,
    confirm: Confirm = True,
    follow_up: FollowUp = False,
    lag: Lag = None,
    least_epochs: LeastEpochs = 1,
    strategy_options: Option = None,
    machine: options.Machine,
    at_once: options.AtOnce,
    mirrors: options.Mirrors = None,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Search for the values that train best on DATA: the recipe as it is first, then what a strategy asks for.

    The best is trained once more with another seed, whose score is no luck, and then on train and val together. The test part
    stays locked. Whatever is reached first ends the search: --budget, --trials, --full-trainings.
    """
    from trainwright.plugins import strategies
    from trainwright.yaml_text import parse_assignments

    named, wanted = recipe_from(asked.recipe, asked.changes, epochs=asked.epochs, seed=seed, task=asked.task)
    if search.strategy is not None:
        strategies.check(search.strategy)
    check_early(named, wanted, data, offline=offline)
    chosen = {**vars(machine), **vars(at_once), "offline": offline, "mirrors": mirrors_from(mirrors)}
    of_study: dict[str, Any] = {
        **vars(search),
        "first": search.first or (),
        "lag": lag,
        "least_epochs": least_epochs,
        "strategy_options": parse_assignments(strategy_options or []),
        "changes": wanted,
        "target": asked.target,
        "name": name,
        "on_all": final,
        "confirm": confirm,
        "follow_up": follow_up,
    }

    def work(stop: Callable[[], bool]) -> Study:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows import tune as workflow
        from trainwright.workflows.options import RunOptions

        workflow.limit_of(search.budget, search.trials, search.full_trainings)  # before anything takes time
        close_dead_runs(machine.runs)
        settings = RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop)
        return workflow.tune(data, named, **of_study, options=settings, told=teller(output.quiet))

    return carry_out(work, output)


def show_tuning(result: Mapping[str, Any]) -> str:
    """A finished search on a page: the best trials, the answer with its doubt, what the search says of its space."""
    metric = result["metric"] or "score"
    searched = [trial for trial in result["trials"] if trial["role"] == "trial"]
    lines = [
        "",
        f"study      {result['study']}, strategy {result['strategy']}",
        "",
        *_table(searched, metric, result["importance"] or {}),
    ]
    lines += ["", *wrapped("", result["summary"])]
    lines += [line for warning in result["warnings"] for line in wrapped("! ", warning)]
    importance = result["importance"]
    if importance:
        ranked = sorted(importance.items(), key=lambda one: -one[1])
        lines += wrapped("mattered   ", ", ".join(f"{key} {100 * share:.0f} %" for key, share in ranked))
    best, limit = result["best"], result["budget_seconds"]
    lines += [f"time       {result['seconds']:,.0f} s" + ("" if limit is None else f" of {limit:,.0f}")]
    lines += [f"folder     {result['folder']}", f"report     {Path(result['folder']) / 'report.html'}"]
    if best is not None:
        lines += [
            f"model      {best['run']}, trained on {best['trained_on']}",
            f"score      {metric} {_within(best)}",
            "",
        ]
        lines += next_step(result)
    return "\n".join(lines)


def _table(trials: Sequence[Mapping[str, Any]], metric: str, importance: Mapping[str, float]) -> list[str]:
    ranked = sorted(trials, key=lambda one: (one["score"] is None, -(one["score"] or 0.0), one["number"]))
    lines = [f"{'trial':>5}  {metric:>10}  {'epochs':>6}  {'seconds':>7}  {'state':<10}  changes"]
    lines += [
        f"{one['number']:>5}  {number(one['score']) if one['score'] is not None else '':>10}  {one['epochs']:>6}  "
        f"{one['seconds']:>7,.0f}  {one['state']:<10}  {_changes(one, importance)}"
        for one in ranked[:SHOWN]
    ]
    if len(ranked) > SHOWN:
        lines.append(f"       and {len(ranked) - SHOWN} more")
    return lines


def _changes(trial: Mapping[str, Any], importance: Mapping[str, float]) -> str:
    """What it changes, what mattered most first; of the recipe as it is, which of the values that are searched it has."""
    from trainwright.search.recipe_search import label_of

    shares = {name.partition("[")[0]: share for name, share in importance.items()}
    changes = trial.get("changes") or {}
    values = changes or {key: value for key, value in (trial.get("values") or {}).items() if value is not None}
    told = ", ".join(
        label_of({key: values[key]}) for key in sorted(values, key=lambda key: (-shares.get(key, 0.0), key))
    )
    said = told if changes else f"{trial['label']}: {told}" if told else trial["label"]
    return said if len(said) <= KEYS else f"{said[: KEYS - 1]}…"


def _within(best: Mapping[str, Any]) -> str:
    interval = best["interval"] or {}
    low, high = interval.get("low"), interval.get("high")
    within = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{number(best['score'])}{within}" + (", optimistic" if best["optimistic"] else "")
