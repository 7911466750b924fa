"""The skeleton of every page: readable in both themes, and in need of nothing from outside."""

import re
from html.parser import HTMLParser
from itertools import product

import numpy as np
import pytest

from trainwright.records import ConfusionChart
from trainwright.report.answer_plots import chart_figures
from trainwright.report.markup import VOID, Html
from trainwright.report.page import COLOURS, GROUNDS, TEXT_COLOURS, Section, page, style
from trainwright.report.run_page import run_page
from trainwright.report.study_page import study_page

TASKS = ("classification", "regression", "segmentation", "detection")


class Reader(HTMLParser):
    """Remembers tags, attributes and whether every element was closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, key, value or "") for key, value in attributes]
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


@pytest.fixture(params=[*TASKS, "study", "unfinished"])
def written(request, run_values, study_values, without_plotly) -> str:
    """The page of each task, of a study, and of a run that has not finished."""
    if request.param == "study":
        return study_page(study_values())
    if request.param == "unfinished":
        return run_page(run_values(result=None, state="interrupted", epochs=(), losses=(), lrs=(), lr_range=None))
    return run_page(run_values(request.param))


def luminance(colour: str) -> float:
    """Relative luminance: WCAG 2.2, "relative luminance"."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_of_black_and_white_is_the_largest_there_is():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), list(product(TEXT_COLOURS, GROUNDS)))
def test_every_text_can_be_read_on_every_ground(text, ground, theme):
    assert contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("mark", "ground"), list(product(("blue", "orange", "green", "red", "grey", "text"), GROUNDS)))
def test_every_mark_of_a_figure_can_be_seen(mark, ground, theme):
    assert contrast(COLOURS[mark][theme], COLOURS[ground][theme]) >= 3


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_written_on_a_filled_mark_can_be_read(theme):
    assert contrast(COLOURS["ground"][theme], COLOURS["blue"][theme]) >= 4.5
    assert contrast(COLOURS["ground"][theme], COLOURS["text"][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_count_can_be_read_on_its_shade_in_the_confusion_matrix(theme):
    """A row of 1,000 images for each share: its shade and the colour of its count, as the theme has them."""
    counts = [1, 10, 50, *range(100, 1000, 25), 990, 999]
    worst = []
    for count in counts:
        chart = ConfusionChart(name="confusion", matrix=np.array([[count, 1000 - count], [0, 1]]), classes=("a", "b"))
        (figure,) = chart_figures([chart], {})
        heat, word = figure.data[0], figure.layout["annotations"][0]
        empty, full = (COLOURS[name[1:]][theme] for _, name in heat["colorscale"])
        ends = [[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in (empty, full)]
        shade = heat["z"][0][0]
        ground = "#" + "".join(f"{round(low + shade * (high - low)):02x}" for low, high in zip(*ends, strict=True))
        worst.append(contrast(COLOURS[word["font"]["color"][1:]][theme], ground))

    assert min(worst) >= 4.5


def test_the_style_sheet_names_no_colour_that_does_not_exist():
    assert set(re.findall(r"var\(--([a-z]+)\)", style())) <= set(COLOURS)


def test_the_style_sheet_has_no_colour_of_its_own():
    rules = style().partition("* { box-sizing")[2]

    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?! \{)", rules.replace("#theme", "")) == []


def test_figures_name_no_colour_that_does_not_exist(written):
    data = "".join(re.findall(r'<script type="application/json" class="figure">(.*?)</script>', written))

    assert set(re.findall(r'"@([^"]*)"', data)) <= set(COLOURS)


def test_every_element_is_closed_in_its_turn(written):
    reader = read(written)

    assert reader.wrong == []
    assert reader.open == []


def test_nothing_is_fetched_from_anywhere(written):
    reader = read(written)
    sources = [value for _, key, value in reader.attributes if key in ("src", "srcset", "poster", "data", "action")]
    links = [value for _, key, value in reader.attributes if key == "href"]

    assert [source for source in sources if not source.startswith("data:image/jpeg;base64,")] == []
    assert [link for link in links if re.match(r"[a-z]+:|//", link)] == []
    assert ("meta", "http-equiv", "Content-Security-Policy") in reader.attributes
    assert any(value.startswith("default-src 'none';") for _, key, value in reader.attributes if key == "content")


def test_every_link_within_the_page_leads_somewhere(written):
    reader = read(written)
    fragments = {value[1:] for _, key, value in reader.attributes if key == "href" and value.startswith("#")}

    assert fragments <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_every_figure_and_picture_says_what_it_shows(written):
    tags = re.findall(r"<(?:img|div class=\"plot\")[^>]*>", written)

    assert [tag for tag in tags if not re.search(r'(?:alt|aria-label)="[^"]{10,}"', tag)] == []


def test_every_head_of_a_sortable_table_is_a_button(written):
    for table in re.findall(r'<table class="sortable">.*?</thead>', written, re.DOTALL):
        assert table.count("<th ") == table.count('<button type="button">')


def test_no_name_of_a_user_becomes_part_of_the_page(written):
    assert "<script>window" not in written
    assert all(text.endswith("&lt;script&gt;") for text in written.split("window.hacked")[:-1])


def test_plotly_comes_once_and_only_where_there_is_a_figure(written):
    figures = written.count('class="plot"')

    assert written.count('id="plotly"') == (1 if figures else 0)


def test_a_page_without_figures_is_small():
    empty = page(title="x", kind="y", head=Html(""), sections=[], foot="z")

    assert len(empty) < 40_000


def test_the_menu_leads_to_every_section():
    sections = [Section(anchor="one", short="One", title="The first", body=Html("<p>1</p>"))]

    text = page(title="x", kind="y", head=Html(""), sections=sections, foot="z")

    assert '<a href="#one">One</a>' in text
    assert '<section id="one"><h2>The first</h2><p>1</p></section>' in text
