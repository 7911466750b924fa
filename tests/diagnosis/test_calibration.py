import numpy as np
import pytest

from trainwright.diagnosis.calibration import calibration, calibration_error, fit_temperature


def answers(temperature, count=2000, seed=0):
    """Probabilities of three classes that are true at `temperature` 1, sharpened by a larger one."""
    rng = np.random.Generator(np.random.Philox(seed))
    logits = rng.normal(0, 1.5, (count, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (true.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=2)
    said = np.exp(logits * temperature)
    return said / said.sum(axis=1, keepdims=True), target


def test_true_probabilities_are_honest():
    found = calibration(*answers(1.0))

    assert found.excess.low < 0 < found.excess.high
    assert found.temperature == pytest.approx(1.0, abs=0.1)
    assert found.gain.low < 0.001
    assert found.error == pytest.approx(found.error_by_chance, abs=0.015)


def test_probabilities_that_are_too_sure_are_found_with_the_temperature_that_mends_them():
    found = calibration(*answers(3.0))

    assert found.excess.low > 0.05
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.gain.low > 0.1
    assert found.error > 3 * found.error_by_chance


def test_probabilities_that_are_too_modest_have_a_negative_excess():
    found = calibration(*answers(0.5))

    assert found.excess.high < 0
    assert found.temperature == pytest.approx(0.5, rel=0.1)


def test_copies_do_not_narrow_the_interval():
    probabilities, target = answers(3.0, count=100)

    alone = calibration(probabilities, target)
    copied = calibration(probabilities.repeat(4, axis=0), target.repeat(4), groups=np.arange(100).repeat(4))

    assert copied.excess.high - copied.excess.low == pytest.approx(alone.excess.high - alone.excess.low, rel=0.1)


def test_too_few_images_are_not_judged():
    assert calibration(*answers(1.0, count=39)) is None


def test_the_calibration_error_of_a_single_bin_is_the_excess():
    assert calibration_error(np.full(20, 0.9), np.arange(20) < 10) == pytest.approx(0.4)


def test_logits_that_are_divided_by_two_want_a_temperature_half_as_high():
    probabilities, target = answers(2.0)

    whole, halved = fit_temperature(np.log(probabilities), target), fit_temperature(np.log(probabilities) / 2, target)

    assert whole == pytest.approx(2 * halved, rel=1e-2)
