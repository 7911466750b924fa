"""The model card: what it says of a model, whatever the task, and what it does not claim."""

import re

import numpy
import pytest

from trainwright.deploy.model_card import model_card

BETWEEN = {"low": 0.61, "high": 0.79}


@pytest.fixture
def given():
    """What a card is made of, of a classification of two classes."""
    return {
        "result": {
            "metric": "accuracy",
            "parameters": 19_954,
            "epochs": 3,
            "seconds": 12.0,
            "score": {"train": 0.95, "val": 0.7},
            "intervals": {
                "score": {"value": 0.7, **BETWEEN},
                "per_class": {"cat": {"value": 0.8, "low": 0.7, "high": 0.9}},
            },
            "per_class": {"cat": 0.8, "a|b": 0.6},
            "gap": {"value": 0.25, "low": 0.2, "high": 0.3},
            "verdict": "overfits",
            "findings": [
                {"rule": "overfits", "verdict": "yes", "evidence": "Gap 25 points.", "advice": "To try: augmentation."},
                {"rule": "diverged", "verdict": "no", "evidence": "It did not.", "advice": ""},
                {"rule": "noisy-labels", "verdict": "cannot-tell", "evidence": "", "advice": ""},
            ],
        },
        "manifest": {
            "name": "pets",
            "code": {"version": "0.1.0"},
            "machine": {"device": "cpu", "processor": "Some processor"},
            "precision": {"name": "bf16"},
            "dataset": {
                "fingerprint": "f00d",
                "left_out": 2,
                "counts": {"train": {"cat": 60, "a|b": 50}, "val": {"cat": 12, "a|b": 9}},
            },
            "split": {"train": 110, "val": 21, "test": 30},
        },
        "exported": {
            "run": "20270101-pets",
            "task": "classification",
            "names": ["cat", "a|b"],
            "info": {"mean": [3.0, 4.0], "std": [2.0, 0.0]},
            "network_of": "timm",
            "input": {"size": [64, 96]},
            "outputs": ["probabilities", "label"],
            "weights_sha256": "beef",
            "recipe": {"network": {"name": "resnet18", "weights": "pretrained"}},
            "packages": {"torch": "2.15.0"},
            "files": {"model.onnx": {}, "model.pt2": {}, "model.safetensors": {}},
        },
        "certificate": {
            "images": 21,
            "files": {
                "model.onnx": {
                    "agreement": 1.0,
                    "largest_difference": 3e-7,
                    "largest_difference_of": "probability",
                    "bytes": 44_000_000,
                }
            },
        },
        "openings": [],
        "recipe_yaml": "epochs: 3\n",
    }


def test_scores_come_with_their_intervals_and_the_verdict(given):
    card = model_card(**given)

    assert "| validation | 0.7000 | 0.6100 to 0.7900 |" in card
    assert "Gap between unseen and train error: 25.0 points, 95 % interval 20.0 to 30.0." in card
    assert "Verdict: **overfits**." in card


def test_the_weakest_class_comes_first_and_a_name_breaks_no_table(given):
    rows = re.findall(r"^\| .*", model_card(**given), re.MULTILINE)

    assert rows.index(r"| a\|b | 0.6000 |  |") < rows.index("| cat | 0.8000 | 0.7000 to 0.9000 |")


def test_limits_are_what_was_found_and_what_could_not_be_told(given):
    card = model_card(**given)

    assert (
        "- **overfits**: Gap 25 points. To try: augmentation.\n\nCould not be told with these images: noisy-labels."
        in card
    )
    assert "It did not." not in card


def test_a_model_without_a_fault_says_so(given):
    given["result"]["findings"] = []

    assert "## What the diagnosis found\n\nNo fault was found.\n" in model_card(**given)


def test_an_unopened_test_part_is_said_and_an_opened_one_comes_first(given):
    unopened = model_card(**given)
    given["openings"] = [{"images": 30, "test": {"score": 0.66, "low": 0.5, "high": 0.8}, "note": "The first time."}]
    opened = model_card(**given)

    assert "The test part was not opened: choices were made by validation." in unopened
    assert "| test (30 images) | 0.6600 | 0.5000 to 0.8000 |\n| validation" in opened
    assert "The first time." in opened


def test_nothing_unseen_is_not_made_up(given):
    given["result"] |= {
        "score": {"train": 0.95, "val": None},
        "gap": dict.fromkeys(("value", "low", "high")),
        "per_class": {},
        "intervals": {"score": None, "per_class": {}},
    }

    card = model_card(**given)

    assert "| validation | not defined | |" in card.replace("|  |", "| |")
    assert "Gap between" not in card


@pytest.mark.parametrize(
    ("task", "outputs", "answers", "said"),
    [
        ("classification", ["probabilities", "label"], "[[0.25, 0.75]], [1]", "dog 0.75"),
        ("regression", ["values"], "[[3.5, 40.0]]", "{'cat': 3.5, 'dog': 40.0}"),
        ("segmentation", ["masks"], "[[[1, 1]]]", "{'dog'}"),
        ("detection", ["boxes", "scores", "labels"], "[[[0] * 4] * 2], [[0.75, 0.0]], [[1, -1]]", "[('dog', 0.75)]"),
    ],
)
def test_the_code_of_the_card_says_an_answer_by_its_name(given, capsys, task, outputs, answers, said):
    """Its own lines behind the call of the model, on answers that such a model might give."""
    given["exported"] |= {"task": task, "outputs": outputs}
    code = re.search(r"```python\n(.*?onnxruntime.*?)```", model_card(**given), re.DOTALL)[1]
    unpacking, *printing = code[code.index(f"({', '.join(outputs)},) = ") :].splitlines()

    exec(
        "\n".join([f"({unpacking.split(' = ')[0][1:-1]}) = map(numpy.array, ({answers},))", *printing]),
        {"numpy": numpy, "about": {"names": ["cat", "dog"]}},
    )

    assert capsys.readouterr().out == f"{said}\n"


def test_the_licence_is_left_to_those_who_know_it(given):
    card = model_card(**given)

    assert "license: unknown  # fill in" in card
    assert "## Licence\n\nUnknown: " in card


@pytest.mark.parametrize(
    ("maker", "line"),
    [
        ("timm", 'network = timm.create_model("resnet18", num_classes=2)'),
        ("custom", "network = ...  # the nn.Module that was trained, made by your own code"),
        ("trainwright", "import trainwright as tw"),
    ],
)
def test_weights_are_loaded_as_their_network_is_made(given, maker, line):
    given["exported"]["network_of"] = maker

    assert line in model_card(**given)


def test_the_network_of_the_card_is_made_for_its_images(given):
    given["exported"]["network_is_sized"] = True

    assert 'timm.create_model("resnet18", num_classes=2, img_size=64)' in model_card(**given)


def test_group_norms_are_put_in_by_what_put_them_in_before(given):
    given["exported"]["recipe"]["network"] |= {"norm": "group", "width": 32}

    card = model_card(**given)

    assert "timm.create_model" not in card
    assert '{"network.name": "resnet18", "network.norm": "group", "network.weights": "model.safetensors"}' in card


def test_a_run_from_weights_of_ours_makes_the_network_as_it_was(given):
    given["exported"] |= {"network_of": "trainwright", "test_time_flip": True}
    given["exported"]["recipe"]["network"] = {"name": "unet", "weights": "random", "backbone": "resnet34", "width": 32}

    expected = '"network.name": "unet", "network.backbone": "resnet34", "network.weights": "model.safetensors"'

    assert f'changes={{{expected}, "test_time_flip": True}})' in model_card(**given)


def test_the_code_for_weights_has_what_only_graphs_have_inside(given):
    given["exported"] |= {"temperature": 1.5, "test_time_flip": True}

    card = model_card(**given)

    assert "outputs = (network(images) + network(images.flip(-1))) / 2\n" in card
    assert "probabilities = (outputs / 1.5).softmax(dim=1)\n" in card
    assert "An answer is the mean of those to the image and to its mirror image." in card
    assert "are inside, and so is the mirror image, and so is the temperature of 1.5." in card
    assert "Nor are they divided by the temperature of 1.5" in card


def test_maps_of_mirror_images_are_mirrored_back(given):
    given["exported"] |= {"task": "segmentation", "test_time_flip": True}

    assert "outputs = (network(images) + network(images.flip(-1)).flip(-1)) / 2\n" in model_card(**given)


def test_numbers_are_told_in_their_own_unit(given):
    given["exported"]["task"] = "regression"

    line = "values = outputs.double() * torch.tensor([2.0, 1.0]) + torch.tensor([3.0, 4.0])"

    assert line in model_card(**given)


def test_validation_images_that_were_trained_on_are_not_said_to_be_unseen(given):
    given["exported"]["recipe"]["data"] = {"train_on": "train+val"}
    given["result"] |= {"score": {"train": 0.95, "val": None}, "intervals": {"score": None, "per_class": {}}}
    given["result"] |= {"per_class": {}, "findings": [], "gap": dict.fromkeys(("value", "low", "high"))}

    card = model_card(**given)

    assert "110 images were trained on, among them the 21 validation images, 30 kept for the test" in card
    assert "The validation images were trained on and the test part was not opened: no figure here is of unseen" in card
    assert "none was left to look for faults with" in card
    assert "| validation |" not in card
    assert "No fault was found" not in card


def test_what_the_certificate_says_of_the_model_itself_is_in_the_card(given):
    given["certificate"] |= {
        "trained": {"agreement": 0.99, "agreement_of": "images with the same class"},
        "note": "Every answer of the model is 'cat': that these are the same shows little.",
    }

    card = model_card(**given)

    assert (
        "The model itself agrees by 0.99000 (images with the same class) with the answers that it was judged by" in card
    )
    assert "Every answer of the model is 'cat'" in card


def test_only_the_files_that_are_there_are_explained(given):
    given["exported"]["files"] = {"model.safetensors": {}}

    card = model_card(**given)

    assert "onnxruntime" not in card
    assert "torch.export.load" not in card


@pytest.mark.parametrize(
    ("task", "said"),
    [("regression", "regression of 2 numbers: cat, a|b"), ("segmentation", "segmentation of 2 classes: cat, a|b")],
)
def test_every_task_is_named_as_what_it_is(given, task, said):
    given["exported"]["task"] = task

    assert said in model_card(**given)
