"""A recipe survives YAML, refuses what it does not know, and says what was meant."""

import time
from types import UnionType
from typing import Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainwright.errors import RecipeError
from trainwright.recipe import (
    UNIONS,
    AugmentSpec,
    Recipe,
    Spec,
    load_recipe,
    parse_recipe,
    recipe_keys,
)
from trainwright.yaml_text import load_yaml, parse_assignments

fractions = st.floats(0, 1, exclude_max=True)
positive = st.floats(0, exclude_min=True, allow_infinity=False)
sides = st.integers(4, 4096)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
recipes = st.builds(
    Recipe,
    title=words,
    task=st.none() | words,
    data=st.fixed_dictionaries({"image_size": st.none() | sides | st.tuples(sides, sides)}),
    augment=st.one_of(
        st.builds(AugmentSpec, flip=fractions, crop_padding=fractions),
        st.builds(AugmentSpec, crop_scale=st.tuples(st.floats(1e-6, 0.5), st.floats(0.5, 1))),
    ),
    optimizer=st.fixed_dictionaries(
        {"name": words, "lr": positive, "betas": st.tuples(fractions, fractions), "nesterov": st.booleans()}
    ),
    loss=st.fixed_dictionaries({"name": st.none() | words, "label_smoothing": fractions, "delta": positive}),
    epochs=st.integers(1, 10**9),
    clip_norm=st.none() | positive,
    ema_decay=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    channels_last=st.none() | st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)


def sections() -> list[type[Spec]]:
    return [Recipe, *(section for section in recipe_keys().values() if section is not None)]


@given(recipes)
def test_yaml_brings_back_an_equal_recipe(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8", newline="")

    assert load_recipe(path) == recipe


def test_yaml_has_every_key_in_the_order_of_the_class():
    keys = [line.split(":")[0] for line in Recipe().to_yaml().splitlines() if not line.startswith((" ", "-"))]

    assert keys == list(Recipe.model_fields)


@pytest.mark.parametrize("spec", sections(), ids=lambda spec: spec.__name__)
def test_every_section_is_frozen_and_refuses_unknown_keys_and_infinity(spec):
    assert spec.model_config["frozen"]
    assert spec.model_config["extra"] == "forbid"
    assert spec.model_config["allow_inf_nan"] is False


def test_a_value_cannot_be_assigned():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().optimizer.lr = 1.0


def test_recipe_keys_name_every_value_and_every_section():
    keys = recipe_keys()

    assert keys["optimizer.lr"] is None
    assert keys["epochs"] is None
    assert keys["augment"] is AugmentSpec


# How large images are


@pytest.mark.parametrize(("given", "size"), [(64, (64, 64)), ([48, 64], (48, 64))])
def test_an_image_size_is_a_side_or_height_and_width(given, size):
    assert Recipe().changed({"data.image_size": given}).data.size == size


def test_an_image_size_is_given_on_the_command_line_as_height_and_width():
    assert Recipe().changed(parse_assignments(["data.image_size=[48, 64]"])).data.size == (48, 64)


@pytest.mark.parametrize("given", [3, 4097, [48], [48, 64, 3], [48, 2], 0.5])
def test_an_image_size_of_another_shape_is_refused(given):
    with pytest.raises(RecipeError, match=r"^recipe: data\.image_size"):
        Recipe().changed({"data.image_size": given})


# What `changed` does


def test_changed_replaces_values_and_leaves_the_others_and_the_original():
    before = Recipe(epochs=7)

    after = before.changed({"optimizer.lr": 0.5, "augment.crop_scale": [0.3, 1], "batch_size": 50})

    assert (after.optimizer.lr, after.augment.crop_scale, after.batch_size, after.epochs) == (0.5, (0.3, 1.0), 50, 7)
    assert before == Recipe(epochs=7)


def test_changed_by_nothing_is_the_same_recipe():
    assert Recipe().changed({}) == Recipe()


def test_changed_validates_values():
    with pytest.raises(RecipeError) as caught:
        Recipe().changed({"optimizer.lr": -1, "epochs": "many"})

    assert str(caught.value) == (
        "recipe: optimizer.lr: Input should be greater than 0, got -1. "
        "epochs: Input should be a valid integer, unable to parse string as an integer, got 'many'."
    )


def test_changed_validates_what_belongs_together():
    with pytest.raises(RecipeError) as caught:
        Recipe().changed({"augment.crop_scale": [0.3, 1], "augment.crop_padding": 0.125})

    assert str(caught.value) == (
        "recipe: augment: crop_scale and crop_padding are two kinds of random crop: set one of them to null or 0."
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_changed_refuses_numbers_that_are_not_finite(number):
    with pytest.raises(RecipeError, match=r"^recipe: optimizer\.weight_decay: Input should be a finite number"):
        Recipe().changed({"optimizer.weight_decay": number})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optimizer.lrr", "optimizer.lr"),
        ("epoch", "epochs"),
        ("optimiser.name", "optimizer.name"),
        ("lr", "optimizer.lr"),
        ("dropout", "network.dropout"),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(given, meant):
    with pytest.raises(RecipeError) as caught:
        Recipe().changed({given: 1})

    assert str(caught.value).startswith(
        f"{given}: no such key. Did you mean {meant!r}? Known keys: title, task, data.image_size, "
    )


def test_every_unknown_key_is_named_at_once():
    with pytest.raises(RecipeError) as caught:
        Recipe().changed({"epoch": 1, "batchsize": 2})

    assert "epoch: no such key." in str(caught.value)
    assert "batchsize: no such key. Did you mean 'batch_size'?" in str(caught.value)


def test_a_section_is_not_a_value():
    with pytest.raises(RecipeError) as caught:
        Recipe().changed({"loss": 1})

    assert (
        str(caught.value)
        == "loss is a section: set one of loss.name, loss.label_smoothing, loss.class_weights, loss.gamma, loss.delta, "
        "loss.dice_weight, loss.tversky."
    )


# What is read from files


def write(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_needs_to_say_only_what_differs(tmp_path):
    recipe = load_recipe(write(tmp_path, "epochs: 3\noptimizer:\n  lr: 1e-3\n"))

    assert recipe == Recipe(epochs=3).changed({"optimizer.lr": 0.001})


def test_an_unknown_key_in_a_file_is_answered_with_the_one_that_was_meant(tmp_path):
    path = write(tmp_path, "optimizer:\n  learning_rate: 1\n  weight_dekay: 1\n")

    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    assert str(caught.value).startswith(f"{path}: optimizer.learning_rate: no such key. ")
    assert "optimizer.weight_dekay: no such key. Did you mean 'optimizer.weight_decay'?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys and values, got NoneType. Write for example 'epochs: 20'."),
        ("- 1\n", "expected keys and values, got list. Write for example 'epochs: 20'."),
        ("1: 2\n", "1: Keys should be strings, got 1."),
        ("loss: hinge\n", "loss: Input should be a valid dictionary or instance of LossSpec, got 'hinge'."),
    ],
)
def test_what_is_yaml_but_no_recipe_is_refused(tmp_path, text, message):
    path = write(tmp_path, text)

    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    "text",
    [
        "a: [1\n",
        "epochs: 1\nepochs: 2\n",
        "a: 2026-02-30\n",
        "[" * 10_000,
        "--- 1\n--- 2\n",
        "!!python/object/apply:os.getcwd []\n",
        "a: \x00\n",
    ],
    ids=["unclosed", "duplicate key", "no such date", "deep", "two documents", "a call", "control character"],
)
def test_what_is_not_yaml_is_refused(tmp_path, text):
    path = write(tmp_path, text)

    with pytest.raises(RecipeError, match=r"not YAML: .* See 'trainwright recipes show' for one that is\.") as caught:
        load_yaml(path)

    assert caught.value.where == str(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\xff")

    with pytest.raises(RecipeError, match="not YAML: 'utf-8' codec"):
        load_yaml(tmp_path / "recipe.yaml")


def test_a_large_file_is_refused_unread(tmp_path):
    path = write(tmp_path, "#" * 1_000_001)

    with pytest.raises(RecipeError) as caught:
        load_yaml(path)

    assert str(caught.value) == f"{path}: larger than 1,000,000 bytes. A recipe is a page of text."


@pytest.mark.parametrize(("name", "reason"), [("absent.yaml", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_said_so(tmp_path, name, reason):
    with pytest.raises(RecipeError) as caught:
        load_yaml(tmp_path / name)

    assert str(caught.value) == f"{tmp_path / name}: cannot be read ({reason}). Check the path."


def test_a_page_that_unfolds_to_gigabytes_is_refused_in_a_line(tmp_path):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = write(tmp_path, "\n".join(["a0: &a0 [lol]", *levels, "title: *a11"]))
    start = time.monotonic()

    with pytest.raises(RecipeError, match="title: Input should be a valid string, got ") as caught:
        load_recipe(path)

    assert len(str(caught.value)) < 20_000
    assert time.monotonic() - start < 5


# What --set takes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("adamw", "adamw"),
        ("[0.3, 1]", [0.3, 1]),
        ('"3"', "3"),
        ("a=b", "a=b"),
        ("last-2", "last-2"),
    ],
)
def test_values_are_read_as_yaml_scalars(text, value):
    (key, got), *others = parse_assignments([f"some.key={text}"]).items()

    assert (key, got, type(got), others) == ("some.key", value, type(value), [])


@pytest.mark.parametrize("text", ["optimizer.lr=", "optimizer.lr= "])
def test_nothing_behind_the_equals_sign_is_refused(text):
    with pytest.raises(RecipeError) as caught:
        parse_assignments([text])

    assert str(caught.value) == f"--set: nothing is given after {text!r}. A value, or optimizer.lr=null."


def test_the_last_assignment_of_a_key_counts():
    assert parse_assignments(["epochs=1", " epochs = 2"]) == {"epochs": 2}


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_an_assignment_has_a_key_and_an_equals_sign(text):
    with pytest.raises(RecipeError) as caught:
        parse_assignments([text])

    assert str(caught.value) == f"--set: expected KEY=VALUE, got {text!r}. For example --set optimizer.lr=1e-3."


def test_what_set_gives_a_recipe_takes():
    changes = parse_assignments(["optimizer.betas=[0.9, 0.95]", "clip_norm=1", "task=null", "network.trainable=last-2"])

    recipe = Recipe().changed(changes)

    assert (recipe.optimizer.betas, recipe.clip_norm, recipe.network.trainable) == ((0.9, 0.95), 1.0, "last-2")


def test_problems_of_a_tree_are_told_with_their_place():
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"network": {"trainable": "some", "width": 12}}, where="story")

    assert str(caught.value) == (
        "story: network.width: Input should be a multiple of 8, got 12. "
        "network.trainable: String should match pattern '^(all|head|last-[1-9]\\d*)$', got 'some'."
    )


# Values of several kinds


def unions(spec, prefix=""):
    """The dotted keys of values that may be of several kinds; null is not counted as one."""
    for name, info in spec.model_fields.items():
        kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)]
        if isinstance(info.annotation, type) and issubclass(info.annotation, Spec):
            yield from unions(info.annotation, f"{prefix}{name}.")
        elif get_origin(info.annotation) in (Union, UnionType) and len(kinds) > 1:
            yield prefix + name


def test_of_every_value_of_several_kinds_it_is_known_what_is_expected():
    assert sorted(UNIONS) == sorted(unions(Recipe))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number above 0, or auto, got 0."),
        ({"batch_size": "many"}, "batch_size: expected a whole number above 0, or auto, got 'many'."),
        (
            {"data.image_size": [48, 2]},
            "data.image_size: expected a side of 4 to 4096 pixels, or [height, width], or null, got [48, 2].",
        ),
        (
            {"loss.class_weights": [1, 0]},
            "loss.class_weights: expected balanced, or a number above 0 for each class, or null, got [1, 0].",
        ),
        (
            {"batch_size": 0, "epochs": 0},
            "epochs: Input should be greater than 0, got 0. batch_size: expected a whole number above 0, or auto, got 0.",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_of_several_kinds_is_answered_in_one_sentence(changes, text):
    with pytest.raises(RecipeError) as caught:
        Recipe().changed(changes)

    assert str(caught.value) == f"recipe: {text}"
