import pytest

from trainwright.diagnosis.balance import balance


def test_a_class_that_is_always_wrong_is_hidden_by_its_rarity():
    found = balance({"common": 1.0, "rare": 0.0}, {"common": 900, "rare": 100})

    assert found.balanced.value == pytest.approx(0.5)
    assert found.hidden.value == pytest.approx(0.4)  # 0.9 − 0.5
    assert found.hidden.low > 0.35
    assert (found.worst, found.worst_recall.value, found.majority) == ("rare", 0.0, pytest.approx(0.9))


def test_equal_classes_hide_nothing_whatever_their_recalls():
    found = balance({"a": 1.0, "b": 0.2}, {"a": 50, "b": 50})

    assert (found.hidden.value, found.hidden.low, found.hidden.high) == (0.0, 0.0, 0.0)


def test_few_images_of_the_rare_class_leave_doubt():
    few, many = balance({"a": 1.0, "b": 0.5}, {"a": 90, "b": 4}), balance({"a": 1.0, "b": 0.5}, {"a": 9000, "b": 400})

    assert few.hidden.high - few.hidden.low > 4 * (many.hidden.high - many.hidden.low)


def test_a_class_without_images_does_not_count():
    assert balance({"a": 1.0}, {"a": 90, "b": 0}) is None
