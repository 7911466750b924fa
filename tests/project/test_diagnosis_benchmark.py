"""What `benchmarks/diagnosis.py` plants, and how it counts."""

from __future__ import annotations

import numpy as np
import pytest

from trainwright.diagnosis.evidence import Evidence


@pytest.fixture
def cells(benchmark_module):
    return benchmark_module("diagnosis_cells")


@pytest.fixture
def benchmark(benchmark_module):
    return benchmark_module("diagnosis")


@pytest.fixture
def effects(benchmark_module):
    return benchmark_module("diagnosis_effect")


def planted(cells, name: str, seed: int = 0):
    """A thousand images of ten classes, four hundred of them unseen, with one fault planted."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (1000, 4, 4, 3)).astype(np.uint8)
    labels = np.array([str(k % 10) for k in range(1000)])
    parts = np.array(["val"] * 400 + ["train"] * 600)
    after = cells.CONDITIONS[name].plant(images, labels, parts, seed=seed, few=40)
    return (images, labels, parts), after


def test_a_fifth_of_the_labels_is_flipped_to_other_classes(cells):
    (_, before, _), (_, after, _) = planted(cells, "flipped")

    assert np.mean(before != after) == pytest.approx(0.2, abs=0.03)
    assert set(after) == set(before)


@pytest.mark.parametrize("shape", [(), (4, 4)], ids=["counts", "maps"])
def test_a_fifth_of_the_maps_and_counts_is_that_of_another_image(cells, shape):
    labels = np.arange(500).reshape(500, *[1] * len(shape)) * np.ones((1, *shape), dtype=int)
    parts = np.array(["train"] * 500)

    _, after, _ = cells.CONDITIONS["flipped"].plant(np.zeros((500, 4, 4, 3)), labels, parts, seed=0, few=40)

    changed = (after != labels).reshape(500, -1).any(axis=1)
    assert changed.sum() == 100
    assert sorted(after.reshape(500, -1)[:, 0]) == list(range(500))  # none is lost, none is there twice


def test_maps_and_counts_may_be_said_to_have_labels_that_allow_no_less(cells):
    flipped = cells.CONDITIONS["flipped"]

    assert cells.right_of("digits", flipped) == ("noisy-labels",)
    assert cells.right_of("camvid", flipped) == ("noisy-labels", "label-ceiling")
    assert cells.right_of("camvid", cells.CONDITIONS[cells.HEALTHY]) == ()


def test_images_are_halved_by_the_mean_of_four_pixels(cells):
    images = np.array([[0, 4, 8, 8], [0, 4, 8, 8]], dtype=np.uint8)[None, :, :, None].repeat(3, axis=3)

    assert cells._halved(images)[0, :, :, 0].tolist() == [[2, 8]]


def test_a_tenth_of_the_unseen_images_are_seen_ones(cells):
    (before, _, _), (after, _, parts) = planted(cells, "twins")
    seen = {image.tobytes() for image in before[parts == "train"]}

    changed = (before != after).any(axis=(1, 2, 3))
    exact = [image.tobytes() in seen for image in after[parts == "val"]]

    assert changed.sum() == 40
    assert not changed[parts == "train"].any()
    assert sum(exact) == 20


def test_only_unseen_images_are_shifted(cells):
    (before, _, _), (after, _, parts) = planted(cells, "shifted")

    assert (before[parts == "train"] == after[parts == "train"]).all()
    assert after[parts == "val"].mean() < 0.75 * before[parts == "val"].mean()


def test_a_tiny_train_part_has_the_same_number_of_each_class(cells):
    _, (_, labels, parts) = planted(cells, "tiny-train")

    assert np.unique(labels[parts == "train"], return_counts=True)[1].tolist() == [4] * 10
    assert (parts == "val").sum() == 400


def test_every_condition_but_healthy_changes_something_and_says_what_would_be_right(cells):
    setting = cells.SETTINGS["digits"]
    healthy = cells.recipe_of(setting, cells.CONDITIONS[cells.HEALTHY], 0)

    for name, condition in cells.CONDITIONS.items():
        changed = condition.plant is not None or cells.recipe_of(setting, condition, 0) != healthy
        assert changed == bool(condition.right) == (name != cells.HEALTHY)


def test_nearly_the_same_images_are_left_out_but_for_the_first(cells):
    draws = np.random.default_rng(1)
    images = draws.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    twice = np.stack([images[0], images[1], np.clip(images[0].astype(int) + 3, 0, 255).astype(np.uint8), images[2]])

    assert cells.without_twins(twice).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("train", "val", "says"),
    [
        ((1.0, 0.5), (1.0, 0.5), {"loss ratio": False, "loss rose": False}),
        ((1.0, 0.5), (1.0, 0.6), {"loss ratio": True, "loss rose": False}),
        ((1.0, 0.59), (0.5, 0.6), {"loss ratio": False, "loss rose": True}),
        ((), (), {"loss ratio": False, "loss rose": False}),
    ],
)
def test_the_rules_of_thumb_are_what_they_say(benchmark, train, val, says):
    evidence = Evidence(
        train_loss=train, val_loss=val, train_score=(), val_score=(), val_count=9, train_count=9, chance_score=0.5
    )

    assert benchmark._rules_of_thumb(evidence) == says


def test_intervals_of_draws_cover_the_gap_of_the_pool(benchmark):
    draws = np.random.default_rng(2)
    right = {
        "train": "".join(map(str, (draws.random(2000) < 0.95).astype(int))),
        "pool": "".join(map(str, (draws.random(6000) < 0.8).astype(int))),
    }

    covered = [one for seed in range(10) for one in benchmark._coverage(right, seed)]

    assert len(covered) == 400
    assert 0.91 < np.mean(covered) < 0.99


def effect(value, half):
    return {"value": value, "low": value - half, "high": value + half}


@pytest.mark.parametrize(
    ("of_seeds", "applies"),
    [
        ([effect(0.1, 0.05)], True),
        ([effect(-0.1, 0.05)], True),  # twins raise the score
        ([effect(0.03, 0.05)], False),
        ([effect(0.06, 0.07), effect(0.06, 0.07)], True),  # two seeds: ±0.05
        ([effect(0.1, 0.05), effect(-0.1, 0.05)], False),
        ([None], True),  # broke down
    ],
)
def test_a_condition_applies_where_it_changes_the_unseen_score_beyond_its_interval(effects, of_seeds, applies):
    assert effects.matters(of_seeds) == applies


def test_of_classes_every_condition_counts_and_of_others_those_that_apply(benchmark):
    def row(data, condition, found):
        return {"data": data, "condition": condition, "effect": found}

    rows = [row("camvid", "twins", effect(0.0, 0.1)), row("camvid", "thin", effect(0.2, 0.1))]
    rows += [row("digits", "twins", None), row("camvid", "healthy", None)]

    assert [benchmark.applies(one, rows) for one in rows] == [False, True, True, True]


def test_probes_are_left_out_only_after_rules_that_come_before_those_that_look_at_them(benchmark):
    from trainwright.diagnosis.rules import RULES

    assert tuple(rule.__name__.replace("_", "-") for rule in RULES[:4]) == benchmark.BEFORE_PROBES


@pytest.mark.parametrize(
    ("right", "alarms", "coverage", "others", "reached"),
    [(0.9, 0.05, 0.95, 0.8, True), (0.89, 0.0, 0.95, 1.0, False), (1.0, 0.06, 0.95, 1.0, False),
     (1.0, 0.0, 0.92, 1.0, False), (1.0, 0.0, 0.95, 0.79, False)],
)  # fmt: skip
def test_the_goals_are_those_that_are_stated(benchmark, right, alarms, coverage, others, reached):
    def share(value):
        return {"of": 400, "share": value}

    classes = {"right": share(right), "false_alarms": share(alarms), "coverage": share(coverage)}

    assert benchmark.reached({"classes": classes, "others": {"right": share(others)}}) == reached


def healthy_rows(*, gap: float, longer: float, seeds: int = 8, first: str = "none"):
    """Healthy runs of one dataset whose gap and gain by length vary by a point around these."""
    off = np.linspace(-0.01, 0.01, seeds)
    return [
        {
            "data": "flowers12",
            "condition": "healthy",
            "first": first,
            "train_error": 0.2 - gap + delta,
            "val_error": 0.2,
            "probes": {"longer": [0.1, longer + delta], "fit-64": None},
            "thumb_right": {"loss rose": False},
        }
        for delta in off
    ]


@pytest.mark.parametrize(
    ("gap", "longer", "true"),
    [(0.03, 0.0, ()), (0.09, 0.0, ("overfits",)), (0.03, 0.04, ("under-trained",)), (0.041, 0.021, ())],
)
def test_true_of_healthy_runs_is_what_surely_exceeds_its_margin_on_average(effects, gap, longer, true):
    """The margin of an error of a fifth is four points, and a probe has to gain two."""
    assert effects.true_of(healthy_rows(gap=gap, longer=longer)) == {"flowers12": true}


def test_nothing_is_known_to_be_true_of_two_runs(effects):
    assert effects.true_of(healthy_rows(gap=0.1, longer=0.1, seeds=2)) == {"flowers12": ()}


@pytest.mark.parametrize(("first", "right"), [("none", True), ("overfits", True), ("noisy-labels", False)])
def test_an_alarm_that_is_true_is_told_apart_from_a_false_one(benchmark, first, right):
    rows = benchmark.with_truth(healthy_rows(gap=0.09, longer=0.0, first=first))

    assert {row["right"] for row in rows} == {right}
    assert {row["alarm"] for row in rows} == {first != "none"}
    assert all(row["thumb_right"]["loss rose"] for row in rows)  # which called it that too is right as well


def test_an_alarm_about_runs_of_which_nothing_is_true_is_false(benchmark):
    rows = benchmark.with_truth(healthy_rows(gap=0.02, longer=0.0, first="overfits"))

    assert not any(row["right"] for row in rows)
    assert not any(row["thumb_right"]["loss rose"] for row in rows)
