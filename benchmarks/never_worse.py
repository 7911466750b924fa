"""Does `improve` ever hand over a model that is worse than its own baseline? Five studies each on digits, flowers12, cats-dogs.

A study is `trainwright improve DATA --recipe story --budget …` on one core. Then the locked test part is opened twice, which only
a benchmark does: for the model that the study hands over, and for its baseline run. Both answer the same images, so the gain is
that of paired answers; the interval is over images, since every study has one model of each kind.

What came of a study is a JSON file in --results and is not measured again; --kept puts together what is there. A study that the
benchmark `improve.py` has made counts too: --improved is the folder of its runs' folders, `ours.0` and so on.

    python benchmarks/never_worse.py [--data FOLDER] [--results FOLDER] [--improved FOLDER] [--only DATA …] [--seeds 0 1 …]
                                     [--kept]

Exits with 0 if every study is there and none ends below its baseline beyond noise (the interval wholly below 0); else with 4.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import platformdirs
import torch

import trainwright as tw
from lr_cells import Cell, folders
from trainwright.data.digits import write_digits
from trainwright.diagnosis.comparison import compare
from trainwright.files import write_atomically
from trainwright.workflows.options import RunOptions
from trainwright.workflows.resuming import resume_study

RECIPE, BASELINE = "story", 0  # the number of its run in a study
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A dataset. budget: seconds of a study, as many as a few rounds take on one core. changes: of the recipe."""

    name: str
    budget: float
    changes: dict[str, Any]


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(name="digits", budget=75, changes={}),
        Setting(name="flowers12", budget=120, changes={"data.image_size": 32}),
        Setting(name="cats-dogs", budget=300, changes={}),
    )
}


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(1)
    wanted = [(SETTINGS[name], seed) for name in arguments.only for seed in arguments.seeds]
    missing = [] if arguments.kept else [one for one in wanted if not _file(arguments.results, *one).is_file()]
    needed = [Cell(name, "", "", 0) for name in {setting.name for setting, _ in missing} - {"digits"}]
    with folders(arguments.data, needed) as root:
        for setting, seed in missing:
            print(f"{setting.name}, seed {seed}: {setting.budget:g} s", file=sys.stderr, flush=True)
            measured = _measured(setting, seed, root, arguments)
            arguments.results.mkdir(parents=True, exist_ok=True)
            write_atomically(_file(arguments.results, setting, seed), json.dumps(measured).encode())
    files = [_file(arguments.results, *one) for one in wanted]
    found = [json.loads(file.read_text()) for file in files if file.is_file()]
    for one in found:
        print(_line(one), file=sys.stderr)
    print(json.dumps({"benchmark": "never-worse", "studies": found}))
    return 0 if len(found) == len(wanted) and not any(one["gain"]["high"] < 0 for one in found) else 4


def _measured(setting: Setting, seed: int, root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A study, new or from `improve.py`, and both of its models on the test images."""
    known = arguments.improved and arguments.improved / f"ours.{seed}" / "runs"
    if setting.name == "cats-dogs" and known and known.is_dir():
        options = _options(known)
        (found,) = (known.parent / "studies").iterdir()
        study = resume_study(found.name, runs=known)  # it has ended
    else:
        work = arguments.results / "work" / f"{setting.name}.{seed}"
        shutil.rmtree(work, ignore_errors=True)
        options = _options(work / "runs")
        data = root / setting.name
        if setting.name == "digits":
            data = write_digits(work / "digits")
        recipe = tw.recipes.get(RECIPE).changed(setting.changes)
        study = tw.improve(data, recipe, budget=setting.budget, seed=seed, options=options)
    return {"data": setting.name, "seed": seed, **_compared(study, options)}


def _compared(study: tw.Study, options: RunOptions) -> dict[str, Any]:
    """The model that is handed over and the baseline on the same test images."""
    result = study.result
    baseline = tw.open_run(result["trials"][BASELINE]["run"], runs=options.runs)
    (right, paths), (before, same) = (_right(model, options) for model in (study, baseline))
    if not np.array_equal(paths, same):
        raise SystemExit("never_worse.py: the two models answered different images.")
    gain = compare([right], [before]).gain
    return {
        "baseline": float(before.mean()),
        "handed_over": float(right.mean()),
        "images": len(right),
        "gain": {"value": gain.value, "low": gain.low, "high": gain.high},
        "remedies": list(result["best"]["remedies"]),
        "trained_on": result["best"]["trained_on"],
        "seconds": result["seconds"],
        "summary": result["summary"],
    }


def _right(model: tw.Run | tw.Study, options: RunOptions) -> tuple[np.ndarray, np.ndarray]:
    """(1.0 where the answer is right, else 0.0; names) of the test images, in the order of their names."""
    found = tw.finalise(model, options=options)
    with np.load(options.runs / found["run"] / "answers" / "test.npz", allow_pickle=False) as saved:
        order = np.argsort(saved["paths"])
        return (saved["tally"][order, 0] == 1).astype(float), saved["paths"][order]


def _options(runs: Path) -> RunOptions:
    return RunOptions(runs=runs, device="cpu", mirrors=(), workers=1, threads=1)


def _file(results: Path, setting: Setting, seed: int) -> Path:
    return results / f"{setting.name}.{seed}.json"


def _line(one: dict[str, Any]) -> str:
    value, low, high = (100 * one["gain"][key] for key in ("value", "low", "high"))
    remedies = ", ".join(one["remedies"]) or "nothing adopted"
    return (
        f"{one['data']:<10} {one['seed']}  baseline {one['baseline']:.4f}  handed over {one['handed_over']:.4f}  "
        f"{value:+.1f} ({low:+.1f} to {high:+.1f}) points on {one['images']} images, {one['seconds']:.0f} s: {remedies}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of cats-dogs and flowers12; default: TRAINWRIGHT_DATA's")
    place = platformdirs.user_cache_path("trainwright") / "never-worse"
    parser.add_argument("--results", type=Path, default=place, help="where studies are kept (default: %(default)s)")
    parser.add_argument("--improved", type=Path, help="`work` folder of improve.py's results")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="DATA")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="SEED", help="default: 0 to 4")
    parser.add_argument("--kept", action="store_true", help="only studies that have been made")
    arguments: argparse.Namespace = parser.parse_args()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
