"""`trainwright report`."""

import shutil

import pytest
import typer


@pytest.fixture
def copied(two_runs, tmp_path):
    """A folder with a copy of one finished run."""
    folder = tmp_path / "runs"
    shutil.copytree(two_runs[0].folder, folder / two_runs[0].id)
    return folder


def test_it_writes_a_page_and_says_where(cli, copied, two_runs):
    done = cli("report", "last", "--runs", copied)

    file = copied / two_runs[0].id / "report.html"
    assert (done.code, done.out) == (0, f"{file}\n")
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_may_lie_elsewhere(cli, copied, tmp_path):
    done = cli("report", "last", "--runs", copied, "--out", tmp_path / "page.html", "--json")

    assert done.json == {
        "schema": "trainwright.report/1",
        "file": str(tmp_path / "page.html"),
        "bytes": (tmp_path / "page.html").stat().st_size,
    }
    assert done.json["bytes"] < 4_000_000


def test_it_explains_the_hardest_images_where_that_is_asked_for(cli, copied, two_runs):
    pytest.importorskip("captum")

    done = cli("report", "last", "--runs", copied, "--explain")

    assert done.code == 0
    assert '<section id="why">' in (copied / two_runs[0].id / "report.html").read_text(encoding="utf-8")


def test_it_opens_the_browser_where_that_is_asked_for(cli, copied, monkeypatch):
    opened = []
    monkeypatch.setattr(typer, "launch", opened.append)

    done = cli("report", "last", "--runs", copied, "--open")

    assert opened == [(copied / "x").parent.joinpath(done.out.strip()).as_uri()]


def test_a_run_that_does_not_exist_is_named(cli, copied):
    done = cli("report", "nothing", "--runs", copied)

    assert done.code == 1
    assert "no such run 'nothing'" in done.err
