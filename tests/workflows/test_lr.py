"""The learning-rate range test around its mechanism: what it is given, what becomes of its answer, what stays as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import trainwright as tw
from trainwright.errors import RecipeError, UsageError
from trainwright.optim.published_rates import OTHERS, PUBLISHED_LR, published_lr
from trainwright.plugins import optimizers
from trainwright.recipes.published import get
from trainwright.records import LrRange
from trainwright.tracking.run_folder import RunFolder
from trainwright.training import batch_size as trial
from trainwright.training import lr_range
from trainwright.workflows import lr as workflow
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import prepare
from trainwright.workflows.reporting import Silent

CPU = torch.device("cpu")
OPTIONS = {"workers": 0, "device": "cpu"}


class Pixels(nn.Module):
    """A network of one's own: a linear layer on the pixels, the first layer frozen by its maker."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.scale = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.head = nn.Linear(3 * 16 * 16, outputs)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.scale(images_NCHW).flatten(1))


@pytest.fixture
def answer(monkeypatch, lr_range_of):
    """(kind) → the mechanism answers so; returns what it was given at each call."""

    def set_to(kind):
        calls = []

        def answered(model, task, batches, optimizer, **more):
            calls.append({"model": model, "task": task, "batches": batches, "optimizer": optimizer, **more})
            return lr_range_of(kind)

        monkeypatch.setattr(lr_range, "lr_range_test", answered)
        return calls

    return set_to


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_answer_can_be_read_in_the_terms_of_the_command_line(answer, digits, recipe):
    answer("found")

    test = tw.lr_range_test(digits, recipe, **OPTIONS)

    assert isinstance(test, LrRange)
    assert (test.low, test.high, test.suggested, test.verdict) == (2e-4, 6e-2, 0.013, "found")
    assert repr(test) == "LrTest(0.013, the loss falls at learning rates from 0.0002 to 0.06)"
    assert test.figure().startswith(b"\x89PNG")


def test_an_answer_that_cannot_tell_has_a_reason_and_no_rates(answer, digits, recipe):
    answer("flat")

    test = tw.lr_range_test(digits, recipe, **OPTIONS)

    assert (test.low, test.high, test.suggested) == (None, None, None)
    assert (
        repr(test) == "LrTest(cannot tell: the loss never falls below its start by more than the noise between seeds.)"
    )


def test_the_recipe_that_comes_back_trains_with_what_was_found(answer, digits, recipe):
    answer("found")

    test = tw.lr_range_test(digits, recipe, changes={"optimizer.lr": None}, **OPTIONS)

    assert test.recipe.optimizer.lr == 0.013
    assert test.recipe.task == "classification"  # filled in


def test_nothing_is_written(answer, digits, recipe, tmp_path, monkeypatch):
    answer("found")
    monkeypatch.chdir(tmp_path)

    tw.lr_range_test(digits, recipe, **OPTIONS)

    assert list(tmp_path.iterdir()) == []


def test_the_mechanism_gets_what_the_training_would_have(answer, digits, recipe):
    calls = answer("found")
    changes = {"clip_norm": 1.5, "accumulate": 2, "augment.mixup": 0.2, "network.stage_lr_decay": 0.5}

    test = tw.lr_range_test(digits, recipe, changes=changes, low=1e-5, high=1.0, seeds=2, **OPTIONS)

    (call,) = calls
    assert (call["low"], call["high"], call["seeds"]) == (1e-5, 1.0, 2)
    assert call["steps"] == test.training_steps == 2 * (102 // 16)  # epochs times steps of 102 train images
    assert (call["settings"].clip_norm, call["settings"].parts) == (1.5, 2)
    assert call["settings"].mix is not None
    assert call["published"] == 1e-3  # AdamW's
    assert len({group["lr"] for group in call["optimizer"].param_groups}) > 1  # a rate for each stage


def test_the_test_is_of_the_batch_size_that_was_asked_for(answer, digits, recipe):
    calls = answer("found")

    test = tw.lr_range_test(digits, recipe, batch_size=34, **OPTIONS)

    assert (test.recipe.batch_size, test.sizes) == (34, None)
    assert calls[0]["steps"] == test.training_steps == 2 * (102 // 34)


def test_a_batch_size_of_auto_is_measured_before_the_test(answer, digits, recipe, monkeypatch):
    """Of 102 images 16 leave six steps an epoch: 8 alone is measured, and the recipe's 16 stays."""
    monkeypatch.setattr(trial, "ROUND_SECONDS", 0.0)
    answer("found")

    test = tw.lr_range_test(digits, recipe, batch_size="auto", **OPTIONS)

    assert [row.batch_size for row in test.sizes.rows] == [8]
    assert test.sizes.stopped.endswith("; one size alone shows nothing, the recipe's 16 stays")
    assert test.recipe.batch_size == test.sizes.chosen == 16


@pytest.mark.parametrize("size", [0, "many"])
def test_a_batch_size_that_is_none_is_refused_before_any_data_is_read(size):
    with pytest.raises(RecipeError, match="batch_size"):
        tw.lr_range_test("nowhere", batch_size=size)


def test_two_seeds_are_refused_before_any_data_is_read():
    with pytest.raises(
        UsageError, match=r"^seed: seed is given twice: 1, and 2 among the changes\. Leave one of them out\."
    ):
        tw.lr_range_test("nowhere", seed=1, changes={"seed": 2})


def test_what_limited_a_test_is_among_its_notes(answer, digits, recipe):
    answer("found")

    test = tw.lr_range_test(digits, recipe, seeds=5, **OPTIONS)

    assert (test.seeds, test.asked_seeds, test.still_falling) == (3, 5, False)
    assert test.notes == ("3 of 5 sweeps, the training is too short for more",)


def test_batches_depend_on_the_seed_alone_go_on_for_ever_and_are_not_those_of_the_training(answer, digits, recipe):
    calls = answer("found")
    tw.lr_range_test(digits, recipe, **OPTIONS)
    batches = calls[0]["batches"]

    def rows(seed, count=20):  # more than two epochs
        made = batches(seed)
        found = [next(made).rows_N.tolist() for _ in range(count)]
        made.close()
        return found

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)
    assert all(len(batch) == 16 for batch in rows(0))


def test_fewer_images_than_a_batch_make_smaller_ones(answer, digits, recipe):
    calls = answer("found")

    test = tw.lr_range_test(digits, recipe, changes={"batch_size": 1000}, **OPTIONS)

    made = calls[0]["batches"](0)
    assert [len(next(made)) for _ in range(3)] == [102, 102, 102]
    assert test.training_steps == 2


def test_a_network_of_ones_own_is_left_alone_even_its_frozen_parts(answer, digits, recipe):
    calls = answer("found")
    model = Pixels()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    test = tw.lr_range_test(
        digits, recipe, model=model, changes={"network.trainable": "head", "network.dropout": 0.0}, **OPTIONS
    )

    assert same(before, model.state_dict())
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, False, True, True]
    assert model.training
    assert all(mine is not theirs for mine in model.parameters() for theirs in calls[0]["model"].parameters())
    assert test.recipe.network.name == "custom"


def test_a_mechanism_that_moved_the_weights_would_be_found_out(digits, recipe, lr_range_of, monkeypatch):
    def careless(model, *arguments, **more):
        with torch.no_grad():
            next(iter(model.parameters())).add_(1)
        return lr_range_of("found")

    monkeypatch.setattr(lr_range, "lr_range_test", careless)

    assert not tw.lr_range_test(digits, recipe, **OPTIONS).state_restored


def test_a_mechanism_that_drew_random_numbers_would_be_found_out(digits, recipe, lr_range_of, monkeypatch):
    monkeypatch.setattr(lr_range, "lr_range_test", lambda *_, **__: (torch.rand(1), lr_range_of("found"))[1])

    assert not tw.lr_range_test(digits, recipe, **OPTIONS).state_restored


def test_a_network_without_anything_to_learn_is_refused(digits, recipe):
    frozen = Pixels().requires_grad_(False)

    with pytest.raises(UsageError, match="none of the network's parameters learns"):
        tw.lr_range_test(digits, recipe, model=frozen, changes={"network.dropout": 0.0}, **OPTIONS)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, 0.1), (0.0, 1.0), (-1.0, 1.0), (1e-3, math.inf)])
def test_a_sweep_that_is_none_is_refused_before_any_data_is_read(low, high):
    with pytest.raises(UsageError, match=r"low, high: a sweep goes .* The usual ones are 1e-07 and 10\."):
        tw.lr_range_test("nowhere", low=low, high=high)


def test_no_seed_is_refused():
    with pytest.raises(UsageError, match=r"seeds: at least one sweep is needed, got 0\."):
        tw.lr_range_test("nowhere", seeds=0)


def test_an_optimizer_that_finds_its_own_steps_is_refused(digits, recipe):
    with pytest.raises(RecipeError, match=r"optimizer\.name: rprop finds .*--set optimizer\.lr=0\.01"):
        tw.lr_range_test(digits, recipe, changes={"optimizer.name": "rprop", "batch_size": 102}, **OPTIONS)


# What becomes of the answer


@pytest.mark.parametrize("schedule", workflow.CYCLIC)
def test_cyclic_schedules_go_from_the_lower_end_of_the_interval_to_twice_the_suggestion(schedule, recipe, lr_range_of):
    changed = workflow.with_range(recipe.changed({"schedule.name": schedule}), lr_range_of("found"))

    assert changed.optimizer.lr == 2 * 0.013
    assert changed.schedule.low == pytest.approx(2e-4 / 0.026)


@pytest.mark.parametrize("schedule", workflow.CYCLIC)
def test_cyclic_schedules_do_not_go_above_the_interval(schedule, recipe, lr_range_of):
    found = replace(lr_range_of("found"), interval=(2e-4, 0.02))  # twice the suggestion would be 0.026

    changed = workflow.with_range(recipe.changed({"schedule.name": schedule}), found)

    assert changed.optimizer.lr == 0.02
    assert changed.schedule.low == pytest.approx(0.01)


def test_an_interval_of_a_single_rate_leaves_a_cycle_as_it_is(recipe, lr_range_of):
    cyclic = recipe.changed({"schedule.name": "triangular", "schedule.low": 0.25})

    changed = workflow.with_range(cyclic, replace(lr_range_of("found"), interval=(0.013, 0.013)))

    assert (changed.optimizer.lr, changed.schedule.low) == (0.013, 0.25)


def test_other_schedules_peak_at_the_suggestion(recipe, lr_range_of):
    changed = workflow.with_range(recipe, lr_range_of("found"))

    assert changed.optimizer.lr == 0.013
    assert changed.schedule == recipe.schedule


def test_without_an_answer_the_optimizers_published_rate_is_taken_and_said_to_be(recipe, lr_range_of):
    changed = workflow.with_range(recipe.changed({"optimizer.name": "lion"}), lr_range_of("flat"))

    assert changed.optimizer.lr == 1e-4
    said = workflow.stated(changed, lr_range_of("flat"))
    assert "cannot tell: the loss never falls" in said
    assert "Training with 0.0001 (lion's published rate: a tenth of AdamW's: Chen et al., arXiv:2302.06675 §5" in said


def test_without_an_answer_the_rate_of_a_published_recipe_for_the_same_training_goes_before_the_optimizers(lr_range_of):
    recipe = get("segmentation-default").changed({"task": "segmentation", "optimizer.lr": None})

    changed = workflow.with_range(recipe, lr_range_of("flat"))

    assert changed.optimizer.lr == get("segmentation-default").optimizer.lr
    assert "that of recipe segmentation-default, for the same task, network and optimizer" in workflow.stated(
        changed, lr_range_of("flat")
    )


def test_what_was_found_is_said_in_a_line(recipe, lr_range_of):
    found = lr_range_of("found")

    assert workflow.stated(workflow.with_range(recipe, found), found, training_steps=3_700) == (
        "learning rate from the range test: 0.013, the loss falls at learning rates from 0.0002 to 0.06. "
        "The test took 330 steps, 8.9 % of the training's 3,700, in 4.2 s: 3 sweeps"
    )


def test_a_short_training_is_told_the_least_that_a_test_takes_and_why_it_had_fewer_sweeps(recipe, lr_range_of):
    found = replace(lr_range_of("found", seeds=1), steps=48)

    assert workflow.stated(recipe, found, training_steps=100).endswith(
        "The test took 48 steps, 48.0 % of the training's 100 (a test takes about 48 at least), in 4.2 s: "
        "1 of 3 sweeps, the training is too short for more"
    )


def test_a_long_training_is_told_which_share_of_it_cut_the_sweeps(lr_range_of):
    assert workflow.sweeps(lr_range_of("found", seeds=1), 10_000, asked=5) == (
        "1 of 5 sweeps, more would take over 9 % of the training"
    )
    assert workflow.sweeps(lr_range_of("found", seeds=1), 10_000, asked=1) == "1 sweep"


def test_a_test_that_ended_before_any_sweep_had_none(lr_range_of):
    assert workflow.sweeps(replace(lr_range_of("nothing", seeds=1), steps=0), 100) == "0 sweeps"


@pytest.mark.parametrize("schedule", workflow.CYCLIC)
def test_both_bounds_of_a_cycle_are_said(schedule, recipe, lr_range_of):
    found = lr_range_of("found")
    cyclic = workflow.with_range(recipe.changed({"schedule.name": schedule}), found)

    assert f". The {schedule} schedule goes between 0.0002 and 0.026. The test took" in workflow.stated(cyclic, found)
    assert workflow.cycle_of(recipe) is None


def test_a_sweep_whose_bounds_were_too_tight_is_said_in_the_note_of_a_run(recipe, lr_range_of):
    found = lr_range_of("found")
    upto = {name: getattr(found, name)[..., :60] for name in ("lrs_L", "losses_SL", "smooth_L", "low_L", "high_L")}

    said = workflow.stated(recipe, replace(found, trials=(), suggestion=float(upto["lrs_L"][-1]), **upto))

    assert ". The loss is still falling at 0.00825, the highest learning rate of the sweep; raise it" in said


def test_every_optimizer_has_a_published_rate_with_a_source():
    ours = {name for name in optimizers.names() if optimizers.get(name).__module__.startswith("trainwright.")}

    assert ours == {*PUBLISHED_LR, "sgd"}
    assert all(source and lr > 0 for lr, source in PUBLISHED_LR.values())


def test_the_documentation_names_the_rate_of_every_optimizer():
    page = (Path(__file__).parents[2] / "docs" / "learning-rate.md").read_text(encoding="utf-8")
    rows = " ".join(line for line in page.splitlines() if line.startswith("|"))

    assert [name for name in PUBLISHED_LR if name != "rprop" and name not in rows] == []
    assert "Rprop is refused" in page


def test_the_published_rate_of_sgd_is_in_proportion_to_the_batch(recipe):
    sgd = recipe.changed({"optimizer.name": "sgd"}).optimizer

    assert published_lr(sgd, batch_size=256)[0] == 0.1
    assert published_lr(sgd, batch_size=64)[0] == 0.025


def test_an_optimizer_of_ones_own_starts_from_adams_rate(recipe):
    own = recipe.changed({"optimizer.name": "mine"}).optimizer

    assert published_lr(own, batch_size=64) == OTHERS == (PUBLISHED_LR["adam"][0], OTHERS[1])


# In a run


def test_a_run_without_a_range_test_has_its_lr_from_the_recipe(trained):
    assert trained.result["lr"] == {"low": None, "high": None, "suggested": None, "used": 0.01}


@pytest.fixture
def folder(tmp_path, recipe):
    with RunFolder.create(tmp_path, recipe_yaml=recipe.to_yaml(), manifest={"name": "digits"}) as made:
        yield made


def test_the_result_of_a_run_says_what_its_range_test_found(folder, lr_range_of):
    workflow.record_range(folder, lr_range_of("found"))

    assert workflow.recorded_lr(folder, used=0.06) == {"low": 2e-4, "high": 6e-2, "suggested": 0.013, "used": 0.06}
    assert workflow.recorded_finding(folder) == []


def test_a_range_test_that_could_not_tell_is_among_the_findings_of_its_run(folder, lr_range_of):
    workflow.record_range(folder, lr_range_of("flat"))

    (finding,) = workflow.recorded_finding(folder)

    assert workflow.recorded_lr(folder, used=0.01) == {"low": None, "high": None, "suggested": None, "used": 0.01}
    assert (finding.rule, finding.verdict) == ("lr-range", "cannot-tell")
    assert finding.figures == {"start_loss": 2.3, "steps": 330}


def test_a_test_without_any_finite_loss_can_be_recorded(folder, lr_range_of):
    workflow.record_range(folder, lr_range_of("nothing"))

    (finding,) = workflow.recorded_finding(folder)
    assert finding.figures == {}


# The mechanism itself, the whole way


@pytest.fixture
def prepared(digits, recipe):
    data = tw.open_dataset(digits)
    changed = recipe.changed({"optimizer.lr": None, "epochs": 40})
    return prepare(data, changed, device=CPU, workers=0, reporter=Silent())


def test_on_digits_a_rate_is_found_and_everything_is_as_it_was(digits, recipe):
    test = tw.lr_range_test(digits, recipe, changes={"optimizer.lr": None, "epochs": 40}, **OPTIONS)

    assert test.state_restored
    assert test.verdict == "found"
    assert test.low <= test.suggested <= test.high
    assert 1e-4 < test.suggested < 0.3  # by orders of magnitude: what AdamW takes for networks of this size
    assert np.isfinite(test.smooth_L).any()


def test_a_second_test_gives_the_very_same_answer(prepared):
    first, second = (workflow.range_of(prepared, options=RunOptions(workers=workers)) for workers in (0, 2))

    assert replace(first, seconds=0.0, **arrays(second)) == replace(second, seconds=0.0)
    assert all(np.array_equal(getattr(first, name), array, equal_nan=True) for name, array in arrays(second).items())


def arrays(found: LrRange) -> dict[str, np.ndarray]:
    return {name: getattr(found, name) for name in ("lrs_L", "losses_SL", "smooth_L", "low_L", "high_L")}


def test_the_next_batches_of_the_training_are_the_same_after_a_test(digits, recipe, train):
    untouched = train()
    tw.lr_range_test(digits, recipe, **OPTIONS)

    assert train().result["weights_sha256"] == untouched.result["weights_sha256"]


# In a training whose recipe leaves the rate open


def test_a_training_takes_what_was_found_and_its_result_says_so(answer, train):
    answer("found")

    run = train({"optimizer.lr": None})

    assert run.recipe.optimizer.lr == 0.013
    assert run.result["lr"] == {"low": 2e-4, "high": 6e-2, "suggested": 0.013, "used": 0.013}
    assert (run.folder / "figures" / "lr-range.png").is_file()
    assert [record["kind"] for record in RunFolder.open(run.folder).records()][:2] == ["lr_range", "figure"]


def test_a_cyclic_training_goes_up_to_twice_the_suggestion(answer, train):
    answer("found")

    run = train({"optimizer.lr": None, "schedule.name": "triangular"})

    (steps,) = [record["lr"] for record in RunFolder.open(run.folder).records("steps") if record["first_step"] == 0]
    assert steps[0] == pytest.approx(2e-4)
    assert run.result["lr"]["used"] == run.recipe.optimizer.lr == 2 * 0.013


def test_a_training_whose_rate_cannot_be_told_goes_on_and_says_so_first_of_all(answer, train, listener):
    answer("flat")

    run = train({"optimizer.lr": None}, reporter=listener)

    assert run.recipe.optimizer.lr == 1e-3
    assert run.findings[0].rule == "lr-range"
    assert "Trained with 0.001, a published rate" in run.findings[0].advice
    assert any("the learning-rate range test cannot tell" in note for note in listener.notes)


def test_a_training_that_goes_back_to_its_start_keeps_its_range_test(answer, train, tmp_path, polls):
    answer("found")
    stopped = train({"optimizer.lr": None}, stop_asked=polls(1))
    for file in (stopped.folder / "checkpoints").iterdir():
        file.unlink()  # as if it had been killed before the first of them was written

    run = tw.resume(stopped, runs=tmp_path / "runs", mirrors=(), workers=1)

    assert run.result["lr"]["suggested"] == 0.013
    steps = [record["first_step"] for record in RunFolder.open(run.folder).records("steps")]
    assert steps[0] == 0
    assert len(steps) == len(set(steps))
