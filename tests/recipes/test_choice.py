"""Which recipe is taken where none is named, by task, size, weights at hand and device; and that it says why."""

import pytest

from trainwright import recipes
from trainwright.recipes import Facts, choose, page
from trainwright.recipes.choice import CPU_IMAGES, FINE_TUNING, LARGE, OUTLINED
from trainwright.recipes.published import DEFAULT, default_for

TASKS = ("classification", "detection", "regression", "segmentation")
NAMES = recipes.names()


def facts(task="classification", **known):
    """A thousand photographs on a processor without any weights, unless said otherwise."""
    return Facts(**{"task": task, "images": 1_000, "image_size": (300, 400), "device": "cpu", **known})


def at_hand(task):
    """Every published recipe for the task that fine-tunes."""
    return frozenset(name for name in NAMES if page(name).start == "pretrained" and task in page(name).tasks)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("images", [10, 1_000, LARGE - 1])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("image_size", [(32, 32), (480, 640)])
def test_without_weights_a_set_that_is_not_large_starts_from_the_default_of_its_task(task, images, device, image_size):
    choice = choose(facts(task, images=images, device=device, image_size=image_size))

    assert choice.name == ("scratch-resnet-9" if task == "classification" else default_for(task))


@pytest.mark.parametrize("task", TASKS)
def test_without_weights_it_is_said_which_recipe_would_fetch_them(task):
    reasons = choose(facts(task)).reasons

    assert any(f"--recipe {FINE_TUNING[task]} fetches some" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("classification", "finetune-default"),
        ("regression", "regression-finetune"),
        ("segmentation", "segmentation-finetune"),
        ("detection", "detection-default"),
    ],
)
def test_with_weights_a_processor_fine_tunes_what_it_can_in_time(task, expected):
    assert choose(facts(task, images=999, pretrained_at_hand=at_hand(task))).name == expected


@pytest.mark.parametrize(
    ("task", "images", "expected"),
    [
        ("classification", LARGE - 1, "finetune-default"),
        ("classification", LARGE, "finetune-layerwise"),
        ("regression", LARGE, "regression-finetune"),
        ("segmentation", OUTLINED - 1, "segmentation-finetune"),
        ("segmentation", OUTLINED, "segmentation-deeplab"),
        ("detection", 10, "detection-faster-rcnn"),
    ],
)
def test_with_weights_a_gpu_takes_larger_networks_for_larger_sets(task, images, expected):
    choice = choose(facts(task, images=images, device="cuda", pretrained_at_hand=at_hand(task)))

    assert choice.name == expected


def test_weights_on_this_machine_but_too_slow_for_it_are_not_called_missing():
    reasons = choose(facts("detection", pretrained_at_hand=at_hand("detection"))).reasons

    assert any("are here, but would take long on a processor" in reason for reason in reasons)


@pytest.mark.parametrize(("images", "expected"), [(CPU_IMAGES, "finetune-default"), (CPU_IMAGES + 1, "linear-probe")])
def test_on_a_processor_many_images_teach_only_the_head(images, expected):
    assert choose(facts(images=images, pretrained_at_hand=at_hand("classification"))).name == expected


def test_other_weights_than_the_usual_ones_are_better_than_none():
    choice = choose(facts(device="cuda", pretrained_at_hand=frozenset({"finetune-vit"})))

    assert choice.name == "finetune-vit"


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        ((32, 32), "scratch-wide-resnet"),
        ((64, 500), "scratch-wide-resnet"),
        ((65, 65), DEFAULT),
        ((128, 128), "scratch-rsb"),
        ((480, 640), "scratch-rsb"),
    ],
)
def test_a_large_set_on_a_gpu_without_weights_goes_by_the_shorter_side_of_its_images(image_size, expected):
    assert choose(facts(images=LARGE, device="cuda", image_size=image_size)).name == expected


def test_a_large_set_on_a_processor_stays_with_the_small_network():
    assert choose(facts(images=10 * LARGE)).name == DEFAULT


@pytest.mark.parametrize("task", TASKS)
def test_a_network_that_was_given_leaves_the_usual_values_around_it(task):
    choice = choose(facts(task, own_network=True, images=LARGE, device="cuda", pretrained_at_hand=at_hand(task)))

    assert choice.name == default_for(task)
    assert any("the network is given" in reason for reason in choice.reasons)


def test_a_task_of_ones_own_starts_from_the_default_of_all():
    choice = choose(facts("multi-label", device="cuda", images=LARGE))

    assert choice.name == DEFAULT
    assert any("a task of your own" in reason for reason in choice.reasons)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("images", [1, OUTLINED, CPU_IMAGES + 1, LARGE])
@pytest.mark.parametrize("weights", [False, True])
def test_every_choice_is_a_published_recipe_for_the_task_that_needs_no_weights_that_are_not_here(
    task, device, images, weights
):
    here = at_hand(task) if weights else frozenset()

    choice = choose(facts(task, device=device, images=images, pretrained_at_hand=here))

    assert task in page(choice.name).tasks
    assert page(choice.name).start == "scratch" or choice.name in here
    assert len(choice.reasons) >= 2


def test_the_first_reason_says_what_was_seen():
    assert choose(facts(images=5_550, image_size=(32, 48))).reasons[0] == (
        "classification: 5,550 images of 48×32 pixels, on cpu"
    )


@pytest.mark.parametrize("task", FINE_TUNING)
def test_what_is_named_for_fine_tuning_fine_tunes_that_task(task):
    assert page(FINE_TUNING[task]).start == "pretrained"
    assert task in page(FINE_TUNING[task]).tasks
