"""A model in MLflow's registry: put there once it answers as the run does, and served as `predict` answers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import trainwright as tw
from trainwright.errors import DataError, UsageError
from trainwright.tracking.mlflow_commands import serve_command
from trainwright.workflows.served import Served

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, trained: tw.Run) -> Path:
    """An exported file of a run."""
    out = tmp_path_factory.mktemp("export") / "out"
    tw.export(trained, format="onnx", out=out, workers=1)
    return out / "model.onnx"


def images(folder: Path, count: int) -> list[Path]:
    return sorted(folder.rglob("*.png"))[:count]


def sent(files: list[Path]) -> list[str]:
    return [base64.b64encode(file.read_bytes()).decode() for file in files]


def said_by_predict(model: Path, files: list[Path]) -> list[dict[str, Any]]:
    from trainwright.workflows.exported import predict_exported

    return [{key: value for key, value in one.items() if key != "image"} for one in predict_exported(model, files)[1]]


def test_a_table_of_images_is_answered_as_predict_answers_the_files(model: Path, digits: Path) -> None:
    files = images(digits, 5)

    assert Served(model).predict(pandas.DataFrame({"image": sent(files)})) == said_by_predict(model, files)


def test_bytes_are_images_too_and_a_broken_one_has_an_error_alone(model: Path, digits: Path) -> None:
    (good,) = images(digits, 1)

    first, second = Served(model).predict(pandas.DataFrame({"image": [good.read_bytes(), b"no image"]}))

    assert "label" in first
    assert set(second) == {"error"}


@pytest.mark.parametrize(
    ("table", "said"),
    [({"path": ["a.png"]}, "expected a table with a column 'image', got"), ({"image": ["%%%"]}, "row 0, column image")],
)
def test_what_is_no_image_is_refused_with_what_was_expected(model: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Served(model).predict(pandas.DataFrame(table))


@pytest.mark.parametrize("alias", ["latest", "v3", "two words", "a/b"])
def test_an_alias_that_mlflow_keeps_for_itself_is_refused(trained: tw.Run, alias: str) -> None:
    with pytest.raises(UsageError, match="no such alias"):
        tw.register(trained, alias=alias)


def test_a_name_with_a_slash_is_refused(trained: tw.Run) -> None:
    with pytest.raises(UsageError, match="no such name 'cats/dogs'"):
        tw.register(trained, name="cats/dogs")


def test_what_is_typed_names_the_alias_or_the_version() -> None:
    assert "models:/cats@champion " in serve_command("cats", "champion", 3)
    assert "models:/cats/3 " in serve_command("cats", "", 3)


@pytest.mark.slow
def test_each_registration_is_a_version_and_the_alias_goes_to_the_last(
    train: Callable[..., tw.Run], digits: Path
) -> None:
    run = train({"epochs": 1})

    first, second = (tw.register(run, name="digits", workers=1) for _ in range(2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inside mlflow's own imports
        import mlflow.pyfunc
        from mlflow.tracking import MlflowClient
    client = MlflowClient(tracking_uri=first["store"], registry_uri=first["store"])
    assert (first["version"], second["version"]) == (1, 2)
    assert int(client.get_model_version_by_alias("digits", "champion").version) == 2
    assert {one.tags["trainwright.run_id"] for one in client.search_model_versions("name='digits'")} == {run.id}
    mlflow.set_tracking_uri(first["store"])
    answered = mlflow.pyfunc.load_model("models:/digits@champion").predict(
        pandas.DataFrame({"image": sent(images(digits, 3))})
    )
    assert [one["label"] for one in answered] == [one["label"] for one in tw.predict(run, images(digits, 3))]


@pytest.mark.slow
def test_mlflow_serves_on_loopback_what_predict_says_of_fifty_images(
    train: Callable[..., tw.Run],
    digits: Path,
    tmp_path: Path,
    free_port: int,
    serving: Callable[..., AbstractContextManager[None]],
) -> None:
    run = train({"epochs": 2})
    made = tw.register(run, name="digits", workers=1)
    tw.export(run, format="onnx", out=tmp_path / "out", workers=1)
    files = images(digits, 50)
    command = serve_command("digits", "champion", made["version"], free_port).split()
    mlflow = shutil.which("mlflow", path=str(Path(sys.executable).parent))
    assert mlflow is not None
    path = os.pathsep.join([str(Path(mlflow).parent), os.environ["PATH"]])  # mlflow starts uvicorn by its name
    variables = {"PATH": path, "MLFLOW_TRACKING_URI": made["store"]}
    server = f"http://127.0.0.1:{free_port}"
    with serving([mlflow, *command[1:]], variables, f"{server}/ping"):
        asked = {"dataframe_records": [{"image": content} for content in sent(files)]}
        request = urllib.request.Request(
            f"{server}/invocations",
            data=json.dumps(asked).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            answered = json.load(reply)["predictions"]
    assert answered == json.loads(json.dumps(said_by_predict(tmp_path / "out" / "model.onnx", files)))
    assert [one["label"] for one in answered] == [one["label"] for one in tw.predict(run, files)]
