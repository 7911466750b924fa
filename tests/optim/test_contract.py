"""What every optimizer, schedule and loss keeps to, whoever adds it: found through the registries, examined alike."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from trainwright import plugins
from trainwright.errors import RecipeError, UnknownNameError
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule
from trainwright.recipe import LossSpec, OptimizerSpec, ScheduleSpec
from trainwright.tasks.classification import Classification

CPU = torch.device("cpu")
OPTIMIZERS, SCHEDULES = plugins.optimizers.names(), plugins.schedules.names()
OF_CLASSES = Classification.losses
CHECK = """
import sys
from trainwright import plugins
from trainwright.errors import UnknownNameError
for registry, names in NAMES.items():
    for name in names:
        getattr(plugins, registry).check(name)
    try:
        getattr(plugins, registry).check("no such name")
    except UnknownNameError as error:
        print(error)
print([name for name in ("torch", "numpy", "timm", "trainwright.optim.optimizers") if name in sys.modules])
"""


def network() -> nn.Module:
    """A linear layer from 0, so that the loss starts at log 2 whatever the machine draws."""
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# Optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_peak_lr_of_each_group_is_kept_beside_its_lr(name):
    model = network()

    optimizer = build_optimizer([(model.weight, 0.5), (model.bias, 1.0)], OptimizerSpec(name=name, lr=0.2), CPU)

    assert [(group["lr"], group["peak_lr"]) for group in optimizer.param_groups] == [(0.1, 0.1), (0.2, 0.2)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_does_not_act_on_biases_and_norms(name):
    """Where the gradient is 0, weight decay alone moves a weight. Two steps: ADOPT's first one moves nothing."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2), nn.LayerNorm(2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    spec = OptimizerSpec(name=name, lr=0.1, weight_decay=0.5)

    optimizer = build_optimizer([(p, 1.0) for p in model.parameters()], spec, CPU)
    optimizer.step()
    optimizer.step()

    moved = {
        key for key, parameter in model.named_parameters() if not torch.equal(parameter, torch.ones_like(parameter))
    }
    assert moved == {"0.weight", "3.weight"}


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_does_not_act_on_what_is_to_be_left_undecayed(name, ends):
    """Where the gradient is 0, weight decay alone moves a weight. Two steps: ADOPT's first one moves nothing."""
    table, matrix = (nn.Parameter(torch.ones(1, 2, 2)) for _ in range(2))
    table.grad, matrix.grad = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    spec = OptimizerSpec(name=name, lr=0.1, weight_decay=0.5)

    optimizer = build_optimizer(
        [(table, 1.0), (matrix, 1.0)], spec, CPU, ends=[table, matrix] if ends else [], undecayed=[table]
    )
    optimizer.step()
    optimizer.step()

    assert torch.equal(table, torch.ones(1, 2, 2))
    assert not torch.equal(matrix, torch.ones(1, 2, 2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_that_do_not_learn_are_left_out(name):
    model = network()
    model.weight.requires_grad_(False)

    optimizer = build_optimizer([(p, 1.0) for p in model.parameters()], OptimizerSpec(name=name), CPU)

    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(model.bias)]


# Schedules


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_a_pure_function_between_0_and_1_that_is_warmed_up_to_where_it_begins(name, warmup):
    schedule = build_schedule(ScheduleSpec(name=name, warmup=warmup))
    grid = [i / 200 for i in range(201)]

    factors = [schedule(progress) for progress in grid]

    assert all(0 <= factor <= 1 for factor in factors)
    assert schedule(warmup) == build_schedule(ScheduleSpec(name=name))(0.0)
    assert [schedule(progress) for progress in reversed(grid)] == factors[::-1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_linearly_from_0_and_the_schedule_runs_over_the_rest(name):
    plain, warmed = build_schedule(ScheduleSpec(name=name)), build_schedule(ScheduleSpec(name=name, warmup=0.2))

    assert [warmed(p) for p in (0.0, 0.05, 0.1, 0.15)] == pytest.approx(
        [part * plain(0.0) for part in (0.0, 0.25, 0.5, 0.75)]
    )
    assert [warmed(p) for p in (0.2, 0.4, 0.6, 1.0)] == pytest.approx([plain(p) for p in (0.0, 0.25, 0.5, 1.0)])


def test_constant_stays_at_the_peak():
    schedule = build_schedule(ScheduleSpec(name="constant", final=0.1))

    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_cosine_is_half_a_cosine_from_the_peak_to_its_end():
    """Loshchilov and Hutter, arXiv:1608.03983, equation 5, with eta_min = 0.2: at thirds cos is 1, ½, −½, −1."""
    schedule = build_schedule(ScheduleSpec(name="cosine", final=0.2))

    assert [schedule(p) for p in (0, 1 / 3, 1 / 2, 2 / 3, 1)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_without_an_end_goes_to_0_and_stays_there():
    schedule = build_schedule(ScheduleSpec(name="cosine"))

    assert schedule(1.0) == 0.0
    assert schedule(1.5) == 0.0


# Losses


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_loss_is_one_finite_number_an_image_that_a_gradient_flows_through(name):
    logits_NK = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)

    loss_N = build_loss(LossSpec(name=name), OF_CLASSES)(logits_NK, torch.tensor([0, 1, 2, 3, 0, 1]))
    loss_N.sum().backward()

    assert loss_N.shape == (6,)
    assert loss_N.isfinite().all()
    assert logits_NK.grad.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_loss_of_an_image_does_not_depend_on_the_others(name):
    logits_NK = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target_N, loss = torch.tensor([0, 1, 2, 3, 0, 1]), build_loss(LossSpec(name=name), OF_CLASSES)

    torch.testing.assert_close(loss(logits_NK[:2], target_N[:2]), loss(logits_NK, target_N)[:2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    logits_NK = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target_N = torch.tensor([0, 1, 2, 3, 0, 1])

    loss_N = build_loss(LossSpec(label_smoothing=smoothing), OF_CLASSES)(logits_NK, target_N)

    torch.testing.assert_close(loss_N.mean(), nn.CrossEntropyLoss(label_smoothing=smoothing)(logits_NK, target_N))


def test_cross_entropy_of_even_odds_is_the_logarithm_of_their_number():
    loss_N = build_loss(LossSpec(), OF_CLASSES)(torch.zeros(1, 8), torch.tensor([3]))

    assert loss_N.item() == pytest.approx(math.log(8))


def test_label_smoothing_spreads_a_part_of_the_target_over_all_classes():
    """Probabilities ¾ and ¼, smoothing 0.2: the target is 0.9 and 0.1 (Szegedy et al., arXiv:1512.00567 §7)."""
    logits_NK = torch.tensor([[math.log(3.0), 0.0]])

    loss_N = build_loss(LossSpec(label_smoothing=0.2), OF_CLASSES)(logits_NK, torch.tensor([0]))

    assert loss_N.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25), rel=1e-6)


def test_cross_entropy_of_half_precision_outputs_is_taken_in_full_precision():
    logits_NK = torch.tensor([[80.0, 0.0]], dtype=torch.float16)

    loss_N = build_loss(LossSpec(), OF_CLASSES)(logits_NK, torch.tensor([1]))

    assert loss_N.dtype == torch.float32
    assert loss_N.item() == pytest.approx(80.0)


# Which loss goes with the task


def test_without_a_name_the_first_loss_of_the_task_is_taken():
    logits_NKHW, target_NHW = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.uint8)

    given, other = (build_loss(LossSpec(name=name), ["dice", "cross-entropy"]) for name in (None, "cross-entropy"))

    assert given(logits_NKHW, target_NHW).item() == pytest.approx(1 - 2 * 9 / 2 / (9 / 4 + 9))
    assert other(logits_NKHW, target_NHW).item() == pytest.approx(math.log(2))


def test_a_loss_of_another_task_is_refused_with_those_that_go_with_it():
    with pytest.raises(RecipeError) as caught:
        build_loss(LossSpec(name="dice"), ["cross-entropy"])

    assert str(caught.value) == "loss.name: 'dice' does not go with this task. It takes: cross-entropy."


# Names


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: build_optimizer([], OptimizerSpec(name="adanw"), CPU),
            "optimizer.name: no such optimizer 'adanw'. Did you mean 'adamw'? Known optimizers: "
            + ", ".join(OPTIMIZERS)
            + ".",
        ),
        (
            lambda: build_schedule(ScheduleSpec(name="cosin")),
            "schedule.name: no such schedule 'cosin'. Did you mean 'cosine'? Known schedules: "
            + ", ".join(SCHEDULES)
            + ".",
        ),
        (
            lambda: build_loss(LossSpec(name="crossentropy"), OF_CLASSES),
            "loss.name: no such loss 'crossentropy'. Did you mean 'cross-entropy'? Known ",
        ),
    ],
    ids=["optimizer", "schedule", "loss"],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(build, text):
    with pytest.raises(UnknownNameError) as caught:
        build()

    assert str(caught.value).startswith(text)


def test_names_are_checked_without_importing_torch():
    """Every registered name passes, and an unknown one gets the very text that loading the room gives."""
    registries = ("optimizers", "schedules", "losses", "tasks")
    names = {registry: getattr(plugins, registry).names() for registry in registries}

    answer = subprocess.run(
        [sys.executable, "-c", CHECK.replace("NAMES", repr(names))], capture_output=True, text=True, check=True
    )

    *texts, loaded = answer.stdout.splitlines()
    expected = []
    for registry in registries:
        with pytest.raises(UnknownNameError) as caught:
            getattr(plugins, registry).get("no such name")
        expected.append(str(caught.value))
    assert texts == expected
    assert loaded == "[]"


@pytest.mark.parametrize("registry", ["optimizers", "schedules", "losses", "tasks"])
def test_everything_that_can_be_named_says_what_it_is(registry):
    """The report prints it."""
    assert all(thing.__doc__ for thing in getattr(plugins, registry).all().values())
