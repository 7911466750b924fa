"""The skeleton of a page: one file that needs no network, light and dark, with plotly's script inside where it has figures."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from trainwright.report.contrast import INKS
from trainwright.report.markup import Html, data_script, element, joined

# (light, dark) by the name that the style sheet and the figures use. Text has a contrast of at least 4.5 on ground and panel,
# lines of figures at least 3 (WCAG 2.2, success criteria 1.4.3 and 1.4.11; a test computes it). The hues are those of Okabe and
# Ito 2008, "Color universal design", darker on light and lighter on dark grounds.
COLOURS = {
    "ground": ("#ffffff", "#11161c"),
    "panel": ("#f5f7f9", "#19212a"),
    "text": ("#1a1f25", "#e7edf3"),
    "quiet": ("#56616d", "#a3b0bd"),
    "line": ("#d6dde4", "#303b47"),
    "link": ("#0a5a9c", "#7cbcf5"),
    "blue": ("#0068a6", "#5cb3ee"),
    "orange": ("#b05a00", "#f0b24c"),
    "green": ("#00745a", "#43c9a2"),
    "red": ("#b93500", "#ff946b"),
    "grey": ("#66717d", "#97a4b1"),
    "band": ("#cfe2f1", "#1c3f5a"),  # the area of an interval, behind its line
    **INKS,  # of what is written on a shade
}
TEXT_COLOURS = ("text", "quiet", "link", "blue", "orange", "green", "red")
GROUNDS = ("ground", "panel")
# Nothing of the page may be fetched from anywhere: a browser refuses it, whatever stands in it.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
UNSEEN = "“unseen” are the validation images, which nothing was learned from."
SQUEEZE = 6  # zlib's own default; 9 takes a third longer for 0.2 % less


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure for plotly with its words. Colours in `data` and `layout` are names of COLOURS behind an @, so that they follow
    the theme. alt: what it shows, for who cannot see it. caption: how it is to be read. width: the most that it needs, pixels."""

    data: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    alt: str
    title: str = ""
    caption: str = ""
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page. short: what the menu calls it."""

    anchor: str
    short: str
    title: str
    body: Html


def page(*, title: str, kind: str, head: Html, sections: Sequence[Section], foot: str) -> str:
    """The whole page as HTML.

    kind: what it is a report of. head: what stands above the menu. foot: the last line.
    """
    menu = element(
        "nav",
        element("ul", [element("li", element("a", one.short, href=f"#{one.anchor}")) for one in sections]),
        aria_label="Sections",
    )
    switch = element("button", "Theme: auto", id="theme", type="button", title="Switch between light and dark")
    top = element("div", element("p", f"trainwright · {kind}", class_="kind"), switch, class_="top")
    body = joined(
        [
            element("a", "Skip to the content", href="#content", class_="skip"),
            element("header", top, element("h1", title), head),
            menu,
            element("main", [_section(one) for one in sections], id="content"),
            element("footer", element("p", foot)),
        ]
    )
    script = element("script", Html(_file("page.js")))
    return "<!doctype html>\n" + element(
        "html", _head(f"{title} · trainwright"), element("body", body, _plotly(body), script), lang="en"
    )


def foot(version: str, folder: str, unseen: str = UNSEEN) -> str:
    """The last line of every page: who wrote it, and what its words mean. unseen: what is to be known of the unseen images."""
    return f"Written by trainwright {version} from {folder}. Intervals are 95 % ones; a score is higher when better; {unseen}"


def figure(one: Figure | None) -> Html:
    """A figure, drawn by the page's script when it is read."""
    if one is None:
        return Html("")
    described = element("div", class_="plot", role="img", aria_label=one.alt, style=f"height:{one.layout['height']}px")
    caption = element("figcaption", one.caption) if one.caption else None
    data = data_script({"data": list(one.data), "layout": one.layout}, class_="figure")
    title = element("h3", one.title) if one.title else None
    narrow = f"max-width:{one.width}px" if one.width else None
    return element("figure", title, described, data, caption, style=narrow)


def figures(*several: Figure | None) -> Html:
    """Figures beside each other where there is room."""
    return element("div", [figure(one) for one in several if one is not None], class_="figures")


def style() -> str:
    """The style sheet with the colours of both themes."""
    light, dark = (
        "".join(f"--{name}:{pair[side]};" for name, pair in COLOURS.items()) + f"color-scheme:{scheme}"
        for side, scheme in ((0, "light"), (1, "dark"))
    )
    themes = (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
    )
    return themes + _file("page.css")


def _section(one: Section) -> Html:
    return element("section", element("h2", one.title), one.body, id=one.anchor)


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style())),
    )


def _plotly(body: str) -> Html | None:
    """Plotly's script, once, compressed to two fifths: the browser unpacks it in some milliseconds."""
    if 'class="plot"' not in body:
        return None
    return element("script", Html(_packed_plotly()), type="text/plain", id="plotly")


@cache
def _packed_plotly() -> str:
    from plotly.offline import get_plotlyjs

    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), SQUEEZE)).decode()


@cache
def _file(name: str) -> str:
    return (resources.files("trainwright.report") / name).read_text(encoding="utf-8")
