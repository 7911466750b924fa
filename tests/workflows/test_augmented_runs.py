"""A training with every augmentation on: the same bits after a stop and with any number of workers; what would lie is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.errors import RecipeError

EVERYTHING = {
    "augment.flip": 0.5,
    "augment.vertical_flip": 0.5,
    "augment.colour": 0.4,
    "augment.trivial_augment": 1.0,
    "augment.erase": 0.5,
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
    "augment.mix": 0.8,
}
Train = Callable[..., tw.Run]
Polls = Callable[[int], Callable[[], bool]]


def test_a_run_with_everything_on_goes_on_after_a_stop_to_the_same_bits(train: Train, polls: Polls) -> None:
    untouched = train(EVERYTHING)

    resumed = tw.resume(train(EVERYTHING, stop_asked=polls(8)), mirrors=(), stop_asked=polls(3))
    resumed = tw.resume(resumed, mirrors=())

    for key in ("weights_sha256", "score", "loss", "train_errors"):
        assert resumed.result[key] == untouched.result[key]
    assert [epoch["train_running"] for epoch in resumed.epochs] == [
        epoch["train_running"] for epoch in untouched.epochs
    ]


def test_workers_change_nothing_and_augmentation_does(train: Train, trained: tw.Run) -> None:
    one, three = train(EVERYTHING), train(EVERYTHING, workers=3)

    assert one.result["weights_sha256"] == three.result["weights_sha256"]
    assert one.result["weights_sha256"] != trained.result["weights_sha256"]


def test_numbers_are_refused_to_be_erased_before_anything_is_made(train: Train, tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(np.full((16, 16, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
    table = tmp_path / "numbers.csv"
    table.write_text("image,grey\n" + "\n".join(f"{number}.png,{number}" for number in range(20)))

    with pytest.raises(RecipeError, match=r"augment\.erase: a number may count"):
        train({"augment.erase": 0.25}, data=table)

    assert not (tmp_path / "runs").exists()
