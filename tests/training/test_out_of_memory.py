"""Out of memory: the batch is worked through in smaller parts, with the same update, until one image is too many."""

import pytest
import torch
from torch import nn

from trainwright.errors import OutOfResourcesError
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")


class SmallMemory(nn.Module):
    """Holds at most `images` images, and counts the calls in a buffer before it fails, as batch norm does."""

    def __init__(self, images: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.images, self.error = images, error
        self.seen: list[int] = []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images_NCHW))
        self.calls += 1
        if len(images_NCHW) > self.images:
            raise self.error("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return images_NCHW


def constant(progress):
    return 1.0


@pytest.fixture
def limited(make_model):
    """(images, error=…) → a model without batch norm that holds at most so many images."""

    def make(images: int, error: type[Exception] = torch.OutOfMemoryError):
        model = make_model(norm="group")
        model.network.insert(0, SmallMemory(images, error))
        return model

    return make


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError], ids=["on a GPU", "on a CPU"])
def test_the_batch_is_halved_until_it_fits(limited, make_batches, make_optimizer, task, error):
    model = limited(3, error)

    record = next(fit(model, task, make_batches(1), make_optimizer(model), constant, steps=1, device=CPU))

    assert model.network[0].seen == [8, 4, 2, 2, 2, 2]
    assert record.parts == 4
    assert record.images == 8


def test_the_parts_that_fit_are_kept_for_the_next_step(limited, make_batches, make_optimizer, task):
    model = limited(4)

    list(fit(model, task, make_batches(2), make_optimizer(model), constant, steps=2, device=CPU))

    assert model.network[0].seen == [8, 4, 4, 4, 4]


@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_the_update_is_that_of_the_whole_batch(limited, make_batches, make_optimizer, task, images):
    small, large = limited(images), limited(8)
    batches = make_batches(2)

    in_parts = list(fit(small, task, batches, make_optimizer(small), constant, steps=2, device=CPU))
    whole = list(fit(large, task, batches, make_optimizer(large), constant, steps=2, device=CPU))

    assert [float(r.loss) for r in in_parts] == pytest.approx([float(r.loss) for r in whole], rel=1e-5)
    assert [r.tally_sum.tolist() for r in in_parts] == [r.tally_sum.tolist() for r in whole]
    for name, weight in small.named_parameters():
        torch.testing.assert_close(weight, large.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_parts_of_unequal_size_weigh_each_image_the_same(make_model, make_batches, make_optimizer, task):
    """Seven images in two parts are four and three."""
    in_parts, whole = make_model(norm="group"), make_model(norm="group")
    batches = make_batches(1, size=7)

    list(
        fit(
            in_parts,
            task,
            batches,
            make_optimizer(in_parts),
            constant,
            steps=1,
            device=CPU,
            settings=FitSettings(parts=2),
        )
    )
    list(fit(whole, task, batches, make_optimizer(whole), constant, steps=1, device=CPU))

    for name, weight in in_parts.named_parameters():
        torch.testing.assert_close(weight, whole.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_buffers_that_failed_attempts_changed_are_put_back(limited, make_batches, make_optimizer, task):
    """Attempts with 8 and with 4 images fail after counting; the four parts of 2 that count are the only ones."""
    model = limited(2)

    list(fit(model, task, make_batches(1), make_optimizer(model), constant, steps=1, device=CPU))

    assert float(model.network[0].calls) == 4


def test_where_one_image_is_too_many_the_cure_is_said(
    limited, make_batches, make_optimizer, task, tensors_of, assert_same
):
    model = limited(0)
    before = tensors_of(model)

    with pytest.raises(OutOfResourcesError) as caught:
        list(fit(model, task, make_batches(1), make_optimizer(model), constant, steps=1, device=CPU))

    assert str(caught.value) == (
        "batch_size: not even one image at a time fits into the memory of cpu. "
        "Use smaller images (--set data.image_size=…), a smaller network, or another device."
    )
    assert model.network[0].seen == [8, 4, 2, 1]
    assert_same(tensors_of(model), before)


def test_another_error_is_not_taken_for_one_of_memory(limited, make_batches, make_optimizer, task):
    model = limited(0, ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        list(fit(model, task, make_batches(1), make_optimizer(model), constant, steps=1, device=CPU))

    assert model.network[0].seen == [8]


def test_a_step_whose_update_runs_out_of_memory_is_not_taken_twice(make_model, make_batches, make_optimizer, task):
    """The optimizer allocates its state in its first step: by then some weights may have moved already."""
    model = make_model()
    optimizer = make_optimizer(model, "adam")
    attempts = []

    def run_out(*_):
        attempts.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    optimizer.register_step_post_hook(run_out)

    with pytest.raises(OutOfResourcesError) as caught:
        list(fit(model, task, make_batches(1), optimizer, constant, steps=1, device=CPU))

    assert attempts == [1]
    assert str(caught.value) == (
        "optimizer.name: the optimizer's state does not fit into the memory of cpu. "
        "Use an optimizer that keeps less (--set optimizer.name=sgd), a smaller network, or another device."
    )


def test_there_are_never_more_parts_than_images(limited, make_batches, make_optimizer, task):
    model = limited(1)

    record = next(fit(model, task, make_batches(1, size=5), make_optimizer(model), constant, steps=1, device=CPU))

    assert record.parts == 5
