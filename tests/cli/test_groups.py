"""Groups of options: written once, read one by one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trainwright.cli.groups import grouped


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width", min=1, help="Across.")] = 3
    height: Annotated[int, typer.Option("--height")] = 4


def area(name: str, *, before: int = 0, size: Size, after: bool = False) -> str:
    return f"{name} {before} {size.width * size.height} {after}"


@pytest.fixture
def ask():
    """(words) → what the command printed, with its exit code."""
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @grouped
    def shown(name: str, *, before: int = 0, size: Size, after: bool = False) -> None:
        print(area(name, before=before, size=size, after=after))

    def words(*given):
        done = CliRunner().invoke(app, given)
        return done.exit_code, done.output

    return words


def test_the_options_of_a_group_stand_in_its_place():
    assert list(inspect.signature(grouped(area)).parameters) == ["name", "before", "width", "height", "after"]


def test_a_command_has_its_group_as_one_value(ask):
    assert ask("a", "--height", "5", "--after") == (0, "a 0 15 True\n")


def test_the_help_says_what_the_group_says_and_its_limits_hold(ask):
    assert "Across." in ask("--help")[1]
    assert ask("a", "--width", "0")[0] == 2


def test_a_command_without_a_group_stays_as_it_is():
    def plain(name: str, times: int = 2) -> str:
        return name * times

    assert inspect.signature(grouped(plain)) == inspect.signature(plain, eval_str=True)
    assert grouped(plain)(name="a") == "aa"
