"""The run folder survives kills, torn lines, full disks and second writers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainwright.errors import OutOfResourcesError, RunError
from trainwright.records import EpochRecord, Means
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import list_runs


def test_a_new_run_holds_what_was_asked_and_says_running(bare_runs, new_run):
    run = new_run(bare_runs)
    again = RunFolder.open(run.path)
    assert again.recipe_yaml == run.recipe_yaml
    assert again.manifest["name"] == "cats-dogs"
    assert again.run_id == run.run_id == run.path.name
    assert (again.status()["state"], again.status()["pid"]) == ("running", os.getpid())
    assert again.result() is None


def test_ids_are_readable_unique_and_sort_by_time(bare_runs):
    make = lambda name: RunFolder.create(bare_runs, recipe_yaml="", manifest={"name": name})  # noqa: E731
    ids = []
    for name in ("Katzen & Hunde", "猫", ""):
        with make(name) as run:
            ids.append(run.run_id)
    words = [run_id[16:-5] for run_id in ids]
    assert words == ["katzen-hunde", "run", "run"]
    assert len(set(ids)) == 3
    assert time.strptime(ids[0][:15], "%Y%m%d-%H%M%S")


def test_a_kill_while_a_run_is_created_leaves_nothing_that_lists(bare_runs):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from trainwright.tracking import run_folder\n"
        "run_folder._rename_new = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_folder.RunFolder.create(Path(sys.argv[1]), recipe_yaml='', manifest={'name': 'x'})"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(bare_runs)], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(bare_runs.iterdir())) == 1
    assert list_runs(bare_runs) == []


def test_an_error_while_a_run_is_created_leaves_nothing(bare_runs, monkeypatch):
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OutOfResourcesError, match="no space left"):
        RunFolder.create(bare_runs, recipe_yaml="", manifest={})
    assert list(bare_runs.iterdir()) == []


def test_an_id_that_exists_is_refused(bare_runs, new_run):
    new_run(bare_runs, run_id="mine")
    with pytest.raises(RunError, match="there is a run 'mine' already"):
        new_run(bare_runs, run_id="mine")


@pytest.mark.parametrize("run_id", ["../evil", ".hidden", "", "a/b", "it's"])
def test_an_id_that_is_no_plain_name_is_refused(bare_runs, run_id):
    with pytest.raises(RunError, match="no name for a run"):
        RunFolder.create(bare_runs, recipe_yaml="", manifest={}, run_id=run_id)


def test_records_come_back_in_order_and_by_kind(bare_runs, new_run):
    run = new_run(bare_runs)
    run.append("start", {"device": "cpu"})
    run.append("steps", {"first_step": 0, "loss": [1.0, float("nan"), float("inf")]})
    run.append("finding", {"rule": "gap", "kind": "not this one"})
    assert [record["kind"] for record in run.records()] == ["start", "steps", "finding"]
    (steps,) = run.records("steps")
    assert steps["loss"] == [1.0, None, None]
    assert abs(steps["time"] - time.time()) < 60


def test_a_dataclass_is_appended_field_by_field(bare_runs, new_run):
    means = Means(loss=0.5, score=float("nan"))
    record = EpochRecord(
        epoch=3, step=9, train_running=means, train=means, val=means, lr=0.1, seconds=1.0, images_per_second=2.0,
        step_seconds=0.5, memory_bytes=7,
    )  # fmt: skip
    run = new_run(bare_runs)
    run.append("epoch", record)
    (read,) = run.records("epoch")
    assert (read["epoch"], read["val"], read["memory_bytes"]) == (3, {"loss": 0.5, "score": None}, 7)


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_writer(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    run.close()
    _add_bytes(run.path / "records.jsonl", b'{"kind":"epoch","epo')
    assert [record["epoch"] for record in run.records("epoch")] == [0]
    run.append("resume", {})
    assert [record["kind"] for record in run.records()] == ["steps", "figure", "epoch", "resume"]


@pytest.mark.parametrize("damage", [b'{"kind":"ep\n', b"\x00\x00\n", b"[]\n", b'{"no": "kind"}\n'])
def test_a_damaged_line_in_the_middle_is_named(bare_runs, new_run, damage):
    run = new_run(bare_runs)
    run.append("start", {})
    _add_bytes(run.path / "records.jsonl", damage)
    run.append("start", {})
    with pytest.raises(RunError, match=r"records\.jsonl, line 2: damaged"):
        list(run.records())


def test_cut_forgets_what_was_appended_since_a_position(bare_runs, new_run):
    run = new_run(bare_runs, 2)
    position = run.position()
    run.append("epoch", {"epoch": 2})
    run.close()
    _add_bytes(run.path / "records.jsonl", b'{"kind":"torn')
    run.cut(position)
    assert [record["epoch"] for record in run.records("epoch")] == [0, 1]
    assert run.position() == position


@pytest.mark.parametrize("position", [1, -1, 10**9])
def test_cut_refuses_a_position_where_no_record_ends(bare_runs, new_run, position):
    run = new_run(bare_runs, 1)
    with pytest.raises(RunError, match="no record ends at byte"):
        run.cut(position)


def test_a_second_writer_is_refused_with_the_first_one_s_process_id(bare_runs, new_run):
    run = new_run(bare_runs)
    with pytest.raises(RunError, match=f"process {os.getpid()} is writing this run"):
        RunFolder.open(run.path).append("resume", {})
    code = "import sys; from trainwright.tracking.run_folder import RunFolder; RunFolder.open(sys.argv[1]).claim()"
    other = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, timeout=60)
    assert f"process {os.getpid()} is writing this run" in other.stderr


def test_a_run_can_be_written_again_once_its_writer_was_killed(bare_runs, new_run):
    run = new_run(bare_runs)
    run.close()
    code = (
        "import os, signal, sys; from trainwright.tracking.run_folder import RunFolder\n"
        "run = RunFolder.open(sys.argv[1]); run.append('resume', {}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], timeout=60, check=False)
    run.append("resume", {})
    assert len(list(run.records("resume"))) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_does_not_keep_the_run_locked(bare_runs, new_run):
    run = new_run(bare_runs)
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    run.close()
    try:
        RunFolder.open(run.path).claim()
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(worker, 0)


def test_a_full_disk_is_named_and_leaves_the_records_as_they_were(bare_runs, new_run, monkeypatch):
    run = new_run(bare_runs, 1)
    before, write = run.position(), os.write

    def half(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", _full)
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OutOfResourcesError, match=str(run.path)):
        run.append("epoch", {"epoch": 1})
    monkeypatch.undo()
    assert run.position() == before
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OutOfResourcesError):
        run.write_json("result.json", {})
    assert run.result() is None


def test_json_files_are_replaced_as_a_whole(bare_runs, new_run):
    run = new_run(bare_runs)
    run.write_json("result.json", {"score": float("nan")})
    run.set_status("failed", message="out of luck")
    assert run.result() == {"score": None}
    assert (run.status()["state"], run.status()["message"]) == ("failed", "out of luck")
    assert not list(run.path.glob(".*"))


def test_a_damaged_json_file_is_named(bare_runs, new_run):
    run = new_run(bare_runs)
    (run.path / "result.json").write_text('{"score":')
    with pytest.raises(RunError, match=r"result\.json: damaged: not JSON"):
        run.result()


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_one(bare_runs, new_run):
    new_run(bare_runs, run_id="cats-1")
    with pytest.raises(RunError, match=r"there is no such run\. Did you mean 'cats-1'?"):
        RunFolder.open(bare_runs / "cast-1")
    with pytest.raises(RunError, match="holds no run"):
        RunFolder.open(bare_runs)


def test_reading_run_folders_loads_nothing_heavy():
    code = (
        "import sys, trainwright.tracking.run_folder, trainwright.tracking.runs\n"
        "print(sorted({'numpy', 'torch', 'mlflow', 'tensorboard', 'pydantic', 'psutil'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout.strip() == "[]"


def test_each_record_is_one_line_of_json(bare_runs, new_run):
    run = new_run(bare_runs)
    run.append("start", {"text": "two\nlines, 猫"})
    (line,) = (run.path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["text"] == "two\nlines, 猫"


def _add_bytes(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
