"""Which learning rate: sweeps of known shape, short trainings of known outcome."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.diagnosis.lr_choice import Circumstances, Measured, conclude, confirmed, learned, peak_of
from trainwright.diagnosis.lr_curve import curve_of

LRS_L = np.geomspace(1e-7, 10, 33)
X_L = np.log10(LRS_L)
START = 2.0


def valley(bottom: float = 1e-3, *, depth: float = 1.0, width: float = 1.5) -> np.ndarray:
    """A loss that falls and rises symmetrically on log lr, lowest at `bottom`."""
    return START - depth * np.exp(-(((X_L - math.log10(bottom)) / width) ** 2))


def curve(*losses: np.ndarray, error: float = 0.01):
    losses_SL = np.stack(losses)
    return curve_of(LRS_L, losses_SL, np.full_like(losses_SL, error), START)


def measured(
    before: float, after: float, *, images: int = 64, spread: float = 0.1, gain: float | None = 0.5
) -> Measured:
    """A short training; the losses of its images differ by `spread`, and so do their gains."""
    wobble_P = spread * np.resize([1.0, -1.0], images)
    return Measured(
        start_P=np.full(images, before),
        loss_P=after + wobble_P,
        gains_P=None if gain is None else gain + np.roll(wobble_P, 1),
    )


# The curve of a sweep


@pytest.mark.parametrize("bottom", [1e-5, 3e-4, 2e-2])
def test_smoothing_does_not_move_the_lowest_point(bottom):
    assert math.log10(curve(valley(bottom)).lowest) == pytest.approx(math.log10(bottom), abs=0.02)


def test_the_lowest_point_lies_between_the_points_of_the_sweep():
    """Equal losses on both sides of a middle without a point: it is that middle."""
    middle = float(np.sqrt(LRS_L[16] * LRS_L[17]))

    assert math.log10(curve(valley(middle)).lowest) == pytest.approx(math.log10(middle), abs=0.02)


def test_divergence_just_above_does_not_push_the_lowest_point_far_down():
    """A cliff right after the best rate; without a limit its parabola would lean half a point away."""
    losses_L = valley(1e-3)
    losses_L[LRS_L > 2e-3] = 1e6

    assert 3e-4 < curve(losses_L).lowest < 1.3e-3


def test_the_interval_goes_from_where_the_loss_has_really_fallen_to_where_it_is_lowest():
    found = curve(valley(1e-3, width=1.0), error=0.1).interval

    # The fall is over twice its error where exp(-(x + 3)²) > 0.2: from x = -3 - sqrt(ln 5) = -4.3 on, more or less smoothing.
    assert found is not None
    assert -4.75 < math.log10(found[0]) < -3.75
    assert math.log10(found[1]) == pytest.approx(-3, abs=0.26)


def test_a_fall_within_its_error_is_none():
    assert curve(valley(depth=0.05), error=0.2).interval is None


def test_seeds_that_disagree_make_the_band_wide():
    alike = curve(valley(), valley(), valley())
    apart = curve(valley(), valley() + 1.0, valley() - 1.0)

    assert (apart.high_L - apart.low_L).mean() > 10 * (alike.high_L - alike.low_L).mean()


def test_a_seed_that_diverged_does_not_drown_the_others():
    early_L = valley(1e-3)
    early_L[20:] = np.nan
    early_L[19] = 1e30

    assert curve(valley(1e-3), early_L, valley(1e-3)).lowest == pytest.approx(1e-3, rel=0.5)


def test_points_that_were_not_looked_at_are_bridged():
    sparse_L = np.where(np.arange(33) % 2 == 0, valley(1e-3), np.nan)

    assert math.log10(curve(sparse_L).lowest) == pytest.approx(-3, abs=0.1)


def test_a_loss_that_stays_the_same_does_not_move():
    assert not curve(np.full(33, START)).moves
    assert curve(valley(depth=0.01)).moves


def test_a_sweep_that_learns_everything_and_stays_down_counts_to_where_it_was_down():
    """A loss that reaches 0 at 1e-2 and stays there says nothing of 10."""
    losses_L = np.where(X_L < -2, START * np.clip((-2 - X_L) / 2, 0, 1), 0.0)

    assert 2e-3 < curve(losses_L).lowest < 3e-2


# The peak


def test_where_no_sweep_really_falls_the_published_rate_is_tried():
    assert peak_of(curve(valley(depth=0.01), error=1.0), Circumstances(published=3e-4)) == pytest.approx(3e-4)


def test_a_sweep_that_really_falls_is_moved_a_fifth_of_the_way_to_the_published_rate():
    found = curve(valley(1e-2))
    alone = peak_of(found, Circumstances())

    assert peak_of(found, Circumstances(published=alone * 10)) == pytest.approx(alone * 10**0.2)
    assert peak_of(found, Circumstances(published=alone / 10)) == pytest.approx(alone / 10**0.2)


def test_a_published_rate_far_away_moves_a_sure_sweep_by_a_factor_of_two_at_most():
    found = curve(valley(1e-2))

    assert peak_of(found, Circumstances(published=1e-7)) == pytest.approx(peak_of(found, Circumstances()) / 10**0.3)


def test_a_rate_that_was_chosen_for_the_task_and_network_counts_half():
    found = curve(valley(1e-2))
    alone = peak_of(found, Circumstances())

    assert peak_of(found, Circumstances(published=alone / 10, tuned=True)) == pytest.approx(alone / 10**0.5)


def test_a_normalized_network_from_random_weights_is_expected_above_the_published_rate():
    assert Circumstances(published=1e-3, normalized=True).expected == pytest.approx(1e-3 * 10**1.3)
    assert Circumstances(published=1e-3, normalized=True, plain=True).expected == pytest.approx(1e-3 * 10**0.7)
    assert Circumstances(published=1e-3, normalized=True, fresh=False).expected == 1e-3
    assert Circumstances(published=1e-3, normalized=True, tuned=True).expected == 1e-3


def test_a_doubtful_sweep_and_the_published_rate_meet_between():
    """A fall of about two standard errors: the more of them, the nearer to the sweep's own answer."""
    sure, doubtful, unsure = (curve(valley(1e-2, depth=0.2), error=error) for error in (0.01, 0.1, 1.0))

    rates = [peak_of(found, Circumstances(published=1e-5)) for found in (unsure, doubtful, sure)]

    assert rates == sorted(rates)
    assert 3e-5 < rates[1] < rates[2] / 3


def test_the_peak_stays_within_the_bounds_of_the_sweep():
    assert peak_of(curve(valley(1e-7, depth=0.5)), Circumstances()) == pytest.approx(1e-7)


def test_the_peak_lies_below_where_the_sweep_is_lowest():
    found = curve(valley(1e-2, depth=0.1))

    assert 1e-3 < peak_of(found, Circumstances()) < found.lowest


def test_the_more_a_sweep_removes_of_the_loss_the_lower_the_peak_down_to_a_limit():
    peaks = [peak_of(curve(valley(1e-2, depth=depth)), Circumstances()) for depth in (0.1, 0.4, 0.9, 1.9)]

    assert peaks[0] > peaks[1] > peaks[2]
    assert peaks[3] == pytest.approx(peaks[2], rel=0.05)


def test_normalized_networks_bear_more_and_plain_gradient_steps_on_them_the_most():
    found = curve(valley(1e-2))

    without, pretrained, fresh, plain = (
        peak_of(found, Circumstances(normalized=norm, plain=sgd, fresh=new))
        for norm, sgd, new in ((False, True, True), (True, False, False), (True, False, True), (True, True, True))
    )

    assert without < pretrained < found.lowest
    assert pretrained < fresh < plain
    assert found.lowest < plain


def test_a_rate_that_was_chosen_for_the_network_leaves_nothing_to_add():
    found = curve(valley(1e-2))

    tuned, pretrained = (
        peak_of(found, Circumstances(normalized=True, **more)) for more in ({"tuned": True}, {"fresh": False})
    )

    assert tuned == pytest.approx(pretrained)


def test_layer_norms_bring_the_peak_of_a_network_with_random_weights_nearer_to_where_the_sweep_is_lowest():
    found = curve(valley(1e-2))

    without, pretrained, layered = (
        peak_of(found, Circumstances(layered=layers, fresh=fresh))
        for layers, fresh in ((False, True), (True, False), (True, True))
    )

    assert without == pretrained < layered < found.lowest


@given(st.floats(-6, 0), st.floats(0.05, 1.9))
def test_scaling_every_rate_scales_the_peak(shift, depth):
    """A network that takes ten times the rate gets ten times the peak."""
    losses_SL, errors_SL = valley(1e-3, depth=depth)[None], np.full((1, 33), 0.001)
    factor = 10**shift

    here = peak_of(curve_of(LRS_L, losses_SL, errors_SL, START), Circumstances())
    there = peak_of(curve_of(LRS_L * factor, losses_SL, errors_SL, START), Circumstances())

    assert there == pytest.approx(here * factor, rel=1e-6)


# What short trainings say of it


def test_a_peak_that_nothing_speaks_against_is_confirmed():
    trials = {0.01: [measured(2, 1.5)], 0.03: [measured(2, 1.2)], 0.1: [measured(2, 1.1)]}

    assert confirmed(0.03, trials) == 0.03


def test_a_lower_neighbour_that_is_better_beyond_chance_takes_its_place():
    trials = {0.01: [measured(2, 1.0)] * 2, 0.03: [measured(2, 1.5)] * 2, 0.1: [measured(2, 3.0)] * 2}

    assert confirmed(0.03, trials) == 0.01


def test_a_lower_neighbour_that_is_better_with_a_single_seed_does_not():
    """Another seed's training takes another way, however many images the loss is of."""
    trials = {0.01: [measured(2, 1.0)], 0.03: [measured(2, 1.5)], 0.1: [measured(2, 3.0)]}

    assert confirmed(0.03, trials) == 0.03


def test_a_lower_neighbour_within_chance_does_not():
    trials = {0.01: [measured(2, 1.19, spread=0.0)], 0.03: [measured(2, 1.2, spread=2.0)], 0.1: [measured(2, 3.0)]}

    assert confirmed(0.03, trials) == 0.03


def test_a_diverged_peak_gives_way_to_a_lower_one_that_did_not():
    diverged = Measured(start_P=np.full(8, 2.0), loss_P=np.full(8, np.nan), gains_P=None)

    assert confirmed(0.03, {0.01: [measured(2, 1.9)], 0.03: [diverged], 0.1: [diverged]}) == 0.01


def test_a_lower_neighbour_takes_over_where_the_loss_falls_there_and_not_at_the_peak():
    """Heavy tails at a rate that is too high hide the difference of their means."""
    trials = {0.01: [measured(2, 1.2)], 0.03: [measured(2, 2.1, spread=30.0)], 0.1: [measured(2, 3.0)]}

    assert confirmed(0.03, trials) == 0.01


def test_where_the_loss_rises_at_the_peak_the_lowest_rate_that_was_tried_is_taken():
    trials = {0.003: [measured(2, 1.95, spread=5.0)], 0.03: [measured(2, 2.2)]}

    assert confirmed(0.03, trials) == 0.003


def test_a_higher_neighbour_takes_over_only_where_the_peak_teaches_nothing():
    trials = {0.01: [measured(2, 2.0)], 0.03: [measured(2, 2.0)], 0.1: [measured(2, 1.5)]}

    assert confirmed(0.03, trials) == 0.1


def test_with_a_normalization_higher_neighbours_are_taken_as_far_as_the_loss_ends_lower():
    trials = {0.01: [measured(2, 1.9)], 0.03: [measured(2, 1.7)], 0.1: [measured(2, 1.5)], 0.3: [measured(2, 1.5)]}

    assert confirmed(0.01, trials, Circumstances(normalized=True)) == 0.1
    assert confirmed(0.01, trials) == 0.01


def test_a_higher_rate_is_taken_less_what_the_published_one_weighs():
    trials = {0.01: [measured(2, 1.9)], 0.1: [measured(2, 1.5)]}
    pretrained = Circumstances(normalized=True, published=0.01, fresh=False)

    assert confirmed(0.01, trials, pretrained) == pytest.approx(0.1 / 10**0.2)
    assert confirmed(0.01, trials, Circumstances(normalized=True, published=1.0)) == 0.1


# Was anything learned?


def test_gains_around_0_are_what_chance_gives():
    assert learned([measured(2, 1, gain=0.0)]) == pytest.approx(0.5, abs=0.01)


def test_gains_far_from_0_are_not_chance():
    assert learned([measured(2, 1, gain=0.5)]) < 1e-6


def test_images_that_get_worse_with_their_own_target_are_no_evidence():
    assert learned([measured(2, 1, gain=-0.5)]) > 0.999


def test_gains_that_are_all_0_are_no_evidence():
    assert learned([measured(2, 1, gain=0.0, spread=0.0)]) == 1.0


def test_without_gains_nothing_can_be_said():
    assert math.isnan(learned([measured(2, 1, gain=None)]))


# The answer


def test_a_confirmed_peak_is_the_suggestion_and_lies_in_the_interval():
    found = conclude(curve(valley(1e-2)), 3e-3, {3e-3: [measured(2, 1.2)]})

    assert (found.verdict, found.suggestion) == ("found", 3e-3)
    assert found.interval is not None
    assert found.interval[0] < 3e-3 < found.interval[1]
    assert "a short training at 3.0e-03 brings it from 2.00 to 1.20" in found.reason


def test_what_is_learned_of_the_targets_alone_is_no_answer():
    found = conclude(curve(valley(1e-2)), 3e-3, {3e-3: [measured(2, 1.2, gain=0.0)]})

    assert (found.verdict, found.suggestion, found.interval) == ("cannot tell", None, None)
    assert found.reason == (
        "what falls is what any images would give: the network does no better with an image's own target than with another "
        "one's (p = 0.50)"
    )


def test_a_loss_that_never_falls_is_no_answer():
    found = conclude(curve(valley(depth=-0.5)), 1e-3, {1e-3: [measured(2, 2.1, gain=0.0)]})

    assert found.reason == "the loss does not fall at any learning rate between 1e-07 and 1e+01 beyond its noise"


def test_a_loss_that_nothing_moves_is_no_answer():
    found = conclude(curve(np.full(33, START)), 1e-3, {})

    assert found.reason == "the loss stays the same at every learning rate: nothing that learns has any influence on it"


def test_short_trainings_that_all_diverge_are_said_to():
    diverged = Measured(start_P=np.full(8, 2.0), loss_P=np.full(8, np.nan), gains_P=None)

    found = conclude(curve(valley(1e-2)), 3e-3, {3e-4: [diverged], 3e-3: [diverged]})

    assert found.reason == "every short training diverges, down to 3.0e-04"


def test_points_that_were_not_looked_at_do_not_narrow_the_band():
    sparse_L = np.where(np.arange(33) % 2 == 0, valley(1e-3), np.nan)
    errors_L = np.where(np.isnan(sparse_L), np.nan, 0.1)

    whole = curve(valley(1e-3), error=0.1)
    sparse = curve_of(LRS_L, sparse_L[None], errors_L[None], START)

    assert np.allclose(sparse.high_L - sparse.low_L, whole.high_L - whole.low_L)


def test_a_network_that_makes_its_loss_of_the_target_is_judged_by_the_fall_alone():
    fell = conclude(curve(valley(1e-2)), 3e-3, {3e-3: [measured(2, 1.2, gain=None)]})
    stayed = conclude(curve(valley(depth=0.01), error=1.0), 3e-3, {3e-3: [measured(2, 1.99, spread=1.0, gain=None)]})

    assert (fell.verdict, stayed.verdict) == ("found", "cannot tell")


# Where nothing falls


def breaking_down(edge: float, *, lost: bool = False) -> np.ndarray:
    """A loss that stays where it was up to `edge`, and is far above there, or lost."""
    losses_L = np.full_like(LRS_L, START)
    at = int(np.argmin(np.abs(np.log(LRS_L / edge))))
    losses_L[at] = math.nan if lost else 3 * START
    losses_L[at + 1 :] = math.nan
    return losses_L


@pytest.mark.parametrize("lost", [False, True])
def test_a_sweep_breaks_down_where_its_loss_shoots_up_or_is_lost(lost):
    found = curve(breaking_down(1e-2, lost=lost), breaking_down(1.0, lost=lost))

    assert found.edge == pytest.approx(LRS_L[np.argmin(np.abs(np.log(LRS_L / 0.1)))])


def test_a_sweep_that_never_breaks_down_has_no_edge():
    assert curve(breaking_down(0.1), np.full_like(LRS_L, START)).edge is None


PUBLISHED = 1e-3


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (Circumstances(published=PUBLISHED), 10 ** (0.7 * -1.5 + 0.3 * -3)),
        (Circumstances(published=PUBLISHED, layered=True), PUBLISHED),
        (Circumstances(published=PUBLISHED, fresh=False), PUBLISHED),
        (Circumstances(published=PUBLISHED, tuned=True), PUBLISHED),
        (Circumstances(published=PUBLISHED, normalized=True), PUBLISHED * 10**1.3),
    ],
    ids=["no norm", "layer norm", "pre-trained", "of a recipe", "batch norm"],
)
def test_where_nothing_falls_a_network_without_norms_is_trained_below_where_its_sweep_breaks_down(around, expected):
    """A sweep that breaks down at 1: a decade and a half below, seven tenths of the way from the published rate."""
    found = curve(breaking_down(1.0))

    assert peak_of(found, around) == pytest.approx(expected, rel=0.01)


def test_where_the_fall_is_sure_the_edge_has_no_say():
    around = Circumstances(published=PUBLISHED)
    losses_L = valley(1e-3)
    cut_L = np.where(LRS_L < 0.5, losses_L, math.nan)

    assert peak_of(curve(losses_L), around) == pytest.approx(peak_of(curve(cut_L), around), rel=0.02)


def test_without_an_answer_the_likeliest_rate_is_told_where_the_sweep_says_one():
    found, trials = curve(breaking_down(1.0)), {PUBLISHED: [measured(START, START, gain=0.0)]}
    bare, normed = (Circumstances(published=PUBLISHED, normalized=norm) for norm in (False, True))

    told = [conclude(found, peak_of(found, around), trials, around) for around in (bare, normed)]

    assert [one.suggestion for one in told] == [None, None]
    assert told[0].likeliest == pytest.approx(peak_of(found, bare))
    assert told[1].likeliest is None
