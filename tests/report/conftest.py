"""Values of pages for all four tasks and for a study, and a browser where there is one."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainwright.records import BarsChart, ConfusionChart, Interval, Prescription, ResidualChart
from trainwright.report.reliability import Bin
from trainwright.report.values import Entry, Opening, Picture, Pictures, RecipeValue, RunValues, StudyValues, Trial

EVIL = "<script>window.hacked=1</script>"  # a class name of a user; nothing of it may come to life
METRICS = {"classification": "accuracy", "regression": "R²", "segmentation": "mean IoU", "detection": "mAP 50"}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def epochs(count: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "step": 10 * (epoch + 1),
            "train_running": {"loss": 1.2 - 0.2 * epoch, "score": 0.5 + 0.1 * epoch},
            "train": {"loss": 1.0 - 0.2 * epoch, "score": 0.6 + 0.1 * epoch},
            "val": {"loss": 1.1 - 0.1 * epoch, "score": 0.55 + 0.05 * epoch},
            "lr": 0.01 / (epoch + 1),
            "seconds": 2.0,
            "images_per_second": 800.0,
            "step_seconds": 0.05,
            "memory_bytes": 900_000_000,
        }
        for epoch in range(count)
    ]


def charts_of(task: str) -> tuple[Any, ...]:
    classes = (EVIL, "dog")
    confusion = ConfusionChart(name="confusion", matrix=np.array([[40, 10], [5, 45]]), classes=classes)
    if task == "classification":
        return (confusion,)
    bars = BarsChart(name="bars", values={EVIL: 0.8, "dog": 0.9}, label="IoU" if task == "segmentation" else "AP 50")
    if task == "regression":
        truth = np.linspace(0, 9, 50)[:, None]
        return (ResidualChart(name="residuals", truth=truth, answer=truth + 0.5, columns=(EVIL,)),)
    return (bars, confusion) if task == "segmentation" else (bars,)


def result_of(task: str) -> dict[str, Any]:
    classes = {} if task == "regression" else {EVIL: 0.8, "dog": 0.9}
    return {
        "schema": "trainwright.run/1",
        "run": "20261122-1-pets",
        "task": task,
        "metric": METRICS[task],
        "score": {"train": 0.95, "val": 0.85},
        "loss": {"train": 0.1, "val": 0.4},
        "metrics": {"train": {"mae": 1.0}, "val": {"mae": {"value": 2.0, "low": 1.5, "high": 2.5}}},
        "gap": {"value": 0.10, "low": 0.06, "high": 0.14},
        "gap_margin": 0.03,
        "verdict": "overfits",
        "findings": [
            finding("overfits", "yes", "Gap 10.0 points (6.0 to 14.0).", "To try: augmentation."),
            finding("gap-parts", "yes", "Generalization is the largest part."),
            finding("still-improving", "cannot-tell", "The score changed by 1.0 points.", "A longer run would tell."),
            finding("diverged", "no", "The loss fell."),
        ],
        "train_errors": {"running": 0.08, "train_mode": 0.07, "augmented": 0.06, "clean": 0.05, "val": 0.15},
        "per_class": classes,
        "intervals": {
            "score": {"value": 0.85, "low": 0.78, "high": 0.90},
            "per_class": {name: {"value": v, "low": v - 0.1, "high": v + 0.05} for name, v in classes.items()},
        },
        "lr": {"used": 0.01, "low": 0.001, "high": 0.02, "suggested": 0.01},
        "epochs": 3,
        "seconds": 8.0,
        "images_per_second": 800.0,
        "parameters": 12_345,
        "kept_epoch": 2,
        "weights_sha256": "ab" * 32,
        "recipe": {},
    }


def finding(rule: str, verdict: str, evidence: str, advice: str = "") -> dict[str, Any]:
    return {"rule": rule, "verdict": verdict, "evidence": evidence, "advice": advice, "figures": {}}


def jpeg(width: int = 32, height: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(file, "JPEG")
    return file.getvalue()


def opening(time: float | None = 1795350466.0, note: str = "The first time that anybody looked.") -> Opening:
    test = {"score": 0.84, "low": 0.80, "high": 0.87}
    result = {"run": "20261122-1-pets", "metric": "accuracy", "test": test, "images": 200, "note": note}
    return Opening(run="20261122-1-pets", result=result, time=time)


def run_values(task: str = "classification", **changes: Any) -> RunValues:
    picture = Picture(data=jpeg(), width=32, height=32, said=f"{EVIL} 99 %\nis dog", path=f"val/{EVIL}.jpg", good=False)
    lr_range = {
        "lrs": [1e-4, 1e-3, 1e-2, 1e-1],
        "smooth": [1.0, 0.8, 0.5, 2.0],
        "band_low": [0.9, 0.7, 0.4, 1.5],
        "band_high": [1.1, 0.9, 0.6, 2.5],
        "start": 1.0,
        "interval": [1e-3, 2e-2],
        "suggestion": 1e-2,
        "reason": "the loss falls surely.",
        "trials": [{"lr": 1e-2, "losses": [0.5, None]}],
        "notes": ["The sweep ended early."],
    }
    prescription = Prescription(
        remedy="mixup",
        finding="overfits",
        changes={"augment.mixup": 0.2},
        reason="Between two images.",
        effect="less error",
        source="Zhang et al., arXiv:1710.09412",
        gain=0.03,
    )
    manifest = {
        "metric": METRICS[task],
        "command": ["/somewhere/trainwright", "train", "my photos"],
        "dataset": {"source": {"path": "/data/my photos"}, "fingerprint": "cd" * 32, "task": task},
        "split": {"train": 300, "val": 100, "test": 200, "digest": "ef" * 32},
        "seeds": {"recipe": 0, "split": 0},
        "packages": {"torch": "2.15.0"},
        "machine": {"device": "cpu", "processor": "x", "cpus": 2, "torch_threads": 1},
        "precision": {"name": "fp32", "reason": "asked for"},
        "code": {"version": "0.1.0", "sources_sha256": "12" * 32},
    }
    values: dict[str, Any] = {
        "run": "20261122-1-pets",
        "data_name": "pets",
        "state": "finished",
        "message": "",
        "created": 1795350000.0,
        "manifest": manifest,
        "result": result_of(task),
        "recipe": (
            RecipeValue(key="optimizer.lr", value=0.01, published=0.001, given="the caller"),
            RecipeValue(key="epochs", value=3, published=3, given="", source="ours: enough"),
        ),
        "recipe_name": "scratch-default",
        "choice": ("100 images",),
        "folder": "/runs/20261122-1-pets",
        "epochs": epochs(),
        "losses": [1.0 - 0.02 * step for step in range(30)],
        "lrs": [0.01] * 30,
        "lr_range": lr_range,
        "lr_sweeps": [[1.0, 0.8, 0.5, float("nan")]],
        "charts": charts_of(task),
        "reliability": (),
        "pictures": (Pictures(title="Hardest", note="The worst.", shown=(picture,)),),
        "pictures_note": "",
        "prescriptions": (prescription,),
        "openings": (opening(),),
        "version": "0.1.0",
    }
    if task == "classification":
        half = Interval(value=0.5, low=0.4, high=0.6)
        values["reliability"] = (
            Bin(sure=0.6, right=half, images=50),
            Bin(sure=0.9, right=Interval(value=0.8, low=0.7, high=0.9), images=50),
        )
    return RunValues(**(values | changes))


def trial(
    number: int, score: float, *, role: str = "trial", lr: float = 0.01, name: str = "adamw", **more: Any
) -> Trial:
    recipe = {"optimizer.lr": lr, "optimizer.name": name, "epochs": 3}
    told: dict[str, Any] = {
        "run": f"20261122-2-study-{number:03d}",
        "label": f"{role} {number}",
        "state": "finished",
        "seconds": 30.0,
        "verdict": "generalizes",
        "changes": {"optimizer.lr": (0.01, lr)} if lr != 0.01 else {},
        "ended": 60.0 * (number + 1),
    }
    return Trial(number=number, role=role, score=score, recipe=recipe, **(told | more))


def study_result() -> dict[str, Any]:
    arm = {
        "remedy": EVIL,
        "changes": {"optimizer.lr": None, "schedule.final": None, "epochs": 6},
        "reason": "Because.",
        "source": "ours",
        "run": "20261122-2-study-001",
        "score": 0.8,
        "gain": {"value": 0.05, "low": 0.02, "high": 0.08},
        "p": 0.003,
        "verdict": "adopted",
        "adopted": True,
    }
    return {
        "schema": "trainwright.study/1",
        "strategy": "coach",
        "metric": "accuracy",
        "baseline": {"run": "a", "score": 0.7, "gap": {"value": 0.1, "low": 0.05, "high": 0.15}, "verdict": "overfits"},
        "best": {
            "run": "b",
            "score": 0.75,
            "scored_by": "c",
            "gap": {"value": 0.02, "low": -0.01, "high": 0.05},
            "trained_on": "train+val",
            "remedies": [EVIL],
            "repairs": [],
        },
        "gain": {"value": 0.05, "low": 0.02, "high": 0.08},
        "noise_floor": 0.01,
        "unchanged_scores": [0.70, 0.71],
        "luck": 0.012,
        "importance": None,
        "warnings": ["5 epochs, not 10"],
        "rounds": [
            {
                "round": 1,
                "control": {"run": "d", "score": 0.7},
                "arms": [arm, arm | {"remedy": "flip", "verdict": "worse"}],
            }
        ],
        "summary": "It got better.",
        "seconds": 300.0,
        "budget_seconds": 600.0,
    }


def study_values(count: int = 12, **changes: Any) -> StudyValues:
    random = np.random.default_rng(0)
    made = [
        trial(
            n, 0.6 + 0.3 * float(random.random()), lr=float(10 ** random.uniform(-4, -1)), name=("adamw", "sgd")[n % 2]
        )
        for n in range(1, count)
    ]
    values: dict[str, Any] = {
        "study": "20261122-2-study",
        "state": "finished",
        "message": "",
        "created": 1795350000.0,
        "folder": "/studies/20261122-2-study",
        "asked": {
            "data": {"path": "/data/pets"},
            "budget_seconds": 600.0,
            "test_images": 200,
            "command": ["__main__.py", "improve", "/data/pets"],
            "packages": {"torch": "2.15.0"},
            "machine": {"cpus": 2},
            "fingerprint": "cd" * 32,
            "code_sha256": "12" * 32,
            "kind": "improve",
        },
        "result": study_result(),
        "metric": "accuracy",
        "trials": (trial(0, 0.7, role="baseline"), *made),
        "story": (
            Entry(step="outcome", text="Baseline: accuracy 0.700.", runs=("20261122-2-study-000",)),
            Entry(step="belief", text="Round 1. overfits: gap 10 points.", runs=("20261122-2-study-000",)),
            Entry(step="trial", text=f"Trying {EVIL}."),
            Entry(step="decision", text="Adopted.", runs=("20261122-2-study-001",)),
        ),
        "openings": (),
        "version": "0.1.0",
    }
    return StudyValues(**(values | changes))


@pytest.fixture(scope="session")
def benchmark_module() -> Iterator[Callable[[str], ModuleType]]:
    """A function from the name of a file in `benchmarks/` to its module, imported as the programs there do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


@pytest.fixture(scope="session")
def chromium(benchmark_module: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium for all pages; skips where the machine has none."""
    browser = benchmark_module("browser")
    if browser.chromium() is None:
        pytest.skip("no Chromium on this machine (.ci/run installs Debian's where it may)")
    with browser.browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(
    chromium: Any, benchmark_module: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """(page, dark=…, phone=…) → a tab that shows it, all figures drawn."""
    tabs: list[Any] = []

    def show(html: str, **how: Any) -> Any:
        file = tmp_path_factory.mktemp("page") / "page.html"
        file.write_text(html, encoding="utf-8")
        tabs.append(benchmark_module("browser").Tab(chromium, **how))
        tabs[-1].open(file)
        return tabs[-1]

    yield show
    for tab in tabs:
        tab.close()


@pytest.fixture
def browse(shown: Callable[..., Any]) -> Callable[..., tuple[str, str]]:
    """(page, script to run in it, dark=…, phone=…) → its DOM once it is drawn, and what the browser's console said."""

    def open_page(html: str, script: str = "", **how: Any) -> tuple[str, str]:
        tab = shown(html, **how)
        if script:
            tab.value(f"{{{script}}}")
            tab.wait("true")
        return tab.value("document.documentElement.outerHTML"), "\n".join(tab.console())

    return open_page


@pytest.fixture
def without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages with a word in place of plotly's script: two megabytes that tests of the text need not read."""
    from trainwright.report import page

    monkeypatch.setattr(page, "_packed_plotly", lambda: "packed")


@pytest.fixture(name="run_values", scope="session")
def make_run_values() -> Callable[..., RunValues]:
    """(task, fields to change) → what the page of a run is made of."""
    return run_values


@pytest.fixture(name="study_values", scope="session")
def make_study_values() -> Callable[..., StudyValues]:
    """(number of runs, fields to change) → what the page of a study is made of."""
    return study_values


@pytest.fixture(name="trial")
def make_trial() -> Callable[..., Trial]:
    """(number, score, role=…, lr=…) → a run of a study."""
    return trial


@pytest.fixture(name="opening")
def make_opening() -> Callable[..., Opening]:
    """(time, note) → a look at the test part."""
    return opening


@pytest.fixture
def evil() -> str:
    """A class name that is a script."""
    return EVIL
