"""ONNX files: written through torch.export, read with onnxruntime on the processor. The only module that imports either."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainwright.deploy.graph import ServedModel
from trainwright.errors import MissingPackageError, RunError
from trainwright.recipe import Size

FILE = "model.onnx"
INPUT = "images"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20  # read by onnxruntime from 1.18 on, with the file version (IR 10) that the exporter writes


def check_installed(packages: Sequence[str] = PACKAGES) -> None:
    """Raises MissingPackageError where a package that ONNX files need is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"ONNX files need {' and '.join(missing)}.",
            where="export",
            cure="Install them: pip install 'trainwright[export]'; or use --format torch or --format safetensors.",
        )


def write_onnx(served: ServedModel, path: Path, *, size: Size, metadata: Mapping[str, Any]) -> None:
    """The model as one ONNX file for any number of images, everything that it says of itself inside.

    metadata: anything JSON; each value is a metadata property, text as it is.
    """
    check_installed()
    example_NHWC = torch.zeros(2, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts, about each other
        program = torch.onnx.export(
            served,
            (example_NHWC,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(served.names(size)),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where in whose source code it came from
    program.model.metadata_props.clear()
    program.model.metadata_props.update(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    )
    program.save(str(path), external_data=False)


class OnnxModel:
    """An ONNX file on the processor: uint8 images [N, H, W, 3] to its answers by name.

    metadata: what `write_onnx` was given, as text. Raises RunError for a file that is none.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        check_installed(("onnxruntime",))
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors
        settings.intra_op_num_threads = threads or torch.get_num_threads()
        settings.inter_op_num_threads = 1
        onnxruntime.disable_telemetry_events()
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own tree of errors has no public root
            raise RunError(
                f"is no ONNX file that can be run ({str(error)[:200]}).",
                where=str(path),
                cure="Export it again, or check that the file is whole.",
            ) from error
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, images_NHWC: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._session.run(None, {INPUT: images_NHWC}), strict=True))
