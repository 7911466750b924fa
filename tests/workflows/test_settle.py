"""What a recipe leaves to measurement is measured before the run begins, and the training starts as if nothing had been."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import trainwright as tw
from trainwright.data.loader import TrainBatches
from trainwright.errors import RecipeError
from trainwright.records import LrRange
from trainwright.training import batch_size as trial
from trainwright.training.batch_size import BatchSizeRow, BatchSizes
from trainwright.workflows import run as workflow
from trainwright.workflows import settle as settling
from trainwright.workflows.settle import table_of

FOUND = 0.0173


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Rounds of two timed steps."""
    monkeypatch.setattr(trial, "ROUND_SECONDS", 0.0)


@pytest.fixture
def range_tests(monkeypatch):
    """The batch sizes that a learning rate was looked for; each search answers at once. tests/workflows/test_lr.py searches."""
    sizes = []

    def answer(prepared, *, options):
        sizes.append(prepared.recipe.batch_size)
        lrs_L = np.geomspace(1e-7, 10, 5)
        return LrRange(
            lrs_L=lrs_L,
            losses_SL=np.ones((1, 5)),
            smooth_L=np.ones(5),
            low_L=np.ones(5),
            high_L=np.ones(5),
            start=1.0,
            interval=(1e-4, 1e-1),
            suggestion=FOUND,
            reason="the loss falls fastest there",
        )

    monkeypatch.setattr(settling, "range_of", answer)
    return sizes


@pytest.fixture
def chosen(monkeypatch):
    """(batch size) → what every measurement chooses from now on."""

    def always(batch_size):
        row = BatchSizeRow(
            batch_size=batch_size, images_per_second=1.0, step_seconds=1.0, memory_bytes=1, steps_per_epoch=1
        )
        answer = BatchSizes(
            rows=(row,), chosen=batch_size, stopped="it is the only one", memory_is_estimate=True, seconds=0.0
        )
        monkeypatch.setattr(settling, "batch_sizes_of", lambda prepared, options, usual: answer)

    return always


@pytest.fixture
def plan(digits, recipe, listener):
    """(recipe's changes, more arguments of `train`) → what it would train, and what was noted."""

    def make(of_recipe=None, **more):
        settled = workflow.plan(
            digits, recipe.changed(of_recipe or {}), options=tw.RunOptions(workers=1, reporter=listener), **more
        )
        return settled, listener.notes

    return make


def test_auto_becomes_a_power_of_two_that_leaves_ten_steps_an_epoch(plan):
    settled, _ = plan({"batch_size": "auto"})

    assert settled.prepared.recipe.batch_size == 8  # of 102 train images 16 would leave six steps
    assert settled.measured["batch_size"]["chosen"] == 8
    assert [row["batch_size"] for row in settled.measured["batch_size"]["rows"]] == [8]


def test_a_recipe_that_is_all_numbers_is_left_as_it_is(plan, recipe):
    settled, _ = plan()

    assert (settled.sizes, settled.lr_range, settled.measured) == (None, None, {})
    assert settled.prepared.recipe.batch_size == recipe.batch_size
    assert settled.prepared.recipe.optimizer.lr == recipe.optimizer.lr


def test_the_table_is_noted(plan):
    settled, notes = plan({"batch_size": "auto"})

    assert table_of(settled.sizes) in notes


def test_the_table_has_a_mark_at_the_choice():
    rows = tuple(
        BatchSizeRow(
            batch_size=size,
            images_per_second=rate,
            step_seconds=size / rate,
            memory_bytes=size * 2_500_000,
            steps_per_epoch=5000 // size,
        )
        for size, rate in ((8, 200.0), (16, 320.0), (32, 1280.0))
    )

    sizes = BatchSizes(rows=rows, chosen=32, stopped="throughput no longer grows", memory_is_estimate=True, seconds=4.2)

    assert table_of(sizes) == (
        "batch size   images/s   ms a step   memory (MB)   steps an epoch\n"
        "         8        200        40.0            20              625\n"
        "        16        320        50.0            40              312\n"
        "        32      1,280        25.0            80              156  ←\n"
        "no larger ones: throughput no longer grows; measured in 4 s; memory is an estimate"
    )
    assert table_of(replace(sizes, memory_is_estimate=False)).endswith("measured in 4 s")


def test_nothing_of_what_is_trained_has_changed(digits, recipe):
    """The model's weights and buffers, torch's random stream and the next batches are those of an unmeasured training."""

    def state(settled):
        prepared = settled.prepared
        tensors = [(name, tensor.numpy().tobytes()) for name, tensor in prepared.model.state_dict().items()]
        grads = [parameter.grad is None for parameter in prepared.model.parameters()]
        size = prepared.recipe.data.size
        batches = TrainBatches(
            prepared.pixels,
            prepared.targets,
            prepared.split.train,
            batch_size=8,
            image_size=size,
            augment=prepared.recipe.augment,
            seed=0,
            workers=0,
        )
        return hashlib.sha256(
            repr((tensors, grads, batches.batch(0).images_NCHW.numpy().tobytes())).encode()
        ).hexdigest()

    options = tw.RunOptions(workers=1)
    random_before = torch.get_rng_state()
    plain = workflow.plan(digits, recipe.changed({"batch_size": 8}), options=options)
    measured = workflow.plan(digits, recipe.changed({"batch_size": "auto"}), options=options)

    assert state(measured) == state(plain)
    assert torch.equal(torch.get_rng_state(), random_before)


def test_a_measured_training_ends_in_the_weights_of_one_with_that_number(train):
    measured = train({"batch_size": "auto", "epochs": 1})
    given = train({"batch_size": measured.recipe.batch_size, "epochs": 1})

    assert measured.result["weights_sha256"] == given.result["weights_sha256"]


def test_the_run_keeps_numbers_in_its_recipe_and_the_measurement_beside_it(train):
    run = train({"batch_size": "auto", "epochs": 1})

    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert run.recipe.batch_size == 8
    assert manifest["measured"]["batch_size"]["chosen"] == 8
    assert run.result["measured"] == manifest["measured"]


def test_a_run_without_a_measurement_says_nothing_of_one(trained):
    assert "measured" not in trained.result
    assert "measured" not in json.loads((trained.folder / "manifest.json").read_text())


def test_a_resumed_run_measures_nothing(train, tmp_path, polls, monkeypatch):
    stopped = train({"batch_size": "auto", "epochs": 1}, stop_asked=polls(1))
    monkeypatch.setattr(settling, "measure_batch_sizes", lambda *a, **k: pytest.fail("measured again"))

    run = tw.resume(stopped, runs=tmp_path / "runs", mirrors=(), workers=1)

    assert (run.finished, run.recipe.batch_size) == (True, 8)


def test_a_rate_that_is_left_open_is_looked_for_with_the_measured_batch(plan, range_tests):
    settled, notes = plan({"batch_size": "auto", "optimizer.lr": None})

    assert range_tests == [8]
    assert settled.prepared.recipe.optimizer.lr == FOUND
    assert settled.lr_range.suggestion == FOUND
    assert any("range test" in note and "0.017" in note for note in notes)


@pytest.mark.parametrize("size", ["auto", 32])
def test_another_batch_size_than_the_recipes_asks_for_another_rate(plan, range_tests, chosen, size):
    chosen(32)

    settled, notes = plan(batch_size=size)

    assert range_tests == [32]
    assert (settled.prepared.recipe.batch_size, settled.prepared.recipe.optimizer.lr) == (32, FOUND)
    assert "batch size 32 instead of 16: the learning rate is found anew" in notes


@pytest.mark.parametrize("size", ["auto", 16])
def test_the_recipes_own_batch_size_keeps_its_rate(plan, range_tests, chosen, size, recipe):
    chosen(16)

    settled, notes = plan(batch_size=size)

    assert (range_tests, settled.prepared.recipe.optimizer.lr) == ([], recipe.optimizer.lr)
    assert not any("found anew" in note for note in notes)


def test_a_rate_given_in_the_same_call_is_kept(plan, range_tests, chosen):
    chosen(32)

    settled, _ = plan(batch_size="auto", changes={"optimizer.lr": 0.5})

    assert (range_tests, settled.prepared.recipe.optimizer.lr) == ([], 0.5)


def test_auto_among_the_changes_asks_for_another_rate_too(plan, range_tests, chosen):
    chosen(32)

    settled, _ = plan(changes={"batch_size": "auto"})

    assert (range_tests, settled.prepared.recipe.batch_size) == ([32], 32)


def test_a_number_among_the_changes_leaves_the_rate_alone(plan, range_tests, recipe):
    settled, _ = plan(changes={"batch_size": 32})

    assert (range_tests, settled.prepared.recipe.batch_size) == ([], 32)
    assert settled.prepared.recipe.optimizer.lr == recipe.optimizer.lr


def test_a_recipe_that_says_auto_itself_keeps_its_rate(plan, range_tests, chosen, recipe):
    """Its author chose the rate for whatever number comes out."""
    chosen(32)

    settled, _ = plan({"batch_size": "auto"})

    assert (range_tests, settled.prepared.recipe.optimizer.lr) == ([], recipe.optimizer.lr)


def test_an_optimizer_for_whole_batches_gets_the_whole_train_part_in_parts_of_the_measured_size(plan, range_tests):
    """102 images in parts of at most 8 are 13 parts; rprop finds its own rates."""
    settled, notes = plan({"optimizer.name": "rprop"}, batch_size="auto")

    recipe = settled.prepared.recipe
    assert (recipe.batch_size, recipe.accumulate, range_tests) == (102, 13, [])
    assert "rprop needs all 102 train images for a step: they are worked through in 13 parts" in notes


@pytest.mark.parametrize("size", [0, -3, "many"])
def test_a_batch_size_that_is_none_is_refused_before_any_file_is_read(tmp_path, size):
    with pytest.raises(RecipeError, match="batch_size"):
        tw.train(tmp_path / "nothing here", batch_size=size)
