"""The commands of MLflow's own that a person runs on a store: its page, and the serving of a registered model."""

from __future__ import annotations

import sys
from pathlib import Path

from trainwright.errors import UsageError
from trainwright.tracking.mirrors import need
from trainwright.tracking.store import store_of


def ui_command(runs: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """The command that serves MLflow's page on this store at 127.0.0.1, and the variables to add to its environment.

    Raises UsageError where the store is a server, which has a page of its own; MissingPackageError without mlflow.
    """
    need("mlflow")
    store = store_of(runs)
    if store.artifacts is None and store.uri.startswith("http"):
        raise UsageError("the store is a server with its own page.", where=store.uri, cure="Open it in a browser.")
    artifacts = ["--default-artifact-root", store.artifacts.as_uri()] if store.artifacts else []
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, *artifacts]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def serve_command(name: str, alias: str, version: int, port: int = 5001) -> str:
    """What serves a registered model at 127.0.0.1, as a person types it; MLFLOW_TRACKING_URI has to be that of its store."""
    which = f"{name}@{alias}" if alias else f"{name}/{version}"
    return f"mlflow models serve -m models:/{which} --env-manager local --host 127.0.0.1 --port {port}"
