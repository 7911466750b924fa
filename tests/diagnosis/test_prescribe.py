"""Prescriptions: which remedies are given for which finding, in which order, and what was tried changes of it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainwright import plugins, recipes
from trainwright.data.augment import refuse_what_lies
from trainwright.diagnosis import prescribe as prescriptions
from trainwright.diagnosis.prescribe import Tried, combine, family_factors, prescribe, training_seconds
from trainwright.diagnosis.remedies import BY_NAME, REMEDIES
from trainwright.diagnosis.remedies.capacity import relative_work
from trainwright.diagnosis.remedies.case import FIRST_LOSS, Circumstances, names_lie_mirrored
from trainwright.diagnosis.rules import RULES
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import refuse_average
from trainwright.optim.schedules import build_schedule
from trainwright.records import Finding, Interval
from trainwright.training import lr_range
from trainwright.training.mixing import mixing

STORY = recipes.get("story")
CATS_DOGS = Circumstances(
    task="classification",
    classes=("cat", "dog"),
    train_count=4440,
    image_size=(32, 32),
    score=0.74,
    gap=0.25,
    train_error=0.01,
    seconds_per_epoch=6.0,
    budget_epochs=90.0,
)
ANSWERED = sorted({rule for remedy in REMEDIES for rule in remedy.answers})
INSIDE = ("network.dropout", "network.block_dropout", "network.drop_path", "network.norm")
CASES = [(name, task) for name in recipes.names() for task in recipes.page(name).tasks]


def yes(rule, **figures):
    return Finding(rule=rule, verdict="yes", evidence="", advice="", figures=figures)


def given_for(rule, recipe=STORY, facts=CATS_DOGS, tried=(), **figures):
    return {one.remedy: one for one in prescribe([yes(rule, **figures)], recipe, facts, tried)}


def refused(remedy, gain=0.0, *, arm=0.02, **more):
    return Tried(remedy=remedy, gain=Interval(value=gain, low=gain - arm, high=gain + arm), adopted=False, **more)


def facts_of(task, **more):
    return replace(CATS_DOGS, **{"task": task, "image_size": (240, 320), "budget_epochs": math.inf, **more})


# What is given for which finding


def test_a_network_that_learned_its_images_by_heart_is_given_augmentation_before_anything_smaller():
    order = [one.remedy for one in prescribe([yes("overfits")], STORY, CATS_DOGS)]

    assert set(order[:2]) == {"published-recipe", "augmentation"}
    assert order.index("augmentation") < order.index("mixup") < order.index("dropout")


def test_the_order_is_that_of_gain_for_a_second_of_training_and_advice_comes_last():
    found = prescribe([yes("overfits"), yes("over-confident"), yes("twins")], STORY, CATS_DOGS)
    control = STORY.epochs * CATS_DOGS.seconds_per_epoch  # has to be trained beside each of them
    rates = [one.gain / max(control, training_seconds(one, STORY, CATS_DOGS)) for one in found if one.changes]

    assert rates == sorted(rates, reverse=True)
    assert [bool(one.changes) for one in found] == sorted([bool(one.changes) for one in found], reverse=True)
    assert {one.remedy for one in found if not one.changes} >= {"more-images", "remove-twins", "temperature"}


@pytest.mark.parametrize("answer", ["no", "cannot-tell"])
def test_only_findings_that_say_yes_are_answered(answer):
    finding = replace(yes("overfits"), verdict=answer)

    assert {one.finding for one in prescribe([finding], STORY, CATS_DOGS)} == {"generalizes"}


def test_where_nothing_is_wrong_what_usually_helps_is_given_with_less_hope_than_for_a_fault():
    usual, fault = prescribe([], STORY, CATS_DOGS), given_for("overfits")

    assert {one.finding for one in usual} == {"generalizes"}
    assert {"longer", "averaged-weights", "mixup", "wider-network"} <= {one.remedy for one in usual}
    assert all(one.gain < fault[one.remedy].gain for one in usual if one.remedy in ("mixup", "augmentation"))


def test_advice_alone_leaves_the_usual_remedies_to_be_tried():
    found = prescribe([yes("validation-too-small")], STORY, CATS_DOGS)

    assert found[0].changes
    assert found[-1].remedy == "more-validation-images"


@pytest.mark.parametrize("side", ["over-confident", "still-improving", "noisy-labels"])
def test_a_side_finding_does_not_hide_what_usually_helps_more(side):
    found = prescribe([yes(side)], STORY, CATS_DOGS)

    assert found[0].remedy == "published-recipe"
    assert {side, "generalizes"} <= {one.finding for one in found}


@pytest.mark.parametrize("fault", ["overfits", "too-small", "underfits", "unstable"])
def test_what_usually_helps_does_not_compete_with_an_answer_to_a_fault_of_the_fit(fault):
    assert "generalizes" not in {
        one.finding for one in prescribe([yes(fault), yes("over-confident")], STORY, CATS_DOGS)
    }


def test_a_remedy_of_the_gap_is_not_expected_to_gain_more_than_the_gap():
    small = replace(CATS_DOGS, gap=0.01)

    assert max(one.gain for one in given_for("overfits", facts=small).values()) <= 0.01


@pytest.mark.parametrize("rule", [rule.__name__.replace("_", "-") for rule in RULES if rule.__name__ != "gap_parts"])
def test_every_rule_that_can_say_yes_has_an_answer(rule):
    assert any(one.finding == rule for one in prescribe([yes(rule)], STORY, CATS_DOGS))


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ("diverged", {"found-rate", "lower-rate"}),
        ("still-improving", {"longer", "found-rate", "one-cycle"}),
        ("too-small", {"wider-network", "deeper-network"}),
        ("imbalance-hidden", {"balanced-classes"}),
        ("batch-norm-broken", {"group-norm", "published-recipe"}),
        ("noisy-labels", {"label-smoothing", "mixup", "early-stopping", "averaged-weights"}),
        ("over-confident", {"label-smoothing", "mixup", "early-stopping"}),
        ("cannot-fit", {"found-rate", "published-recipe"}),
    ],
)
def test_a_cause_is_answered_by_what_acts_on_it(rule, first):
    assert first <= given_for(rule).keys()


def test_where_a_probe_has_proven_a_higher_rate_none_lower_is_given():
    assert "lower-rate" in given_for("learning-rate")
    assert "lower-rate" not in given_for("learning-rate", better_lr=10 * STORY.optimizer.lr)


def test_another_rate_alone_is_no_published_package():
    own = recipes.get("scratch-resnet-9").changed({"optimizer.lr": 1e-4})

    assert "published-recipe" not in given_for("learning-rate", own)


def test_too_much_regularization_is_taken_back():
    heavy = STORY.changed(
        {"network.dropout": 0.8, "optimizer.weight_decay": 0.5, "augment.mixup": 1.0, "augment.trivial_augment": 1.0}
    )
    found = given_for("over-regularized", heavy)

    assert found["less-dropout"].changes == {"network.dropout": 0.0}
    assert found["less-decay"].changes == {"optimizer.weight_decay": pytest.approx(0.05)}
    assert found["no-mixtures"].changes["augment.mixup"] == 0
    assert found["weaker-augmentation"].changes == {"augment.trivial_augment": 0.0}
    assert not given_for("over-regularized").keys() & {
        "less-dropout",
        "less-decay",
        "no-mixtures",
        "weaker-augmentation",
    }


def test_a_rate_that_a_probe_has_found_better_is_taken():
    assert given_for("learning-rate", better_lr=0.003)["probed-rate"].changes == {"optimizer.lr": 0.003}
    assert "probed-rate" not in given_for("learning-rate")


def test_a_cause_by_another_name_is_answered_alike():
    improving = given_for("still-improving")

    assert given_for("under-trained").keys() == {
        name for name, one in improving.items() if one.finding != "generalizes"
    }
    assert {"longer", "wider-network", "found-rate"} <= given_for("underfits").keys()


def test_what_a_probe_has_measured_counts_for_more_than_a_paper():
    guessed, measured = given_for("too-small"), given_for("too-small", val_drop=0.12)

    assert measured["wider-network"].gain == pytest.approx(0.12 * 0.8)
    assert guessed["wider-network"].gain == pytest.approx(0.15 * 0.26 * 0.8)


def test_underfitting_whose_cause_is_proven_is_answered_by_the_cause_alone():
    found = prescribe([yes("underfits"), yes("learning-rate")], STORY, CATS_DOGS)

    assert {one.finding for one in found} == {"learning-rate"}


# Changes that must not lie


@pytest.mark.parametrize(
    ("names", "lies"),
    [
        (tuple("0123456789"), True),
        (("turn left", "turn right", "straight"), True),
        (("left_lung", "right_lung"), True),
        (("cat", "dog"), False),
        (("0", "1"), False),
        (("bright", "dark"), False),
    ],
)
def test_names_of_classes_tell_where_a_mirror_lies(names, lies):
    assert names_lie_mirrored(names) is lies


def test_written_figures_are_never_mirrored_and_hardly_turned():
    digits = replace(CATS_DOGS, classes=tuple("0123456789"), image_size=(8, 8), grey=True)
    found = given_for("overfits", facts=digits).values()

    assert all("augment.flip" not in one.changes for one in found)
    assert {one.changes["augment.trivial_augment"] for one in found if "augment.trivial_augment" in one.changes} == {
        0.2
    }
    assert given_for("overfits", facts=digits)["shift"].changes == {"augment.crop_padding": 0.125}


def test_grey_images_of_which_nobody_has_said_more_are_mirrored_in_a_trial_of_its_own_only():
    found = given_for("overfits", facts=replace(CATS_DOGS, grey=True))

    assert [name for name, one in found.items() if "augment.flip" in one.changes] == ["flip"]


def test_what_is_said_of_mirrors_counts_for_more_than_the_names():
    said = replace(CATS_DOGS, classes=tuple("abc"), mirrored=True)

    assert "augmentation" in given_for("overfits", facts=said)
    assert "flip" not in given_for("overfits", facts=replace(CATS_DOGS, mirrored=False))


def test_counts_are_neither_cropped_nor_erased():
    found = given_for(
        "overfits", recipes.get("regression-default").changed({"augment.flip": 0.0}), facts_of("regression")
    )
    keys = {key for one in found.values() for key in one.changes}

    assert not keys & {"augment.crop_scale", "augment.crop_padding", "augment.erase", "augment.cutmix"}
    assert "augment.mixup" in keys


def accept(recipe, task):
    """What refuses a recipe before any image is read: as `workflows/prepare.py` asks it."""
    kind = plugins.tasks.get(task).target
    refuse_what_lies(recipe.augment, kind)
    mixing(recipe.augment, kind=kind, seed=0)
    refuse_average(recipe.optimizer, ema_decay=recipe.ema_decay)
    build_schedule(recipe.schedule)
    weighed = recipe.loss.class_weights is not None
    loss = recipe.loss.model_copy(update={"class_weights": (1.0, 1.0)}) if weighed else recipe.loss
    build_loss(loss, plugins.tasks.get(task).losses)
    assert kind != "boxes" or not recipe.augment.crop_padding
    assert not weighed or kind in ("class", "mask")


@pytest.mark.parametrize(("name", "task"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("filled", [False, True], ids=["as it is", "with a loss and a size"])
def test_every_prescription_for_every_published_recipe_is_one_that_the_task_accepts(name, task, filled):
    recipe = recipes.get(name)
    if filled:
        recipe = recipe.changed({"task": task, "loss.name": FIRST_LOSS[task], "data.image_size": 224})
    found = prescribe([yes(rule) for rule in ANSWERED], recipe, facts_of(task))

    assert len([one for one in found if one.changes]) > 5
    for one in found:
        changed = recipe.changed(one.changes)
        assert (changed != recipe) is bool(one.changes), one.remedy
        accept(changed, task)


@pytest.mark.slow
def test_every_network_that_is_prescribed_can_be_built():
    """For each network all that is put inside of it at once: what has no place is refused one by one all the same."""
    from trainwright.training.model import build_network

    specs = {}
    for name, task in CASES:
        recipe = recipes.get(name)
        found = [one.changes for one in prescribe([yes(rule) for rule in ANSWERED], recipe, facts_of(task))]
        inside = {key: value for one in found for key, value in one.items() if key in INSIDE}
        for other in ({}, *(one for one in found if one.keys() <= {"network.name", "network.backbone"})):
            network = recipe.changed({**inside, **other, "network.weights": "random"}).network
            specs[network.name, network.backbone] = network, plugins.tasks.get(task).form

    assert len(specs) > 12
    for spec, form in specs.values():
        norm = spec.norm.replace("frozen", "batch")
        build_network(spec.model_copy(update={"norm": norm}), form=form, outputs=3, size=(224, 224), seed=0)


@settings(max_examples=12, deadline=None)
@given(
    case=st.sampled_from(CASES),
    rules=st.sets(st.sampled_from(ANSWERED), max_size=4),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "optimizer.name": st.sampled_from(["sgd", "adam", "lion", "schedule-free-adamw", "rprop", "muon"]),
            "schedule.name": st.sampled_from(["constant", "one-cycle", "reduce-on-plateau", "step"]),
            "optimizer.lr": st.sampled_from([None, 1e-3]),
            "epochs": st.integers(1, 100),
            "batch_size": st.sampled_from([1, 16, 64, "auto"]),
            "keep": st.sampled_from(["best", "last"]),
        },
    ),
    score=st.floats(-1.0, 1.0),
    images=st.integers(10, 50_000),
    side=st.sampled_from([8, 32, 300, 2000]),
    device=st.sampled_from(["cpu", "cuda"]),
    at_hand=st.booleans(),
    budget=st.floats(0.5, 1000.0),
    grey=st.booleans(),
)
def test_in_any_circumstances_a_prescription_is_valid_within_the_budget_and_changes_something(
    case, rules, changes, score, images, side, device, at_hand, budget, grey
):
    name, task = case
    recipe = recipes.get(name).changed(changes)
    pretrained = (
        frozenset(n for n in recipes.names() if recipes.page(n).start == "pretrained") if at_hand else frozenset()
    )
    facts = Circumstances(
        task=task,
        train_count=images,
        image_size=(side, side),
        score=score,
        gap=None,
        device=device,
        pretrained=pretrained,
        budget_epochs=budget,
        grey=grey,
    )
    found = prescribe([yes(rule) for rule in sorted(rules)], recipe, facts)

    assert len({one.remedy for one in found}) == len(found)
    for one in found:
        accept(recipe.changed(one.changes), task)
        assert one.gain >= 0
        assert one.cost > 0
        assert not one.changes or training_seconds(one, recipe, facts) <= budget
        assert not one.changes or recipe.changed(one.changes) != recipe


# The package


def test_the_published_recipe_comes_as_one_change_and_leaves_length_and_data_as_they_are():
    (package,) = [one for one in prescribe([yes("overfits")], STORY, CATS_DOGS) if one.remedy == "published-recipe"]
    published, changed = recipes.get("scratch-resnet-9"), STORY.changed(package.changes)

    assert (changed.augment, changed.optimizer, changed.schedule) == (
        published.augment,
        published.optimizer,
        published.schedule,
    )
    assert (changed.epochs, changed.data, changed.seed) == (STORY.epochs, STORY.data, STORY.seed)


def test_a_published_recipe_that_is_trained_already_is_not_prescribed_even_with_its_values_filled_in():
    filled = recipes.get("scratch-resnet-9").changed(
        {
            "task": "classification",
            "loss.name": "cross-entropy",
            "optimizer.betas": [0.9, 0.999],
            "optimizer.eps": 1e-8,
            "schedule.final": 0.0,
            "data.image_size": 32,
        }
    )

    assert "published-recipe" not in given_for("overfits", filled)


def test_what_was_adopted_stays_when_the_package_comes_and_what_did_harm_stays_out():
    adopted = Tried(
        remedy="weight-decay",
        gain=Interval(value=0.02, low=0.01, high=0.03),
        adopted=True,
        changes={"optimizer.weight_decay": 0.1},
    )
    harmful = refused("flip", -0.05, changes={"augment.flip": 0.5})
    found = given_for("overfits", tried=[adopted, harmful])["published-recipe"]

    assert found.changes["augment.crop_padding"] == 0.125
    assert "augment.flip" not in found.changes
    assert not any(key.startswith("optimizer.") or key == "batch_size" for key in found.changes)


def test_pretrained_weights_are_prescribed_where_they_are_at_hand_and_told_where_not():
    at_hand = replace(CATS_DOGS, pretrained=frozenset({"finetune-default"}), budget_epochs=math.inf)
    tuned, told = given_for("overfits", facts=at_hand), given_for("overfits")

    assert tuned["pretrained-weights"].changes["network.weights"] == "pretrained"
    assert "pretrained-weights" not in told
    assert told["fetch-pretrained-weights"].changes == {}


# What it costs


def test_a_network_of_twice_the_channels_costs_four_times_and_longer_costs_its_epochs():
    found = given_for("too-small") | given_for("still-improving")

    assert found["wider-network"].cost == pytest.approx(4, rel=0.05)
    assert training_seconds(found["longer"], STORY, CATS_DOGS) == 2 * 15 * 6.0
    assert training_seconds(found["found-rate"], STORY, CATS_DOGS) == pytest.approx(1.09 * 15 * 6.0)


def test_large_photographs_through_a_large_network_cost_what_their_pixels_and_layers_do():
    """32 pixels of small-resnet: 2 × 9 × 3 × 32² multiply-adds a pixel and a stem, 57 M; ResNet-18 has 1,800 M."""
    assert relative_work(STORY, recipes.get("finetune-default"), (32, 32)) == pytest.approx(1800 / 57.5, rel=0.01)


def test_longer_is_cut_to_the_budget_and_left_out_where_little_is_left():
    cut = given_for("still-improving", facts=replace(CATS_DOGS, budget_epochs=21.0))

    assert cut["longer"].changes == {"epochs": 21}
    assert "longer" not in given_for("still-improving", facts=replace(CATS_DOGS, budget_epochs=16.0))


# Learning from what was tried


def test_what_was_refused_is_not_proposed_again_until_the_findings_are_others():
    overfitting = refused("mixup", findings=frozenset({"overfits"}))

    assert "mixup" not in given_for("overfits", tried=[overfitting])
    assert "mixup" in given_for("noisy-labels", tried=[overfitting])
    assert "mixup" not in given_for("noisy-labels", tried=[refused("mixup")])


def test_what_was_adopted_is_not_proposed_again_unless_it_can_be_taken_further():
    better = STORY.changed({"augment.flip": 0.5, "augment.crop_padding": 0.125, "network.width": 64})

    assert not given_for("overfits", better).keys() & {"augmentation", "flip", "shift"}
    assert given_for("too-small", better)["wider-network"].changes == {"network.width": 128}


def test_a_family_that_disappointed_comes_later_and_one_that_delivered_earlier():
    before = given_for("overfits")
    worse = given_for("overfits", tried=[refused("trivial-augment", -0.05)])
    delivered = Tried(remedy="shift", gain=Interval(value=0.2, low=0.18, high=0.22), adopted=True)
    better = given_for("overfits", tried=[delivered])

    assert worse["mixup"].gain < before["mixup"].gain < better["mixup"].gain
    assert worse["dropout"].gain == before["dropout"].gain == better["dropout"].gain


def test_a_factor_goes_half_of_the_way_where_a_gain_is_as_doubtful_as_what_was_believed():
    """Prior 1 ± 1; a gain of exactly nothing, known without error, has the spread of the remedy's own expectation: ± 1."""
    assert family_factors([refused("mixup", 0.0, arm=0.0)], CATS_DOGS) == {"augmentation": pytest.approx(0.5)}


def test_a_wide_interval_changes_little_and_repeated_harm_does_not_write_a_family_off():
    vague = family_factors([refused("mixup", 0.0, arm=1.0)], CATS_DOGS)["augmentation"]
    harm = family_factors([refused(name, -0.3) for name in ("mixup", "cutmix", "erasing")], CATS_DOGS)["augmentation"]

    assert 0.98 < vague < 1
    assert harm == 0.05


def test_the_gain_of_two_at_once_is_shared_among_their_families():
    both = Tried(remedy="mixup+dropout", gain=Interval(value=0.2, low=0.19, high=0.21), adopted=True)

    assert all(factor > 1 for factor in family_factors([both], CATS_DOGS).values())
    assert family_factors([both], CATS_DOGS).keys() == {"augmentation", "noise"}


def test_a_trial_without_a_figure_teaches_nothing():
    failed = Tried(remedy="mixup", gain=Interval(value=math.nan, low=math.nan, high=math.nan), adopted=False)

    assert family_factors([failed], CATS_DOGS) == {}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_the_order_of_findings_and_trials_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    findings = [yes(rule) for rule in ("overfits", "over-confident", "still-improving")]
    tried = [refused("mixup"), refused("dropout", -0.01), refused("cutmix", 0.01)]
    one = prescribe(findings, STORY, CATS_DOGS, tried)
    other = prescribe(list(rng.permutation(findings)), STORY, CATS_DOGS, list(rng.permutation(tried)))

    assert [found.remedy for found in one] == [found.remedy for found in other]


# Two in one


def test_two_remedies_are_combined_into_one_with_less_than_both_gains():
    found = given_for("overfits")
    first, second = found["augmentation"], found["mixup"]
    both = combine(first, second)

    assert both.remedy == "augmentation+mixup"
    assert both.changes == {**first.changes, **second.changes}
    assert max(first.gain, second.gain) < both.gain < first.gain + second.gain
    assert both.cost == first.cost * second.cost


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("weight-decay", "adamw"),
        ("augmentation", "augmentation"),
        ("mixup", "more-images"),
        ("cosine-schedule", "one-cycle"),
    ],
)
def test_what_contradicts_is_not_combined(one, other):
    found = given_for("still-improving") | given_for("overfits")

    assert combine(found[one], found[other]) is None


def test_two_kinds_of_crop_are_not_combined():
    padded = given_for("overfits")["shift"]
    zoomed = replace(padded, remedy="zoom", changes={"augment.crop_scale": [0.35, 1.0]})

    assert combine(padded, zoomed) is None


@pytest.mark.parametrize(("name", "task"), CASES[::3], ids=lambda value: str(value))
def test_what_can_be_combined_makes_a_valid_recipe(name, task):
    recipe = recipes.get(name)
    found = prescribe([yes(rule) for rule in ANSWERED], recipe, facts_of(task))
    pairs = [combine(one, other) for i, one in enumerate(found) for other in found[:i]]

    assert sum(pair is not None for pair in pairs) > 10
    for pair in pairs:
        if pair is not None:
            accept(recipe.changed(pair.changes), task)


# The table of remedies


def test_the_losses_that_remedies_take_for_granted_are_those_of_the_tasks():
    assert {task: plugins.tasks.get(task).losses[0] for task in FIRST_LOSS} == FIRST_LOSS


def test_names_are_not_given_twice_and_figures_are_shares():
    assert len(BY_NAME) == len(REMEDIES)
    assert all(0 <= remedy.share <= 0.5 for remedy in REMEDIES)
    assert all(0 < chance <= 1 for remedy in REMEDIES for chance in remedy.answers.values())


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)
def test_a_remedy_says_where_it_and_its_figure_are_from(remedy):
    assert any(character.isdigit() for character in remedy.source) or "trainwright recipes" in remedy.source
    assert remedy.origin.startswith(("ours:", "a third, ours")) or "arXiv:" in remedy.origin or "JMLR" in remedy.origin


def test_a_custom_network_is_left_as_it_is():
    own = STORY.changed({"network.name": "custom"})
    found = prescribe([yes(rule) for rule in ANSWERED], own, CATS_DOGS)

    assert not [one.remedy for one in found if any(key.startswith("network.") for key in one.changes)]


DOCUMENT = (Path(__file__).parents[2] / "docs" / "prescriptions.md").read_text(encoding="utf-8")
TABLE = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]


def row(remedy):
    answers = ", ".join(f"{rule} {chance:g}" for rule, chance in remedy.answers.items())
    cells = (
        f"`{remedy.name}`",
        remedy.family,
        remedy.effect,
        answers,
        f"{remedy.share:g}",
        remedy.origin,
        remedy.source,
    )
    return f"| {' | '.join(cells)} |"


def test_the_document_has_a_row_for_each_remedy_as_it_is():
    assert [row(remedy) for remedy in REMEDIES] == TABLE


def test_the_document_has_the_constants_of_the_program():
    assert f"at most {prescriptions.RANGE_TEST:.0%}".replace("%", " %") in DOCUMENT
    assert f"no factor falls below {prescriptions.LEAST_FACTOR}" in DOCUMENT
    assert prescriptions.RANGE_TEST == lr_range.SHARE
