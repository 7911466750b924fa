"""Pages of real runs and studies in a headless Chromium: size, time to open, and what a reader needs of them.

A study of 200 trainings of digits, and a run and a study of each of the four tasks. Of the 200 some are really trained; the
others are their folders once more, told of in the study's journal with other learning rates and scores that differ by chance: for
a page they are as many rows, points and lines as trained ones.

Looked at are the size of the page of 200 runs (at most 12 MB) and the time until it is loaded and its first figure drawn (less
than 3 s, the least of several times: the machine may do something else); of every page that the console stays empty, no request
leaves it, all figures are drawn, all text has a contrast of 4.5 in both themes (3 where it is large), the keyboard reaches the
theme switch and the heads of tables, and a phone of 390 pixels does not scroll sideways.

    python benchmarks/report_page.py [--runs 200] [--trained 12] [--opens 5] [--keep FOLDER]

Exits with 0 where all of that is so, 4 where it is not, 2 where there is no Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np

import trainwright as tw
from browser import Browser, BrowserError, Tab, browser
from page_checks import contrast_of, figures_of, stops_of, times_of, wider_than_the_window
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder

MOST_BYTES, MOST_SECONDS = 12_000_000, 3.0
SIDE, COUNT = 32, 300
SMALL = {"network.width": 8, "data.image_size": SIDE, "batch_size": 32, "precision": "fp32", "optimizer.lr": 0.01}
NETWORKS = {"segmentation": {"network.name": "small-unet"}, "detection": {"network.name": "small-detector"}}
SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "optimizer.weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
    "loss.label_smoothing": {"low": 0.0, "high": 0.2},
    "optimizer.name": {"choices": ["adamw", "sgd"]},
}
OPTIONS: dict[str, Any] = {"mirrors": (), "workers": 1, "threads": 1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="trainings of the large study")
    parser.add_argument("--trained", type=int, default=12, help="how many of them are trained")
    parser.add_argument("--opens", type=int, default=5, help="times that its page is opened")
    parser.add_argument(
        "--keep", type=Path, help="folder for the runs and pictures of the pages; what is there already is taken"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        pages = dict(made(folder, runs=arguments.runs, trained=arguments.trained))
        try:
            with browser(Path(place) / "profile") as opened:
                results = [looked_at(opened, name, page, folder) for name, page in pages.items()]
                large = opened_quickly(opened, pages["study of many"], times=arguments.opens)
        except BrowserError as error:
            print(error, file=sys.stderr)
            return 2
    wrong = [f"{one['page']}: {said}" for one in results for said in one["wrong"]]
    wrong += large.pop("wrong")
    for said in wrong:
        print(said, file=sys.stderr)
    print(json.dumps({"benchmark": "report_page", "large": large, "pages": results, "wrong": wrong}))
    return 4 if wrong else 0


def made(folder: Path, *, runs: int, trained: int) -> Iterator[tuple[str, Path]]:
    """(name, page) of every page that is looked at."""
    for task in ("classification", "regression", "segmentation", "detection"):
        data, own = data_of(task), {**SMALL, **NETWORKS.get(task, {})}
        place = folder / task / "runs"
        if not (place / "run" / "report.html").is_file():
            tw.train(data, tw.Recipe(), changes={**own, "epochs": 4}, run_id="run", runs=place, **OPTIONS)
        yield f"run of {task}", place / "run" / "report.html"
        space = {key: SPACE[key] for key in ("optimizer.lr", "optimizer.weight_decay")}
        yield f"study of {task}", searched(data, place, own, space=space, trials=4)
    place = folder / "many" / "runs"
    searched(data_of("classification"), place, SMALL, space=SPACE, trials=trained)
    yield "study of many", told_again(place, runs=runs)


def searched(data: tw.Dataset, runs: Path, changes: dict[str, Any], *, space: dict[str, Any], trials: int) -> Path:
    """The page of a search; one that was begun before goes on."""
    study = runs.parent / "studies" / "search"
    if not (study / "study.json").is_file():
        more: dict[str, Any] = {"strategy": "random", "space": space, "trials": trials, "seed": 0, "slots": 1}
        changes = {**changes, "epochs": 1}
        tw.tune(data, tw.Recipe(), changes=changes, runs=runs, name="search", **more, **OPTIONS)
    elif not (study / "report.html").is_file():
        tw.resume_study("search", data=data, runs=runs, **OPTIONS)
    return study / "report.html"


def told_again(place: Path, *, runs: int) -> Path:
    """The page of the search in a folder of runs once it tells of so many of them. See above for what they are."""
    study = StudyFolder.open(place.parent / "studies" / "search")
    asks = {record["number"]: record for record in study.records("ask")}
    tells = {record["number"]: record for record in study.records("tell")}
    draws = np.random.default_rng(0)
    trained = [number for number, tell in sorted(tells.items()) if tell["score"] is not None]
    with study:
        for number in range(max(asks) + 1, runs):
            first = trained[number % len(trained)]
            run = study.run_id(number)
            copy(RunFolder.open(place / tells[first]["run"]), run)
            recipe = {**asks[first]["recipe"]}
            recipe["optimizer"] = {**recipe["optimizer"], "lr": float(10 ** draws.uniform(-4, -1))}
            study.append("ask", {**asks[first], "number": number, "label": f"trial {number}", "recipe": recipe})
            score = float(np.clip(tells[first]["score"] + draws.normal(0, 0.03), 0, 1))
            study.append("tell", {**tells[first], "number": number, "run": run, "score": score})
    return tw.write_report(study.path, runs=place)


def copy(run: RunFolder, name: str) -> None:
    """The same run under another name, through the record that it was written with."""
    with RunFolder.create(run.path.parent, recipe_yaml=run.recipe_yaml, manifest=run.manifest, run_id=name) as folder:
        for record in run.records():
            folder.append(record["kind"], {key: value for key, value in record.items() if key != "kind"})
        folder.write_json("result.json", {**(run.result() or {}), "run": name})
        folder.set_status("finished")


def data_of(task: str) -> tw.Dataset:
    """Handwritten digits somewhere on a grey ground, with what the task is to learn of them."""
    from sklearn.datasets import load_digits

    digits, draws = load_digits(), np.random.default_rng(0)
    images, masks, boxes = [], [], []
    for drawn in digits.images[:COUNT]:
        ink_HW = np.kron(drawn / 16, np.ones((2, 2)))
        top, left = draws.integers(0, SIDE - ink_HW.shape[0], 2)
        whole_HW = np.zeros((SIDE, SIDE))
        whole_HW[top : top + 16, left : left + 16] = ink_HW
        rows, columns = np.flatnonzero((whole_HW > 0.3).any(axis=1)), np.flatnonzero((whole_HW > 0.3).any(axis=0))
        noisy_HW = np.clip(60 + 180 * whole_HW + draws.normal(0, 12, whole_HW.shape), 0, 255)
        images.append(np.repeat(noisy_HW[..., None], 3, axis=2).astype(np.uint8))
        masks.append((whole_HW > 0.3).astype(np.uint8))
        boxes.append([[0, columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
    labels: Any = {
        "classification": digits.target[:COUNT],
        "regression": np.array([float(image.mean()) for image in images]),
        "segmentation": masks,
        "detection": [np.array(box, dtype=float) for box in boxes],
    }[task]
    names = {"classification": [str(n) for n in range(10)], "segmentation": ["ground", "ink"], "detection": ["digit"]}
    return tw.Dataset.from_arrays(np.stack(images), labels, task=task, classes=names.get(task))


def looked_at(opened: Browser, name: str, page: Path, folder: Path) -> dict[str, Any]:
    """What is wrong with a page, in words, and figures of it."""
    wrong: list[str] = []
    seen: dict[str, Any] = {"page": name, "megabytes": round(page.stat().st_size / 1e6, 2)}
    for theme in ("light", "dark"):
        tab = Tab(opened, dark=theme == "dark")
        tab.open(page)
        done, all_ = figures_of(tab)
        read = contrast_of(tab)
        seen |= {"figures": all_, "texts": read.texts, "texts of figures": read.of_figures}
        wrong += [f"{theme}: {said}" for said in (*tab.console(), *read.low)]
        wrong += [f"{theme}: {done} of {all_} figures are drawn"] if done < all_ else []
        wrong += [f"{theme}: asked for {address}" for address in tab.requests() if address != page.absolute().as_uri()]
        if theme == "light":
            wrong += by_keyboard(tab)
        tab.picture(folder / f"{name.replace(' ', '-')}-{theme}.png")
        tab.close()
    phone = Tab(opened, phone=True)
    phone.open(page)
    wider = wider_than_the_window(phone)
    wrong += [f"phone: scrolls sideways by {wider} pixels"] if wider else []
    phone.picture(folder / f"{name.replace(' ', '-')}-phone.png")
    phone.close()
    print(f"{name:<24} {seen['megabytes']:5.2f} MB  {seen['figures']:2} figures  {len(wrong)} wrong", file=sys.stderr)
    return seen | {"wrong": wrong}


def by_keyboard(tab: Tab) -> list[str]:
    """What Tab does not reach, or does not show; and whether the switch and a head do what they are for."""
    stops = stops_of(tab)
    heads = int(tab.value("document.querySelectorAll('thead button').length"))
    shown = int(
        tab.value("[...document.querySelectorAll('thead button')].filter((one) => one.checkVisibility()).length")
    )
    reached = sum(stop["head"] for stop in stops)
    wrong = [] if any(stop["id"] == "theme" for stop in stops) else ["Tab does not reach the theme switch"]
    wrong += [f"Tab reaches {reached} of {shown} heads of tables"] if reached != shown or not heads else []
    wrong += [f"the focus on {stop['text']!r} cannot be seen" for stop in stops if not stop["seen"]]
    tab.value("document.getElementById('theme').focus()")
    tab.press(" ", times=2)
    wrong += (
        [] if tab.value("document.documentElement.dataset.theme") == "dark" else ["the space bar switches no theme"]
    )
    tab.press(" ")
    tab.value("document.querySelector('thead button').focus()")
    tab.press("Enter")
    sorted_ = tab.value("document.querySelector('thead th').getAttribute('aria-sort')")
    return [*wrong, *([] if sorted_ in ("ascending", "descending") else ["Enter on a head sorts nothing"])]


def opened_quickly(opened: Browser, page: Path, *, times: int) -> dict[str, Any]:
    """Size of a page, and the least time to open it."""
    found = []
    for _ in range(times):
        tab = Tab(opened)
        began = time.perf_counter()
        tab.open(page)
        whole = time.perf_counter() - began
        load, figure = times_of(tab)
        found.append((load, load if figure is None else figure, whole))
        tab.close()
    size, (load, figure, whole) = page.stat().st_size, (min(one) for one in zip(*found, strict=True))
    rows = page.read_text(encoding="utf-8").count('<tr id="run-')
    wrong = [f"{size:,} bytes, more than {MOST_BYTES:,}"] if size > MOST_BYTES else []
    wrong += [
        f"{seconds:.2f} s until {what}"
        for what, seconds in (("loaded", load), ("the first figure", figure))
        if seconds >= MOST_SECONDS
    ]
    rounded = {"load": round(load, 2), "first figure": round(figure, 2), "all figures": round(whole, 2)}
    print(f"{rows} runs: {size / 1e6:.2f} MB, {rounded} s, the least of {times}", file=sys.stderr)
    return {"runs": rows, "bytes": size, "seconds": rounded, "opens": times, "wrong": wrong}


if __name__ == "__main__":
    sys.exit(main())
