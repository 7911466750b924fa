"""A registered model as MLflow serves it: images in, what `predict` says of them out.

MLflow loads this module by its name (`loader_module` of the pyfunc flavour), so whoever serves needs trainwright and onnxruntime.
"""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright.errors import DataError
from trainwright.workflows.exported import ExportedModel

COLUMN = "image"


class Served:
    """An exported model behind MLflow's `predict`."""

    def __init__(self, path: Path) -> None:
        """path: an `.onnx` file that `export` wrote. Raises RunError for any other."""
        self._model = ExportedModel(path)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What is said of each image. model_input: a pandas table whose column `image` has image files, in base64 or as bytes.

        Returns for each what `predict` does without its name; a `mask` as a PNG file in base64. An image that cannot be read has
        an `error` alone. Raises DataError for a table without that column, or with something else in it.
        """
        columns = [str(name) for name in getattr(model_input, "columns", ())]
        if COLUMN not in columns:
            raise DataError(
                f"expected a table with a column {COLUMN!r}, got {columns or type(model_input).__name__}.",
                where="input",
                cure='Send {"dataframe_records": [{"image": "<the file in base64>"}, …]}.',
            )
        given = list(model_input[COLUMN])
        with tempfile.TemporaryDirectory(prefix="trainwright-") as place:
            files = [Path(place) / str(row) for row in range(len(given))]
            for row, (file, content) in enumerate(zip(files, given, strict=True)):
                file.write_bytes(_bytes_of(content, row))
            found = self._model.said_of(files)
        return [_plain(said) for said in found]


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls. path: of the file that was logged."""
    return Served(Path(path))


def _bytes_of(content: object, row: int) -> bytes:
    if isinstance(content, bytes):
        return content
    try:
        return base64.b64decode(str(content), validate=True)
    except binascii.Error as error:
        raise DataError(
            f"expected an image file in base64, got {str(content)[:40]!r} ({error}).",
            where=f"input, row {row}, column {COLUMN}",
            cure="base64.b64encode(open(file, 'rb').read()).decode()",
        ) from None


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in said.items() if key != "image"}
    if "mask" in found:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(found["mask"]).save(buffer, format="PNG")
        found["mask"] = base64.b64encode(buffer.getvalue()).decode()
    return found
