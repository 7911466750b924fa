"""Where MLflow keeps what it is told: which store, is it there, can it be written. Without importing mlflow."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from trainwright.errors import TrainwrightError

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"
BUSY_SECONDS = 2.0  # MLflow itself would wait 20 s for a locked database
TRY_AGAIN = "Then bring it up to date: trainwright sync RUN."


@dataclass(frozen=True, kw_only=True)
class Store:
    """An MLflow store. artifacts: where its files go; None: where a server says."""

    uri: str
    artifacts: Path | None

    @property
    def database(self) -> Path | None:
        """The SQLite file; None for another kind of store."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return Path(self.uri.removeprefix("sqlite:///").partition("?")[0]).absolute()

    def exists(self) -> bool:
        """Whether there is a store; of a server this is not asked."""
        return self.database is None or _has_content(self.database)

    def check(self) -> None:
        """Raises TrainwrightError, within some seconds, where the SQLite file cannot be written now."""
        if self.database is None or not self.exists():
            return
        try:
            with contextlib.closing(sqlite3.connect(self.database, timeout=BUSY_SECONDS)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self.unusable(str(error)) from None

    def unusable(self, reason: str) -> TrainwrightError:
        """The error for this store, with the cure that goes with the reason."""
        words = reason.lower()
        if "locked" in words or "busy" in words:
            cure = f"Another program is writing to it: wait for it or end it. {TRY_AGAIN}"
        elif "not a database" in words or "malformed" in words:
            cure = f"The file is damaged: move it away. {TRY_AGAIN}"
        elif "out-of-date database schema" in words:
            cure = f"An older MLflow made it: mlflow db upgrade {self.uri}. {TRY_AGAIN}"
        elif self.uri.startswith(("http:", "https:")):
            cure = f"Start the server, or correct MLFLOW_TRACKING_URI. {TRY_AGAIN}"
        else:
            cure = f"Make it writable, or set MLFLOW_TRACKING_URI to another store. {TRY_AGAIN}"
        return TrainwrightError(f"MLflow's store cannot be used ({reason}).", where=self.uri, cure=cure)


def store_of(runs: Path) -> Store:
    """The store for a folder of runs: what MLFLOW_TRACKING_URI says, else a SQLite file in that folder."""
    runs = runs.absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / DATABASE}"
    local = "://" not in uri or uri.startswith(("sqlite:", "file:"))
    return Store(uri=uri, artifacts=runs / ARTIFACTS if local else None)


def _has_content(database: Path) -> bool:
    try:
        return database.is_dir() or database.stat().st_size > 0
    except OSError:
        return False
