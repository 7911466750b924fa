"""torch.export programs: a graph that needs torch, and nothing of this package, to run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainwright.deploy.graph import ServedModel
from trainwright.errors import RunError
from trainwright.recipe import Size

FILE = "model.pt2"
METADATA = "trainwright.json"


def write_program(served: ServedModel, path: Path, *, size: Size, metadata: Mapping[str, Any]) -> None:
    """The model as a torch.export program for any number of images. metadata: anything JSON, kept in the file."""
    example_NHWC = torch.zeros(2, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            served, (example_NHWC,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
        _forget_sources(program.graph_module)
        torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata)})


def _forget_sources(module: torch.nn.Module) -> None:
    """Take out where in whose source code each step came from: paths of the machine that exported it."""
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)


class ProgramModel:
    """A torch.export program on the processor: uint8 images [N, H, W, 3] to its answers by name.

    metadata: what `write_program` was given. Raises RunError for a file that is none.
    """

    def __init__(self, path: Path) -> None:
        kept = {METADATA: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._module = torch.export.load(path, extra_files=kept).module()
        except Exception as error:  # anything at all where the file is damaged
            raise RunError(
                f"is no torch.export program that can be run ({str(error)[:200]}).",
                where=str(path),
                cure="Export it again, or check that the file is whole.",
            ) from error
        self.metadata: Mapping[str, Any] = json.loads(kept[METADATA] or "{}")

    def __call__(self, images_NHWC: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            said = self._module(torch.from_numpy(images_NHWC))
        return {name: tensor.numpy() for name, tensor in said.items()}
