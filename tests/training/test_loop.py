"""`fit` takes the steps it is asked for, one a turn, and leaves everything else as the caller had it."""

import itertools

import pytest
import torch

from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")


def constant(progress):
    return 1.0


def test_each_step_is_yielded_with_its_number_lr_images_and_progress(make_model, make_batches, make_optimizer, task):
    model = make_model()

    records = list(
        fit(model, task, make_batches(4), make_optimizer(model, lr=0.5), lambda p: 1 - p, steps=4, device=CPU)
    )

    assert [record.step for record in records] == [0, 1, 2, 3]
    assert [record.lr for record in records] == [0.5, 0.375, 0.25, 0.125]
    assert [record.progress for record in records] == [0.25, 0.5, 0.75, 1.0]
    assert [record.images for record in records] == [8, 8, 8, 8]


def test_a_step_reports_the_mean_loss_and_the_summed_tallies_in_train_mode(
    make_model, make_batches, make_optimizer, task
):
    model, batch = make_model(), make_batches(1)[0]
    loss_N, tally_NQ = task.loss(model(batch.images_NCHW), batch.target)

    record = next(fit(model, task, [batch], make_optimizer(model), constant, steps=1, device=CPU))

    assert float(record.loss) == pytest.approx(float(loss_N.detach().mean()), rel=1e-6)
    assert record.tally_sum.tolist() == tally_NQ.sum(dim=0).tolist()


def test_the_loss_falls(make_model, make_batches, make_optimizer, task):
    model, batch = make_model(), make_batches(1)[0]

    records = list(fit(model, task, itertools.repeat(batch), make_optimizer(model), constant, steps=30, device=CPU))

    assert float(records[-1].loss) < 0.7 * float(records[0].loss)


def test_to_stop_early_stop_iterating(make_model, make_batches, make_optimizer, task, tensors_of, assert_same):
    stopped, short = make_model(), make_model()
    batches = make_batches(6)

    for _ in itertools.islice(fit(stopped, task, batches, make_optimizer(stopped), constant, steps=6, device=CPU), 2):
        pass
    for _ in fit(short, task, batches[:2], make_optimizer(short), constant, steps=6, device=CPU):
        pass

    assert_same(tensors_of(stopped), tensors_of(short))


def test_no_more_batches_are_taken_than_steps(make_model, make_batches, make_optimizer, task):
    model, batches = make_model(), iter(make_batches(5))

    list(fit(model, task, batches, make_optimizer(model), constant, steps=3, device=CPU))

    assert len(list(batches)) == 2


def test_a_model_that_the_caller_evaluated_in_between_trains_on_in_train_mode(
    make_model, make_batches, make_optimizer, task, tensors_of, assert_same
):
    disturbed, calm = make_model(dropout=0.5), make_model(dropout=0.5)
    batches = make_batches(3)

    for _ in fit(disturbed, task, batches, make_optimizer(disturbed), constant, steps=3, device=CPU):
        disturbed.eval()
    for _ in fit(calm, task, batches, make_optimizer(calm), constant, steps=3, device=CPU):
        pass

    assert_same(tensors_of(disturbed), tensors_of(calm))


def test_the_callers_random_state_is_neither_moved_nor_used(
    make_model, make_batches, make_optimizer, task, tensors_of, assert_same
):
    batches = make_batches(3)
    one, other = make_model(dropout=0.5), make_model(dropout=0.5)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        before = torch.get_rng_state()
        for _ in fit(one, task, batches, make_optimizer(one), constant, steps=3, device=CPU):
            assert torch.equal(torch.get_rng_state(), before)
        torch.default_generator.manual_seed(2)
        for _ in fit(other, task, batches, make_optimizer(other), constant, steps=3, device=CPU):
            pass

    assert_same(tensors_of(one), tensors_of(other))


def test_another_seed_is_another_dropout(make_model, make_batches, make_optimizer, task):
    batches = make_batches(1)
    one, other = make_model(dropout=0.5), make_model(dropout=0.5)

    first = next(fit(one, task, batches, make_optimizer(one), constant, steps=1, device=CPU))
    second = next(
        fit(other, task, batches, make_optimizer(other), constant, steps=1, device=CPU, settings=FitSettings(seed=1))
    )

    assert float(first.loss) != float(second.loss)


def test_every_step_draws_another_dropout(make_model, make_batches, make_optimizer, task):
    model, batch = make_model(norm="none", dropout=0.5), make_batches(1)[0]

    records = list(fit(model, task, [batch, batch], make_optimizer(model), lambda progress: 0.0, steps=2, device=CPU))

    assert float(records[0].loss) != float(records[1].loss)


def test_gradients_that_the_caller_left_after_an_error_do_not_enter_the_next_step(
    make_model, make_batches, make_optimizer, tensors_of, assert_same, task
):
    """The second of two parts fails; the first one's gradient must not be added to the next training's."""
    failing, untouched = make_model(norm="none"), make_model(norm="none")
    calls = itertools.count()

    def fail_once(module, inputs):
        if next(calls) == 1:
            raise RuntimeError("a fault of the user's own")

    handle = failing.register_forward_pre_hook(fail_once)
    optimizer, batches = make_optimizer(failing), make_batches(1)

    with pytest.raises(RuntimeError, match=r"^a fault of the user's own$"):
        list(fit(failing, task, batches, optimizer, constant, steps=1, device=CPU, settings=FitSettings(parts=2)))
    handle.remove()
    list(fit(failing, task, batches, optimizer, constant, steps=1, device=CPU))
    list(fit(untouched, task, batches, make_optimizer(untouched), constant, steps=1, device=CPU))

    assert_same(tensors_of(failing), tensors_of(untouched))


def test_the_peak_lr_is_remembered_when_the_same_optimizer_is_used_again(make_model, make_batches, task):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)  # the user's own, which knows no peak

    list(fit(model, task, make_batches(2), optimizer, lambda p: 0.5, steps=2, device=CPU))
    again = list(fit(model, task, make_batches(1), optimizer, constant, steps=1, device=CPU))

    assert again[0].lr == 0.5


def test_images_that_are_floats_0_to_255_train_the_same_as_bytes(
    make_model, make_batches, make_optimizer, task, tensors_of, assert_same
):
    from dataclasses import replace

    as_bytes, as_floats = make_model(), make_model()
    batch = make_batches(1)[0]
    floats = replace(batch, images_NCHW=batch.images_NCHW.float())

    list(fit(as_bytes, task, [batch], make_optimizer(as_bytes), constant, steps=1, device=CPU))
    list(fit(as_floats, task, [floats], make_optimizer(as_floats), constant, steps=1, device=CPU))

    assert_same(tensors_of(as_floats), tensors_of(as_bytes))
    assert float(floats.images_NCHW.max()) > 1  # and were not normalized in place
