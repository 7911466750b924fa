"""Does a search find the same whoever carries it out, and whatever is killed meanwhile? One study on digits, real trainings.

Carried out once undisturbed by one worker. Then, each time from the beginning in a folder of its own:

- workers: by 2 and by 4 workers of this machine, and on a Ray cluster of three nodes on this machine (a head and two others);
- kills: by 2 workers, the study's process ended by SIGKILL at moments by chance, `resume`d after each, --kills times;
- nodes: on that cluster, one of the two other nodes killed at moments by chance and a fresh one begun, --losses times.

Each has to come to the same trials with the same scores, the same winner with the same weights, and the same gain as the first.
In its journal each number is asked for once and told once, every run has its folder, and no process of the study is left.

    python benchmarks/survive.py [--only workers kills nodes] [--kills 50] [--losses 20] [--trials 12] [--results FOLDER]

About 40 minutes on two cores. The parts are kept in --results and not measured again. Exits with 0 if all are the same, else 4.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from trainwright.data.digits import write_digits
from trainwright.files import write_atomically

NAME = "study"
MARK = "TRAINWRIGHT_SURVIVE"  # in the environment of every process of a study, and of its cluster
SMALL = {"epochs": 6, "network.width": 8, "data.image_size": 16, "precision": "fp32"}
SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 3e-2, "log": True, "prior": {"centre": 3e-3, "width": 0.5}},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "loss.label_smoothing": {"low": 0.0, "high": 0.2},
}
LONGEST = 1800.0  # seconds that one study may take, undisturbed
# Seconds after a driver is under way until it is killed: from before its first trial to after several.
SOONEST, LATEST = 0.0, 12.0
NODE_SOONEST, NODE_LATEST = 2.0, 15.0
LINGERING = 15.0  # seconds for processes of a study to end after it
SEED = 0


def main() -> int:
    arguments = _arguments()
    arguments.results.mkdir(parents=True, exist_ok=True)
    data = arguments.results / "digits"
    if not data.is_dir():
        write_digits(data)
    first = _kept(arguments.results, "1 worker", lambda place: _undisturbed(place, data, arguments.trials, slots=1))
    parts: dict[str, dict[str, Any]] = {"1 worker": first}
    for name, carry_out in _parts(data, arguments).items():
        parts[name] = _kept(arguments.results, name, carry_out)
    rows = [_row(name, part, first) for name, part in parts.items()]
    for row in rows:
        print(_line(row), file=sys.stderr)
    print(json.dumps({"benchmark": "survive", "parts": rows}))
    return 0 if all(row["same"] and not row["faults"] for row in rows) else 4


def _parts(data: Path, arguments: argparse.Namespace) -> dict[str, Callable[[Path], dict[str, Any]]]:
    trials, made = arguments.trials, dict[str, Callable[[Path], dict[str, Any]]]()
    if "workers" in arguments.only:
        made["2 workers"] = lambda place: _undisturbed(place, data, trials, slots=2)
        made["4 workers"] = lambda place: _undisturbed(place, data, trials, slots=4)
        made["3 nodes"] = lambda place: _on_nodes(place, data, trials, losses=0)
    if "kills" in arguments.only:
        made[f"{arguments.kills} SIGKILLs"] = lambda place: _killed(place, data, trials, kills=arguments.kills)
    if "nodes" in arguments.only:
        made[f"{arguments.losses} nodes lost"] = lambda place: _on_nodes(place, data, trials, losses=arguments.losses)
    return made


# Carrying out


def _begun(place: Path, data: Path, trials: int) -> list[str]:
    """The command that begins the study in `place`."""
    space = place / "space.json"
    space.write_text(json.dumps(SPACE))
    changes = [f"--set={key}={value}" for key, value in SMALL.items()]
    return ["tune", str(data), "--recipe=story", *changes, f"--space={space}", f"--trials={trials}", f"--name={NAME}"]


def _start(place: Path, *command: str) -> subprocess.Popen[bytes]:
    """The command line in a process of its own, without mirrors; what it prints goes to a file."""
    common = [f"--runs={place / 'runs'}", "--mirrors=none", "--threads=1", "--json"]
    common += [] if command[0] == "resume" else [f"--seed={SEED}"]
    with (place / "log").open("ab") as log:
        words = [sys.executable, "-m", "trainwright", *command, *common]
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, MARK: str(place)})


def _ended(place: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for its end. Raises SystemExit where it fails."""
    try:
        code = process.wait(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"survive.py: {place} did not end within {LONGEST:,.0f} s; see its log.") from None
    if code:
        raise SystemExit(f"survive.py: the study in {place} failed with exit code {code}; see its log.")


def _undisturbed(place: Path, data: Path, trials: int, *, slots: int) -> dict[str, Any]:
    _ended(place, _start(place, *_begun(place, data, trials), f"--slots={slots}"))
    return _found(place)


def _killed(place: Path, data: Path, trials: int, *, kills: int) -> dict[str, Any]:
    """Killed again and again, and gone on with."""
    moments = random.Random(SEED)

    def study(inner: Path, left: int) -> int:
        command, done = [*_begun(inner, data, trials), "--slots=2"], 0
        while True:
            process = _start(inner, *command)
            if done < left and _under_way(process, inner) and _still_after(process, moments.uniform(SOONEST, LATEST)):
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                command = ["resume", NAME, "--slots=2"]
                print(f"{done} of {left} kills", file=sys.stderr, flush=True)
                continue
            _ended(inner, process)
            return done

    return _rounds(place, kills, study)


def _rounds(place: Path, times: int, study: Callable[[Path, int], int]) -> dict[str, Any]:
    """Studies one after the other until `times` things were done to them. study: (its folder, how many are left to be done) → how
    many were. They have to agree with each other."""
    found: dict[str, Any] = {}
    faults, done, rounds = list[str](), 0, 0
    while done < times or not found:
        inner = place / f"round-{rounds}"
        inner.mkdir()
        done += study(inner, times - done)
        this = _found(inner)
        found = found or this
        faults += [f"round {rounds}: {fault}" for fault in this["faults"]]
        faults += [] if this["found"] == found["found"] else [f"round {rounds} came to another end than round 0"]
        rounds += 1
    return {**found, "faults": faults, "times": done, "rounds": rounds}


def _under_way(process: subprocess.Popen[bytes], place: Path) -> bool:
    """Wait until the study's folder is there; whether the process is still alive then."""
    while process.poll() is None and not (place / "studies" / NAME / "study.json").exists():
        time.sleep(0.05)
    return process.poll() is None


def _still_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    return process.poll() is None


def _on_nodes(place: Path, data: Path, trials: int, *, losses: int) -> dict[str, Any]:
    """On a cluster of this machine, of whose nodes `losses` are killed one after the other."""
    moments = random.Random(SEED)

    def study(inner: Path, left: int) -> int:
        with _cluster(inner) as cluster:
            command = [*_begun(inner, data, trials), "--slots=2", "--executor=ray", f"--address={cluster.address}"]
            done, process = 0, _start(inner, *command)
            _under_way(process, inner)
            while done < left and _still_after(process, moments.uniform(NODE_SOONEST, NODE_LATEST)):
                cluster.lose(moments.randrange(2))
                done += 1
                print(f"{done} of {left} nodes lost", file=sys.stderr, flush=True)
            _ended(inner, process)
            return done

    return _rounds(place, losses, study)


class Cluster:
    """A head with one core and two nodes with two, each of processes of its own."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Made

        self._made = Made()
        self._add(num_cpus=1)
        self._others = [self._add(num_cpus=2) for _ in range(2)]
        self.address: str = self._made.address

    def _add(self, **more: Any) -> Any:
        place = {"object_store_memory": 80 * 2**20, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
        for _ in range(4):  # Ray gives a node of a busy machine 30 s to start
            with contextlib.suppress(Exception):
                return self._made.add_node(**place, **more)
        return self._made.add_node(**place, **more)

    def lose(self, index: int) -> None:
        """Kill all processes of one of the two, and begin another one."""
        self._made.remove_node(self._others.pop(index), allow_graceful=False)
        self._others.append(self._add(num_cpus=2))

    def end(self) -> None:
        self._made.shutdown()


@contextlib.contextmanager
def _cluster(place: Path) -> Iterator[Cluster]:
    # Without usage statistics, and on 127.0.0.1 alone; both are read when ray is imported.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", MARK: str(place)}
    made = Cluster()
    try:
        yield made
    finally:
        made.end()


# What came out


def _found(place: Path) -> dict[str, Any]:
    """Trials, winner and gain of a study without its clock; what is wrong with its journal, its runs and its processes."""
    folder = place / "studies" / NAME
    result = json.loads((folder / "result.json").read_text())
    trials = [{key: value for key, value in one.items() if key != "seconds"} for one in result["trials"]]
    weights = json.loads((place / "runs" / result["best"]["run"] / "result.json").read_text())["weights_sha256"]
    found = {"trials": trials, "best": result["best"], "gain": result["gain"], "weights": weights}
    return {"found": found, "faults": [*_faults_of_journal(place), *_left(place)], "seconds": result["seconds"]}


def _faults_of_journal(place: Path) -> list[str]:
    lines = (place / "studies" / NAME / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    faults = []
    for kind in ("ask", "tell"):
        counts = Counter(record["number"] for record in records if record["kind"] == kind)
        faults += [f"{kind} {number} stands there {count} times" for number, count in counts.items() if count > 1]
    asked, told = ({record["number"] for record in records if record["kind"] == kind} for kind in ("ask", "tell"))
    faults += [f"{number} was asked for and never told" for number in sorted(asked - told)]
    faults += [f"{number} was told and never asked for" for number in sorted(told - asked)]
    if sorted(asked) != list(range(len(asked))):
        faults.append("numbers are missing")
    runs = {record["run"] for record in records if record["kind"] == "tell" and record.get("run")}
    faults += [f"run {run} has no folder" for run in sorted(runs) if not (place / "runs" / run).is_dir()]
    return faults


def _left(place: Path) -> list[str]:
    """Processes of the study that are there still, some seconds after its end."""
    ends = time.monotonic() + LINGERING
    while True:
        left = [process for process in psutil.process_iter() if _is_of(process, place)]
        if not left or time.monotonic() > ends:
            return [f"process {process.pid} is left" for process in left]
        time.sleep(0.5)


def _is_of(process: psutil.Process, place: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(place)
    except psutil.Error:  # it has ended, or is another user's
        return False


def _kept(results: Path, name: str, carry_out: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What a part came to, from --results where it is there."""
    file = results / f"{name.replace(' ', '-')}.json"
    if not file.is_file():
        place = results / name.replace(" ", "-")
        if place.is_dir():
            shutil.rmtree(place)
        place.mkdir()
        print(f"{name} …", file=sys.stderr, flush=True)
        write_atomically(file, json.dumps(carry_out(place)).encode())
    part: dict[str, Any] = json.loads(file.read_text())
    return part


def _row(name: str, part: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    same = {key: part["found"][key] == first["found"][key] for key in first["found"]}
    more = {key: part[key] for key in ("times", "rounds") if key in part}
    return {"part": name, "same": all(same.values()), **more, "differs": [k for k, v in same.items() if not v]} | {
        "faults": part["faults"],
        "trials": len(part["found"]["trials"]),
        "seconds": part["seconds"],
    }


def _line(row: dict[str, Any]) -> str:
    said = "the same" if row["same"] else f"other {', '.join(row['differs'])}"
    faults = "; ".join(row["faults"]) or "no fault"
    return f"{row['part']:<14} {row['trials']:>3} trials  {said}  {faults}  {row['seconds']:,.0f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = platformdirs.user_cache_path("trainwright") / "survive"
    parts = ("workers", "kills", "nodes")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="these parts (default: all)")
    parser.add_argument("--kills", type=int, default=50, help="of the study's process (default: %(default)s)")
    parser.add_argument("--losses", type=int, default=20, help="of nodes (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=12, help="of the study (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=kept, help="where parts are kept (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
