"""Listing, finding and sweeping runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from trainwright.errors import RunError
from trainwright.tracking.process import is_gone, this_process
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run, list_runs, sweep

NOBODY = {"pid": 2**22 + 1, "process_started": 1.0}  # above the largest process id of Linux


def test_a_finished_run_is_listed_with_its_scores(bare_runs, new_run, ending):
    run = new_run(bare_runs, 2)
    ending(run)
    (summary,) = list_runs(bare_runs)
    assert (summary.run_id, summary.state, summary.dataset) == (run.run_id, "finished", "cats-dogs")
    assert (summary.network, summary.metric, summary.verdict) == ("resnet18", "accuracy", "overfits")
    assert (summary.train_score, summary.val_score, summary.seconds) == (0.95, 0.75, 12.5)


def test_a_running_run_is_listed_with_the_scores_of_its_last_epoch(bare_runs, new_run, next_epoch):
    run = new_run(bare_runs, 3)
    assert list_runs(bare_runs)[0].val_score == 0.27
    next_epoch(run, 3)
    assert list_runs(bare_runs)[0].val_score == 0.28


@pytest.mark.parametrize(
    "recipe",
    [
        "network:\n  width: 8\n  name: vgg\nloss:\n  name: no\n",
        "network: {width: 8, name: vgg}\n",
        "title: network\nnetwork:\n  name: 'vgg'\n",
    ],
)
def test_the_network_s_name_is_found_in_any_style_of_yaml(bare_runs, recipe):
    RunFolder.create(bare_runs, recipe_yaml=recipe, manifest={}).close()
    assert list_runs(bare_runs)[0].network == "vgg"


def test_the_last_run_is_the_newest_that_repeats_no_other(bare_runs):
    RunFolder.create(bare_runs, recipe_yaml="", manifest={}, run_id="first").close()
    RunFolder.create(bare_runs, recipe_yaml="", manifest={}, run_id="second").close()
    again = RunFolder.create(bare_runs, recipe_yaml="", manifest={"reproduces": "second"}, run_id="again")
    again.close()
    assert [run.repeats for run in list_runs(bare_runs)] == [None, None, "second"]
    assert find_run(bare_runs, "last").run_id == "second"
    assert find_run(bare_runs, "last", stopped=True).run_id == "again"


def test_runs_are_counted_from_the_last_one(bare_runs):
    for name in ("a", "b", "c"):
        RunFolder.create(bare_runs, recipe_yaml="", manifest={}, run_id=name).close()
    assert [find_run(bare_runs, f"last~{back}").run_id for back in range(3)] == ["c", "b", "a"]
    with pytest.raises(RunError, match="no such run 'last~3'"):
        find_run(bare_runs, "last~3")


def test_where_there_are_only_repetitions_the_newest_of_them_is_the_last(bare_runs):
    RunFolder.create(bare_runs, recipe_yaml="", manifest={"reproduces": "x"}, run_id="again").close()
    assert find_run(bare_runs, "last").run_id == "again"


def test_deleted_moved_and_changed_runs_are_seen_in_spite_of_the_index(bare_runs, new_run, ending):
    first, second, third = (new_run(bare_runs, 1, run_id=name) for name in ("a", "b", "c"))
    for run in (first, second, third):
        ending(run)
    assert [summary.run_id for summary in list_runs(bare_runs)] == ["a", "b", "c"]
    shutil.rmtree(first.path)
    second.path.rename(bare_runs / "elsewhere")
    third.write_json("result.json", {"score": {"train": 1.0, "val": 0.5}})
    assert [(s.folder, s.run_id, s.val_score) for s in list_runs(bare_runs)] == [
        ("elsewhere", "b", 0.75),
        ("c", "c", 0.5),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b'{"format": "trainwright.index/1"}\n{"folder"', b'{"format": "x/9"}\n']
)
def test_a_damaged_index_is_made_anew(bare_runs, new_run, ending, content):
    ending(new_run(bare_runs, 1, run_id="a"))
    expected = list_runs(bare_runs)
    (bare_runs / "index.jsonl").write_bytes(content)
    assert list_runs(bare_runs) == expected
    assert json.loads((bare_runs / "index.jsonl").read_bytes().splitlines()[1])["folder"] == "a"


def test_a_damaged_run_is_listed_as_such_and_other_folders_are_not(bare_runs, new_run):
    (new_run(bare_runs, run_id="a").path / "manifest.json").write_text("{")
    (bare_runs / "mlflow-artifacts").mkdir()
    assert [(summary.run_id, summary.state) for summary in list_runs(bare_runs)] == [("a", "damaged")]


def test_a_thousand_runs_are_listed_and_swept_within_three_tenths_of_a_second(bare_runs, new_run, ending):
    run = new_run(bare_runs, 1, run_id="0")
    ending(run)
    for number in range(1, 1000):
        copy = bare_runs / str(number)
        copy.mkdir()
        for name in ("recipe.yaml", "manifest.json", "status.json", "result.json"):
            os.link(run.path / name, copy / name)
    list_runs(bare_runs)
    start = time.process_time()
    assert len(list_runs(bare_runs)) == 1000
    assert sweep(bare_runs) == []
    assert time.process_time() - start < 0.3


def test_runs_without_a_folder_are_no_runs(tmp_path):
    assert list_runs(tmp_path / "none") == []
    assert sweep(tmp_path / "none") == []


def test_sweep_marks_a_run_whose_process_was_killed(bare_runs):
    code = (
        "import os, signal, sys; from pathlib import Path; from trainwright.tracking.run_folder import RunFolder\n"
        "RunFolder.create(Path(sys.argv[1]), recipe_yaml='', manifest={}, run_id='dead')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(bare_runs)], timeout=60, check=False)
    assert list_runs(bare_runs)[0].state == "running"
    assert sweep(bare_runs) == ["dead"]
    assert list_runs(bare_runs)[0].state == "interrupted"
    assert sweep(bare_runs) == []


def test_sweep_leaves_a_living_run_alone(bare_runs, new_run):
    new_run(bare_runs)
    assert sweep(bare_runs) == []
    assert list_runs(bare_runs)[0].state == "running"


def test_sweep_leaves_a_run_alone_whose_lock_is_held_though_its_process_is_not_seen(bare_runs, new_run):
    run = new_run(bare_runs)
    run.write_json("status.json", {**run.status(), **NOBODY})
    assert sweep(bare_runs) == []


def test_sweep_leaves_a_run_of_another_host_alone(bare_runs, new_run):
    run = new_run(bare_runs)
    run.write_json("status.json", {**run.status(), **NOBODY, "host": "far-away"})
    run.close()
    assert sweep(bare_runs) == []


def test_a_recycled_process_id_is_not_taken_for_the_run_s_process():
    mark = this_process()
    assert not is_gone(mark)
    assert is_gone({**mark, "process_started": mark["process_started"] - 100})


def test_sweep_removes_what_a_kill_during_creation_left_long_ago(bare_runs):
    old, new = bare_runs / ".new-old", bare_runs / ".new-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (1, 1))
    sweep(bare_runs)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_run_is_found_by_id_beginning_path_or_as_the_last(bare_runs, new_run):
    first, second = (new_run(bare_runs, run_id=name) for name in ("cats-1", "dogs-2"))
    assert find_run(bare_runs, "cats-1").path == first.path
    assert find_run(bare_runs, "do").path == second.path
    assert find_run(bare_runs, str(first.path)).path == first.path
    assert find_run(bare_runs, "last").path == second.path


def test_a_renamed_run_is_found_by_its_id(bare_runs, new_run):
    run = new_run(bare_runs, run_id="cats-1")
    run.path.rename(bare_runs / "the-good-one")
    assert find_run(bare_runs, "cats-1").path.name == "the-good-one"


def test_an_ambiguous_or_unknown_name_is_answered_with_the_nearest(bare_runs, new_run):
    for name in ("cats-1", "cats-2"):
        new_run(bare_runs, run_id=name)
    with pytest.raises(RunError, match=r"2 runs begin with 'cats': cats-1, cats-2\. Give more of the id."):
        find_run(bare_runs, "cats")
    with pytest.raises(RunError, match=r"no such run 'cast-1'\. Did you mean 'cats-1'?"):
        find_run(bare_runs, "cast-1")
    with pytest.raises(RunError, match="no such run 'last'"):
        find_run(bare_runs / "none", "last")
