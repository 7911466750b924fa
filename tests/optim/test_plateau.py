"""The schedule with a memory: lr falls when the val score has not risen for a while, and a resume remembers it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.optim.schedules import build_schedule
from trainwright.plugins import RememberingSchedule
from trainwright.recipe import ScheduleSpec

SCORES = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=40)


def plateau(**constants: object) -> RememberingSchedule:
    schedule = build_schedule(ScheduleSpec(name="reduce-on-plateau", **constants))
    assert isinstance(schedule, RememberingSchedule)
    return schedule


def followed(schedule: RememberingSchedule, scores: list[float]) -> list[float]:
    """The factor after each epoch."""
    seen = []
    for score in scores:
        schedule.observe(score)
        seen.append(schedule(0.5))
    return seen


def test_lr_falls_after_as_many_epochs_without_a_better_score_as_patience_says():
    schedule = plateau(patience=2, decay=0.1)

    factors = followed(schedule, [0.5, 0.6, 0.6, 0.4, 0.5, 0.5])

    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])


def test_a_better_score_starts_the_wait_anew():
    assert followed(plateau(patience=2, decay=0.5), [0.5, 0.4, 0.6, 0.4, 0.4]) == [1, 1, 1, 1, 0.5]


def test_the_best_score_is_remembered_after_lr_has_fallen():
    """0.5 is better than the epoch before, not than the best."""
    assert followed(plateau(patience=1, decay=0.5), [0.6, 0.4, 0.5]) == [1, 0.5, 0.25]


def test_lr_never_falls_below_its_end():
    assert followed(plateau(patience=1, decay=0.1, final=0.05), [0.5] * 5) == [1, 0.1, 0.05, 0.05, 0.05]


def test_a_score_that_is_no_number_is_no_better():
    assert followed(plateau(patience=1, decay=0.5), [math.nan, 0.5, math.nan]) == [0.5, 0.5, 0.25]


def test_the_factor_is_the_same_for_every_progress():
    schedule = plateau(patience=1, decay=0.5)
    followed(schedule, [0.5, 0.5])

    assert {schedule(progress) for progress in (0.0, 0.3, 1.0)} == {0.5}


def test_a_warm_up_goes_before_it_and_hands_on_what_is_observed():
    schedule = plateau(patience=1, decay=0.5, warmup=0.2)

    before = [schedule(0.1), schedule(0.2), schedule(1.0)]
    followed(schedule, [0.5, 0.5])

    assert before == [0.5, 1, 1]
    assert [schedule(0.1), schedule(0.2), schedule(1.0)] == [0.25, 0.5, 0.5]


@given(scores=SCORES, more=SCORES, warmup=st.sampled_from([0.0, 0.25]))
def test_what_it_remembers_survives_json_bit_for_bit(scores, more, warmup):
    constants = {"patience": 2, "decay": 0.3, "final": 0.001, "warmup": warmup}
    going_on, resumed = plateau(**constants), plateau(**constants)
    followed(going_on, scores)

    resumed.load_state_dict(json.loads(json.dumps(going_on.state_dict(), allow_nan=False)))

    assert resumed(0.1) == going_on(0.1)
    assert followed(resumed, more) == followed(going_on, more)


@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_a_schedule_without_a_memory_is_none_with_one(name, warmup):
    assert not isinstance(build_schedule(ScheduleSpec(name=name, warmup=warmup)), RememberingSchedule)
