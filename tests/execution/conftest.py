"""Jobs that do what they are told, and a Ray cluster of three nodes on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

JOBS = """
import os, sys, time
from pathlib import Path
from trainwright.errors import DataError

def work(argument, send, stop_asked):
    kind, value = argument
    if kind == "echo":
        print("this is printed and no answer")
        send({"seen": value})
        return {"value": value, "pid": os.getpid(), "threads": os.environ.get("SLOT")}
    if kind == "raise":
        raise DataError("it is broken.", where="a.png", cure="Mend it.")
    if kind == "fail":
        return {}["nothing"]
    if kind == "die once" and not Path(value).exists():
        Path(value).touch()
        os.kill(os.getpid(), 9)
    if kind == "die":
        os.kill(os.getpid(), 9)
    if kind == "until":
        while not Path(value).exists():
            time.sleep(0.01)
    if kind == "until stopped":
        send({"begun": os.getpid()})
        while not stop_asked():
            time.sleep(0.01)
        return None
    if kind == "sleep":
        time.sleep(value)
    return "done"
"""


@pytest.fixture
def jobs(tmp_path: Path) -> dict[str, str]:
    """The environment in which a worker finds the module of JOBS, whose function is `jobs:work`."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return {"PYTHONPATH": str(tmp_path)}


class Nodes:
    """A real cluster: a head with one core and nodes with two, each of processes of its own. Ended by its own handles."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._add(num_cpus=1)
        self.others = [self._add(num_cpus=2) for _ in range(2)]
        self.address: str = self._cluster.address

    def _add(self, **more: Any) -> Any:
        for _ in range(4):  # Ray gives a node of a busy machine 30 s to start
            with contextlib.suppress(Exception):
                return self._cluster.add_node(
                    object_store_memory=80 * 2**20, include_dashboard=False, node_ip_address="127.0.0.1", **more
                )
        return self._cluster.add_node(object_store_memory=80 * 2**20, node_ip_address="127.0.0.1", **more)

    def kill(self, node_id: str) -> None:
        """Kill all processes of a node."""
        (node,) = (one for one in self.others if one.node_id == node_id)
        self.others.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def fill(self) -> None:
        """Bring the nodes back to two."""
        while len(self.others) < 2:
            self.others.append(self._add(num_cpus=2))

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def _nodes() -> Iterator[Nodes]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray: pip install 'trainwright[ray]'")
    # Without its usage statistics, and on 127.0.0.1 alone; both are read when ray is imported.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    nodes = Nodes()
    yield nodes
    nodes.end()


@pytest.fixture
def nodes(_nodes: Nodes) -> Nodes:
    """The cluster, with all of its nodes."""
    _nodes.fill()
    return _nodes
