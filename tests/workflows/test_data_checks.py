"""What a judged run says of its images and labels."""

import json

import numpy as np
import pytest

import trainwright as tw
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.recorded import from_json


def evidence_of(run):
    return from_json(Evidence, json.loads((run.folder / "evidence.json").read_text()))


def finding_of(run, rule):
    return next(finding for finding in run.findings if finding.rule == rule)


@pytest.fixture(scope="module")
def pixels():
    """(uint8 [540, 16, 16], labels [540]) of three digits."""
    from sklearn.datasets import load_digits

    source = load_digits()
    chosen = np.flatnonzero(source.target < 3)
    grey_NHW = np.rint(source.images[chosen] * (255 / 16)).astype(np.uint8)
    return grey_NHW.repeat(2, axis=1).repeat(2, axis=2), source.target[chosen]


def given_parts(pixels, val_count=150, change=lambda images: images, copies=0):
    """A dataset of given parts: the first images are val, changed; `copies` of them are images of train."""
    images, labels = pixels
    images, labels = images.copy(), labels.copy()
    images[:copies], labels[:copies] = images[-copies or len(images) :], labels[-copies or len(labels) :]
    images[:val_count] = change(images[:val_count])
    parts = ["val"] * val_count + ["train"] * (len(images) - val_count)
    return tw.Dataset.from_arrays(images, [str(label) for label in labels], parts=parts)


def test_every_judgement_looks_at_images_and_labels(trained):
    found = evidence_of(trained)

    assert (found.twins.exact, found.twins.near, found.twins.images) == (0, 0, found.val_count)
    assert found.balance.balanced.value == pytest.approx(np.mean(list(found.val_per_class.values())))
    assert {"twins", "validation-shifted", "noisy-labels", "imbalance-hidden"} <= {f.rule for f in trained.findings}


def test_the_hardest_images_are_named_with_truth_and_answer(trained):
    hardest = trained.result["hardest"]

    sure = [image["probability_of_truth"] for image in hardest]
    assert sure == sorted(sure)
    assert 0 < len(hardest) <= 20
    assert all(
        (trained.folder / "recipe.yaml").exists() and image["path"].startswith(image["truth"]) for image in hardest
    )
    assert all(image["probability"] >= image["probability_of_truth"] for image in hardest)


def test_twins_across_given_parts_are_found_and_left_out(train, pixels):
    run = train({"epochs": 1}, data=given_parts(pixels, copies=15))

    found, finding = evidence_of(run).twins, finding_of(run, "twins")
    assert (found.exact, found.images) == (15, 150)
    assert finding.verdict == "yes"
    assert finding.figures["score"] == pytest.approx(run.score["val"])


def test_a_validation_part_of_another_brightness_is_found(train, pixels):
    run = train({"epochs": 1}, data=given_parts(pixels, change=lambda images: images // 2))

    assert finding_of(run, "validation-shifted").verdict == "yes"


def test_a_validation_part_drawn_alike_is_let_pass(train, pixels):
    images, labels = pixels
    order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))

    run = train({"epochs": 1}, data=given_parts((images[order], labels[order])))

    assert finding_of(run, "validation-shifted").verdict != "yes"
    assert finding_of(run, "twins").verdict == "no"


@pytest.mark.slow
def test_the_same_images_are_judged_the_same_again(train, pixels):
    first, second = (evidence_of(train({"epochs": 1}, data=given_parts(pixels))) for _ in range(2))

    assert (first.shift, first.twins, first.label_noise) == (second.shift, second.twins, second.label_noise)
