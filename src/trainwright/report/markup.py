"""HTML that cannot be broken by what is put into it: every text is escaped, unless it is `Html` already."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "img", "meta", "link", "input", "hr"})  # elements without an end tag


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """`<name attributes>children</name>`.

    children: `Html` as it is, other text and numbers escaped, lists one after the other, None nothing. attributes: an
    underscore stands for a hyphen, one at the end is dropped (`class_`); True is a bare one, None and False are left out.
    """
    said = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{joined(children)}</{name}>")


def joined(children: Iterable[Any]) -> Html:
    """The children one after the other, escaped where they are not `Html`."""
    return Html("".join(_child(child) for child in children))


def data_script(value: Any, *, class_: str) -> Html:
    """JSON for the page's script. A `</script>` inside of a text cannot end it, since no `<` is left."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Html(f'<script type="application/json" class="{class_}">{safe}</script>')


def figure_text(text: str) -> str:
    """A text for a place in a figure that understands a little HTML (labels, what appears under the pointer).

    An @ at its beginning would make it the name of a colour (`page.Figure`).
    """
    escaped = html.escape(str(text), quote=False)
    return f"&#64;{escaped[1:]}" if escaped.startswith("@") else escaped


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, list | tuple):
        return joined(child)
    return html.escape(str(child))
