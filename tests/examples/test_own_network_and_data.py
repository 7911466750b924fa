"""A network and a torch dataset of one's own are trained and judged in a page of code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import trainwright as tw

Load = Callable[[str], ModuleType]


def test_the_dataset_gives_the_digits_as_they_are(load: Load) -> None:
    data = tw.Dataset.from_torch(load("own_network_and_data").Digits(0, 100))
    source = load("own_network_and_data").load_digits()
    assert data.classes == tuple("0123456789")
    assert list(data.targets.strata()) == [str(digit) for digit in source.target[:100]]
    assert (data.read(7, (8, 8), "crop")[:, :, 0] == np.rint(source.images[7] * 255 / 16)).all()


def test_it_is_trained_and_judged(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("own_network_and_data").main(epochs=5, runs=tmp_path, mirrors=(), device="cpu")
    run = tw.open_run("last", runs=tmp_path)
    assert run.recipe.network.name == "custom"
    assert run.score["val"] > 0.5  # a guess is right for 1 in 10
    assert f"{run.id}: accuracy train" in capsys.readouterr().out
