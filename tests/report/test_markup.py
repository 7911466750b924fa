"""HTML that cannot be broken by what is put into it."""

import html
import json

import pytest

from trainwright.report.markup import Html, data_script, element, figure_text, joined


def test_text_is_escaped_and_html_is_not():
    assert element("p", "1 < 2", Html("<b>yes</b>"), 3) == "<p>1 &lt; 2<b>yes</b>3</p>"


def test_an_attribute_cannot_be_left_by_its_value():
    assert element("a", "x", title='"><img src=x>') == '<a title="&quot;&gt;&lt;img src=x&gt;">x</a>'


def test_attributes_are_named_as_in_html():
    assert element("button", class_="a b", aria_label="c", hidden=True, disabled=False, id=None) == (
        '<button class="a b" aria-label="c" hidden></button>'
    )


def test_elements_without_an_end_have_none():
    assert element("img", alt="x") == '<img alt="x">'


def test_children_may_come_in_lists_and_nothing_is_nothing():
    assert joined(["a", None, [Html("<i>"), ["&"]]]) == "a<i>&amp;"


def test_data_cannot_end_its_script():
    text = data_script({"name": "</script><script>alert(1)</script>"}, class_="figure")

    inner = text.removeprefix('<script type="application/json" class="figure">').removesuffix("</script>")
    assert "<" not in inner
    assert json.loads(inner) == {"name": "</script><script>alert(1)</script>"}


def test_figures_show_a_text_as_it_is_written():
    assert figure_text("<b>R&D</b>") == "&lt;b&gt;R&amp;D&lt;/b&gt;"


@pytest.mark.parametrize(("name", "written"), [("@red", "&#64;red"), ("a@red", "a@red")])
def test_a_name_that_begins_with_an_at_is_no_colour_of_a_figure(name, written):
    assert figure_text(name) == written
    assert html.unescape(figure_text(name)) == name  # as the figure shows it
