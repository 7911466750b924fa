"""`trainwright lr`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainwright.training import batch_size, lr_range

SMALL = (
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--set=batch_size=16",
    "--set=precision=fp32",
    "--epochs=3",
)


@pytest.fixture
def answer(monkeypatch, lr_range_of):
    """(kind) → the mechanism answers so."""

    def set_to(kind):
        monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: lr_range_of(kind))

    return set_to


@pytest.fixture
def lr(cli, digits, tmp_path):
    """(further words) → `trainwright lr` on the digits, small, quiet, with runs in `tmp_path / "runs"`."""

    def run(*more):
        return cli("lr", digits, *SMALL, "--quiet", f"--runs={tmp_path / 'runs'}", *more)

    return run


def test_what_was_found_is_on_a_page(answer, lr):
    answer("found")

    done = lr()

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("train loss against learning rate, 3 sweeps, with its 95 % band\n\n")
    assert "verdict    found\ninterval   0.0002 to 0.06, where the loss falls: from 0.0002 to 0.0" in done.out
    assert "in a sweep, beyond that in short" in done.out
    assert "\nsuggested  0.013\n" in done.out
    assert "reason     of three short runs the one at 0.013 ended lowest" in done.out
    cost = "cost       330 steps, 1833.3 % of the training's 18 (a test takes about 48 at least), in 4.2 s\n"
    assert f"{cost}sweeps     3 sweeps\n" in done.out


@pytest.mark.parametrize(
    ("rate", "said", "where"),
    [
        (
            "0.5",
            "recipe     0.5, which lies above the interval: at no rate that high was the loss seen to fall",
            "above",
        ),
        (
            "1e-5",
            "recipe     1e-05, which lies below the interval: at no rate that low was the loss seen to fall",
            "below",
        ),
        ("0.05", "recipe     0.05, which lies within the interval", "inside"),
    ],
)
def test_where_the_rate_of_the_recipe_lies_is_said(answer, lr, rate, said, where):
    """The interval that was found goes from 0.0002 to 0.06."""
    answer("found")

    text, content = lr(f"--set=optimizer.lr={rate}").out, lr(f"--set=optimizer.lr={rate}", "--json").json

    assert said in text.splitlines()
    assert (content["recipe_lr"], content["recipe_lr_lies"]) == (float(rate), where)


@pytest.mark.parametrize("kind", ["found", "flat"])
def test_of_a_recipe_without_a_rate_and_of_no_interval_nothing_is_said(answer, lr, kind):
    answer(kind)
    words = ("--set=optimizer.lr=null",) if kind == "found" else ()

    assert "\nrecipe  " not in lr(*words).out
    assert lr(*words, "--json").json["recipe_lr_lies"] is None


def test_short_runs_have_a_line_each_and_the_suggested_one_is_marked(answer, lr):
    answer("found")

    lines = lr().out.splitlines()

    first = next(k for k, line in enumerate(lines) if line.startswith("short runs"))
    assert lines[first : first + 3] == [
        "short runs 0.004     mean 1.107   each 1.1  1.14  1.08",
        "           0.013     mean 0.8733  each 0.85  0.9  0.87  <- suggested",
        "           0.04      mean –       each 1  diverged  1.3",
    ]


def test_what_cannot_be_told_ends_with_code_4_the_reason_and_what_to_train_with_instead(answer, lr):
    answer("flat")

    done = lr("--set=optimizer.name=adam")

    assert done.code == 4
    assert "verdict    cannot tell\nreason     the loss never falls below its start" in done.out
    assert "suggested" not in done.out
    assert "Training with 0.001 (that of recipe story, for the same task, network and optimizer)" in " ".join(
        done.out.split()
    )
    assert done.out.rstrip().endswith("--set optimizer.lr=0.001")


def test_the_next_command_is_the_training_that_was_tested(answer, lr, digits):
    answer("found")

    *_, last = lr("--seed=3", "--set=optimizer.lr=0.5", "--task=classification").out.splitlines()

    assert last.startswith("next: trainwright train ")
    words = shlex.split(last.removeprefix("next: "))
    assert words[2] == str(digits)
    assert words[-2:] == ["--set", "optimizer.lr=0.013"]
    assert last.count("optimizer.lr") == 1
    assert {"--seed", "--task", "--epochs", "network.width=8", "batch_size=16"} <= set(words)


def test_the_next_command_of_a_cyclic_schedule_has_both_bounds(answer, lr):
    answer("found")

    out = lr("--set=schedule.name=triangular").out

    assert "\nschedule   triangular, between 0.0002 and 0.026\n" in out
    assert out.endswith("--set optimizer.lr=0.026 --set schedule.low=0.007692\n")


def test_the_next_command_trains_with_what_was_suggested_to_four_digits(monkeypatch, lr_range_of, lr):
    monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: replace(lr_range_of("found"), suggestion=0.0123456))

    assert lr().out.endswith("--set optimizer.lr=0.01235\n")


def test_a_sweep_that_was_not_paid_for_is_said_with_the_reason(monkeypatch, lr_range_of, lr):
    monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: lr_range_of("found", seeds=1))

    text, content = lr("--seeds=5").out, lr("--seeds=5", "--json").json

    assert text.startswith("train loss against learning rate, 1 of 5 sweeps, with")
    assert "\nsweeps     1 of 5 sweeps, the training is too short for more\n" in text
    assert (content["seeds"], content["asked_seeds"]) == (1, 5)
    assert content["notes"] == ["1 of 5 sweeps, the training is too short for more"]


def test_a_sweep_that_ends_while_the_loss_still_falls_is_said(monkeypatch, lr_range_of, lr):
    found = lr_range_of("found")
    upto = {name: getattr(found, name)[..., :60] for name in ("lrs_L", "losses_SL", "smooth_L", "low_L", "high_L")}
    monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: replace(found, **upto))

    text, content = lr().out, lr("--json").json

    said = "the loss is still falling at 0.00825, the highest learning rate of the sweep; raise it (trainwright lr --high 0.0825)"
    assert f"note       {said}" in " ".join(text.replace("\n  ", " ").splitlines())
    assert content["still_falling"] is True
    assert content["notes"] == [said]


@pytest.mark.parametrize("words", [("--batch-size=8",), ("--batch-size=auto",), ("--set=batch_size=auto",)], ids=str)
def test_another_batch_size_is_tested_and_is_that_of_the_next_command(answer, lr, monkeypatch, words):
    """auto: measured, or the recipe's own where one size alone could be."""
    answer("found")
    monkeypatch.setattr(batch_size, "ROUND_SECONDS", 0.0)

    done = lr("--json", *words)

    images = 8 if words == ("--batch-size=8",) else done.json["measured"]["batch_size"]["chosen"]
    assert done.json["recipe"]["batch_size"] == images
    assert done.json["next"].endswith(f"--set optimizer.lr=0.013 --set batch_size={images}")
    assert done.json["next"].count("batch_size") == 1


def test_the_picture_is_where_it_is_said_to_be(answer, lr, tmp_path):
    answer("found")

    out = lr().out

    (written,) = (tmp_path / "runs").iterdir()
    assert f"picture    {written}" in out
    assert written.name.startswith("lr-range-")
    assert written.read_bytes().startswith(b"\x89PNG")


def test_the_picture_goes_where_it_was_asked_to(answer, lr, tmp_path):
    answer("found")

    lr("--picture", tmp_path / "mine.png")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png"]


def test_json_has_the_promised_keys(answer, lr, tmp_path):
    answer("found")

    content = lr("--json", "--picture", tmp_path / "mine.png").json

    assert next(iter(content.items())) == ("schema", "trainwright.lr/1")
    assert (content["low"], content["high"], content["suggested"]) == (2e-4, 6e-2, 0.013)
    assert content["figure"] == str(tmp_path / "mine.png")
    assert content["state_restored"] is True
    assert len(content["curve"]["lr"]) == len(content["curve"]["loss"]) == 97
    assert content["trials"][0] == {"lr": 0.004, "losses": [1.1, 1.14, 1.08]}
    assert content["recipe"]["optimizer"]["lr"] == 0.013
    assert content["next"].endswith("--set optimizer.lr=0.013")


def test_json_of_what_cannot_be_told_has_nulls_and_the_reason(answer, lr):
    answer("nothing")

    done = lr("--json")

    assert done.code == 4
    assert (done.json["low"], done.json["high"], done.json["suggested"]) == (None, None, None)
    assert done.json["reason"] == "the loss is not finite at any learning rate."
    assert done.json["curve"]["loss"] == [None] * 97


def test_output_that_is_no_terminal_is_drawn_in_ascii(answer, lr):
    answer("found")

    drawn = lr().out.partition("verdict")[0].partition("band\n")[2]

    assert drawn.isascii()
    assert "^" in drawn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--low=1", "--high=0.1"),
            "low, high: a sweep goes from a lower learning rate above 0 to a higher one, got 1 to 0.1.",
        ),
        (("--seeds=0",), "seeds: at least one sweep is needed, got 0."),
        (("--set=optimizer.name=rprop",), "optimizer.name: rprop finds the size of every weight's step by itself"),
        (("--picture=nowhere/lr.png",), "--picture nowhere/lr.png: its folder does not exist."),
        (
            ("--picture=lr.jpg",),
            "--picture lr.jpg: the picture is a PNG, and this name does not end in .png. For example",
        ),
        (("--batch-size=many",), "--batch-size: expected a number of images from 1 up, or auto, got 'many'."),
        (("--set=optimizer.name=adanw",), "Did you mean 'adamw'?"),
    ],
)
def test_wrong_requests_are_refused_with_code_2_and_nothing_is_written(lr, tmp_path, words, said):
    done = lr(*words)

    assert done.code == 2
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_there_is_code_3(cli, tmp_path):
    assert cli("lr", tmp_path / "nowhere").code == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_test_with_a_word_even_where_the_shell_ignored_it(lr, monkeypatch, tmp_path, number, code):
    ignored = signal.signal(number, signal.SIG_IGN)
    monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: os.kill(os.getpid(), number))

    try:
        done = lr("--json")
        after = signal.getsignal(number)
    finally:
        signal.signal(number, ignored)

    assert (done.code, after) == (code, signal.SIG_IGN)
    assert done.err == "error: interrupted before the range test was done; nothing was written.\n"
    assert (done.json["kind"], list(tmp_path.iterdir())) == ("interrupted", [])


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(digits, tmp_path):
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "trainwright", "lr", str(digits), *SMALL, f"--runs={runs}", "--epochs=5000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    decoded = any(b" images at 16 px" in line for line in process.stderr)  # the last note before the sweeps

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert decoded
    assert process.returncode == 130, err.decode()
    assert out == b""
    assert err.decode().endswith("error: interrupted before the range test was done; nothing was written.\n")
    assert not runs.exists()


@pytest.mark.slow
def test_the_whole_way_a_rate_is_found_that_trains(cli, digits, tmp_path):
    options = [*SMALL[:-1], "--epochs=20", "--quiet", f"--runs={tmp_path}"]

    found = cli("lr", digits, *options, "--json").json
    words = [*shlex.split(found["next"])[1:], "--mirrors=none", "--quiet", f"--runs={tmp_path}", "--json"]
    trained = cli(*words)

    assert found["verdict"] == "found"
    assert found["state_restored"] is True
    assert Path(found["figure"]).is_file()
    assert trained.json["score"]["val"] > 0.6  # a third by chance
