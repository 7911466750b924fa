"""Evaluation says what a network makes of every image and leaves the network as it found it."""

import numpy as np
import pytest
import torch
from torch import nn

from trainwright.training.evaluate import evaluate

CPU = torch.device("cpu")


@pytest.fixture
def trained(make_model):
    """A network whose batch-norm statistics are not those it was born with."""
    model = make_model(dropout=0.5)
    model.network[0][1].running_mean.fill_(0.25)
    model.network[1][1].running_var.fill_(2.0)
    return model.eval()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_weights_buffers_and_random_state_stay_as_they_were(trained, make_batches, task, tensors_of, assert_same, mode):
    before, random_state = tensors_of(trained), torch.get_rng_state()

    evaluate(trained, task, make_batches(3), device=CPU, mode=mode)

    assert_same(tensors_of(trained), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in trained.parameters())


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False], ids=["from train mode", "from eval mode"])
def test_every_layer_is_left_in_the_mode_it_was_in(trained, make_batches, task, mode, training):
    """A user's own network may keep a layer in a mode of its own."""
    trained.train(training)
    trained.network[0][1].train(not training)
    before = [module.training for module in trained.modules()]

    evaluate(trained, task, make_batches(1), device=CPU, mode=mode)

    assert [module.training for module in trained.modules()] == before


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_error_leaves_mode_and_buffers_as_they_were(trained, make_batches, task, tensors_of, assert_same, mode):
    before = tensors_of(trained)
    trained.train()

    def stop(done):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(trained, task, make_batches(2), device=CPU, mode=mode, after_batch=stop)

    assert trained.training
    assert_same(tensors_of(trained), before)


def test_in_eval_mode_the_answers_do_not_depend_on_the_batches(trained, make_batches, task):
    (batch,) = make_batches(1, size=12)

    by_size = [evaluate(trained, task, batch.split(size), device=CPU) for size in (1, 5, 12)]

    for answers in by_size:
        assert answers.rows.tolist() == list(range(12))
        assert answers.columns["target"].tolist() == batch.target.tolist()
        np.testing.assert_allclose(
            answers.columns["probabilities"], by_size[0].columns["probabilities"], rtol=1e-5, atol=1e-7
        )


def test_in_eval_mode_the_answers_are_the_softmax_of_the_networks_outputs(trained, make_batches, task):
    (batch,) = make_batches(1)
    with torch.no_grad():
        expected_NK = torch.softmax(trained(batch.images_NCHW), dim=1)

    answers = evaluate(trained.train(), task, [batch], device=CPU)

    np.testing.assert_array_equal(answers.columns["probabilities"], expected_NK.numpy())


def test_train_mode_takes_the_statistics_of_the_batch(make_model, make_batches, task):
    """With the stored statistics moved, eval mode changes and train mode, which does not look at them, does not."""
    model, (batch,) = make_model(), make_batches(1)

    def probabilities(mode):
        return evaluate(model, task, [batch], device=CPU, mode=mode).columns["probabilities"]

    before = {mode: probabilities(mode) for mode in ("train", "eval")}
    model.network[0][1].running_mean.fill_(3.0)
    after = {mode: probabilities(mode) for mode in ("train", "eval")}

    np.testing.assert_array_equal(after["train"], before["train"])
    assert np.abs(after["eval"] - before["eval"]).max() > 1e-3


def test_train_mode_keeps_dropout_on_and_draws_it_from_the_seed(make_model, make_batches, task):
    model, batches = make_model(norm="none", dropout=0.5), make_batches(1)

    def probabilities(**options):
        return evaluate(model, task, batches, device=CPU, **options).columns["probabilities"]

    np.testing.assert_array_equal(probabilities(mode="train", seed=1), probabilities(mode="train", seed=1))
    assert np.abs(probabilities(mode="train", seed=1) - probabilities(mode="train", seed=2)).max() > 1e-3
    assert np.abs(probabilities(mode="train", seed=1) - probabilities(mode="eval")).max() > 1e-3


def test_frozen_parts_stay_in_eval_mode_in_train_mode(make_model, make_batches, task):
    model, batches = make_model(), make_batches(1)
    model.freeze("head")
    model.network[0][1].running_mean.fill_(3.0)

    in_train, in_eval = (evaluate(model, task, batches, device=CPU, mode=mode) for mode in ("train", "eval"))

    np.testing.assert_array_equal(in_train.columns["probabilities"], in_eval.columns["probabilities"])


def test_progress_is_told_after_each_batch_in_images(trained, make_batches, task):
    told = []

    evaluate(trained, task, make_batches(3, size=4), device=CPU, after_batch=told.append)

    assert told == [4, 8, 12]


def test_mixed_precision_is_that_of_training(make_model, make_batches, task):
    seen = []
    model, batches = make_model(), make_batches(1)
    model.network[3].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))

    answers = evaluate(model, task, batches, device=CPU, dtype=torch.bfloat16)

    assert seen == [torch.bfloat16]
    assert answers.columns["probabilities"].dtype == np.float32


def test_a_users_own_network_needs_nothing_but_forward(make_batches, task):
    class Brightest(nn.Module):
        def forward(self, images_NCHW):
            return images_NCHW.float().mean(dim=(2, 3))

    (batch,) = make_batches(1)

    answers = evaluate(Brightest(), task, [batch], device=CPU)

    assert answers.columns["probabilities"].argmax(axis=1).tolist() == batch.target.tolist()
