"""The pages in a real browser without a network: nothing fails, figures are drawn, tables sort, the theme switches."""

import re

import numpy as np
import pytest

from trainwright.records import ConfusionChart
from trainwright.report.run_page import run_page
from trainwright.report.study_page import study_page

pytestmark = pytest.mark.slow

TASKS = ("classification", "regression", "segmentation", "detection")
SWITCH = "document.getElementById('theme').click(); document.getElementById('theme').click();"
SORT = (
    "const table = [...document.querySelectorAll('#runs table')][0];"
    "const score = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === 'accuracy');"
    "const button = table.tHead.rows[0].cells[score].querySelector('button');"
    "const order = () => [...table.tBodies[0].rows].map((row) => row.cells[score].textContent).join(' ');"
    "button.click(); document.body.dataset.first = order(); button.click(); document.body.dataset.second = order();"
)


def drawn(dom: str) -> tuple[int, int]:
    """(figures that were drawn, figures there are)."""
    done = re.findall(r'<div class="[^"]*\bsvg-container"', dom)
    return len(done), len(re.findall(r'<div class="plot(?: js-plotly-plot)?" role="img"', dom))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_page_opens_without_an_error_and_draws_its_figures(browse, run_values, task):
    dom, console = browse(run_page(run_values(task)))

    done, all_ = drawn(dom)
    assert console == ""
    assert done == all_ >= 7
    assert "window.hacked" in dom  # the class is named
    assert "<script>window.hacked" not in dom


def test_a_study_page_opens_without_an_error_on_a_phone(browse, study_values):
    script = "document.body.dataset.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;"

    dom, console = browse(study_page(study_values()), script, width=500)

    done, all_ = drawn(dom)
    assert console == ""
    assert done == all_ >= 6
    assert 'data-wide="0"' in dom  # nothing but tables scrolls sideways


def test_a_figure_that_fails_takes_nothing_from_the_others(browse, run_values):
    page = run_page(run_values())
    damaged = re.sub(r'(class="figure">).*?(</script>)', r"\1null\2", page, count=1, flags=re.DOTALL)

    dom, console = browse(damaged)

    done, all_ = drawn(dom)
    assert done == all_ - 1
    assert len(re.findall("This figure could not be drawn. [^<]{10}", dom)) == 1
    assert "TypeError" in console


def test_a_class_called_as_a_colour_keeps_its_name(browse, run_values):
    chart = ConfusionChart(name="confusion", matrix=np.array([[40, 10], [5, 45]]), classes=("@red", "dog"))

    dom, console = browse(run_page(run_values(charts=(chart,))))

    assert console == ""
    assert re.search(r"<text[^>]*>@red</text>", dom)


def test_a_head_sorts_by_its_column_and_back(browse, study_values, trial):
    scores = (0.7, 0.95, float("nan"), 0.8)
    trials = tuple(trial(number, score) for number, score in enumerate(scores))

    dom, console = browse(study_page(study_values(trials=trials)), SORT)

    assert console == ""
    assert 'data-first="95.0 % 80.0 % 70.0 % –"' in dom
    assert 'data-second="70.0 % 80.0 % 95.0 % –"' in dom  # what is not known stays last
    assert 'aria-sort="ascending"' in dom


@pytest.mark.parametrize(
    ("dark", "theme", "ground"), [(False, "light", "rgb(255, 255, 255)"), (True, "dark", "rgb(17, 22, 28)")]
)
def test_the_theme_follows_the_system_until_it_is_switched(browse, run_values, dark, theme, ground):
    script = (
        "const ground = () => getComputedStyle(document.body).backgroundColor;"
        "const curve = () => document.querySelector('#curves .lines path').style.stroke;"
        "document.body.dataset.before = ground();"
        f"{SWITCH if not dark else ''}"
        "document.body.dataset.after = ground();"
        "setTimeout(() => { document.body.dataset.curve = curve(); document.body.dataset.done = 'yes'; }, 500);"
    )

    dom, console = browse(run_page(run_values()), script, dark=dark)

    assert console == ""
    assert f'data-before="{ground}"' in dom
    assert 'data-after="rgb(17, 22, 28)"' in dom
    assert 'data-curve="rgb(151, 164, 177)"' in dom  # the figures' grey in the dark
    assert ('data-theme="dark"' in dom) == (theme == "light")  # only who switched has chosen


def test_a_page_of_two_hundred_runs_is_drawn(browse, study_values):
    dom, console = browse(study_page(study_values(200)))

    done, all_ = drawn(dom)
    assert console == ""
    assert done == all_ >= 6
    assert dom.count('<tr id="run-') == 200
