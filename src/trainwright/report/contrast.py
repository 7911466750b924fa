"""How well a text can be read on its ground, and the ink for a ground that is a mixture of two colours."""

from __future__ import annotations

from collections.abc import Sequence

BLACK, WHITE = "#000000", "#ffffff"
# (light, dark) by name, as in `page.COLOURS`: one of them has a contrast of at least 4.58 on any ground in both themes, since
# black and white are alike on a luminance of √(0.05 · 1.05) − 0.05, where both have it.
INKS = {
    "black": (BLACK, BLACK),
    "white": (WHITE, WHITE),
    "ink": (BLACK, WHITE),
    "paper": (WHITE, BLACK),
}


def contrast(one: str, other: str) -> float:
    """1–21, of two colours as #rrggbb. Source: WCAG 2.2, "contrast ratio"."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(start: str, end: str, share: float) -> str:
    """The colour at `share` (0–1) of the way, as a colour scale of plotly has it: in sRGB, each part on its own."""
    parts = zip(_parts(start), _parts(end), strict=True)
    return "#" + "".join(f"{round((1 - share) * one + share * other):02x}" for one, other in parts)


def ink_on(start: Sequence[str], end: Sequence[str], share: float) -> str:
    """The name of the ink that is read best in each theme on a ground at `share` of the way.

    start, end: (light, dark) colours.
    """
    best = tuple(
        max((BLACK, WHITE), key=lambda ink: contrast(ink, ground))
        for ground in (mixed(one, other, share) for one, other in zip(start, end, strict=True))
    )
    return next(name for name, pair in INKS.items() if pair == best)


def _luminance(colour: str) -> float:
    """0–1. Source: WCAG 2.2, "relative luminance"."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _parts(colour))
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
