"""A range test drawn in characters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainwright.cli.lr_picture import FINE, HEIGHT, PLAIN, letters_for, picture


class Stream:
    encoding = "utf-8"

    def __init__(self, *, terminal: bool):
        self._terminal = terminal

    def isatty(self):
        return self._terminal


@pytest.mark.parametrize("letters", [FINE, PLAIN], ids=["fine", "plain"])
@pytest.mark.parametrize("columns", [20, 60, 80, 300])
def test_it_is_no_wider_than_the_terminal_and_narrower_than_a_hundred(lr_range_of, letters, columns):
    lines = picture(lr_range_of("found"), columns=columns, letters=letters)

    assert max(map(len, lines)) <= max(40, min(columns, 110))
    assert len(lines) == HEIGHT + (3 if columns < 80 else 4)  # axis, decades, interval, its meaning where there is room


def test_plain_letters_are_ascii(lr_range_of):
    assert "\n".join(picture(lr_range_of("found"), letters=PLAIN)).isascii()


def test_the_curve_starts_high_and_is_lowest_where_the_loss_is(lr_range_of):
    found = replace(lr_range_of("found"), trials=())

    rows = picture(found, columns=80, letters=PLAIN)[:HEIGHT]

    assert rows[3].count("*") > 20  # along the start: most of the sweep lies before the fall
    lowest = [k for k, letter in enumerate(rows[HEIGHT - 1]) if letter == "*"]
    lrs = found.lrs_L[np.isfinite(found.smooth_L)]
    reached = lrs[int(np.nanargmin(found.smooth_L))]
    share = (np.log10(reached) + 7) / (np.log10(lrs[-1]) + 7)
    assert lowest[0] <= 11 + share * 68 <= lowest[-1]


def test_the_suggestion_lies_in_the_bar_of_the_interval(lr_range_of):
    *_, decades, bar, _ = picture(lr_range_of("found"), letters=PLAIN)

    assert bar.index("[") < bar.index("^") < bar.index("]")
    assert bar.index("[") == pytest.approx(decades.index("1e-04") + 2 + 3, abs=1)  # 2e-4 is a third of a decade on


def test_the_bar_tells_sweeps_from_short_trainings(lr_range_of):
    """The sweep falls up to about 0.01, the interval goes on to 0.06."""
    *_, bar, meaning = picture(lr_range_of("found"), letters=PLAIN)

    inside = bar.strip("[ ]").replace("^", "")
    assert set(inside.rstrip("-")) == {"="}
    assert inside.endswith("-")
    assert meaning.strip() == "= falls in a sweep   - in a short training   ^ suggested"


def test_an_interval_that_short_trainings_alone_saw_has_no_mark_of_a_sweep(lr_range_of):
    found = lr_range_of("found")

    *_, bar, meaning = picture(replace(found, high_L=found.high_L + 10), letters=PLAIN)

    assert "=" not in bar
    assert meaning.strip() == "- in a short training   ^ suggested"


def test_a_single_rate_is_marked_alone(lr_range_of):
    *_, bar, meaning = picture(replace(lr_range_of("found"), interval=(0.013, 0.013)), letters=PLAIN)

    assert (bar.strip(), meaning.strip()) == ("^", "^ suggested")


def test_without_an_answer_there_is_no_bar(lr_range_of):
    assert len(picture(lr_range_of("flat"), letters=PLAIN)) == HEIGHT + 2


def test_a_sweep_without_any_finite_loss_says_so(lr_range_of):
    (line,) = picture(lr_range_of("nothing"), letters=PLAIN)

    assert "nothing to draw" in line


def test_decades_are_thinned_evenly_where_there_is_no_room(lr_range_of):
    *_, decades = picture(lr_range_of("flat"), columns=40, letters=PLAIN)

    powers = [{"1": 0, "10": 1}.get(word) if word in ("1", "10") else int(word[2:]) for word in decades.split()]
    assert len(set(np.diff(powers))) == 1
    assert powers[0] < powers[-1]


def test_the_band_is_drawn_where_the_curve_is_not(lr_range_of):
    flat = lr_range_of("flat")

    wide = "".join(picture(replace(flat, low_L=flat.low_L - 0.1), letters=PLAIN))
    narrow = "".join(picture(replace(flat, low_L=flat.smooth_L, high_L=flat.smooth_L), letters=PLAIN))

    assert wide.count(":") > 100
    assert narrow.count(":") == 0


@pytest.mark.parametrize(
    ("terminal", "term", "expected"), [(True, "xterm", FINE), (True, "dumb", PLAIN), (False, "xterm", PLAIN)]
)
def test_fine_letters_are_for_terminals_that_can_show_them(monkeypatch, terminal, term, expected):
    monkeypatch.setenv("TERM", term)

    assert letters_for(Stream(terminal=terminal)) is expected
