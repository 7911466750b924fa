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


KINDS = (*TASKS, "study", "unfinished")


@pytest.fixture(scope="module")
def seen(shown, run_values, study_values):
    """(task, `study` or `unfinished`, dark=…, phone=…) → a tab with a page with all that such a one may have, opened once."""
    tabs = {}

    def page(kind):
        if kind == "study":
            return study_page(study_values())
        if kind == "unfinished":
            return run_page(run_values(result=None, state="interrupted", charts=(), reliability=(), pictures=()))
        return run_page(run_values(kind))

    def see(kind, **how):
        key = (kind, *how.items())
        if key not in tabs:
            tabs[key] = shown(page(kind), **how)
        return tabs[key]

    return see


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_an_error_draws_its_figures_and_asks_for_nothing(seen, kind, dark):
    tab = seen(kind, dark=dark)

    done, all_ = drawn(tab.value("document.documentElement.outerHTML"))
    assert tab.console() == []
    assert done == all_ >= 5
    assert len(tab.requests()) == 1  # for the page itself


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_text_of_page_and_figures_can_be_read_on_what_lies_below_it(seen, benchmark_module, kind, dark):
    tab = seen(kind, dark=dark)

    found = benchmark_module("page_checks").contrast_of(tab)

    assert found.low == []
    assert found.of_figures > 40
    assert found.texts > 100 + found.of_figures


@pytest.mark.parametrize("kind", KINDS)
def test_the_keyboard_reaches_switch_menu_and_heads_and_shows_where_it_is(seen, benchmark_module, kind):
    tab = seen(kind, dark=False)
    heads = tab.value("[...document.querySelectorAll('thead button')].filter((one) => one.checkVisibility()).length")

    stops = benchmark_module("page_checks").stops_of(tab)

    assert stops[0]["text"] == "Skip to the content"
    assert stops[1]["id"] == "theme"
    assert sum(stop["head"] for stop in stops) == heads > 0
    assert [stop for stop in stops if not stop["seen"]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_scrolls_a_page_one_way(seen, benchmark_module, kind):
    tab = seen(kind, phone=True)

    assert tab.value("innerWidth") == 390
    assert benchmark_module("page_checks").wider_than_the_window(tab) == 0


def test_text_that_cannot_be_read_is_noticed_in_page_and_figures(shown, run_values, benchmark_module):
    tab = shown(run_page(run_values()))
    tab.value("document.querySelector('#gap h2').style.color = '#aaa'")
    tab.value("document.querySelector('#classes .annotation-text').style.fill = 'rgb(128, 170, 200)'")

    found = benchmark_module("page_checks").contrast_of(tab)

    assert len(found.low) == 2


def test_the_keyboard_switches_the_theme_and_sorts(shown, study_values):
    tab = shown(study_page(study_values()))

    tab.value("document.getElementById('theme').focus()")
    tab.press(" ", times=2)
    tab.value("document.querySelector('#runs thead button').focus()")
    tab.press("Enter", times=2)

    assert tab.value("document.documentElement.dataset.theme") == "dark"
    assert tab.value("document.querySelector('#runs thead th').getAttribute('aria-sort')") == "descending"
    assert tab.value("document.querySelector('#runs tbody tr').id") == "run-11"


def test_a_class_that_is_a_script_is_named_and_never_run(shown, run_values):
    tab = shown(run_page(run_values()))

    assert tab.value("typeof window.hacked") == "undefined"
    assert "window.hacked" in tab.value("document.body.innerText")


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
def test_the_theme_follows_the_system_until_it_is_switched(shown, run_values, dark, theme, ground):
    script = (
        "const ground = () => getComputedStyle(document.body).backgroundColor;"
        "document.body.dataset.before = ground();"
        f"{SWITCH if not dark else ''}"
        "document.body.dataset.after = ground();"
    )

    tab = shown(run_page(run_values()), dark=dark)
    tab.value(f"{{{script}}}")
    tab.wait("document.querySelector('#curves .lines path').style.stroke === 'rgb(151, 164, 177)'")  # grey in the dark
    dom = tab.value("document.documentElement.outerHTML")

    assert tab.console() == []
    assert f'data-before="{ground}"' in dom
    assert 'data-after="rgb(17, 22, 28)"' in dom
    assert ('data-theme="dark"' in dom) == (theme == "light")  # only who switched has chosen


def test_a_page_of_two_hundred_runs_is_drawn(browse, study_values):
    dom, console = browse(study_page(study_values(200)))

    done, all_ = drawn(dom)
    assert console == ""
    assert done == all_ >= 6
    assert dom.count('<tr id="run-') == 200
