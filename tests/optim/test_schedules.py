"""Schedules say what their papers say, at the points where that can be worked out by hand, and nothing beyond their bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright import plugins
from trainwright.errors import RecipeError
from trainwright.optim.schedules import build_schedule, momentum_of, published_constants
from trainwright.recipe import Recipe, ScheduleSpec

NAMES = plugins.schedules.names()
FROM_THE_PEAK = {"constant", "step", "exponential", "polynomial", "cosine", "cosine-restarts", "warmup-stable-decay"}
CONTINUOUS = sorted(set(NAMES) - {"step", "cosine-restarts", "reduce-on-plateau"})
UNIT = st.floats(0, 1)
PARTS = st.floats(0.01, 0.95)
SPECS = {
    "warmup": st.sampled_from([0.0, 0.05, 0.3]) | PARTS,
    "final": st.none() | st.floats(1e-6, 1),
    "low": st.none() | st.floats(0, 0.999),
    "cycles": st.none() | st.integers(1, 9),
    "growth": st.floats(1, 3),
    "rise": PARTS,
    "cooldown": st.floats(0.01, 1),
    "decay": PARTS,
    "power": st.floats(0.5, 5),
    "milestones": st.sets(st.floats(0.001, 0.999), min_size=1, max_size=4).map(lambda some: tuple(sorted(some))),
}


def specs(names: list[str]) -> st.SearchStrategy[ScheduleSpec]:
    return st.builds(ScheduleSpec, name=st.sampled_from(names), **SPECS)


def factors(points: list[float], **constants: object) -> list[float]:
    schedule = build_schedule(ScheduleSpec(**constants))
    return [schedule(point) for point in points]


# Whatever the constants


@given(spec=specs(NAMES), progress=UNIT)
def test_a_factor_lies_between_0_and_1(spec, progress):
    assert 0 <= build_schedule(spec)(progress) <= 1


@given(spec=specs(CONTINUOUS), progress=UNIT)
def test_all_but_steps_and_restarts_are_continuous(spec, progress):
    """A millionth of a millionth later lr is another by less than a ten-thousandth of the peak: roots are the steepest."""
    schedule = build_schedule(spec)

    assert schedule(min(1.0, progress + 1e-12)) == pytest.approx(schedule(progress), abs=1e-4)


@given(spec=specs(sorted(FROM_THE_PEAK)))
def test_schedules_that_begin_at_the_peak_are_there_once_warmed_up(spec):
    assert build_schedule(spec)(spec.warmup) == 1


@given(spec=specs(["triangular", "triangular2"]))
def test_the_first_cycle_goes_from_its_lower_bound_to_the_peak(spec):
    schedule = build_schedule(spec.model_copy(update={"warmup": 0.0}))
    filled = spec.model_copy(update=published_constants(spec))

    assert schedule(0.0) == filled.low
    assert schedule(0.5 / filled.cycles) == pytest.approx(1, abs=1e-12)


@given(spec=specs(["one-cycle"]))
def test_one_cycle_meets_its_start_its_peak_and_its_end(spec):
    schedule = build_schedule(spec.model_copy(update={"warmup": 0.0}))
    filled = spec.model_copy(update=published_constants(spec))

    assert (schedule(0.0), schedule(spec.rise)) == (filled.low, 1)
    assert schedule(1.0) == pytest.approx(filled.final, abs=1e-12)


@given(spec=specs(["cosine", "polynomial", "exponential", "cosine-restarts", "warmup-stable-decay", "one-cycle"]))
def test_schedules_with_an_end_get_there(spec):
    filled = spec.model_copy(update=published_constants(spec))

    assert build_schedule(spec)(1.0) == pytest.approx(filled.final, abs=1e-9)


@given(spec=specs(["triangular", "triangular2"]))
def test_cycles_end_at_their_lower_bound(spec):
    filled = spec.model_copy(update=published_constants(spec))

    assert build_schedule(spec)(1.0) == pytest.approx(filled.low, abs=1e-9)


@given(spec=specs(["step", "exponential", "polynomial", "cosine", "warmup-stable-decay"]), one=UNIT, other=UNIT)
def test_decay_never_rises(spec, one, other):
    schedule = build_schedule(spec.model_copy(update={"warmup": 0.0}))

    assert schedule(max(one, other)) <= schedule(min(one, other)) + 1e-12


@given(spec=specs(NAMES), part=st.floats(0, 0.999))
def test_any_warm_up_rises_linearly_to_where_the_schedule_begins(spec, part):
    spec = spec.model_copy(update={"warmup": 0.25})
    begins = build_schedule(spec.model_copy(update={"warmup": 0.0}))(0.0)

    assert build_schedule(spec)(0.25 * part) == pytest.approx(part * begins)


# What each is


def test_step_falls_to_a_tenth_at_a_half_and_at_three_quarters():
    """He et al., arXiv:1512.03385 §4.2: at 32k and 48k of 64k iterations."""
    assert factors([0, 0.499, 0.5, 0.749, 0.75, 1], name="step") == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_milestone_is_met_on_its_step_behind_a_warm_up_too():
    """0.6 of a training with a warm-up of 0.2 is half of what is left, and in floats a little less."""
    assert (0.6 - 0.2) / 0.8 < 0.5
    assert factors([0.6], name="step", warmup=0.2, milestones=(0.5,)) == [0.1]


def test_exponential_loses_the_same_factor_in_equal_parts():
    assert factors([0, 0.25, 0.5, 1], name="exponential", final=0.0001) == pytest.approx([1, 0.1, 0.01, 0.0001])


def test_polynomial_of_power_1_is_a_line_and_of_power_2_a_parabola():
    assert factors([0, 0.5, 1], name="polynomial", power=1, final=0.2) == pytest.approx([1, 0.6, 0.2])
    assert factors([0, 0.5, 1], name="polynomial", power=2) == pytest.approx([1, 0.25, 0])


def test_polynomial_has_the_published_power():
    assert factors([0.5], name="polynomial") == pytest.approx([0.5**0.9])


def test_warmup_stable_decay_cools_down_in_the_last_fifth_as_one_minus_a_root():
    """A quarter of the cooldown is half of the way: 1 − √¼."""
    points = [0, 0.5, 0.8, 0.85, 0.912, 1]

    assert factors(points, name="warmup-stable-decay") == pytest.approx([1, 1, 1, 0.5, 1 - math.sqrt(0.56), 0])


def test_one_cycle_is_half_way_where_its_cosines_are():
    """From 0.2 to 1 in the first half, then to 0: in the middle of each, the mean of its ends."""
    points = [0, 0.25, 0.5, 0.75, 1]

    assert factors(points, name="one-cycle", low=0.2, final=0, rise=0.5) == pytest.approx([0.2, 0.6, 1, 0.5, 0])


def test_triangular_goes_up_and_down_in_straight_lines():
    points = [0, 0.125, 0.25, 0.375, 0.5, 0.75, 1]

    assert factors(points, name="triangular", cycles=2, low=0.5) == pytest.approx([0.5, 0.75, 1, 0.75, 0.5, 1, 0.5])


def test_triangular2_has_half_the_height_after_each_cycle():
    points = [1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1]

    assert factors(points, name="triangular2", cycles=3, low=0.2) == pytest.approx([1, 0.2, 0.6, 0.2, 0.4, 0.2])


def test_both_bounds_of_an_exponential_range_fall_by_the_same_factor():
    """Smith, arXiv:1506.01186 §3.1: to a sixteenth in two cycles is to a half in each half of one."""
    points = [0, 0.25, 0.5, 0.75, 1]

    assert factors(points, name="exponential-range", cycles=2, low=0.4, final=1 / 16) == pytest.approx(
        [0.4, 1 / 2, 0.4 / 4, 1 / 8, 0.4 / 16]
    )


def test_cycles_of_restarts_grow_and_each_begins_at_the_peak():
    """Cycles of 1, 2 and 4 sevenths, in whose middle lr is half-way."""
    points = [0, 0.5 / 7, 0.999999 / 7, 1 / 7, 2 / 7, 3 / 7, 5 / 7, 1]

    assert factors(points, name="cosine-restarts", cycles=3, growth=2) == pytest.approx(
        [1, 0.5, 0, 1, 0.5, 1, 0.5, 0], abs=1e-9
    )


def test_restarts_without_growth_are_evenly_spread():
    assert factors([0, 1 / 3, 2 / 3], name="cosine-restarts", cycles=3, growth=1) == [1, 1, 1]


def test_a_restart_is_on_its_step_behind_a_warm_up_too():
    assert factors([0.6], name="cosine-restarts", warmup=0.2, cycles=2, growth=1) == [1]


# Momentum


def test_momentum_goes_against_lr_in_one_cycle():
    momentum = momentum_of(ScheduleSpec(name="one-cycle", rise=0.5, momentum=(0.85, 0.95)))

    assert momentum is not None
    assert [momentum(p) for p in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.95, 0.9, 0.85, 0.9, 0.95])


def test_momentum_stays_at_the_ends_value_while_lr_warms_up():
    momentum = momentum_of(ScheduleSpec(name="one-cycle", rise=0.5, warmup=0.2, momentum=(0.5, 0.9)))

    assert momentum is not None
    assert [momentum(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0.9, 0.9, 0.9, 0.5, 0.9])


def test_one_cycle_without_a_momentum_moves_none():
    assert momentum_of(ScheduleSpec(name="one-cycle", rise=0.5)) is None


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"one-cycle"}))
def test_no_other_schedule_moves_momentum(name):
    assert momentum_of(ScheduleSpec(name=name, momentum=(0.8, 0.9))) is None


# Published constants


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {}),
        ("step", {}),
        ("exponential", {"final": 0.01}),
        ("polynomial", {"final": 0.0}),
        ("cosine", {"final": 0.0}),
        ("cosine-restarts", {"cycles": 4, "final": 0.0}),
        ("one-cycle", {"low": 0.04, "final": pytest.approx(4e-6), "momentum": (0.85, 0.95)}),
        ("triangular", {"low": 0.25, "cycles": 4}),
        ("triangular2", {"low": 0.25, "cycles": 4}),
        ("exponential-range", {"low": 0.25, "cycles": 4, "final": 0.08}),
        ("warmup-stable-decay", {"final": 0.0}),
        ("reduce-on-plateau", {"final": 0.0}),
        ("somebody's own", {}),
    ],
)
def test_constants_that_a_schedule_has_are_filled_in_and_no_others(name, expected):
    assert published_constants(ScheduleSpec(name=name)) == expected


def test_every_registered_schedule_is_in_the_table_of_published_constants():
    """A new one has to be looked at there."""
    (mark,) = test_constants_that_a_schedule_has_are_filled_in_and_no_others.pytestmark

    assert {name for name, _ in mark.args[1]} == {*NAMES, "somebody's own"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_with_its_constants_filled_in_is_the_same_schedule(name):
    plain = ScheduleSpec(name=name, warmup=0.1)
    recipe = Recipe(schedule=plain).changed(
        {f"schedule.{key}": value for key, value in published_constants(plain).items()}
    )
    points = [i / 100 for i in range(101)]

    assert published_constants(recipe.schedule) == {}
    assert [build_schedule(recipe.schedule)(p) for p in points] == [build_schedule(plain)(p) for p in points]


def test_what_the_recipe_says_is_kept():
    assert published_constants(ScheduleSpec(name="one-cycle", low=0.1, final=0.0)) == {"momentum": (0.85, 0.95)}


def test_the_momentum_of_one_cycle_is_not_filled_in_beside_one_that_the_recipe_gives():
    spec = ScheduleSpec(name="one-cycle", low=0.1, final=0.0)

    assert published_constants(spec, momentum_is_given=True) == {}


# What is refused


@pytest.mark.parametrize(
    ("constants", "text"),
    [
        (
            {"name": "step", "milestones": (0.75, 0.5)},
            "schedule.milestones: [0.75, 0.5] are not parts of the training above 0, each later than the one before. "
            "Set for example [0.5, 0.75]. To keep lr: schedule.name=constant.",
        ),
        ({"name": "step", "milestones": ()}, "schedule.milestones: [] are not parts of the training above 0, "),
        ({"name": "step", "milestones": (0.0, 0.5)}, "schedule.milestones: [0.0, 0.5] are not parts of the training "),
        (
            {"name": "exponential", "final": 0.0},
            "schedule.final: exponential never gets to 0. "
            "Set it above 0, or to null for the published one. Schedules that end at 0: cosine, polynomial.",
        ),
        ({"name": "exponential-range", "final": 0.0}, "schedule.final: exponential-range never gets to 0. "),
        (
            {"name": "one-cycle", "momentum": (0.95, 0.85)},
            "schedule.momentum: [0.95, 0.85] is not momentum at the peak and, as high or higher, at the ends. "
            "Set [0.85, 0.95], or twice the same number to keep it. Without momentum: optimizer.momentum=0.",
        ),
        ({"name": "one-cycle", "momentum": (0.0, 0.9)}, "schedule.momentum: [0.0, 0.9] is not momentum at the peak "),
        (
            {"name": "triangular", "cycles": 1_000_001},
            "schedule.cycles: the first of 1000001 cycles would be less than a millionth of the training. "
            "Set fewer; usual are 3 to 10.",
        ),
        (
            {"name": "cosine-restarts", "cycles": 20, "growth": 2.0},
            "schedule.cycles: the first of 20 cycles would be less than a millionth of the training. "
            "Set fewer, or schedule.growth nearer to 1; usual are 3 to 10.",
        ),
    ],
)
def test_constants_that_contradict_each_other_are_refused_with_the_cure(constants, text):
    for refuse in (published_constants, build_schedule):
        with pytest.raises(RecipeError) as caught:
            refuse(ScheduleSpec(**constants))

        assert str(caught.value).startswith(text)


def test_nineteen_doubling_cycles_are_not_too_many():
    """The first is 1 of 2^19 − 1 parts: half a million."""
    assert factors([0, 1], name="cosine-restarts", cycles=19, growth=2.0) == [1, 0]


@pytest.mark.parametrize(
    ("key", "value"), [("low", 1.0), ("low", 2.0), ("final", 1.1), ("rise", 0.0), ("cooldown", 0.0), ("cycles", 0)]
)
def test_values_beyond_their_bounds_are_refused_by_the_recipe(key, value):
    with pytest.raises(RecipeError, match=rf"schedule\.{key}: Input should be .*, got {value}"):
        Recipe().changed({"schedule.name": "one-cycle", f"schedule.{key}": value})


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"step"}))
def test_constants_of_other_schedules_are_not_looked_at(name):
    """A recipe may be turned into another schedule with one change."""
    spec = ScheduleSpec(name=name, milestones=(0.7, 0.2))

    assert build_schedule(spec)(0.5) <= 1
