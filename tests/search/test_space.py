"""A space: what it takes, where things lie in the unit cube, and what is refused when it is defined."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.errors import UsageError
from trainwright.search.domains import Choice, FloatRange, IntRange, Prior
from trainwright.search.space import Dimension, Space
from trainwright.seeding import stream

ADAM_OR_SGD = Dimension(key="optimizer", domain=Choice(values=("adam", "sgd")))
LR_OF_ADAM = Dimension(key="lr", domain=FloatRange(low=1e-5, high=1e-1, log=True), when={"optimizer": "adam"})
LR_OF_SGD = Dimension(key="lr", domain=FloatRange(low=1e-3, high=10, log=True), when={"optimizer": "sgd"})
MOMENTUM = Dimension(key="momentum", domain=FloatRange(low=0, high=1), when={"optimizer": "sgd"})
BLOCKS = Dimension(key="blocks", domain=IntRange(low=1, high=4))
SPACE = Space(dimensions=(ADAM_OR_SGD, LR_OF_ADAM, LR_OF_SGD, MOMENTUM, BLOCKS), fixed={"warmup": 0.1})
CUBE = st.lists(st.floats(0, 1), min_size=5, max_size=5)


# Domains


def test_a_log_scale_has_its_decades_evenly():
    lr = FloatRange(low=1e-4, high=1e-2, log=True)

    assert [lr.value_at(place) for place in (0, 0.5, 1)] == [1e-4, 1e-3, 1e-2]
    assert lr.place_of(1e-3) == pytest.approx(0.5)


def test_each_whole_number_has_an_even_share_of_a_linear_scale():
    blocks = IntRange(low=1, high=4)

    assert [blocks.value_at((i + 0.5) / 100) for i in range(100)] == [1] * 25 + [2] * 25 + [3] * 25 + [4] * 25


def test_numbers_that_are_proposed_have_six_digits():
    assert FloatRange(low=0, high=1).value_at(1 / 3) == 0.333333


def test_true_is_not_the_choice_1_and_a_list_is_the_choice_that_a_tuple_is():
    choice = Choice(values=(1, [0.9, 0.99], None))

    assert choice.contains(True) is False
    assert choice.contains((0.9, 0.99))
    assert choice.contains([0.9, 0.99])


def test_a_grid_has_both_ends_and_even_steps():
    assert FloatRange(low=1e-3, high=1e-1, log=True).grid(3) == (1e-3, 1e-2, 1e-1)
    assert IntRange(low=1, high=9).grid(3) == (1, 5, 9)
    assert IntRange(low=1, high=2).grid(5) == (1, 2)
    assert FloatRange(low=0, high=1).grid(1) == (0.5,)


def test_a_prior_draws_values_around_its_centre_in_decades():
    lr = FloatRange(low=1e-6, high=1, log=True, prior=Prior(centre=1e-3, width=0.5))

    decades = np.log10([lr.value_at(lr.warp((i + 0.5) / 999)) for i in range(999)])

    assert decades.mean() == pytest.approx(-3, abs=0.01)
    assert decades.std() == pytest.approx(0.5, abs=0.01)


def test_a_prior_of_choices_gives_the_others_its_width():
    name = Choice(values=("a", "b", "c"), prior=Prior(centre="b", width=0.2))

    drawn = [name.value_at(name.warp((i + 0.5) / 100)) for i in range(100)]

    assert [drawn.count(value) for value in "abc"] == [10, 80, 10]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FloatRange(low=1, high=1), "expected low < high, got 1 and 1; one value alone is fixed, not searched"),
        (
            lambda: FloatRange(low=0, high=1, log=True),
            "a log scale begins at more than 0, got low 0; the smallest value that makes a difference will do",
        ),
        (
            lambda: IntRange(low=0, high=8, log=True),
            "a log scale begins at 1 or more, got low 0; the smallest value that makes a difference will do",
        ),
        (lambda: IntRange(low=1, high=2.5), "expected whole numbers for low and high, got 1 and 2.5"),
        (lambda: Choice(values=("a", "a")), "expected two or more different choices, got ['a', 'a']"),
        (
            lambda: FloatRange(low=0, high=1, prior=Prior(centre=2, width=1)),
            "the prior's centre 2 lies outside of 0 to 1",
        ),
    ],
)
def test_a_domain_that_cannot_be_says_why(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


# The unit cube


@given(CUBE)
def test_every_point_of_the_cube_is_a_proposal_and_goes_there_and_back(places):
    values = SPACE.from_cube(places)

    assert SPACE.why_not(values) is None
    assert SPACE.from_cube(np.nan_to_num(SPACE.to_cube(values), nan=0.5)) == values


def test_what_is_not_there_has_no_place():
    places = SPACE.to_cube({"optimizer": "adam", "lr": 1e-3, "blocks": 1})

    assert np.isnan(places).tolist() == [False, False, True, True, False]
    assert places[[0, 1, 4]] == pytest.approx([0.25, 0.5, 0.125])


def test_the_lr_of_one_optimizer_is_another_dimension_than_that_of_the_other():
    assert SPACE.names == ("optimizer", "lr[optimizer=adam]", "lr[optimizer=sgd]", "momentum", "blocks")
    assert SPACE.why_not({"optimizer": "adam", "lr": 5.0, "blocks": 1, "warmup": 0.1}) == (
        "lr: 5.0 is not 1e-05 to 0.1, log scale."
    )
    assert SPACE.contains({"optimizer": "sgd", "lr": 5.0, "momentum": 0.9, "blocks": 1, "warmup": 0.1})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"optimizer": "adam", "lr": 1e-3}, "blocks: no value is given."),
        (
            {"optimizer": "adam", "lr": 1e-3, "momentum": 0.9, "blocks": 1},
            "momentum: not searched under these conditions.",
        ),
        ({"optimizer": "adam", "lr": 1e-3, "blocks": 1, "epochs": 3}, "epochs: not searched here."),
        ({"optimizer": "adam", "lr": 1e-3, "blocks": 2.5}, "blocks: 2.5 is not 1 to 4."),
    ],
)
def test_what_is_no_proposal_is_told_why(values, why):
    assert SPACE.why_not({**values, "warmup": 0.1}) == why


def test_incomplete_values_are_completed_with_the_default_and_pulled_into_the_box():
    space = Space(dimensions=SPACE.dimensions, default={"optimizer": "sgd", "lr": 50.0})

    assert space.completed({"blocks": 9}) == {"optimizer": "sgd", "lr": 10.0, "momentum": 0.5, "blocks": 4}


# Draws


def test_draws_by_the_prior_lie_nearer_to_its_centre_than_even_ones():
    space = Space(
        dimensions=(Dimension(key="a", domain=FloatRange(low=0, high=1, prior=Prior(centre=0.2, width=0.05))),)
    )

    even = [space.sample(stream(0, i))["a"] for i in range(200)]
    by_prior = [space.sample(stream(0, i), prior=True)["a"] for i in range(200)]

    assert np.std(by_prior) < 0.07 < 0.25 < np.std(even)


def test_refused_combinations_are_drawn_again():
    space = Space(dimensions=SPACE.dimensions, refuses=lambda values: "too deep" if values["blocks"] > 1 else None)

    assert {space.sample(stream(0, i))["blocks"] for i in range(50)} == {1}


def test_a_space_that_refuses_all_that_is_drawn_says_so():
    space = Space(dimensions=SPACE.dimensions, refuses=lambda values: "blocks: too deep.")

    with pytest.raises(UsageError) as caught:
        space.sample(stream(0))

    assert str(caught.value) == (
        "space: 1000 combinations by chance were refused, the last one: blocks: too deep. Narrow the ranges, or say under "
        "which conditions they hold ('when')."
    )


def test_neighbours_differ_in_one_thing_and_in_what_depends_on_it():
    here = {"optimizer": "adam", "lr": 1e-3, "blocks": 2, "warmup": 0.1}

    near = SPACE.neighbours(here, stream(0), count=100)

    assert all(SPACE.contains(values) for values in near)
    assert {values["blocks"] for values in near if values["optimizer"] == "sgd"} == {2}
    changed = [
        {key for key in here if values.get(key) != here[key]} for values in near if values["optimizer"] == "adam"
    ]
    assert {frozenset(keys) for keys in changed} <= {frozenset(), frozenset({"lr"}), frozenset({"blocks"})}


# Counting and grids


def test_a_grid_of_conditions_has_no_combination_that_is_not_there():
    found = list(Space(dimensions=(ADAM_OR_SGD, LR_OF_ADAM, LR_OF_SGD, MOMENTUM)).grid(3))

    assert len(found) == 3 + 3 * 3
    assert all(("momentum" in values) == (values["optimizer"] == "sgd") for values in found)


def test_a_dimension_may_have_points_of_its_own():
    wide = Dimension(key="lr", domain=FloatRange(low=0, high=1), points=4)

    assert [values["lr"] for values in Space(dimensions=(wide,)).grid(2)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1], abs=1e-6
    )


def test_the_size_counts_what_is_there_under_each_condition():
    heads = Dimension(key="heads", domain=Choice(values=(1, 2, 4)), when={"optimizer": "sgd"})

    assert Space(dimensions=(ADAM_OR_SGD, heads, BLOCKS)).size == (1 + 3) * 4
    assert SPACE.size == float("inf")


def test_values_near_an_end_of_their_scale_are_pointed_out():
    values = {"optimizer": "sgd", "lr": 9.0, "momentum": 0.01, "blocks": 2, "warmup": 0.1}

    assert SPACE.edges(values) == {"lr[optimizer=sgd]": "high", "momentum": "low"}


# What is refused when it is defined


@pytest.mark.parametrize(
    ("dimensions", "more", "message"),
    [
        (
            [Dimension(key="momentum", domain=FloatRange(low=0, high=1), when={"optimiser": "sgd"}), ADAM_OR_SGD],
            {},
            "space: momentum: 'when' names 'optimiser', which is neither searched nor fixed here. "
            "Did you mean 'optimizer'?",
        ),
        (
            [MOMENTUM],
            {"around": {"optimizer": "adam"}},
            "space: momentum: never searched: optimizer is 'adam' here, not 'sgd'. Leave it out, or search optimizer.",
        ),
        (
            [ADAM_OR_SGD, Dimension(key="momentum", domain=FloatRange(low=0, high=1), when={"optimizer": "lion"})],
            {},
            "space: momentum: 'when' asks for optimizer 'lion', which it never is.",
        ),
        (
            [ADAM_OR_SGD, LR_OF_ADAM, Dimension(key="lr", domain=FloatRange(low=0, high=1))],
            {},
            "space: lr: there twice at once; 'when' has to exclude one where the other is.",
        ),
        ([BLOCKS], {"fixed": {"blocks": 2}}, "space: blocks: fixed, and searched as well."),
        (
            [
                Dimension(key="a", domain=Choice(values=(0, 1)), when={"b": 0}),
                Dimension(key="b", domain=Choice(values=(0, 1)), when={"a": 0}),
            ],
            {},
            "space: conditions go in a circle: a, b.",
        ),
    ],
)
def test_a_space_that_cannot_be_says_why(dimensions, more, message):
    with pytest.raises(UsageError) as caught:
        Space(dimensions=tuple(dimensions), **more)

    assert str(caught.value) == message


def test_what_others_depend_on_comes_first():
    space = Space(dimensions=(MOMENTUM, LR_OF_SGD, ADAM_OR_SGD))

    assert space.names == ("optimizer", "momentum", "lr")


def test_a_condition_that_always_holds_is_no_condition():
    space = Space(dimensions=(MOMENTUM,), around={"optimizer": "sgd"})

    assert space.contains({"momentum": 0.5})
