"""How this process comes to a Ray cluster and leaves it, as far as that needs no Ray: what is refused, kept and tightened."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from trainwright.errors import MissingPackageError, RunError

CONNECT_SECONDS = 5.0  # to find that nobody listens; Ray itself tries for minutes


def need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise MissingPackageError(
            "the package 'ray' is not installed.",
            where="executor ray",
            cure="Install it here and on every machine: pip install 'trainwright[ray]'; --executor local needs nothing more.",
        )


def refuse_silence(address: str) -> None:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise no_cluster(address, str(error)) from error


def no_cluster(address: str, why: str) -> RunError:
    return RunError(
        f"no Ray cluster that this program can use ({why.strip()}).",
        where=address,
        cure="Start one with 'ray start --head' and give its address, as host:6379 or ray://host:10001; without --address a "
        "small one is started on this machine.",
    )


def tighten_token(*, create: bool) -> None:
    """Whoever reads the token may run programs on the cluster, and Ray writes it for everybody to read."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):  # of somebody else, or a home that cannot be written: Ray says what it lacks
        if path.is_file():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
        elif create and "RAY_AUTH_TOKEN" not in os.environ:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))  # as ray get-auth-token --generate does


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, at the beginning and at the end; it is answered as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
