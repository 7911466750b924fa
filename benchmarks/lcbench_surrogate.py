"""LCBench's surrogate as an objective: 7 hyperparameters of a multilayer perceptron, a learning curve of 52 epochs on each task.

The ONNX model is that of YAHPO Gym (Pfisterer et al., arXiv:2109.03670), fitted to LCBench (Zimmer et al., arXiv:2006.13799).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search_arms import Reference
from trainwright.search.domains import FloatRange, IntRange
from trainwright.search.space import Dimension, Space
from trainwright.seeding import stream

EPOCHS = 52
OUTPUTS = 6  # time, then validation and test scores
ACCURACY = 1  # the column of the validation accuracy, in percent
INPUTS = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
# Without the corner in which the surrogate is best and a real network at chance level: batch 16, lr 0.1, momentum 0.99, 5 layers.
SPACE = Space(
    dimensions=(
        Dimension(key="batch_size", domain=IntRange(low=32, high=512, log=True)),
        Dimension(key="learning_rate", domain=FloatRange(low=1e-4, high=0.03, log=True)),
        Dimension(key="momentum", domain=FloatRange(low=0.1, high=0.9)),
        Dimension(key="weight_decay", domain=FloatRange(low=1e-5, high=0.1)),
        Dimension(key="num_layers", domain=IntRange(low=1, high=4)),
        Dimension(key="max_units", domain=IntRange(low=64, high=1024, log=True)),
        Dimension(key="max_dropout", domain=FloatRange(low=0.0, high=1.0)),
    ),
)
# Textbook settings of SGD with momentum for such a network, written down before anything was measured.
DEFAULTS = (
    {
        "batch_size": 128, "learning_rate": 1e-2, "momentum": 0.9, "weight_decay": 1e-4,
        "num_layers": 3, "max_units": 512, "max_dropout": 0.2,
    },
    {
        "batch_size": 128, "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-4,
        "num_layers": 3, "max_units": 512, "max_dropout": 0.2,
    },
)  # fmt: skip


class Surrogate:
    """The model, for any task of LCBench. folder: of model.onnx and encoding.json."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(folder / "model.onnx")
        self._session = onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
        self._task_input, self._numbers_input = (one.name for one in self._session.get_inputs())

    def accuracies(self, task: str, inputs_ND: np.ndarray, epochs_N: np.ndarray) -> np.ndarray:
        """Validation accuracy [N], 0–1. inputs_ND: values in the order of INPUTS."""
        numbers = np.column_stack([epochs_N, inputs_ND]).astype(np.float32)
        codes = np.full((len(numbers), 1), self._codes[task], np.int32)
        (outputs,) = self._session.run(None, {self._task_input: codes, self._numbers_input: numbers})
        return np.asarray(outputs, np.float64)[:, ACCURACY] / 100

    def curve(self, task: str, values: Mapping[str, Any]) -> np.ndarray:
        """Validation accuracy after each epoch, 0–1 [EPOCHS]."""
        inputs_D = np.array([float(values[name]) for name in INPUTS])
        return self.accuracies(task, np.tile(inputs_D, (EPOCHS, 1)), np.arange(1, EPOCHS + 1))


DRAWS, PARENTS, CHILDREN, ROUNDS = 100_000, 48, 8, 50
STEP, SHRINKING = 0.15, 0.92  # of the first round, in lengths of the scale; of one round to the next


def reference(surrogate: Surrogate, task: str) -> Reference:
    """By chance, and by an evolution strategy from the best of that: about 120,000 trainings to the end."""
    random = stream(int(task), "reference")

    def scores(places_ND: np.ndarray) -> np.ndarray:
        inputs_ND = np.column_stack([_values(index, places_ND[:, index]) for index in range(len(INPUTS))])
        return surrogate.accuracies(task, inputs_ND, np.full(len(inputs_ND), EPOCHS))

    places_ND = random.random((DRAWS, len(INPUTS)))
    scores_N = np.concatenate([scores(part) for part in np.array_split(places_ND, 20)])
    median = float(np.median(scores_N))
    for turn in range(ROUNDS):
        best = np.argsort(-scores_N, kind="stable")[:PARENTS]
        places_ND, scores_N = places_ND[best], scores_N[best]
        parents_ND = np.repeat(places_ND, CHILDREN, axis=0)
        steps_ND = random.normal(0, STEP * SHRINKING**turn, parents_ND.shape) * (random.random(parents_ND.shape) < 0.5)
        children_ND = np.clip(parents_ND + steps_ND, 0, 1)
        places_ND = np.concatenate([places_ND, children_ND])
        scores_N = np.concatenate([scores_N, scores(children_ND)])
    return Reference(best=float(scores_N.max()), median=median)


def _values(index: int, places_N: np.ndarray) -> np.ndarray:
    domain = SPACE.dimensions[index].domain
    return np.array([domain.value_at(float(place)) for place in places_N], np.float64)
