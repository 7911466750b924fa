"""Answers that are averaged with those to the mirror image: in evaluation, prediction and export alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import trainwright as tw


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> list[Path]:
    """An image, and its mirror image."""
    folder = tmp_path_factory.mktemp("mirrors")
    image = Image.open(sorted(digits.rglob("*.png"))[0])
    for name, shown in (("as-it-is", image), ("mirrored", ImageOps.mirror(image))):
        shown.save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def answers(run, mirrors):
    return [list(one["probabilities"].values()) for one in tw.predict(run, mirrors)]


def test_a_run_answers_alike_to_an_image_and_its_mirror_image(train, mirrors):
    first, second = answers(train({"test_time_flip": True, "epochs": 1}), mirrors)

    assert first == pytest.approx(second, abs=1e-5)


def test_without_it_the_two_are_different_images(train, mirrors):
    first, second = answers(train({"epochs": 1}), mirrors)

    assert not np.allclose(first, second, atol=1e-3)


def test_what_is_learned_is_the_same_with_and_without(train):
    first, second = (train({"test_time_flip": flip, "epochs": 1, "keep": "last"}) for flip in (True, False))

    assert first.result["weights_sha256"] == second.result["weights_sha256"]
    assert first.epochs[0]["train_running"] == second.epochs[0]["train_running"]
