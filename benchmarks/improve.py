"""Does the closed loop end with a better model than a search, or than another library's defaults, in the same wall time?

Cats and dogs at 32 pixels, the recipe `story`, which overfits, and the 2,000 images of test/, which no method has seen. The
methods (`improve_rivals.py`):

    ours         `trainwright improve cats-dogs --recipe story --budget …`, then `finalise`
    tpe          Optuna's TPE over the recipe fields that ours may change (`improve_space.py`). A trial is a training of ours,
                 as long as `story` or a fifth of the time for trials; hopeless ones are stopped by the median rule; the best
                 recipe is trained on train and val together for as long as time remains
    random       the same with random draws
    fastai       `lr_find` and `fit_one_cycle` with the standard augmentation, on the same network, as many epochs as fit, on
                 all of train/
    fastai-bf16  the same in the precision that our trainer takes by itself; that is no default of it, so only with --only

Wall time is from the first line of a method until its model is there: reading the images counts, imports and test images do not.
One run after the other, or several processes with --only and --seeds. What came of a run is a JSON file and an NPZ file (which
test images it gets right) in --results, by budget and threads, and is not measured again; --kept puts together what is there.

    pip install ".[rivals]"
    python benchmarks/improve.py [--data FOLDER] [--results FOLDER] [--only METHOD …] [--seeds 0 1 2] [--budget 600]
                                 [--threads N] [--kept]

Exits with 0 if the mean over the seeds is above that of every rival; with 4 if not, if a run is missing, or if ours took a tenth
more than its time. Beyond chance it is `ahead`, otherwise `level`: the interval of the gain is that over images and seeds. With
--only, and without --kept, exits with 0: a run is no answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import platformdirs
import torch

from improve_budget import Job
from improve_rivals import METHODS, PACKAGES, Made
from lr_cells import Cell, folders
from trainwright.diagnosis.comparison import compare
from trainwright.diagnosis.stats import wilson
from trainwright.files import write_atomically
from trainwright.records import Interval
from trainwright.workflows.manifest import machine, packages

OURS, RIVALS = "ours", ("tpe", "random", "fastai")
DATA = "cats-dogs"
SEEDS = (0, 1, 2)
OVER = 1.1  # times its budget: what takes longer is marked, and of ours it is a miss


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A run that has been made. told: what its JSON file says. right_N: which test images it gets right, by their names."""

    told: Mapping[str, Any]
    right_N: np.ndarray


Runs = Mapping[tuple[str, int], Kept]  # by method and seed


def main() -> int:
    arguments = _arguments()
    folder = arguments.results / f"{arguments.budget:g}-seconds.{arguments.threads}-threads"
    wanted = [(method, seed) for seed in arguments.seeds for method in arguments.only or (OURS, *RIVALS)]
    missing = [] if arguments.kept else [one for one in wanted if not _file(folder, *one).is_file()]
    _refuse_without_packages({method for method, _ in missing})
    with folders(arguments.data, [Cell(DATA, "", "", 0)]) if missing else nullcontext(Path()) as root:
        for method, seed in missing:
            _measure(method, seed, root / DATA, folder, arguments)
    runs = {
        (method, seed): run for method in METHODS for seed in arguments.seeds if (run := kept(folder, method, seed))
    }
    if not runs:
        raise SystemExit(f"improve.py: nothing has been measured in {folder}.")
    rivals = [name for name in METHODS if name in RIVALS or (name != OURS and any(name == known for known, _ in runs))]
    gains = gains_of(runs, rivals, arguments.seeds)
    print(table(runs, gains, arguments.seeds), file=sys.stderr)
    told = [{key: value for key, value in run.told.items() if key != "notes"} for run in runs.values()]
    print(json.dumps({"benchmark": "improve", "budget": arguments.budget, "gains": gains, "runs": told}))
    return 0 if (arguments.only and not arguments.kept) or reached(runs, gains) else 4


def _measure(method: str, seed: int, data: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """One run, from an empty folder: one that was stopped in the middle of its wall time begins anew."""
    print(f"{method}, seed {seed}: {arguments.budget:g} s", file=sys.stderr, flush=True)
    work = folder / "work" / f"{method}.{seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    torch.set_num_threads(arguments.threads)
    made = METHODS[method](Job(data=data, work=work, seed=seed, seconds=arguments.budget, threads=arguments.threads))
    keep(folder, made, {"method": method, "seed": seed, "budget": arguments.budget, "threads": arguments.threads})


def keep(folder: Path, made: Made, which: Mapping[str, Any]) -> None:
    """Write a run's two files. which: its method, seed, budget and threads."""
    package = PACKAGES.get(which["method"])
    score = wilson(int(made.right_N.sum()), len(made.right_N))
    told = {
        **which,
        "seconds": round(made.seconds, 2),
        "test": {"score": score.value, "low": score.low, "high": score.high, "images": len(made.right_N)},
        "val": made.val,
        "trials": made.trials,
        "versions": {**packages(), **({} if package is None else {package: version(package)})},
        "machine": machine(torch.device("cpu")),
        "notes": dict(made.notes),
    }
    buffer = io.BytesIO()
    order_N = np.argsort(made.paths_N)
    np.savez_compressed(buffer, right=made.right_N[order_N].astype(bool), paths=made.paths_N[order_N])
    file = _file(folder, which["method"], which["seed"])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file.with_suffix(".npz"), buffer.getvalue())
    write_atomically(file, json.dumps(told).encode())


def kept(folder: Path, method: str, seed: int) -> Kept | None:
    """What is known of a run; None where it has not been made."""
    file = _file(folder, method, seed)
    if not file.is_file():
        return None
    with np.load(file.with_suffix(".npz"), allow_pickle=False) as saved:
        return Kept(told=json.loads(file.read_text()), right_N=saved["right"].astype(float))


def _file(folder: Path, method: str, seed: int) -> Path:
    return folder / f"{method}.{seed}.json"


def gains_of(runs: Runs, rivals: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """By rival: what ours gains over it in test accuracy on the same images, by seed and over those that both have.

    complete: whether both have all of `seeds`. word: ahead or behind where the interval over images and seeds does not hold zero,
    else level. None in place of figures where no seed has both.
    """
    gains = {}
    for rival in rivals:
        both = [seed for seed in seeds if (OURS, seed) in runs and (rival, seed) in runs]
        found: dict[str, Any] = {"complete": len(both) == len(seeds), "seeds": {}, "gain": None, "word": "not measured"}
        for seed in both:
            found["seeds"][seed] = _plain(compare([runs[OURS, seed].right_N], [runs[rival, seed].right_N]).gain)
        if both:
            gain = compare(*([runs[name, seed].right_N for seed in both] for name in (OURS, rival))).gain
            found |= {"gain": _plain(gain), "word": "ahead" if gain.low > 0 else "behind" if gain.high < 0 else "level"}
        gains[rival] = found
    return gains


def reached(runs: Runs, gains: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every rival has been run with every seed, and ours is better on the mean of them and took no more than its time."""
    in_time = not any(_overran(run) for (method, _), run in runs.items() if method == OURS)
    return in_time and all(found["complete"] and found["gain"]["value"] > 0 for found in gains.values())


def _overran(run: Kept) -> bool:
    return bool(run.told["seconds"] > OVER * run.told["budget"])


def _plain(gain: Interval) -> dict[str, float]:
    return {"value": gain.value, "low": gain.low, "high": gain.high}


def table(runs: Runs, gains: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Accuracies on the test images by method and seed, then what ours gains over each rival, in points."""
    width = 22
    lines = ["", "test accuracy".ljust(20) + "".join(f"seed {seed}".ljust(width) for seed in seeds) + "mean"]
    for method in dict.fromkeys(name for name, _ in runs):
        cells = [_cell(runs.get((method, seed))) for seed in seeds]
        scores = [runs[method, seed].told["test"]["score"] for seed in seeds if (method, seed) in runs]
        lines.append(method.ljust(20) + "".join(cell.ljust(width) for cell in cells) + f"{mean(scores):.4f}")
    lines += ["", "ours less, points".ljust(20) + "".join(f"seed {seed}".ljust(width) for seed in seeds) + "all seeds"]
    for rival, found in gains.items():
        cells = [_points(found["seeds"].get(seed)) for seed in seeds]
        partly = ", not all seeds" if found["seeds"] and not found["complete"] else ""
        said = f"{_points(found['gain'])}  {found['word']}{partly}"
        lines.append(rival.ljust(20) + "".join(cell.ljust(width) for cell in cells) + said)
    return "\n".join(lines)


def _cell(run: Kept | None) -> str:
    """'0.8570 595 s, 9 runs'; an exclamation mark where it took too long."""
    if run is None:
        return "–"
    trials = f", {run.told['trials']} runs" if run.told["trials"] else ""
    return f"{run.told['test']['score']:.4f} {run.told['seconds']:.0f} s{'!' if _overran(run) else ''}{trials}"


def _points(gain: Mapping[str, float] | None) -> str:
    """'+1.2 (-0.5 to +2.9)'."""
    if gain is None:
        return "–"
    value, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _refuse_without_packages(methods: Collection[str]) -> None:
    needed = sorted({PACKAGES[method] for method in methods if method in PACKAGES})
    absent = [package for package in needed if importlib.util.find_spec(package) is None]
    if absent:
        raise SystemExit(
            f"improve.py: {' and '.join(absent)} is not installed. The tools to compare with are in the extra 'rivals': "
            'pip install ".[rivals]". Without them: --only ours.'
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"folder of {DATA}; default: TRAINWRIGHT_DATA's archive")
    place = platformdirs.user_cache_path("trainwright") / "improve"
    parser.add_argument("--results", type=Path, default=place, help="where runs are kept (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="SEED", help="default: 0 1 2")
    parser.add_argument("--budget", type=float, default=600, help="seconds of wall time a run (default: %(default)s)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, default=cores, help="of every run alike (default: all, %(default)s)")
    parser.add_argument("--kept", action="store_true", help="only runs that have been made")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
