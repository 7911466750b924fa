"""What every machine of a cluster must have, and what is tightened on the way to it: no cluster is needed for that."""

from __future__ import annotations

import platform
import signal
import socket
import subprocess
import sys

import pytest

import trainwright
from trainwright.errors import MissingPackageError, RunError
from trainwright.execution import cluster, nodes

HERE = platform.node()


def found(host: str = "a", *, version: str = trainwright.__version__, missing: tuple[str, ...] = ()) -> dict:
    return {"host": host, "version": version, "missing": list(missing)}


def test_a_machine_that_sees_all_and_has_our_version_is_taken(tmp_path):
    mark = nodes.mark(tmp_path / "runs")
    seen = nodes.look([str(mark)])

    nodes.refuse([seen])

    assert seen == found(HERE)


def test_a_machine_without_the_folder_of_runs_is_refused_with_its_name_and_what_to_do(tmp_path):
    mark = nodes.mark(tmp_path / "runs")

    with pytest.raises(RunError) as refused:
        nodes.refuse([found("a"), found("b", missing=(str(mark), "/data/photos"))])

    assert refused.value.message == f"machine b does not see {tmp_path / 'runs'} and /data/photos."
    assert "into a folder that all machines share under the same path" in refused.value.cure


def test_marks_of_killed_programs_of_this_machine_are_taken_away_and_no_others(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed = tmp_path / f"{nodes.MARK}{HERE}.{gone.pid}.0"
    elsewhere = tmp_path / f"{nodes.MARK}another.host.{gone.pid}.0"
    alive = nodes.mark(tmp_path)
    for path in (killed, elsewhere):
        path.touch()

    mine = nodes.mark(tmp_path)

    assert set(tmp_path.iterdir()) == {alive, elsewhere, mine}


def test_several_machines_are_named_together():
    with pytest.raises(RunError, match="machines b, c do not see /data"):
        nodes.refuse([found("c", missing=("/data",)), found("b", missing=("/data",))])


def test_another_version_is_refused():
    with pytest.raises(RunError, match=rf"this is trainwright {trainwright.__version__}, but b has 9\.9\."):
        nodes.refuse([found("b", version="9.9")])


@pytest.mark.parametrize(
    ("gpus", "slots", "share"),
    [([4], 4, 1.0), ([4, 4], 4, 1.0), ([1], 2, 0.5), ([1, 1], 3, 0.5), ([0, 2], 5, 1 / 3)],
)
def test_gpus_are_shared_out_evenly_and_nobody_has_more_than_one(gpus, slots, share):
    assert nodes.gpu_share(gpus, slots) == pytest.approx(share)


def test_gpus_that_no_machine_has_are_an_error():
    with pytest.raises(RunError, match="no machine of the cluster has a GPU"):
        nodes.gpu_share([0, 0], 2)


def test_a_token_that_everybody_could_read_is_tightened(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))

    cluster.tighten_token(create=False)

    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "secret"


def test_a_token_that_a_cluster_of_our_own_will_need_is_ours_alone_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)

    cluster.tighten_token(create=True)

    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64


def test_a_signal_that_something_takes_for_itself_is_given_back():
    before = signal.getsignal(signal.SIGTERM)

    with cluster.signals_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_found_at_once(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(RunError, match="no Ray cluster that this program can use") as refused:
            cluster.refuse_silence(address)

    assert refused.value.where == address
    assert "ray start --head" in refused.value.cure


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingPackageError, match=r"pip install 'trainwright\[ray\]'"):
        cluster.need_ray()
