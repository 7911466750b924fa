"""A training without a recipe starts from the one that suits its data, says why, and fetches nothing for it."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import trainwright as tw
from trainwright.recipes.published import DEFAULT
from trainwright.workflows import choose

SMALL = {"network.width": 8, "data.image_size": 16, "batch_size": 16, "epochs": 1, "precision": "fp32"}


class Notes:
    """A reporter that keeps its notes."""

    def __init__(self):
        self.texts = []

    def progress(self, what, done, total):
        return

    def epoch(self, record, epochs):
        return

    def note(self, text):
        self.texts.append(text)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that puts weights of a name into an otherwise empty hub cache: a file is enough to be found."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(name):
        snapshot = tmp_path / "hub" / f"models--timm--{name}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        save_file({"weight": np.zeros(1, np.float32)}, snapshot / "model.safetensors")

    return add


@pytest.fixture
def photos():
    """Twenty large grey images of two classes."""
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 255, (20, 120, 160, 3)).astype(np.uint8)
    return tw.Dataset.from_arrays(images_NHWC, [0, 1] * 10, parts=["train"] * 10 + ["val"] * 10)


def test_the_facts_are_those_of_the_images_to_learn_from(hub, photos):
    facts = choose.facts_of(photos, {}, own_network=False, device="cpu")

    assert (facts.task, facts.images, facts.image_size, facts.device) == ("classification", 10, (120, 160), "cpu")
    assert facts.pretrained_at_hand == frozenset()
    assert not facts.own_network


@pytest.mark.parametrize(
    ("own_network", "wanted"), [(True, {}), (False, {"network.name": "resnet18"}), (False, {"network.dropout": 0.5})]
)
def test_a_network_of_ones_own_or_a_changed_one_is_given(hub, photos, own_network, wanted):
    hub("resnet18.a1_in1k")

    facts = choose.facts_of(photos, wanted, own_network=own_network, device="cpu")

    assert facts.own_network
    assert facts.pretrained_at_hand == frozenset()


def test_weights_in_the_hub_cache_are_at_hand(hub, photos):
    hub("resnet18.a1_in1k")

    assert choose.pretrained_at_hand("classification") == {"finetune-default", "linear-probe"}
    assert choose.pretrained_at_hand("regression") == {"regression-finetune", "linear-probe"}
    assert choose.pretrained_at_hand("segmentation") == {"segmentation-finetune"}
    assert choose.pretrained_at_hand("detection") == frozenset()
    assert choose.choose_recipe(photos, {}, own_network=False, device="cpu").name == "finetune-default"


def test_weights_of_another_training_of_the_network_are_not_at_hand_because_others_would_be_fetched(hub):
    hub("resnet18.tv_in1k")

    assert choose.pretrained_at_hand("classification") == frozenset()


def test_weights_of_a_network_with_a_longer_name_are_not_at_hand(hub):
    hub("resnet18d.ra2_in1k")

    assert choose.pretrained_at_hand("classification") == frozenset()


def test_a_run_without_a_recipe_keeps_which_was_chosen_and_why(hub, digits, tmp_path):
    reporter = Notes()

    run = tw.train(digits, changes=SMALL, runs=tmp_path, mirrors=(), workers=1, device="cpu", reporter=reporter)
    kept = json.loads((run.folder / "manifest.json").read_text())["recipe"]

    assert kept["name"] == DEFAULT
    assert kept["reasons"][0] == "classification: 150 images of 16×16 pixels, on cpu"
    assert f"recipe {DEFAULT}: {'; '.join(kept['reasons'])}" in reporter.texts


def test_a_run_of_a_named_recipe_has_nothing_that_was_chosen(trained):
    assert "recipe" not in json.loads((trained.folder / "manifest.json").read_text())


def test_choosing_without_any_weights_needs_no_timm(hub, photos, monkeypatch):
    """Its import takes seconds, which a dry run without weights need not wait for."""
    monkeypatch.setitem(sys.modules, "timm", None)

    assert choose.choose_recipe(photos, {}, own_network=False, device="cpu").name == "scratch-resnet-9"
